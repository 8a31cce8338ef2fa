//! Keys that last as long as the program: for tests, and for whoever wants no trace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use valetkey_entra::secret::Secret;

use super::{KeyStore, KeyStoreError};

/// Clones share one entry. It can be told to behave like a locked keyring.
#[derive(Clone, Debug, Default)]
pub struct MemoryKeyStore(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    entry: Option<Secret>,
    locked: bool,
}

impl MemoryKeyStore {
    pub fn lock(&self, locked: bool) {
        self.inside().locked = locked;
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
    fn load(&self) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        async { Ok(self.open()?.entry.clone()) }.boxed()
    }

    fn store(&self, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async {
            self.open()?.entry = Some(entry);
            Ok(())
        }
        .boxed()
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async {
            self.open()?.entry = None;
            Ok(())
        }
        .boxed()
    }
}
