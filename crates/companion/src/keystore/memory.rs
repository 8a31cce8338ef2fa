//! Keys that last as long as the program: for tests, and for whoever wants no trace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use valetkey_entra::secret::Secret;

use super::{EntryName, KeyStore, KeyStoreError};

/// Clones share their entries. It can be told to behave like a locked keyring.
#[derive(Clone, Debug, Default)]
pub struct MemoryKeyStore(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    entries: Vec<(EntryName, Secret)>,
    locked: bool,
}

impl MemoryKeyStore {
    pub fn lock(&self, locked: bool) {
        self.inside().locked = locked;
    }

    /// All that is in it, the latest last.
    pub fn entries(&self) -> Vec<Secret> {
        self.inside().entries.iter().map(|(_, entry)| entry.clone()).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Inside>, KeyStoreError> {
        let inside = self.inside();
        if inside.locked { Err(KeyStoreError::Locked) } else { Ok(inside) }
    }
}

impl KeyStore for MemoryKeyStore {
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        async move {
            let inside = self.open()?;
            Ok(inside.entries.iter().find(|(known, _)| *known == name).map(|(_, entry)| entry.clone()))
        }
        .boxed()
    }

    fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move {
            let mut inside = self.open()?;
            inside.entries.retain(|(known, _)| *known != name);
            inside.entries.push((name, entry));
            Ok(())
        }
        .boxed()
    }

    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move {
            self.open()?.entries.retain(|(known, _)| *known != name);
            Ok(())
        }
        .boxed()
    }
}
