use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;
use valetkey_entra::secret::Secret;
use valetkey_handoff::Keys;

use super::*;
use crate::KeyStore;
use crate::keystore::{EntryName, KeyStoreError, MemoryKeyStore};
use crate::outbox::{Outbox, Pending, What};
use crate::pairing::PairingFile;
use crate::problem::KeysProblem;
use crate::samples::{ANA, invite, now, offer, options, pairing_with};
use crate::state::State;
use crate::texts::Language;

fn a_view() -> View {
    crate::view::view(&State::default(), now(), Language::English)
}

fn read(name: &str) -> (String, Done) {
    let invite = invite(name, Keys::generate().public());
    let id = invite.id().to_string();
    let offer = Offer { id: id.clone(), agent: name.into(), expires_at: Timestamp::MAX, ..offer() };
    (id, Done::InviteRead(Ok(Box::new((invite, offer)))))
}

/// Shows of J1 that what is confirmed is what was seen: the keys and the `enroll` are for that invite.
#[tokio::test]
async fn pairing_is_with_the_invite_that_was_agreed_to_whatever_is_opened_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (events, mut told) = mpsc::unbounded_channel();
    let (done, _brought) = mpsc::unbounded_channel();
    let options = options(dir.path(), Arc::new(MemoryKeyStore::default()));
    let mut hands = Hands::new(options, events, done);
    let ((rocky, first), (mallory, second)) = (read("Rocky"), read("Mallory"));
    assert!(matches!(hands.absorb(first), Some(Event::InviteRead(Ok(offer))) if offer.id == rocky));
    let agreed = |invite: &str| Agreed { invite: invite.into(), replaces: None };
    hands.pair(agreed(&mallory));
    assert!(!hands.pairing, "not the one that is here");
    assert!(matches!(told.try_recv(), Ok(Event::Paired(Err(_)))));

    hands.pair(agreed(&rocky));
    assert!(hands.pairing);
    assert_eq!(hands.absorb(second), None);
    assert_eq!(hands.offered.map(|invite| invite.id().to_string()), Some(rocky));
}

/// Hands that look for the pairing that is on the disk, and what they find.
async fn looking(dir: &std::path::Path) -> (Hands, mpsc::UnboundedReceiver<Event>, Done) {
    let (_, options) = pairing_with("Old", dir).await;
    let ((events, told), (done, mut brought)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let mut hands = Hands::new(options, events, done);
    hands.load();
    let found = brought.recv().await.unwrap();
    (hands, told, found)
}

#[tokio::test]
async fn what_was_agreed_to_before_the_present_pairing_was_known_waits_for_its_question() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hands, mut told, found) = looking(dir.path()).await;
    let (mallory, offered) = read("Mallory");
    hands.absorb(offered);
    let agreed =
        |replaces: Option<&str>| Agreed { invite: mallory.clone(), replaces: replaces.map(str::to_owned) };
    hands.pair(agreed(None));
    assert!(matches!(hands.absorb(found), Some(Event::Loaded { pairing: Pairing::Paired(_), .. })));
    let question = Event::InviteReplaces { invite: mallory.clone(), replaces: Some("Old".into()) };
    assert_eq!(told.try_recv().unwrap(), question);
    assert!(!hands.pairing && hands.agreed.is_none());
    hands.pair(agreed(None));
    assert!(!hands.pairing, "a click that was on its way");
    hands.pair(agreed(Some("Old")));
    assert!(hands.pairing);
}

#[tokio::test]
async fn what_was_agreed_to_before_the_keys_were_found_locked_makes_no_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hands, mut told, _) = looking(dir.path()).await;
    let (mallory, offered) = read("Mallory");
    hands.absorb(offered);
    hands.pair(Agreed { invite: mallory, replaces: None });
    let problem = KeysProblem::Locked;
    hands.absorb(Done::Loaded(Err(Pairing::NoKeys { problem, since: now() })));
    assert!(!hands.pairing);
    let refused = NotPaired { problem: problem.into(), goes_on: false };
    assert_eq!(told.try_recv(), Ok(Event::Paired(Err(refused))));
}

