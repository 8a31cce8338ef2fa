//! What a device hears of its accounts, and how they go again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Device, World, advance, id, reference, refresh_error, refused_because};
use valetkey_agent::{TokenFailure, Update};
use valetkey_handoff::ToDevice;
use valetkey_handoff::message::{AccountDisconnect, AccountRef, Health as WireHealth, Outcome};
use valetkey_tests::tenant::{ALICE, BOB, NextError};

/// Shows of J5 that nothing is said of a sign-in that has no verdict yet: a companion takes the state for a lost receipt.
#[tokio::test]
async fn while_a_new_sign_in_is_tried_the_state_speaks_of_the_one_before() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let body = world.sign_in(ALICE).await;
    let busy =
        NextError { status: Some(503), error: Some("temporarily_unavailable"), ..NextError::default() };
    world.tenant.next_error(&refresh_error(2, &busy)).await.unwrap();
    let before = world.refreshes().await;

    device.hand_over(&body);
    running.until("the handoff is stored", |u| matches!(u, Update::Stored { .. }).then_some(())).await;
    for message in device.all_so_far().await {
        let ToDevice::State(state) = message else { panic!("{message:?}") };
        assert_eq!(state.accounts[0].generation, 1, "{state:?}");
    }
    while world.refreshes().await < before + 3 {
        advance(std::time::Duration::from_secs(1)).await;
    }
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    device.hello();
    device.state(|state| state.accounts[0].generation == 2).await;
    running.stop().await;
}

/// Shows M16.
#[tokio::test]
async fn a_removed_account_loses_its_tokens_and_its_old_sign_ins_do_not_come_back() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let sealed = device.hand_over(&world.sign_in(ALICE).await);
    device.receipt().await;
    device.state(|state| !state.accounts.is_empty()).await;
    let refresh_token =
        world.json(ALICE)["RefreshToken"].as_object().unwrap().values().next().unwrap()["secret"]
            .as_str()
            .unwrap()
            .to_owned();

    let removed = running.agent.remove_account(&id(ALICE)).unwrap();

    assert!(!removed.revoked);
    let said = removed.to_string();
    assert!(said.contains("deleted from this agent") && !said.contains("revoked."), "{said}");
    device.state(|state| state.accounts.is_empty()).await;
    let left = std::fs::read_to_string(world.file(ALICE)).unwrap();
    assert!(!left.contains(&refresh_token));
    assert_eq!(
        world.who(&running.agent, ALICE).await,
        Err(TokenFailure::AuthRequired { reason: "never-connected".to_owned(), never_connected: true })
    );
    device.send(sealed.as_bytes());
    assert_eq!(refused_because(&device.receipt().await), "removed");
    assert!(running.agent.accounts().is_empty());

    // One that does not work ends with its receipt: nothing was there that could lapse.
    let revoked = NextError {
        status: Some(400),
        error: Some("invalid_grant"),
        code: Some(50_173),
        ..NextError::default()
    };
    world.tenant.next_error(&refresh_error(1, &revoked)).await.unwrap();
    device.hand_over(&world.sign_in(ALICE).await);
    assert_eq!(refused_because(&device.receipt().await), "revoked");
    let all = device.all_so_far().await;
    assert!(!all.iter().any(|message| matches!(message, ToDevice::AuthExpired(_))), "{all:?}");

    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }), "a new sign-in is welcome");
    running.stop().await;
}

#[tokio::test]
async fn a_disconnect_is_done_once_and_stays_done_over_replays() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let sign_in = device.hand_over(&world.sign_in(ALICE).await);
    device.receipt().await;
    let mut stranger = world.pair(&running.agent, BOB).await;
    stranger.disconnect(ALICE);
    assert_eq!(refused_because(&stranger.receipt().await), "not-yours");

    let disconnect = device.disconnect(ALICE);
    assert_eq!(device.receipt().await.outcome, Outcome::Done);
    assert!(running.agent.accounts().is_empty());
    device.send(disconnect.as_bytes());
    assert_eq!(device.receipt().await.outcome, Outcome::Done);
    device.send(sign_in.as_bytes());
    assert_eq!(refused_because(&device.receipt().await), "older");

    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    device.send(disconnect.as_bytes());
    assert_eq!(refused_because(&device.receipt().await), "older");
    assert_eq!(running.agent.accounts().len(), 1);
    running.stop().await;
}

/// Microsoft does not answer until further notice.
async fn no_refresh_is_answered(world: &World) {
    let busy =
        NextError { status: Some(503), error: Some("temporarily_unavailable"), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1000, &busy)).await.unwrap();
}

