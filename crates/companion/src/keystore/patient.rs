//! For a store that blocks while it is asked, perhaps for ever: it is asked on a thread, for as long as somebody would wait, and
//! nothing else before it has answered.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};
use valetkey_entra::secret::Secret;

use super::{EntryName, KeyStore, KeyStoreError};

/// A [`KeyStore`] whose answers keep the thread waiting.
pub(super) trait Blocking: Send + Sync + 'static {
    fn load(&self, name: &EntryName) -> Result<Option<Secret>, KeyStoreError>;
    fn store(&self, name: &EntryName, entry: &Secret) -> Result<(), KeyStoreError>;
    fn delete(&self, name: &EntryName) -> Result<(), KeyStoreError>;
}

#[derive(Debug)]
pub(super) struct Patient<S> {
    store: Arc<S>,
    /// Held by the thread that asks, until it has its answer.
    turn: Arc<Mutex<()>>,
    patience: Duration,
}

impl<S: Blocking> Patient<S> {
    pub fn new(store: S, patience: Duration) -> Self {
        Self { store: Arc::new(store), turn: Arc::default(), patience }
    }

    /// Work that ran out of time is left behind on a thread of its own (not `spawn_blocking`: the runtime waits for those when
    /// it shuts down), and as long as it hangs no other is begun: there is one such thread at most. If it succeeds late, when
    /// nobody knows of it any more, `unheard` undoes it.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&S) -> Result<T, KeyStoreError> + Send + 'static,
        unheard: impl FnOnce(&S) + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let until = Instant::now() + self.patience;
        let Ok(turn) = timeout_at(until, Arc::clone(&self.turn).lock_owned()).await else {
            return Err(KeyStoreError::Locked);
        };
        let store = Arc::clone(&self.store);
        let (answer, mut waiting) = oneshot::channel();
        let work = move || {
            let _turn = turn;
            if let Err(Ok(_)) = answer.send(question(&store)) {
                unheard(&store);
            }
        };
        std::thread::Builder::new()
            .name("keyring".into())
            .spawn(work)
            .map_err(|_| KeyStoreError::Unavailable)?;
        if let Ok(answered) = timeout_at(until, &mut waiting).await {
            return answered.unwrap_or(Err(KeyStoreError::Unavailable));
        }
        // Either it is here by now, or it will be found that nobody waits.
        waiting.close();
        waiting.try_recv().unwrap_or(Err(KeyStoreError::Locked))
    }
}

impl<S: Blocking + std::fmt::Debug> KeyStore for Patient<S> {
    fn load(&self, name: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        self.ask(move |store| store.load(&name), |_| {}).boxed()
    }

    fn store(&self, name: EntryName, entry: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        let unheard = name.clone();
        // Keys of a pairing that was reported to have failed: nobody will ever ask for them.
        let undo = move |store: &S| {
            let _ = store.delete(&unheard);
        };
        self.ask(move |store| store.store(&name, &entry), undo).boxed()
    }

    fn delete(&self, name: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        self.ask(move |store| store.delete(&name), |_| {}).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex as StdMutex, mpsc};

    use valetkey_handoff::Keys;

    use super::*;
    use crate::pairing::{Entry, PairingFile};
    use crate::samples::invite;
    use crate::view::Screen;
    use crate::{Clock, Command, Companion, Language, Options, Way};

    /// Longer than anything takes here.
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    /// Every question hangs until the gate is opened, as before a prompt that nobody answers.
    #[derive(Debug)]
    struct Hanging {
        asked: AtomicUsize,
        gate: StdMutex<mpsc::Receiver<()>>,
        entries: StdMutex<HashMap<EntryName, Secret>>,
    }

    impl Hanging {
        /// With what opens the gate when it is dropped.
        fn new() -> (Self, mpsc::Sender<()>) {
            let (gate, shut) = mpsc::channel();
            (
                Self { asked: AtomicUsize::new(0), gate: StdMutex::new(shut), entries: StdMutex::default() },
                gate,
            )
        }

        fn hang(&self) {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.gate.lock().unwrap().recv().unwrap_err();
        }
    }

    impl Blocking for Hanging {
        fn load(&self, name: &EntryName) -> Result<Option<Secret>, KeyStoreError> {
            self.hang();
            Ok(self.entries.lock().unwrap().get(name).cloned())
        }

        fn store(&self, name: &EntryName, entry: &Secret) -> Result<(), KeyStoreError> {
            self.hang();
            self.entries.lock().unwrap().insert(name.clone(), entry.clone());
            Ok(())
        }

