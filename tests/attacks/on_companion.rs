//! Attacks on what a person is shown: banners that nobody but the agent may put up, and a green that only it may give.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use valetkey_companion::Command;
use valetkey_companion::view::{Screen, View};
use valetkey_handoff::message::{
    AccountRef, AccountState, AuthExpired, Enrolled, Health, Outcome, Receipt, State,
};
use valetkey_handoff::{
    Code, Facts, Keys, Label, MAX_MESSAGE_BYTES, Thumbprint, ToDevice, Topics, open, seal,
};
use valetkey_tests::broker::Recorder;
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{ALICE, ANA, Lifetimes, User};

use crate::forge::{agent_keys, altered, device_keys, handoffs, next_on, on, parts, signing_of, topics};
use crate::support::{Desk, World};

/// What is shown, without the minute in which the agent was last heard.
fn shown(view: &View) -> View {
    let mut view = view.clone();
    if let Some(assistant) = &mut view.assistant {
        assistant.last_seen = None;
    }
    view
}

/// Returns once the companion has taken in all that was published before: it asks, and has an answer of a later second.
async fn taken_in(desk: &mut Desk) -> View {
    let asked = Timestamp::now().as_second();
    let later = |view: &View| {
        view.assistant.as_ref().and_then(|assistant| assistant.last_seen).is_some_and(|seen| seen > asked)
    };
    loop {
        // It asks once a second at most, and what comes in the very second of the attack proves nothing.
        desk.click(Command::Retry);
        let answer = desk.until("an answer after the attack", later);
        if let Ok(view) = tokio::time::timeout(Duration::from_secs(1), answer).await {
            return view;
        }
    }
}

fn account_of(user: User) -> AccountRef {
    AccountRef { tid: user.tid.parse().unwrap(), oid: user.oid.parse().unwrap() }
}

/// One message of every kind that a companion listens to, as it would be if it came from the agent.
fn every_kind(of: uuid::Uuid) -> Vec<ToDevice> {
    let state = |health| State {
        accounts: vec![AccountState {
            account: account_of(ALICE),
            username: "evil@contoso.example".into(),
            health,
            reason: Some(Code::or_unknown("revoked")),
            claims: None,
            generation: 99,
            checked_at: None,
            capabilities: vec!["mail".into()],
        }],
        at: Timestamp::now(),
        answers: Some(of),
    };
    let receipt = |outcome| Receipt { of, generation: 1, account: Some(account_of(ALICE)), outcome };
    let terms = valetkey_handoff::Terms {
        email: None,
        authority: "https://login.evil.example".into(),
        graph: None,
        tenant: "common".into(),
        client_id: "evil".into(),
        capabilities: vec!["mail-send".into()],
    };
    vec![
        AuthExpired { account: account_of(ALICE), reason: Code::or_unknown("revoked"), claims: None }.into(),
        state(Health::ReconnectNeeded).into(),
        state(Health::Connected).into(),
        State { accounts: vec![], ..state(Health::Unknown) }.into(),
        receipt(Outcome::Stored { refreshed_at: Timestamp::now() }).into(),
        receipt(Outcome::Refused { reason: Code::or_unknown("admin-consent") }).into(),
        Enrolled { agent_name: Label::tidy("Microsoft Support"), terms }.into(),
    ]
}

async fn lapse(world: &World, user: User) {
    world.tenant.revoke(user).await.unwrap();
    assert_ne!(world.daemon.ask(&["token", "--account", user.mail]).unwrap().0, 0, "still served");
}

async fn reconnect(desk: &mut Desk, user: User) {
    desk.click(Command::Reconnect);
    let url = desk.browser().await;
    http_sign_in(url.as_str(), user.username).await.unwrap();
    desk.screen(Screen::Connected).await;
}

