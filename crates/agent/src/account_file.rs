//! What one file of the vault holds: an MSAL token cache, and beside it in the same file what is ours, so that both change
//! in one atomic write and any MSAL opens a copy as it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use valetkey_entra::account::AccountId;
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::Capability;
use valetkey_entra::cloud::{Authority, Tenant};
use valetkey_entra::secret::Secret;
use valetkey_handoff::{Digest, Thumbprint};

use crate::health::Condition;

/// The version of [`Facts`] that is written. A file with a higher one is left alone.
pub const FORMAT: u32 = 1;

/// One account as it is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountFile {
    #[serde(flatten)]
    pub cache: MsalCache,
    /// MSAL keeps members it does not know.
    #[serde(rename = "ValetKey")]
    pub facts: Facts,
}

/// What is known of an account without reading its cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    pub format: u32,
    pub account: AccountId,
    /// The address to show and to look for; not an identity.
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whom the device's invite was for: the first refresh must show that it is this person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_email: Option<String>,
    /// Whom the invite admitted: what proves a person depends on that.
    #[serde(default = "anybody")]
    pub admitted: Tenant,
    /// Where it is refreshed: the account's own tenant, or `consumers`.
    pub authority: Authority,
    pub client_id: String,
    pub capabilities: Vec<String>,
    /// What tokens can be had for; the first one is kept fresh.
    pub resources: Vec<String>,
    /// Granted at the sign-in.
    pub scopes: Vec<String>,
    /// The device whose sign-in is in use.
    pub device: Thumbprint,
    /// The last sign-in accepted from each device.
    pub seen: BTreeMap<Thumbprint, Seen>,
    /// When the access token for the first resource ends.
    pub expires_at: Timestamp,
    /// When the next refresh is due, if anything may be refreshed.
    pub refresh_at: Timestamp,
    pub condition: Condition,
    pub stored_at: Timestamp,
    /// The last refresh that worked for the sign-in in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Timestamp>,
    /// The account was removed; only this is left, so that its old sign-ins cannot come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// Not proven, and its refresh token was exchanged all the same: what its device has may not work any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotated: bool,
    /// The refresh token before the one in the cache, until the newer one has worked. Organisations only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_refresh_token: Option<Secret>,
    /// The sign-in that worked before a newer one was stored, until the newer one has worked too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Box<AccountFile>>,
}

/// The last message accepted from a device about an account, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    #[serde(rename = "gen")]
    pub generation: u64,
    /// SHA-256 of the sealed bytes.
    pub digest: Digest,
    /// Names the message in its receipt.
    pub jti: uuid::Uuid,
    pub verdict: Verdict,
    /// The newest number before this one whose verdict is known; 0: none.
    #[serde(default)]
    pub settled_before: u64,
    /// A sign-in of this device has worked here: it may hear of the account, and take it away. Naming an account is not
    /// enough, and a later sign-in that fails takes nothing away.
    #[serde(default)]
    pub brought: bool,
    /// It has no verdict, and its tokens have made room for another device's: an older sign-in of this device is in use
    /// again, and nothing that becomes of that one is this one's verdict.
    #[serde(default)]
    pub overtaken: bool,
}

impl Seen {
    /// The newest number whose verdict is known; 0: none. A device takes what it is told of a number for its receipt.
    pub(crate) fn settled(&self) -> u64 {
        if self.verdict == Verdict::Pending { self.settled_before } else { self.generation }
    }
}

/// The receipt that a message has earned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Verdict {
    /// Stored, and not refreshed yet: no receipt so far.
    Pending,
    Stored {
        refreshed_at: Timestamp,
    },
    /// A disconnect that took effect.
    Done,
    Refused {
        reason: String,
    },
}

impl Facts {
    /// The agent itself has got a token with this sign-in, and the account is there.
    pub fn is_proven(&self) -> bool {
        self.removed_at.is_none() && self.refreshed_at.is_some()
    }

    /// Whose it is has been found out: by the sign-in in use, or by the one before it, which is kept until the newer one
    /// has worked. Until then its name is what a device says.
    pub fn has_worked(&self) -> bool {
        self.is_proven() || (self.removed_at.is_none() && self.replaced.is_some())
    }

