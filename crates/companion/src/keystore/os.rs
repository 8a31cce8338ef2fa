//! The operating system's keyring: Keychain, Credential Manager, Secret Service.

use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use keyring::Error;
use keyring::v1::Entry;
use valetkey_entra::secret::Secret;

use super::{KeyStore, KeyStoreError};

/// How long the keyring may take. A locked Secret Service collection without a prompter never answers at all; with a
/// prompter, a person is typing a password.
const PATIENCE: Duration = Duration::from_secs(20);

/// One entry of the person's own keyring.
pub struct OsKeyring {
    service: String,
    user: String,
    patience: Duration,
}

impl OsKeyring {
    /// The entry of Valet Key for the installation called `profile` (its data directory, so that two do not share keys).
    pub fn new(profile: &str) -> Self {
        Self { service: "valet-key".into(), user: profile.into(), patience: PATIENCE }
    }

    /// With another time limit, for a test that waits for it.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Off the async threads, because the call blocks, perhaps for ever. A call that ran out of time is left behind:
    /// it holds a thread, and changes nothing but what was asked.
    async fn within_patience<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let (service, user) = (self.service.clone(), self.user.clone());
        let (answer, waiting) = tokio::sync::oneshot::channel();
        // A thread of its own, not `spawn_blocking`: the runtime waits for those when it shuts down.
        std::thread::Builder::new()
            .name("keyring".into())
            .spawn(move || {
                let _ = answer.send(Entry::new(&service, &user).and_then(|entry| work(&entry)));
            })
            .map_err(|_| KeyStoreError::Unavailable)?;
        match tokio::time::timeout(self.patience, waiting).await {
            Ok(Ok(result)) => result.map_err(|error| classify(&error)),
            Ok(Err(_)) => Err(KeyStoreError::Unavailable),
            Err(_) => Err(KeyStoreError::Locked),
        }
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

impl KeyStore for OsKeyring {
    fn load(&self) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        self.within_patience(|entry| match entry.get_password() {
            Ok(text) => Ok(Some(Secret::new(text))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(error),
        })
        .boxed()
    }

    fn store(&self, secret: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        self.within_patience(move |entry| entry.set_password(secret.expose())).boxed()
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        self.within_patience(|entry| match entry.delete_credential() {
            Err(Error::NoEntry) => Ok(()),
            result => result,
        })
        .boxed()
    }
}

impl fmt::Debug for OsKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsKeyring").field("service", &self.service).finish_non_exhaustive()
    }
}
