//! Invites and the devices that used them, in one file: an invite is used up in the same atomic write that stores its device.
//!
//! It knows nothing of messages; whoever calls has verified what is said here.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use valetkey_handoff::{BrokerAccess, InviteId, InviteSecret, Label, PublicKeys, Terms, Thumbprint};

use crate::at_rest::AtRestError;
use crate::state_dir::{StateDir, StateDirError};

/// Long enough to walk over to the other computer, short enough that a link in an old mail is worthless.
pub const DEFAULT_EXPIRY: SignedDuration = SignedDuration::from_mins(10);
/// An invite is a bearer secret; a week is for people on holiday.
pub const MAX_EXPIRY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// After its expiry an unused invite's broker credential lives on a little, so that a late device can be told why.
const LATE: SignedDuration = SignedDuration::from_hours(1);
/// Spent invites are kept this long, so that a late comer is told why.
const KEEP_SPENT: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(crate) const FILE: &str = "registry.json";
const FORMAT: u32 = 1;

/// Gives each device its way into the broker. A broker that all devices share one credential of is a [`SharedAccess`].
pub trait BrokerAccounts: std::fmt::Debug + Send + Sync {
    /// A credential that may write `…/enroll/{invite}`, made before the invite is shown.
    fn grant<'a>(&'a self, invite: &'a InviteId) -> BoxFuture<'a, Result<BrokerAccess, BrokerAccountsError>>;

    /// The invite's credential may use this device's `in`, `out` and `presence` from now on. Called for every device that
    /// proved the invite's secret (one that came too late must be able to hear so), and again for every paired device at
    /// each start.
    fn enrolled<'a>(
        &'a self,
        invite: &'a InviteId,
        device: &'a Thumbprint,
    ) -> BoxFuture<'a, Result<(), BrokerAccountsError>>;

    /// The invite expired unused, or its device was removed: the credential ends. Called again until it has worked, so one
    /// that is gone already is no error.
    fn revoke<'a>(&'a self, invite: &'a InviteId) -> BoxFuture<'a, Result<(), BrokerAccountsError>>;
}

/// Why a credential could not be made or taken away.
#[derive(Debug, thiserror::Error)]
#[error("the broker's accounts: {0}")]
pub struct BrokerAccountsError(pub String);

/// One credential for every device.
#[derive(Debug, Clone)]
pub struct SharedAccess(pub BrokerAccess);

impl BrokerAccounts for SharedAccess {
    fn grant<'a>(&'a self, _: &'a InviteId) -> BoxFuture<'a, Result<BrokerAccess, BrokerAccountsError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn enrolled<'a>(
        &'a self,
        _: &'a InviteId,
        _: &'a Thumbprint,
    ) -> BoxFuture<'a, Result<(), BrokerAccountsError>> {
        Box::pin(async { Ok(()) })
    }

    fn revoke<'a>(&'a self, _: &'a InviteId) -> BoxFuture<'a, Result<(), BrokerAccountsError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A paired companion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub keys: PublicKeys,
    pub name: Label,
    /// Of the invite: what this device may hand over.
    pub terms: Terms,
    pub invite: InviteId,
    pub enrolled_at: Timestamp,
}

impl Device {
    pub fn id(&self) -> Thumbprint {
        self.keys.thumbprint()
    }
}

/// An invite as the agent remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invited {
    pub id: InviteId,
    pub secret: InviteSecret,
    pub terms: Terms,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<Thumbprint>,
    /// Its broker credential has ended: it expired unused, or its device was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Enrolment {
    Paired(Device),
    /// The same device once more: its answer was lost.
    Again(Device),
    Refused(EnrolmentRefused),
}

/// Why a device that holds a real invite is not paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnrolmentRefused {
    Unknown,
    Expired,
    Used,
}

impl EnrolmentRefused {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unknown => "invite-unknown",
            Self::Expired => "invite-expired",
            Self::Used => "invite-used",
        }
    }
}