    /// Those of the sign-in that programs are served by: the one that has worked, until the one that was stored in its place
    /// has.
    pub(crate) fn serving(&self) -> &Self {
        self.replaced.as_ref().map_or(self, |before| &before.facts)
    }

    /// Whether a sign-in of this device has worked for this account.
    pub fn brought_by(&self, device: &Thumbprint) -> bool {
        let worked = |seen: &Seen| seen.brought || matches!(seen.verdict, Verdict::Stored { .. });
        self.seen.get(device).is_some_and(worked)
    }

    /// Whether a sign-in of this device is in use and waits for its first verdict.
    pub(crate) fn is_trying(&self, device: &Thumbprint) -> bool {
        let tried = |seen: &Seen| seen.verdict == Verdict::Pending && !seen.overtaken;
        self.removed_at.is_none() && self.device == *device && self.seen.get(device).is_some_and(tried)
    }

    /// Whether a sign-in of this device was accepted and has made room for another one before it had a verdict.
    pub(crate) fn is_overtaken(&self, device: &Thumbprint) -> bool {
        let pending = self.seen.get(device).is_some_and(|seen| seen.verdict == Verdict::Pending);
        pending && !self.is_trying(device)
    }

    /// The generation of the sign-in in use.
    pub fn generation(&self) -> u64 {
        self.seen.get(&self.device).map_or(0, |seen| seen.generation)
    }

    /// The capabilities that this version knows.
    pub(crate) fn known_capabilities(&self) -> Vec<Capability> {
        self.capabilities.iter().filter_map(|id| id.parse().ok()).collect()
    }

    /// Those that a later version has stored and this one does not know.
    pub(crate) fn unknown_capabilities(&self) -> Vec<&str> {
        let unknown = |id: &&String| id.parse::<Capability>().is_err();
        self.capabilities.iter().filter(unknown).map(String::as_str).collect()
    }

    /// Without what is secret, for keeping in memory.
    pub(crate) fn without_secrets(&self) -> Self {
        let replaced = self.replaced.as_ref().map(|before| {
            Box::new(AccountFile { cache: MsalCache::default(), facts: before.facts.without_secrets() })
        });
        Self { previous_refresh_token: None, replaced, ..self.clone() }
    }
}

/// Of files that do not say: the least is taken as proof then.
fn anybody() -> Tenant {
    Tenant::Common
}

/// Why the bytes of a file are not an account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountFileError {
    /// Not an MSAL cache with our member in it. What is wrong is not quoted: it could be a secret.
    #[error("the file is not an account (line {line})")]
    Unreadable { line: usize },
    /// Sealed with our key, and cut or changed since.
    #[error("the file is sealed and damaged")]
    Unsealable,
    /// Larger than any that is written: somebody else put it there.
    #[error("the file is larger than an account's can be")]
    TooLarge,
    /// Written by a later version of this program.
    #[error("the file has format {found}; this version reads up to {FORMAT}")]
    Newer { found: u32 },
    /// The file's name is another account's.
    #[error("the file holds another account than its name says")]
    OtherAccount,
}

impl AccountFile {
    /// Reads a file of this or an earlier format.
    pub fn parse(bytes: &[u8], name: &AccountId) -> Result<Self, AccountFileError> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(rename = "ValetKey")]
            ours: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unreadable = |e: serde_json::Error| AccountFileError::Unreadable { line: e.line() };
        // First the format alone: a newer file may have members that mean something else.
        let found = serde_json::from_slice::<Outer>(bytes).map_err(unreadable)?.ours.format;
        if found > FORMAT {
            return Err(AccountFileError::Newer { found });
        }
        let file: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        if file.facts.account == *name { Ok(file) } else { Err(AccountFileError::OtherAccount) }
    }

    /// The bytes for the disk. The same account gives the same bytes.
    pub fn to_bytes(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, serde_json::Error> {
        let mut bytes = zeroize::Zeroizing::new(serde_json::to_vec_pretty(self)?);
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod strangers;