#[tokio::test]
async fn a_device_takes_back_its_own_sign_in_that_is_still_tried() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let sign_in = world.sign_in(ALICE).await;
    no_refresh_is_answered(&world).await;
    let handed_over = device.hand_over(&sign_in);
    running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;

    device.disconnect(ALICE);

    assert_eq!(device.receipt().await.outcome, Outcome::Done);
    assert!(running.agent.accounts().is_empty());
    assert_eq!(world.json(ALICE)["RefreshToken"], serde_json::json!({}));
    device.send(handed_over.as_bytes());
    assert_eq!(refused_because(&device.receipt().await), "older");
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_takes_back_its_sign_in_leaves_the_one_of_another_as_it_was() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut first = world.connect(&running.agent, ALICE).await;
    let mut second = world.pair(&running.agent, ALICE).await;
    let sign_in = world.sign_in(ALICE).await;
    let before = world.json(ALICE)["RefreshToken"].clone();
    no_refresh_is_answered(&world).await;
    second.hand_over(&sign_in);
    running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;

    second.disconnect(ALICE);

    assert_eq!(second.receipt().await.outcome, Outcome::Done);
    assert!(world.json(ALICE)["RefreshToken"] == before, "another sign-in's tokens");
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    first.hello();
    let state = first.state(|state| state.answers.is_some()).await;
    assert_eq!(state.accounts.len(), 1);
    second.disconnect(ALICE);
    assert_eq!(refused_because(&second.receipt().await), "not-yours");
    running.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_comes_after_the_disconnect_that_was_to_end_it_is_not_taken() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let late = device.seal_as(1, &world.sign_in(ALICE).await.into());
    device.generation = 1;

    let disconnect = device.disconnect(ALICE);
    assert_eq!(device.receipt().await.outcome, Outcome::Done);
    device.send(disconnect.as_bytes());
    assert_eq!(device.receipt().await.outcome, Outcome::Done);

    device.send(late.as_bytes());
    assert_eq!(refused_because(&device.receipt().await), "older");
    assert!(running.agent.accounts().is_empty());
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }), "a new one is welcome");

    // Nor where the account is there by another device, which keeps it.
    let mut second = world.pair(&running.agent, ALICE).await;
    let late = second.seal_as(1, &world.sign_in(ALICE).await.into());
    second.generation = 1;
    let disconnect = second.disconnect(ALICE);
    assert_eq!(refused_because(&second.receipt().await), "not-yours");
    second.send(disconnect.as_bytes());
    assert_eq!(refused_because(&second.receipt().await), "not-yours");
    second.send(late.as_bytes());
    assert_eq!(refused_because(&second.receipt().await), "older");
    assert_eq!(running.agent.accounts().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_device_cannot_fill_the_disk_with_accounts_that_it_says_are_gone() {
    const MOST: u128 = 16;
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let end = async |device: &mut Device, number: u128| {
        let account = AccountRef { oid: uuid::Uuid::from_u128(number), ..reference(ALICE) };
        device.generation += 1;
        device.send_as(device.generation, &AccountDisconnect { account }.into());
        device.receipt().await
    };
    for number in 1..=MOST {
        assert_eq!(end(&mut device, number).await.outcome, Outcome::Done);
    }
    running.stop().await;

    let running = world.run().await;
    assert_eq!(refused_because(&end(&mut device, MOST + 1).await), "not-yours");
    assert_eq!(
        end(&mut device, MOST).await.outcome,
        Outcome::Done,
        "one that is noted already costs nothing"
    );
    let files = u128::try_from(running.agent.state_dir().vault().list().unwrap().len()).unwrap();
    assert_eq!(files, MOST);
    running.stop().await;
}

#[tokio::test]
async fn hello_is_answered_with_the_state_and_a_heartbeat_comes_unasked() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    device.all_so_far().await;
    device.hello();
    let state = device.state(|_| true).await;
    assert_eq!(state.accounts.len(), 1);
    assert_eq!((state.accounts[0].health, state.accounts[0].generation), (WireHealth::Connected, 1));
    let said_at = state.at;

    advance(std::time::Duration::from_secs(4 * 3600 + 1)).await;
    let four_hours = jiff::SignedDuration::from_hours(4);
    let heartbeat = device.state(|state| state.at.duration_since(said_at) >= four_hours).await;
    assert_eq!(heartbeat.accounts[0].account, reference(ALICE));
    running.stop().await;
}
