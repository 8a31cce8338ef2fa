//! A key file, for a machine without a keyring. Chosen by name, never fallen back to.

use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use valetkey_entra::secret::Secret;

use super::{KeyStore, KeyStoreError};
use crate::durable;

/// Mode 0600 from the moment it exists; one that others may read is not used.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl KeyStore for KeyFile {
    fn load(&self) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        async { read(&self.0) }.boxed()
    }

    fn store(&self, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move { durable::replace(&self.0, entry.expose().as_bytes()).map_err(|_| KeyStoreError::Unavailable) }.boxed()
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async { durable::remove(&self.0).map_err(|_| KeyStoreError::Unavailable) }.boxed()
    }
}

fn read(path: &Path) -> Result<Option<Secret>, KeyStoreError> {
    match durable::read_private(path) {
        Ok(Some(text)) => Ok(Some(Secret::new(text))),
        Ok(None) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(KeyStoreError::Unusable),
        Err(_) => Err(KeyStoreError::Unavailable),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_key_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/device.json");
        let file = KeyFile::new(&path);
        assert_eq!(file.load().await, Ok(None));
        file.store(Secret::new("entry")).await.unwrap();
        assert_eq!(file.load().await, Ok(Some(Secret::new("entry"))));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        file.delete().await.unwrap();
        assert_eq!(file.load().await, Ok(None));
    }

    #[tokio::test]
    async fn a_key_file_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        let file = KeyFile::new(&path);
        file.store(Secret::new("entry")).await.unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(file.load().await, Err(KeyStoreError::Unusable));
    }
}
