//! The operating system's keyring: Keychain, Credential Manager, Secret Service.

use std::fmt;
use std::time::Duration;

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
use futures::future::BoxFuture;
use keyring::api::CredentialStoreApi as _;
use keyring::{Entry, Error};
use valetkey_entra::secret::Secret;
#[cfg(windows)]
use windows_native_keyring_store::Store;
#[cfg(all(unix, not(target_os = "macos")))]
use zbus_secret_service_keyring_store::Store;

use super::patient::{Blocking, Patient};
use super::{EntryName, KeyStore, KeyStoreError};

/// How long the keyring may take. A locked Secret Service collection whose prompt nobody answers never answers at all; before
/// it a person is typing a password.
const PATIENCE: Duration = Duration::from_secs(20);

/// As the entries are called in the keyring.
const SERVICE: &str = "valet-key";

/// Entries of the person's own keyring.
#[derive(Debug)]
pub struct OsKeyring(Patient<Entries>);

impl OsKeyring {
    /// The entries of Valet Key for the installation called `profile` (its data directory, so that two do not share keys).
    pub fn new(profile: &str) -> Self {
        Self(Patient::new(Entries { profile: profile.into() }, PATIENCE))
    }
}

impl KeyStore for OsKeyring {
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        self.0.load(name)
    }

    fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        self.0.store(name, entry)
    }

    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        self.0.delete(name)
    }
}

struct Entries {
    profile: String,
}

impl Entries {
    fn entry(&self, name: &EntryName) -> Result<Entry, Error> {
        let user = match name.device() {
            Some(device) => format!("{} {device}", self.profile),
            None => self.profile.clone(),
        };
        // A connection to the keyring for each question: one that is started only after us, or started again, is there then.
        Store::new()?.build(SERVICE, &user, None)
    }
}

impl Blocking for Entries {
    fn load(&self, name: &EntryName) -> Result<Option<Secret>, KeyStoreError> {
        let found = self.entry(name).and_then(|entry| entry.get_password());
        unless_missing(found.map(|text| Some(Secret::new(text))))
    }

    fn store(&self, name: &EntryName, entry: &Secret) -> Result<(), KeyStoreError> {
        self.entry(name).and_then(|own| own.set_password(entry.expose())).map_err(|error| classify(&error))
    }

    fn delete(&self, name: &EntryName) -> Result<(), KeyStoreError> {
        unless_missing(self.entry(name).and_then(|entry| entry.delete_credential()))
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}

/// That there is no such entry is an answer.
fn unless_missing<T: Default>(found: Result<T, Error>) -> Result<T, KeyStoreError> {
    match found {
        Err(Error::NoEntry) => Ok(T::default()),
        found => found.map_err(|error| classify(&error)),
    }
}

fn classify(error: &Error) -> KeyStoreError {
    match error {
        Error::NoStorageAccess(_) => KeyStoreError::Locked,
        Error::BadEncoding(_) | Error::BadDataFormat(..) | Error::BadStoreFormat(_) | Error::Ambiguous(_) => {
            KeyStoreError::Unusable
        }
        _ => KeyStoreError::Unavailable,
    }
}