#[tokio::test]
async fn what_was_given_up_before_it_began_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hands, _told, _) = looking(dir.path()).await;
    let (mallory, offered) = read("Mallory");
    hands.absorb(offered);
    hands.pair(Agreed { invite: mallory, replaces: None });
    hands.perform(Effect::GiveUpPairing, &a_view());
    hands.absorb(Done::Loaded(Err(Pairing::Missing)));
    assert!(!hands.pairing);
}

/// The next start would send it.
#[tokio::test]
async fn a_sign_in_that_was_given_up_while_it_was_sealed_is_not_left_behind_and_one_that_was_not_is() {
    for given_up in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (mut hands, _told, found) = looking(dir.path()).await;
        hands.absorb(found);
        let session = hands.session.as_ref().unwrap();
        let what = What::SignIn { account: ANA, address: "ana@contoso.example".into(), generation: 1 };
        let (jti, topic, sealed) = (uuid::Uuid::from_u128(1), "t".into(), "sealed".into());
        let pending = Pending { jti, topic, what, sealed_at: now(), sealed };
        session.keeper.kept().outbox.add_on_hold(pending).unwrap();
        let (renew, task) = (mpsc::unbounded_channel().0, session.spawn(std::future::pending()));
        hands.sign_in = Some(RunningSignIn { id: 1, renew, task });
        if given_up {
            hands.perform(Effect::StopSignIn { id: 1 }, &a_view());
        }
        hands.stop(mpsc::unbounded_channel().1).await;
        assert_eq!(Outbox::open(dir.path()).unwrap().all().count(), usize::from(!given_up));
    }
}

#[tokio::test]
async fn an_invite_that_is_not_shown_takes_the_place_of_none() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hands, _told, _) = looking(dir.path()).await;
    let ((rocky, first), (_, second)) = (read("Rocky"), read("Mallory"));
    hands.absorb(first);
    let Done::InviteRead(Ok(mut over)) = read("Mallory").1 else { unreachable!() };
    over.1.expires_at = now();
    let event = hands.absorb(Done::InviteRead(Ok(over)));
    assert_eq!(event, Some(Event::InviteRead(Err(InviteProblem::Expired))));

    hands.pair(Agreed { invite: rocky.clone(), replaces: None });
    assert!(hands.agreed.is_some() && !hands.pairing, "the disk is still being read");
    assert_eq!(hands.absorb(second), None);
    assert_eq!(hands.offered.map(|invite| invite.id().to_string()), Some(rocky));
}

/// Says that it was asked, and answers never.
#[derive(Debug, Default)]
struct Silent {
    asked: Notify,
    waiting: Arc<()>,
}

impl KeyStore for Silent {
    fn load(&self, _: EntryName) -> BoxFuture<'_, Result<Option<Secret>, KeyStoreError>> {
        let waiting = Arc::clone(&self.waiting);
        self.asked.notify_one();
        async move {
            std::future::pending::<()>().await;
            drop(waiting);
            Ok(None)
        }
        .boxed()
    }

    fn store(&self, _: EntryName, _: Secret) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        futures::future::pending().boxed()
    }

    fn delete(&self, _: EntryName) -> BoxFuture<'_, Result<(), KeyStoreError>> {
        futures::future::pending().boxed()
    }
}

/// Shows of M10 that stopping waits for no keyring.
#[tokio::test]
async fn what_is_stopped_while_it_starts_does_not_start_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (events, done) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel());
    PairingFile::create(dir.path(), &invite("Rocky", Keys::generate().public()), &Keys::generate()).unwrap();
    let keyring = Arc::new(Silent::default());
    let mut hands = Hands::new(options(dir.path(), keyring.clone()), events, done.0);
    hands.load();
    keyring.asked.notified().await;
    assert_eq!(Arc::strong_count(&keyring.waiting), 2);
    hands.stop(done.1).await;
    assert_eq!(Arc::strong_count(&keyring.waiting), 1, "nobody waits for an answer any more");
}
