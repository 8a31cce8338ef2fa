//! The keys of this device in the key store. The only copy there is: nothing is taken away before another is known to be there.

use valetkey_entra::secret::Secret;
use valetkey_handoff::{Keys, Sensitive, Thumbprint};

use crate::keystore::{EntryName, KeyStore, KeyStoreError};
use crate::pairing::Entry;
use crate::problem::KeysProblem;

/// With the login at the broker, if it wants one.
pub(crate) type Secrets = (Keys, Option<Sensitive<String>>);

/// The keys of this device; what is still in the unnamed entry is moved to its own.
pub(crate) async fn keys_of(device: &Thumbprint, store: &dyn KeyStore) -> Result<Secrets, KeysProblem> {
    let open = |entry: &Secret| Entry::open(entry).filter(|(keys, _)| keys.thumbprint() == *device);
    let own = EntryName::Device(device.clone());
    let named = store.load(own.clone()).await.map_err(keys_problem)?;
    if let Some(opened) = named.as_ref().and_then(open) {
        return Ok(opened);
    }
    let entry = store.load(EntryName::Unnamed).await.map_err(keys_problem)?;
    let entry = entry.ok_or(KeysProblem::Unreadable)?;
    let opened = open(&entry).ok_or(KeysProblem::Unreadable)?;
    if let Err(error) = move_to(own, entry, store).await {
        tracing::warn!(%error, "the keys stay where they were for now");
    }
    Ok(opened)
}

/// What a store says it has taken counts once it has been read again.
async fn move_to(own: EntryName, entry: Secret, store: &dyn KeyStore) -> Result<(), KeyStoreError> {
    store.store(own.clone(), entry.clone()).await?;
    if store.load(own).await? != Some(entry) {
        return Err(KeyStoreError::Unusable);
    }
    store.delete(EntryName::Unnamed).await
}

/// For entries that no pairing stands on any more. One that is left over is of no use to anybody.
pub(crate) async fn forget_keys(names: Vec<EntryName>, store: &dyn KeyStore) {
    for name in names {
        if let Err(error) = store.delete(name).await {
            tracing::warn!(%error, "keys that are not needed any more could not be removed from the keyring");
        }
    }
}

pub(crate) fn keys_problem(error: KeyStoreError) -> KeysProblem {
    match error {
        KeyStoreError::Locked => KeysProblem::Locked,
        KeyStoreError::Unavailable => KeysProblem::Unavailable,
        KeyStoreError::Unusable => KeysProblem::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;
    use crate::keystore::MemoryKeyStore;
    use crate::samples::invite;

    /// Breaks at one of the questions, counted from 0.
    #[derive(Debug)]
    struct Breaking {
        inner: MemoryKeyStore,
        at: usize,
        how: Break,
        asked: AtomicUsize,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Break {
        /// Locked from then on.
        Locks,
        /// That one write is taken and lost.
        Loses,
        /// That one write is half there.
        Halves,
    }

    const QUESTIONS: [&str; 5] = ["load its own", "load the unnamed", "store", "read again", "delete"];

    impl Breaking {
        fn broken(&self) -> Option<Break> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            let broken = if self.how == Break::Locks { number >= self.at } else { number == self.at };
            broken.then_some(self.how)
        }

        fn check(&self) -> Result<(), KeyStoreError> {
            if self.broken().is_some() { Err(KeyStoreError::Locked) } else { Ok(()) }
        }
    }

    impl KeyStore for Breaking {
        fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
            async move {
                self.check()?;
                self.inner.load(name).await
            }
            .boxed()
        }

        fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
            async move {
                match self.broken() {
                    Some(Break::Locks) => Err(KeyStoreError::Locked),
                    Some(Break::Loses) => Ok(()),
                    Some(Break::Halves) => {
                        let half = entry.expose()[..entry.expose().len() / 2].to_owned();
                        self.inner.store(name, Secret::new(half)).await
                    }
                    None => self.inner.store(name, entry).await,
                }
            }
            .boxed()
        }

        fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
            async move {
                self.check()?;
                self.inner.delete(name).await
            }
            .boxed()
        }
    }

    /// A store of an older version, with the device that it knows.
    async fn older() -> (MemoryKeyStore, Thumbprint, Secret) {
        let (store, keys) = (MemoryKeyStore::default(), Keys::generate());
        let broker = invite("Rocky", Keys::generate().public()).broker;
        let entry = Entry::new(&keys, &broker).to_secret().unwrap();
        store.store(EntryName::Unnamed, entry.clone()).await.unwrap();
        (store, keys.thumbprint(), entry)
    }

    async fn found(device: &Thumbprint, store: &dyn KeyStore) -> Result<Thumbprint, KeysProblem> {
        keys_of(device, store).await.map(|(keys, _)| keys.thumbprint())
    }

    /// Shows of M14 that keys of an older version are lost at no step of moving them.
    #[tokio::test]
    async fn at_whatever_step_moving_the_keys_breaks_they_are_there_at_the_next_start() {
        let locks = (0..QUESTIONS.len()).map(|at| (at, Break::Locks));
        for (at, how) in locks.chain([(2, Break::Loses), (2, Break::Halves)]) {
            let what = format!("{how:?} at “{}”", QUESTIONS[at]);
            let (inner, device, entry) = older().await;
            let store = Breaking { inner: inner.clone(), at, how, asked: AtomicUsize::new(0) };
            // Whoever has read them works with them.
            let works = if at < 2 { Err(KeysProblem::Locked) } else { Ok(device.clone()) };
            assert_eq!(found(&device, &store).await, works, "{what}");
            assert_eq!(inner.load(EntryName::Unnamed).await, Ok(Some(entry.clone())), "{what}");

            assert_eq!(found(&device, &inner).await, Ok(device.clone()), "{what}");
            assert_eq!(inner.load(EntryName::Device(device)).await, Ok(Some(entry)), "{what}");
        }
    }

    #[tokio::test]
    async fn moved_keys_are_in_one_place_only() {
        let (store, device, entry) = older().await;
        assert_eq!(found(&device, &store).await, Ok(device.clone()));
        assert_eq!(store.load(EntryName::Unnamed).await, Ok(None));
        assert_eq!(store.load(EntryName::Device(device)).await, Ok(Some(entry)));
    }

    /// The keys of another pairing of this person's stay where they are.
    #[tokio::test]
    async fn keys_of_another_device_are_neither_taken_nor_moved() {
        let (store, _, entry) = older().await;
        let other = Keys::generate().thumbprint();
        assert_eq!(found(&other, &store).await, Err(KeysProblem::Unreadable));
        assert_eq!(store.entries(), [entry]);
    }
}