        fn delete(&self, name: &EntryName) -> Result<(), KeyStoreError> {
            self.hang();
            self.entries.lock().unwrap().remove(name);
            Ok(())
        }
    }

    impl<S> Patient<S> {
        fn waiting(&self, patience: Duration) -> Self {
            Self { store: Arc::clone(&self.store), turn: Arc::clone(&self.turn), patience }
        }
    }

    #[tokio::test]
    async fn while_a_question_hangs_no_other_gets_a_thread_and_when_it_is_answered_it_goes_on() {
        let (hanging, gate) = Hanging::new();
        hanging.entries.lock().unwrap().insert(EntryName::Unnamed, Secret::new("keys"));
        let hurried = Patient::new(hanging, SHORT);
        for _ in 0..16 {
            assert_eq!(hurried.load(EntryName::Unnamed).await, Err(KeyStoreError::Locked));
            assert_eq!(hurried.delete(EntryName::Unnamed).await, Err(KeyStoreError::Locked));
            assert!(hurried.store.asked.load(Ordering::SeqCst) <= 1);
        }
        let patient = hurried.waiting(LONG);
        let (answer, ()) = tokio::join!(patient.load(EntryName::Unnamed), async { drop(gate) });
        assert_eq!(answer, Ok(Some(Secret::new("keys"))));
        assert_eq!(hurried.store.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_a_locked_keyring_lets_through_late_is_undone() {
        let (hanging, gate) = Hanging::new();
        let hurried = Patient::new(hanging, SHORT);
        let stored = hurried.store(EntryName::Unnamed, Secret::new("keys")).await;
        assert_eq!(stored, Err(KeyStoreError::Locked));
        drop(gate);
        // It is asked only when all that was begun before has ended.
        assert_eq!(hurried.waiting(LONG).load(EntryName::Unnamed).await, Ok(None));
        assert_eq!(hurried.store.asked.load(Ordering::SeqCst), 3, "stored, undone, asked");
    }

    #[tokio::test]
    async fn what_came_in_time_stays() {
        let (open, _) = Hanging::new();
        let patient = Patient::new(open, LONG);
        patient.store(EntryName::Unnamed, Secret::new("keys")).await.unwrap();
        assert_eq!(patient.load(EntryName::Unnamed).await, Ok(Some(Secret::new("keys"))));
        patient.delete(EntryName::Unnamed).await.unwrap();
        assert_eq!(patient.load(EntryName::Unnamed).await, Ok(None));
    }

    /// For an hour, in which it is asked again and again.
    ///
    /// Shows J8 (keyring locked).
    #[tokio::test(start_paused = true)]
    async fn a_keyring_that_never_answers_costs_one_thread_and_is_never_shown_as_signed_out() {
        let dir = tempfile::tempdir().unwrap();
        let (hanging, gate) = Hanging::new();
        let (keys, invite) = (Keys::generate(), invite("Rocky", Keys::generate().public()));
        PairingFile::create(dir.path(), &invite, &keys).unwrap();
        let entry = Entry::new(&keys, &invite.broker).to_secret().unwrap();
        hanging.entries.lock().unwrap().insert(EntryName::Device(keys.thumbprint()), entry);
        let keyring = Arc::new(Patient::new(hanging, LONG));
        let companion = Companion::start(Options {
            data_dir: dir.path().to_owned(),
            keys: keyring.clone(),
            outlets: tokio::sync::mpsc::unbounded_channel().0,
            clock: Clock::tokio_from(crate::samples::now()),
            language: Language::English,
            device_name: "a test".into(),
            sign_in: Way::DeviceCode,
            policy_file: None,
            broker_ca: None,
        });
        let mut views = companion.views();
        views.wait_for(|view| view.code.as_deref() == Some("keyring-locked")).await.unwrap();
        let hour = tokio::time::sleep(Duration::from_secs(3600));
        tokio::pin!(hour);
        loop {
            tokio::select! {
                () = &mut hour => break,
                changed = views.changed() => changed.unwrap(),
            }
            assert_eq!(views.borrow().code.as_deref(), Some("keyring-locked"));
        }
        assert!(keyring.store.asked.load(Ordering::SeqCst) <= 1);

        tokio::time::resume();
        drop(gate);
        companion.send(Command::Retry);
        let linked = views.wait_for(|view| {
            assert_ne!(view.screen, Screen::NotPaired);
            view.assistant.is_some()
        });
        tokio::time::timeout(LONG * 2, linked).await.expect("the pairing").unwrap();
        companion.stop().await;
    }
}
