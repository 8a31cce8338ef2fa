//! What a device hears of its accounts, and how they go again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{World, advance, id, refresh_error, refused_because};
use valetkey_agent::{TokenFailure, Update};
use valetkey_handoff::ToDevice;
use valetkey_handoff::message::{Health as WireHealth, Outcome};
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
    assert_eq!(heartbeat.accounts[0].account, support::reference(ALICE));
    running.stop().await;
}