/// Every token is due at once, so that a lapse is noticed by the next call.
async fn short_lived_world() -> World {
    let world = World::with_operators_broker().await;
    world.tenant.lifetimes(Lifetimes { access: Some(60), ..Lifetimes::default() }).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_agent_changes_what_a_person_is_shown() {
    let mut world = short_lived_world().await;
    let serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let (mut desk, mut other) =
        (world.desk(), Desk::start(&world.folder.path().join("ana"), std::sync::Arc::default()));
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    other.connect(&world.daemon.invite(ANA.mail).unwrap(), ANA).await;
    let (topics, agent, stranger) = (topics(&world), agent_keys(&world), Keys::generate());
    let (alices, anas) = (device_keys(&desk.keys), device_keys(&other.keys));
    let (inbox, outbox) = (topics.inbox(&alices.thumbprint()), topics.outbox(&alices.thumbprint()));
    let before = shown(&taken_in(&mut desk).await);
    desk.notices();

    // Ana really is signed out, and is told so: words that the agent has signed, for somebody else.
    lapse(&world, ANA).await;
    other.screen(Screen::Reconnect).await;

    let handoff = handoffs(&mut world, &wire, &inbox).await.remove(0);
    let jti = serde_json::from_value(parts(&handoff).0["jti"].clone()).unwrap();
    let as_agent = json!({"iss": agent.thumbprint(), "kid": agent.thumbprint()});
    let mut attacks: Vec<Vec<u8>> =
        vec![b"".into(), b"nonsense".into(), vec![b'x'; MAX_MESSAGE_BYTES + 1], handoff];
    for message in every_kind(jti) {
        let sealed = |from: &Keys| {
            seal(from, &alices.public(), &Facts::new(0, Timestamp::now()), &message)
                .unwrap()
                .text
                .into_bytes()
        };
        let strangers = sealed(&stranger);
        attacks.push(altered(&strangers, as_agent.clone(), &signing_of(&stranger)));
        attacks.push(strangers);
        // Another device of this agent, which is paired.
        attacks.push(sealed(&anas));
    }
    for for_ana in on(&wire, &topics.outbox(&anas.thumbprint())) {
        attacks.push(altered(&for_ana, json!({"aud": alices.thumbprint()}), &signing_of(&stranger)));
        attacks.push(for_ana);
    }
    for genuine in on(&wire, &outbox) {
        attacks.push(genuine[..genuine.len() - 1].to_vec());
        attacks.push(altered(&genuine, json!({"iat": 4_000_000_000_i64}), &signing_of(&stranger)));
    }
    for attack in &attacks {
        world.broker().publish(&outbox, attack, false).await.unwrap();
    }
    assert_eq!(shown(&taken_in(&mut desk).await), before);
    assert_eq!(desk.notices(), [], "phishing by notification");

    serving.stop().unwrap();
}

/// What is planted at the broker meets the companion each time that it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_message_planted_at_the_broker_changes_nothing_at_a_start() {
    let mut world = short_lived_world().await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = world.desk();
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    let alices = device_keys(&desk.keys);
    let outbox = topics(&world).outbox(&alices.thumbprint());
    for message in every_kind(uuid::Uuid::new_v4()) {
        let forged =
            seal(&Keys::generate(), &alices.public(), &Facts::new(0, Timestamp::now()), &message).unwrap();
        world.broker().publish(&outbox, forged.as_bytes(), true).await.unwrap();
        let (dir, keys) = desk.stop().await;
        desk = Desk::start(&dir, keys);
        desk.screen(Screen::Connected).await;
        assert_eq!(taken_in(&mut desk).await.banner, None);
        assert_eq!(desk.notices(), []);
    }
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Everything the agent has said to a device, as it crossed the broker.
fn said(wire: &Recorder, topics: &Topics, device: &Thumbprint) -> Vec<Vec<u8>> {
    on(wire, &topics.outbox(device))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_said_once_neither_brings_a_banner_back_nor_hides_a_lapse() {
    let mut world = short_lived_world().await;
    let serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let mut desk = world.desk();
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    lapse(&world, ALICE).await;
    desk.screen(Screen::Reconnect).await;
    reconnect(&mut desk, ALICE).await;
    desk.notices();

    // Told by a broker that kept it all, in any order: a receipt, a lapse, the end of it.
    let (topics, agent, keys) = (topics(&world), agent_keys(&world), device_keys(&desk.keys));
    let device = keys.thumbprint();
    let outbox = topics.outbox(&device);
    let well = shown(&taken_in(&mut desk).await);
    let old = said(&wire, &topics, &device);
    let kinds: Vec<ToDevice> = old
        .iter()
        .map(|bytes| open::<ToDevice>(bytes, &agent.public(), &keys, Timestamp::now()).unwrap().message)
        .collect();
    let health = |wanted: Health| {
        kinds.iter().any(|kind| matches!(kind, ToDevice::State(state) if state.accounts.iter().any(|one| one.health == wanted)))
    };
    assert!(kinds.iter().any(|kind| matches!(kind, ToDevice::AuthExpired(_))), "a genuine auth.expired");
    assert!(kinds.iter().any(|kind| matches!(kind, ToDevice::Receipt(_))), "a genuine receipt");
    assert!(kinds.iter().any(|kind| matches!(kind, ToDevice::Enrolled(_))), "a genuine enrolled");
    assert!(health(Health::Connected) && health(Health::ReconnectNeeded), "both states: {kinds:?}");
    for message in old.iter().chain(old.iter().rev()) {
        world.broker().publish(&outbox, message, false).await.unwrap();
    }
    assert_eq!(shown(&taken_in(&mut desk).await), well, "an old lapse came back");
    assert_eq!(desk.notices(), []);

    lapse(&world, ALICE).await;
    desk.screen(Screen::Reconnect).await;
    let lapsed = shown(&taken_in(&mut desk).await);
    assert_eq!(desk.notices().len(), 1);
    for message in old.iter().chain(old.iter().rev()) {
        world.broker().publish(&outbox, message, false).await.unwrap();
    }
    assert_eq!(shown(&taken_in(&mut desk).await), lapsed, "an old 'connected' hides a lapse");
    assert_eq!(desk.notices(), []);

    // A companion just started has heard nothing yet, and the agent is not there to contradict.
    let (dir, keys) = desk.stop().await;
    serving.kill();
    let mut desk = Desk::start(&dir, keys);
    desk.until("the broker", |view| view.assistant.as_ref().is_some_and(|a| a.online == Some(false))).await;
    let (inbox, presence) = (topics.inbox(&device), topics.presence(topics.agent()));
    // It asks after the first round, and a second later once more: by then it has taken in all of it.
    for _ in 0..2 {
        let asked = on(&wire, &inbox);
        for message in &old {
            world.broker().publish(&outbox, message, false).await.unwrap();
        }
        // Anybody may write this.
        world.broker().publish(&presence, b"online", true).await.unwrap();
        next_on(&wire, &inbox, &asked).await;
    }
    let view = desk.view();
    assert_eq!(view.screen, Screen::AgentOffline, "{view:?}");
    assert_eq!(desk.notices(), []);

    // Its own answer is believed.
    let serving = world.daemon.serve().await.unwrap();
    desk.screen(Screen::Reconnect).await;
    reconnect(&mut desk, ALICE).await;
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Shows J8 of a presence that is forged.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_presence_is_a_hint_that_never_signs_anybody_out_or_in() {
    let mut world = World::with_operators_broker().await;
    let serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let mut desk = world.desk();
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    taken_in(&mut desk).await;
    let topics = topics(&world);
    let inbox = topics.inbox(&device_keys(&desk.keys).thumbprint());
    let presence = topics.presence(topics.agent());

    // "Offline" while it is there: the companion asks, and the answer is what counts.
    let asked = on(&wire, &inbox);
    world.broker().publish(&presence, b"offline", true).await.unwrap();
    next_on(&wire, &inbox, &asked).await;
    desk.screen(Screen::Connected).await;
    for nonsense in [b"".as_slice(), b"OFFLINE", b"signed-out", &[0xff; 1000]] {
        world.broker().publish(&presence, nonsense, true).await.unwrap();
    }
    assert_eq!(taken_in(&mut desk).await.screen, Screen::Connected);

    // However fast it changes, it does not make the companion flood anybody.
    let asked = on(&wire, &inbox).len();
    let started = std::time::Instant::now();
    for number in 0..200 {
        let hint: &[u8] = if number % 2 == 0 { b"offline" } else { b"online" };
        world.broker().publish(&presence, hint, false).await.unwrap();
    }
    taken_in(&mut desk).await;
    let hellos = on(&wire, &inbox).len() - asked;
    assert!(hellos as u64 <= started.elapsed().as_secs() + 3, "{hellos} in {:?}", started.elapsed());

    // "Online" while it is gone: not green until it has said so itself.
    serving.kill();
    desk.screen(Screen::AgentOffline).await;
    let asked = on(&wire, &inbox);
    world.broker().publish(&presence, b"online", true).await.unwrap();
    next_on(&wire, &inbox, &asked).await;
    assert_eq!(desk.view().screen, Screen::AgentOffline);
    assert_eq!(desk.notices(), [], "offline is nothing to be notified of");
}
