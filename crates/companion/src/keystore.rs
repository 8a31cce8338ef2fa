//! Where this computer's keys are kept: one small entry, never a credential of Microsoft's.

use std::fmt::Debug;

use futures::future::BoxFuture;
use thiserror::Error;
use valetkey_entra::secret::Secret;

mod file;
mod memory;
mod os;

pub use file::KeyFile;
pub use memory::MemoryKeyStore;
pub use os::OsKeyring;

/// One entry that survives a restart. Its text is small: Windows caps an entry at about 2.5 kB.
pub trait KeyStore: Debug + Send + Sync + 'static {
    /// The entry, or `None` only when the store is open and certainly has none.
    fn load(&self) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>>;
    fn store(&self, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>>;
    /// Only ever called when the person unpairs.
    fn delete(&self) -> BoxFuture<'_, Result<(), KeyStoreError>>;
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
