//! The keys and the data directory when the keyring is slow, when the program ends in between, and when there are two of us.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use common::{Bench, Person, account_state, invite, terms};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use valetkey_companion::view::Screen;
use valetkey_companion::{Command, EntryName, InviteLink, KeyStore, KeyStoreError, MemoryKeyStore};
use valetkey_entra::secret::Secret;
use valetkey_handoff::Keys;
use valetkey_handoff::message::Health;
use valetkey_tests::tenant::ALICE;

mod common;

type Answer<'a, T> = BoxFuture<'a, Result<T, KeyStoreError>>;

/// Its first write runs out of time, and happens whenever [`SlowKeyring::unlock`] is called.
#[derive(Debug, Default)]
struct SlowKeyring {
    inner: MemoryKeyStore,
    waiting: Mutex<Vec<(EntryName, Secret)>>,
}

impl SlowKeyring {
    async fn unlock(&self) {
        let (name, entry) = self.waiting.lock().unwrap().pop().expect("a write that waits");
        self.inner.store(name, entry).await.unwrap();
    }
}

impl KeyStore for SlowKeyring {
    fn load(&self, name: EntryName) -> Answer<'_, Option<Secret>> {
        self.inner.load(name)
    }

    fn store(&self, name: EntryName, entry: Secret) -> Answer<'_, ()> {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.is_empty() {
            waiting.push((name, entry));
            return async { Err(KeyStoreError::Locked) }.boxed();
        }
        self.inner.store(name, entry)
    }

    fn delete(&self, name: EntryName) -> Answer<'_, ()> {
        self.inner.delete(name)
    }
}

/// Deletes nothing, and does not say so either.
#[derive(Debug, Default)]
struct StuckKeyring(MemoryKeyStore);

impl KeyStore for StuckKeyring {
    fn load(&self, name: EntryName) -> Answer<'_, Option<Secret>> {
        self.0.load(name)
    }

    fn store(&self, name: EntryName, entry: Secret) -> Answer<'_, ()> {
        self.0.store(name, entry)
    }

    fn delete(&self, _: EntryName) -> Answer<'_, ()> {
        futures::future::pending().boxed()
    }
}

#[tokio::test]
async fn keys_that_a_locked_keyring_takes_late_do_not_lie_over_those_of_a_newer_pairing() {
    let keyring = Arc::new(SlowKeyring::default());
    let mut person = Person::new();
    person.other_keys = Some(keyring.clone());
    let mut bench = Bench::with(ALICE, person).await;
    bench.person.agree_to(&bench.agent.link_of_invite()).await;
    let view = bench.person.until_screen(Screen::Error).await;
    assert_eq!(view.code.as_deref(), Some("keyring-locked"));
    let (_, body) = bench.connect().await;
    keyring.unlock().await;

    let Bench { agent, person, .. } = &mut bench;
    person.stop().await;
    person.start();
    agent.answer_hello(vec![account_state(&body, 1, Health::Connected, None)]).await;
    person.until_screen(Screen::Connected).await;
    person.stop().await;
}

/// Shows of M14 that what an older version kept in the key store is opened and moved.
#[tokio::test]
async fn keys_in_the_one_entry_of_before_are_found_and_moved_to_their_own() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let Bench { agent, person, .. } = &mut bench;
    person.stop().await;
    let (now, before) = (person.keys.clone(), MemoryKeyStore::default());
    let [entry] = now.entries().try_into().unwrap();
    before.store(EntryName::Unnamed, entry).await.unwrap();
    person.keys = before.clone();
    person.start();
    agent.answer_hello(vec![account_state(&body, 1, Health::Connected, None)]).await;
    person.until_screen(Screen::Connected).await;
    assert_eq!((before.entries(), before.load(EntryName::Unnamed).await), (now.entries(), Ok(None)));
    person.stop().await;
}

#[tokio::test]
async fn unlinking_keeps_nobody_waiting_and_is_finished_at_the_next_start() {
    let keyring = Arc::new(StuckKeyring::default());
    let mut person = Person::new();
    person.other_keys = Some(keyring.clone());
    let mut bench = Bench::with(ALICE, person).await;
    bench.connect().await;
    let person = &mut bench.person;
    person.send(Command::Unpair);
    person.until_screen(Screen::NotPaired).await;
    // Everything else goes on.
    let link = bench.agent.invite.to_link().unwrap();
    person.send(Command::PasteInvite { link: InviteLink::new(link.expose()) });
    person.until_screen(Screen::Invited).await;

    // As a kill would: the keyring has not answered, and never will.
    drop(person.companion.take());
    assert_eq!(keyring.0.entries().len(), 1);
    let mut next = Person::new();
    next.dir = std::mem::replace(&mut person.dir, tempfile::tempdir().unwrap());
    next.keys = keyring.0.clone();
    next.start();
    next.until_screen(Screen::NotPaired).await;
    assert!(!next.dir.path().join("pairing.json").exists());
    next.stop().await;
}

#[tokio::test]
async fn a_second_companion_on_one_data_directory_says_who_is_there_and_goes_on_afterwards() {
    let mut first = Person::new();
    first.start();
    let link = |keys: &Keys| {
        let terms = terms("http://localhost:1", "organizations", ALICE.mail);
        invite(keys, "mqtt://localhost:1", terms).to_link().unwrap().expose().clone()
    };
    first.agree_to(&link(&Keys::generate())).await;
    first.until("the pairing", |view| view.assistant.is_some()).await;

    let mut second = Person::new();
    let own = std::mem::replace(&mut second.dir, tempfile::tempdir().unwrap());
    second.dir = std::mem::replace(&mut first.dir, own);
    second.keys = first.keys.clone();
    second.start();
    let view = second.until_screen(Screen::Error).await;
    assert_eq!(
        (view.code.as_deref(), view.headline.as_str()),
        (Some("in-use"), "Valet Key is running already")
    );
    let me = format!("process {}", std::process::id());
    assert!(view.detail.as_ref().is_some_and(|detail| detail.contains(&me)), "{view:?}");
    // Nor does it pair beside it.
    second.agree_to(&link(&Keys::generate())).await;
    second.until("that it may not", |view| view.code.as_deref() == Some("in-use")).await;
    assert_eq!(first.keys.entries().len(), 1);
    second.send(Command::DeclineInvite);

    first.stop().await;
    second.send(Command::Retry);
    second.until("the pairing", |view| view.assistant.is_some()).await;
    second.stop().await;
}