/// The registry on disk.
#[derive(Debug)]
pub(crate) struct Registry {
    dir: Arc<StateDir>,
    book: Mutex<Book>,
}

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    #[error(transparent)]
    Dir(#[from] StateDirError),
    #[error("registry.json has format {found}; this version reads up to {FORMAT}")]
    Newer { found: u32 },
    #[error("the registry could not be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

impl RegistryError {
    /// Whether the same change may be written another time.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Dir(problem) if !matches!(problem, StateDirError::TooLarge { .. }))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    format: u32,
    invites: Vec<Invited>,
    devices: Vec<Device>,
}

impl Registry {
    /// A damaged file is set aside and reported by the second value; every device must then be invited again.
    pub(crate) fn open(dir: Arc<StateDir>, now: Timestamp) -> Result<(Self, Option<String>), RegistryError> {
        #[derive(Deserialize)]
        struct Outer {
            format: u32,
        }
        let mut aside = None;
        let mut book = Book { format: FORMAT, ..Book::default() };
        let found = match dir.read(FILE) {
            Err(StateDirError::AtRest(AtRestError::Damaged { .. })) => {
                aside = Some(dir.quarantine(dir.root(), FILE, now)?);
                None
            }
            read => read?,
        };
        if let Some(bytes) = found {
            match serde_json::from_slice::<Outer>(&bytes) {
                Ok(Outer { format }) if format > FORMAT => {
                    return Err(RegistryError::Newer { found: format });
                }
                _ => {}
            }
            match serde_json::from_slice(&bytes) {
                Ok(read) => book = read,
                Err(_) => aside = Some(dir.quarantine(dir.root(), FILE, now)?),
            }
        }
        Ok((Self { dir, book: Mutex::new(book) }, aside))
    }

    pub(crate) fn devices(&self) -> Vec<Device> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).devices.clone()
    }

    pub(crate) fn device(&self, id: &Thumbprint) -> Option<Device> {
        self.devices().into_iter().find(|device| device.id() == *id)
    }

    pub(crate) fn invited(&self, id: &InviteId) -> Option<Invited> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.invites.iter().find(|invite| invite.id == *id).cloned()
    }

    /// Invites that can still be used.
    pub(crate) fn open_invites(&self, now: Timestamp) -> usize {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.invites.iter().filter(|invite| invite.used_by.is_none() && invite.expires_at > now).count()
    }

    /// Remembers an invite durably.
    pub(crate) fn invite(
        &self,
        secret: InviteSecret,
        terms: Terms,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let invited = Invited { id: secret.id(), secret, terms, expires_at, used_by: None, over: false };
        self.change(|book| {
            book.invites.retain(|old| old.used_by.is_some() || old.expires_at + KEEP_SPENT > now);
            book.invites.push(invited);
        })
    }

    /// Invites whose credentials are to end: nobody used them in time, or their device is not paired any more.
    pub(crate) fn lapsed(&self, now: Timestamp) -> Vec<InviteId> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let is_needed = |invite: &&Invited| match invite.used_by {
            None => invite.expires_at + LATE > now,
            Some(_) => book.devices.iter().any(|device| device.invite == invite.id),
        };
        let lapsed = book.invites.iter().filter(|invite| !invite.over && !is_needed(invite));
        lapsed.map(|invite| invite.id.clone()).collect()
    }

    /// Notes that the credential of a lapsed invite has ended.
    pub(crate) fn end(&self, id: &InviteId) -> Result<(), RegistryError> {
        self.change(|book| {
            if let Some(invite) = book.invites.iter_mut().find(|invite| invite.id == *id) {
                invite.over = true;
            }
        })
    }

    /// Pairs a device whose proof of the invite was verified. What is `Paired` is on disk.
    pub(crate) fn enrol(
        &self,
        invite: &InviteId,
        device: PublicKeys,
        name: Label,
        now: Timestamp,
    ) -> Result<Enrolment, RegistryError> {
        self.change(|book| book.enrol(invite, device, name, now))
    }

    /// Forgets a device; its invite stays used. Returns what it was.
    pub(crate) fn remove(&self, id: &Thumbprint) -> Result<Option<Device>, RegistryError> {
        self.change(|book| {
            let at = book.devices.iter().position(|device| device.id() == *id)?;
            Some(book.devices.remove(at))
        })
    }

    /// Memory follows the disk: a change that could not be written has not happened.
    fn change<T>(&self, decide: impl FnOnce(&mut Book) -> T) -> Result<T, RegistryError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = book.clone();
        let told = decide(&mut changed);
        if changed != *book {
            let bytes = zeroize::Zeroizing::new(
                serde_json::to_vec_pretty(&changed).map_err(RegistryError::Unwritable)?,
            );
            self.dir.replace(FILE, &bytes)?;
            *book = changed;
        }
        Ok(told)
    }
}

impl Book {
    fn enrol(&mut self, invite: &InviteId, keys: PublicKeys, name: Label, now: Timestamp) -> Enrolment {
        let id = keys.thumbprint();
        let Some(invited) = self.invites.iter_mut().find(|known| known.id == *invite) else {
            return Enrolment::Refused(EnrolmentRefused::Unknown);
        };
        if let Some(winner) = &invited.used_by {
            // A device that was removed does not come back by its old invite.
            let again = self.devices.iter().find(|known| id == *winner && known.id() == id);
            return again.map_or(Enrolment::Refused(EnrolmentRefused::Used), |device| {
                Enrolment::Again(device.clone())
            });
        }
        if invited.expires_at <= now {
            return Enrolment::Refused(EnrolmentRefused::Expired);
        }
        invited.used_by = Some(id.clone());
        let device =
            Device { keys, name, terms: invited.terms.clone(), invite: invite.clone(), enrolled_at: now };
        // Invited once more, a device gets the newer terms.
        self.devices.retain(|known| known.id() != id);
        self.devices.push(device.clone());
        Enrolment::Paired(device)
    }
}

#[cfg(test)]
mod tests;
