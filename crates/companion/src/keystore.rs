//! Where this computer's keys are kept: one small entry a pairing, never a credential of Microsoft's.

use std::fmt::Debug;

use futures::future::BoxFuture;
use thiserror::Error;
use valetkey_entra::secret::Secret;
use valetkey_handoff::Thumbprint;

mod file;
mod memory;
mod os;
mod patient;

pub use file::KeyFile;
pub use memory::MemoryKeyStore;
pub use os::OsKeyring;

/// Entries that survive a restart. Their text is small: Windows caps an entry at about 2.5 kB.
pub trait KeyStore: Debug + Send + Sync + 'static {
    /// The entry, or `None` only when the store is open and certainly has none.
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>>;
    fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>>;
    /// Only ever called for an entry that no pairing stands on any more.
    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>>;
}

/// Each pairing's keys have an entry of their own, so that a write that a locked keyring let through late never lies over
/// the keys of a newer pairing. Which one counts is in the pairing file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryName {
    Device(Thumbprint),
    /// The only one there was, at first.
    Unnamed,
}

impl EntryName {
    fn device(&self) -> Option<&Thumbprint> {
        match self {
            Self::Device(device) => Some(device),
            Self::Unnamed => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyStoreError {
    /// It did not open within the time limit, or said that it is locked. What is in it is fine.
    #[error("the keyring is locked")]
    Locked,
    #[error("there is no keyring")]
    Unavailable,
    /// The entry is not text, or the file can be read by others.
    #[error("the entry cannot be used")]
    Unusable,
}
