//! A key file, for a machine without a keyring. Chosen by name, never fallen back to.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use valetkey_entra::secret::Secret;
use valetkey_handoff::Thumbprint;

use super::{EntryName, KeyStore, KeyStoreError};
use crate::durable;

/// Mode 0600 from the moment it exists; one that others may read is not used.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
    /// All entries are in one file: reading, changing and replacing it is one step, or one would undo the other.
    changing: Arc<Mutex<()>>,
}

/// What is in it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    devices: BTreeMap<Thumbprint, Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unnamed: Option<Secret>,
}

impl KeyFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), changing: Arc::default() }
    }

    fn read(&self) -> Result<Entries, KeyStoreError> {
        match durable::read_private(&self.path) {
            // The text was the unnamed entry itself, at first. Whatever it is, it is kept.
            Ok(Some(text)) => Ok(serde_json::from_str(&text)
                .unwrap_or_else(|_| Entries { unnamed: Some(Secret::new(text)), ..Entries::default() })),
            Ok(None) => Ok(Entries::default()),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(KeyStoreError::Unusable),
            Err(_) => Err(KeyStoreError::Unavailable),
        }
    }

    fn write(&self, entries: &Entries) -> Result<(), KeyStoreError> {
        let written = if entries.devices.is_empty() && entries.unnamed.is_none() {
            durable::remove(&self.path)
        } else {
            let text = serde_json::to_string(entries).map_err(|_| KeyStoreError::Unusable)?;
            durable::replace(&self.path, Secret::new(text).expose().as_bytes())
        };
        written.map_err(|_| KeyStoreError::Unavailable)
    }

    fn change(&self, name: EntryName, entry: Option<Secret>) -> Result<(), KeyStoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.read()?;
        match (name, entry) {
            (EntryName::Unnamed, entry) => entries.unnamed = entry,
            (EntryName::Device(device), Some(entry)) => drop(entries.devices.insert(device, entry)),
            (EntryName::Device(device), None) => drop(entries.devices.remove(&device)),
        }
        self.write(&entries)
    }
}

impl KeyStore for KeyFile {
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        async move {
            let mut entries = self.read()?;
            Ok(match name.device() {
                Some(device) => entries.devices.remove(device),
                None => entries.unnamed,
            })
        }
        .boxed()
    }

    fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move { self.change(name, Some(entry)) }.boxed()
    }

    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move { self.change(name, None) }.boxed()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use valetkey_handoff::Keys;

    use super::*;

    fn device() -> EntryName {
        EntryName::Device(Keys::generate().thumbprint())
    }

    #[tokio::test]
    async fn a_key_file_is_private_and_each_device_has_its_own_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/device.json");
        let (file, one, other) = (KeyFile::new(&path), device(), device());
        assert_eq!(file.load(one.clone()).await, Ok(None));
        file.store(one.clone(), Secret::new("one")).await.unwrap();
        file.store(other.clone(), Secret::new("other")).await.unwrap();
        assert_eq!(file.load(one.clone()).await, Ok(Some(Secret::new("one"))));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        file.delete(one.clone()).await.unwrap();
        assert_eq!(file.load(one).await, Ok(None));
        assert_eq!(file.load(other.clone()).await, Ok(Some(Secret::new("other"))));
        file.delete(other).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_of_the_first_kind_is_the_unnamed_entry_and_stays_until_it_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        let (file, one) = (KeyFile::new(&path), device());
        let first = r#"{"keys":"x","broker_password":null}"#;
        durable::replace(&path, first.as_bytes()).unwrap();
        file.store(one.clone(), Secret::new("one")).await.unwrap();
        assert_eq!(file.load(EntryName::Unnamed).await, Ok(Some(Secret::new(first))));
        file.delete(EntryName::Unnamed).await.unwrap();
        assert_eq!(file.load(EntryName::Unnamed).await, Ok(None));
        assert_eq!(file.load(one).await, Ok(Some(Secret::new("one"))));
    }

    #[test]
    fn keys_that_are_stored_while_others_are_forgotten_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("device.json"));
        let change = |name: &EntryName, entry| file.clone().change(name.clone(), entry).unwrap();
        std::thread::scope(|scope| {
            let ends = [(); 4].map(|()| {
                scope.spawn(|| {
                    let names: Vec<_> = (0..16).map(|_| device()).collect();
                    for name in &names {
                        change(name, Some(Secret::new("old")));
                        change(name, None);
                        change(name, Some(Secret::new("new")));
                    }
                    names
                })
            });
            let names: Vec<_> = ends.into_iter().flat_map(|end| end.join().unwrap()).collect();
            let entries = file.read().unwrap();
            assert!(names.iter().all(|name| entries.devices.contains_key(name.device().unwrap())));
            assert_eq!(entries.devices.len(), names.len());
        });
    }

    #[tokio::test]
    async fn a_key_file_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        let (file, one) = (KeyFile::new(&path), device());
        file.store(one.clone(), Secret::new("entry")).await.unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(file.load(one).await, Err(KeyStoreError::Unusable));
    }
}
