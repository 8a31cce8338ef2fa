//! What an agent says about itself. Every value is serializable and holds nothing secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use valetkey_entra::account::AccountId;
use valetkey_handoff::{Label, Thumbprint};

use crate::account_file::Facts;
use crate::health::{Condition, Health};
use crate::registry::Device;
use crate::vault::Trouble;

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub name: Label,
    pub id: Thumbprint,
    pub state_dir: PathBuf,
    pub link: LinkStatus,
    pub devices: Vec<DeviceStatus>,
    pub accounts: Vec<AccountStatus>,
    /// Invites that can still be used.
    pub open_invites: usize,
    /// Accounts by health; every health is there.
    pub health: BTreeMap<&'static str, usize>,
    /// Changes of any account's health since the start.
    pub health_changes: u64,
    /// Messages set aside since the start.
    pub refused_messages: u64,
    /// Files that could not be used when the agent started, and what cannot be read or written now.
    pub troubles: Vec<Trouble>,
}

/// The connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LinkStatus {
    /// [`crate::Agent::run`] is not running.
    Stopped,
    Connecting,
    Up {
        since: Timestamp,
    },
    Down {
        since: Timestamp,
        problem: String,
    },
}

/// A paired companion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceStatus {
    pub id: Thumbprint,
    pub name: Label,
    pub email: Option<String>,
    pub enrolled_at: Timestamp,
    /// When it last said something, since the start.
    pub heard_at: Option<Timestamp>,
}

/// An account, without reading its cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountStatus {
    /// `oid.tid`.
    #[serde(serialize_with = "as_text")]
    pub account: AccountId,
    pub username: String,
    pub name: Option<String>,
    /// A sign-in has worked: it is known whose this is. Until then it is found by its id alone.
    pub proven: bool,
    pub health: Health,
    pub reason: Option<String>,
    pub since: Timestamp,
    pub capabilities: Vec<String>,
    pub resources: Vec<String>,
    pub scopes: Vec<String>,
    /// When the access token in store ends.
    pub expires_at: Timestamp,
    pub stored_at: Timestamp,
    pub refreshed_at: Option<Timestamp>,
    pub authority: String,
    pub tenant: String,
    pub client_id: String,
    pub device: Thumbprint,
    #[serde(rename = "gen")]
    pub generation: u64,
}

/// What removing an account came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    #[serde(serialize_with = "as_text")]
    pub account: AccountId,
    pub username: String,
    /// Always false: Microsoft has no way to revoke one program's sign-in.
    pub revoked: bool,
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "The sign-in of {} is deleted from this agent. Microsoft offers no way to end it there as well: copies \
             elsewhere stay valid until they expire. To end every sign-in of this person, use \"Sign out everywhere\" \
             at https://mysignins.microsoft.com, or have an administrator revoke the sessions.",
            self.username
        )
    }
}

/// Why a name does not lead to an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum FindError {
    #[error("no account is called {name:?}; there are: {}", list(.there_are))]
    NotFound { name: String, there_are: Vec<String> },
    #[error("{name:?} means several accounts: {}", list(.matches))]
    Ambiguous { name: String, matches: Vec<String> },
}

/// The account that `name` means: its id `oid.tid`, its whole address, or the beginning of either if nothing else begins
/// so. Case does not matter. One that has never worked is called what its device says, so it is found by its whole id alone
/// and stands in nobody's way.
pub(crate) fn find<'a>(
    accounts: impl IntoIterator<Item = &'a Facts> + Clone,
    name: &str,
) -> Result<AccountId, FindError> {
    let sought = name.trim().to_lowercase();
    if let Some(facts) = accounts.clone().into_iter().find(|facts| facts.account.to_string() == sought) {
        return Ok(facts.account);
    }
    let label = |facts: &Facts| {
        let not_yet = if facts.has_worked() { "" } else { ", has never worked: say its whole id" };
        format!("{} ({}{not_yet})", facts.username, facts.account)
    };
    let matching = |test: &dyn Fn(&str) -> bool| -> Vec<&Facts> {
        accounts
            .clone()
            .into_iter()
            .filter(|facts| facts.has_worked())
            .filter(|facts| test(&facts.username.to_lowercase()) || test(&facts.account.to_string()))
            .collect()
    };
    let mut matches = matching(&|candidate| candidate == sought);
    if matches.is_empty() && !sought.is_empty() {
        matches = matching(&|candidate| candidate.starts_with(&sought));
    }
    match matches.as_slice() {
        [one] => Ok(one.account),
        [] => Err(FindError::NotFound {
            name: name.to_owned(),
            there_are: accounts.into_iter().map(label).collect(),
        }),
        several => Err(FindError::Ambiguous {
            name: name.to_owned(),
            matches: several.iter().map(|facts| label(facts)).collect(),
        }),
    }
}

impl AccountStatus {
    pub(crate) fn of(facts: &Facts) -> Self {
        let Condition { health, reason, since, .. } = facts.condition.clone();
        // What can be had: a newer sign-in changes that once it has worked, not on its device's word.
        let serving = facts.serving();
        Self {
            account: facts.account,
            username: facts.username.clone(),
            name: facts.name.clone(),
            proven: facts.has_worked(),
            health,
            reason,
            since,
            capabilities: serving.capabilities.clone(),
            resources: serving.resources.clone(),
            scopes: serving.scopes.clone(),
            expires_at: facts.expires_at,
            stored_at: facts.stored_at,
            refreshed_at: facts.refreshed_at,
            authority: facts.authority.cloud.login().to_string(),
            tenant: facts.authority.tenant.to_string(),
            client_id: facts.client_id.clone(),
            device: facts.device.clone(),
            generation: facts.generation(),
        }
    }

    /// What the disk does not take now cannot be written to the account's file either.
    pub(crate) fn unsaved(self) -> Self {
        if self.health != Health::Connected {
            return self;
        }
        Self { health: Health::Retrying, reason: Some("storage".to_owned()), ..self }
    }
}

impl DeviceStatus {
    pub(crate) fn of(device: &Device, heard_at: Option<Timestamp>) -> Self {
        Self {
            id: device.id(),
            name: device.name.clone(),
            email: device.terms.email.clone(),
            enrolled_at: device.enrolled_at,
            heard_at,
        }
    }
}

fn as_text<S: serde::Serializer>(account: &AccountId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(account)
}

fn list(labels: &[String]) -> String {
    if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }
}
