//! The operating system's keyring: Keychain, Credential Manager, Secret Service.

use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use keyring::Error;
use keyring::v1::Entry;
use tokio::sync::oneshot;
use valetkey_entra::secret::Secret;

use super::{EntryName, KeyStore, KeyStoreError};

/// How long the keyring may take. A locked Secret Service collection without a prompter never answers at all; with a
/// prompter, a person is typing a password.
const PATIENCE: Duration = Duration::from_secs(20);

/// Entries of the person's own keyring.
pub struct OsKeyring {
    service: String,
    profile: String,
    patience: Duration,
}

impl OsKeyring {
    /// The entries of Valet Key for the installation called `profile` (its data directory, so that two do not share keys).
    pub fn new(profile: &str) -> Self {
        Self { service: "valet-key".into(), profile: profile.into(), patience: PATIENCE }
    }

    /// With another time limit, for a test that waits for it.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    async fn on<T: Send + 'static>(
        &self,
        name: &EntryName,
        work: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
        unheard: impl FnOnce(&Entry) + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let user = match name.device() {
            Some(device) => format!("{} {device}", self.profile),
            None => self.profile.clone(),
        };
        let service = self.service.clone();
        let made = move || Entry::new(&service, &user);
        within(
            self.patience,
            move || made().and_then(|entry| Ok((work(&entry)?, entry))),
            |(_, entry)| {
                unheard(&entry);
            },
        )
        .await?
        .map(|(found, _)| found)
        .map_err(|error| classify(&error))
    }
}

/// Does `work` off the async threads, because it blocks, perhaps for ever. Work that ran out of time is left behind on a
/// thread of its own (not `spawn_blocking`: the runtime waits for those when it shuts down). If it succeeds late, when
/// nobody knows of it any more, `unheard` undoes it.
async fn within<T: Send + 'static, E: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    unheard: impl FnOnce(T) + Send + 'static,
) -> Result<Result<T, E>, KeyStoreError> {
    let (answer, mut waiting) = oneshot::channel();
    std::thread::Builder::new()
        .name("keyring".into())
        .spawn(move || {
            if let Err(Ok(done)) = answer.send(work()) {
                unheard(done);
            }
        })
        .map_err(|_| KeyStoreError::Unavailable)?;
    if let Ok(answered) = tokio::time::timeout(patience, &mut waiting).await {
        return answered.map_err(|_| KeyStoreError::Unavailable);
    }
    // Either it is here by now, or it will be found that nobody waits.
    waiting.close();
    waiting.try_recv().map_err(|_| KeyStoreError::Locked)
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
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        async move {
            let get = |entry: &Entry| match entry.get_password() {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(Error::NoEntry) => Ok(None),
                Err(error) => Err(error),
            };
            self.on(&name, get, |_| {}).await
        }
        .boxed()
    }

    fn store(&self, name: EntryName, secret: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move {
            // Keys of a pairing that was reported to have failed: nobody will ever ask for them.
            let forget = |entry: &Entry| drop(entry.delete_credential());
            self.on(&name, move |entry| entry.set_password(secret.expose()), forget).await
        }
        .boxed()
    }

    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        async move {
            let delete = |entry: &Entry| match entry.delete_credential() {
                Err(Error::NoEntry) => Ok(()),
                result => result,
            };
            self.on(&name, delete, |_| {}).await
        }
        .boxed()
    }
}

impl fmt::Debug for OsKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsKeyring").field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_a_locked_keyring_lets_through_late_is_undone() {
        let ((unlock, locked), (undone, seen)) = (mpsc::channel(), mpsc::channel());
        let work = move || locked.recv().map(|()| "keys");
        let outcome = within(Duration::from_millis(1), work, move |keys| undone.send(keys).unwrap()).await;
        assert_eq!(outcome, Err(KeyStoreError::Locked));
        unlock.send(()).unwrap();
        assert_eq!(seen.recv_timeout(Duration::from_secs(60)), Ok("keys"));
    }

    #[tokio::test]
    async fn what_came_in_time_stays() {
        let (undone, seen) = mpsc::channel();
        let work = || Ok::<_, ()>("keys");
        let outcome = within(Duration::from_secs(60), work, move |keys| undone.send(keys).unwrap()).await;
        assert_eq!(outcome, Ok(Ok("keys")));
        assert_eq!(seen.recv(), Err(mpsc::RecvError));
    }
}
