//! Sign-ins for an account that another device has brought: whatever they are, the good one goes on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use support::{World, advance, id, refresh_error, refused_because, within};
use valetkey_agent::{Health, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::message::{CacheUpdated, Outcome};
use valetkey_handoff::{ToAgent, ToDevice};
use valetkey_tests::tenant::{ALICE, BOB, NextError};

/// Bob's tokens in a cache that says it is Alice's, without the ID token that says otherwise.
async fn bobs_tokens_as_alices(world: &World) -> CacheUpdated {
    let mut body = world.sign_in(BOB).await;
    let cache = body.cache.expose().replace(BOB.oid, ALICE.oid).replace(BOB.tid, ALICE.tid);
    let mut cache: Value = serde_json::from_str(&cache).unwrap();
    cache["IdToken"] = serde_json::json!({});
    body.cache = cache.to_string().into();
    body.account.id = support::reference(ALICE);
    "somebody@else.example".clone_into(&mut body.account.username);
    body
}

#[tokio::test]
async fn a_device_cannot_pass_its_own_sign_in_off_as_somebody_elses() {
    let world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let body = bobs_tokens_as_alices(&world).await;

    bobs.hand_over(&body);
    let why = bobs.receipt().await;

    assert!(matches!(refused_because(&why), "wrong-account" | "revoked" | "expired"), "{why:?}");
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    advance(std::time::Duration::from_secs(7200)).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn naming_somebody_elses_account_lets_a_device_neither_hear_of_it_nor_remove_it() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    bobs.hand_over(&bobs_tokens_as_alices(&world).await);
    refused_because(&bobs.receipt().await);

    bobs.disconnect(ALICE);
    assert_eq!(refused_because(&bobs.receipt().await), "not-yours");
    assert_eq!(running.agent.accounts()[0].username, ALICE.username);
    world.tenant.revoke(ALICE).await.unwrap();
    advance(std::time::Duration::from_secs(7200)).await;
    running
        .until("the lapse", |update| match update {
            Update::HealthChanged(change) => (change.to.health == Health::ReconnectNeeded).then_some(()),
            _ => None,
        })
        .await;

    for message in bobs.all_so_far().await {
        let ToDevice::State(state) = message else { panic!("{message:?}") };
        assert!(state.accounts.is_empty(), "{state:?}");
    }
    // A sign-in of Alice's device that fails does not take from it what it may do.
    let mut body = world.sign_in(ALICE).await;
    let cache: Value = serde_json::from_str(body.cache.expose()).unwrap();
    let secret = cache["RefreshToken"].as_object().unwrap().values().next().unwrap()["secret"].clone();
    body.cache = body.cache.expose().replace(secret.as_str().unwrap(), "spoiled").into();
    alices.hand_over(&body);
    refused_because(&alices.receipt().await);
    alices.state(|state| state.accounts.len() == 1 && state.accounts[0].generation == 2).await;
    alices.disconnect(ALICE);
    assert_eq!(alices.receipt().await.outcome, Outcome::Done);
    running.stop().await;
}

#[tokio::test]
async fn while_a_new_sign_in_is_tried_programs_are_served_by_the_one_before_it_also_after_a_restart() {
    let world = World::new().await;
    let mut running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let mut body = bobs_tokens_as_alices(&world).await;
    body.capabilities = vec!["imap".to_owned()];
    let busy =
        NextError { status: Some(503), error: Some("temporarily_unavailable"), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1000, &busy)).await.unwrap();

    bobs.hand_over(&body);
    running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;

    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(running.agent.accounts()[0].capabilities, ["mail", "calendar", "imap"], "what can be had");
    running.stop().await;
    let running = world.run().await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn a_program_that_waits_for_a_new_sign_in_that_fails_gets_its_token_with_the_one_before() {
    let world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let body = bobs_tokens_as_alices(&world).await;
    let tokens = running.agent.tokens();

    bobs.hand_over(&body);
    // Never asked for before, so that there is none at hand.
    tokens.token(&id(ALICE), Resource::Outlook, None).await.unwrap();

    refused_because(&bobs.receipt().await);
    tokens.token(&id(ALICE), Resource::Outlook, None).await.unwrap();
    running.stop().await;
}

/// Shows of H7 that the good cache survives, and goes on, however many others come.
#[tokio::test]
async fn of_sign_ins_that_do_not_work_few_are_tried_and_the_others_in_their_turn() {
    const MANY: u64 = 40;
    const TRIED: usize = 32;
    let world = World::new().await;
    let running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let body: ToAgent = bobs_tokens_as_alices(&world).await.into();
    let device = bobs.keys.thumbprint();
    let accepted = || {
        let lines = running.agent.audit_lines(usize::MAX).unwrap();
        let of_bobs = |line: &&String| line.contains("handoff_accepted") && line.contains(device.as_str());
        lines.iter().filter(of_bobs).count()
    };
    let sealed: Vec<_> = (1..=MANY).map(|generation| bobs.seal_as(generation, &body)).collect();

    for one in &sealed {
        bobs.send(one.as_bytes());
    }
    while bobs.receipt().await.of != sealed[TRIED - 1].jti {}

    assert_eq!(accepted(), TRIED);
    alices.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(alices.receipt().await.outcome, Outcome::Stored { .. }), "nobody else is held up");
    // As a companion does until it is answered.
    bobs.send(sealed[TRIED].as_bytes());
    bobs.all_so_far().await;
    assert_eq!(accepted(), TRIED);
    advance(std::time::Duration::from_secs(61)).await;
    bobs.send(sealed[TRIED].as_bytes());
    let receipt = bobs.receipt().await;
    assert_eq!(receipt.of, sealed[TRIED].jti);
    refused_because(&receipt);
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_is_tried_is_not_lost_to_one_that_another_device_brings_meanwhile() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut alices = world.pair(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let (genuine, bogus) = (world.sign_in(ALICE).await, bobs_tokens_as_alices(&world).await);
    let busy =
        NextError { status: Some(503), error: Some("temporarily_unavailable"), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1, &busy)).await.unwrap();
    alices.hand_over(&genuine);
    running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;

    let sealed = bobs.hand_over(&bogus);
    bobs.all_so_far().await;
    advance(std::time::Duration::from_secs(60)).await;

    assert!(matches!(alices.receipt().await.outcome, Outcome::Stored { .. }));
    bobs.send(sealed.as_bytes());
    refused_because(&bobs.receipt().await);
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_another_devices_has_overtaken_is_tried_when_it_comes_again() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut first = world.pair(&running.agent, ALICE).await;
    let mut second = world.pair(&running.agent, ALICE).await;
    let (one, another) = (world.sign_in(ALICE).await, world.sign_in(ALICE).await);
    let busy = NextError { status: Some(429), retry_after: Some(600), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1, &busy)).await.unwrap();
    let stored = |update: &Update| matches!(update, Update::Stored { .. }).then_some(());
    let sealed = first.hand_over(&one);
    running.until("the first is stored", stored).await;
    within("it is tried", async {
        while world.refreshes().await < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    advance(std::time::Duration::from_secs(121)).await;
    second.hand_over(&another);
    assert!(matches!(second.receipt().await.outcome, Outcome::Stored { .. }));
    first.send(sealed.as_bytes());

    let receipt = first.receipt().await;
    assert_eq!(receipt.of, sealed.jti);
    assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_blocked_sign_in_outlives_a_bogus_one_and_goes_on_when_the_block_is_lifted() {
    let world = World::new().await;
    let mut running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let blocked = NextError {
        status: Some(400),
        error: Some("access_denied"),
        code: Some(53_003),
        ..NextError::default()
    };
    world.tenant.next_error(&refresh_error(1, &blocked)).await.unwrap();
    advance(std::time::Duration::from_secs(7200)).await;
    running
        .until("the block", |update| match update {
            Update::HealthChanged(change) => (change.to.health == Health::Blocked).then_some(()),
            _ => None,
        })
        .await;

    bobs.hand_over(&bobs_tokens_as_alices(&world).await);
    refused_because(&bobs.receipt().await);
    assert_eq!(running.agent.accounts()[0].health, Health::Blocked);
    advance(std::time::Duration::from_secs(24 * 3600)).await;
    running
        .until("the end of the block", |update| match update {
            Update::HealthChanged(change) => (change.to.health == Health::Connected).then_some(()),
            _ => None,
        })
        .await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

/// Shows of H7 that the good cache survives one that would fill its file.
#[tokio::test]
async fn a_cache_that_would_grow_beyond_what_can_be_read_again_takes_nothing_from_the_account() {
    /// What is small in a message has a line of its own in the file, indented for every array around it.
    const ZEROS: usize = 90_000;
    const DEEP: usize = 60;
    let mut zeros: Value = vec![0; ZEROS].into();
    for _ in 1..DEEP {
        zeros = vec![zeros].into();
    }
    let world = World::new().await;
    let running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    for list in [None, Some("Account"), Some("RefreshToken")] {
        let mut body = bobs_tokens_as_alices(&world).await;
        let mut cache: Value = serde_json::from_str(body.cache.expose()).unwrap();
        let place = match list {
            None => &mut cache,
            Some(list) => cache[list].as_object_mut().unwrap().values_mut().next().unwrap(),
        };
        place["zeros"] = zeros.clone();
        body.cache = cache.to_string().into();

        bobs.hand_over(&body);

        let why = bobs.receipt().await;
        assert!(matches!(refused_because(&why), "wrong-account" | "revoked" | "expired"), "{why:?}");
        assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    }
    alices.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(alices.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
}

/// Bob's device has overtaken what Alice's brought, and its own sign-in is refused: what is left of Alice's is her device's.
#[tokio::test]
async fn a_sign_in_that_was_overtaken_is_answered_for_itself_when_the_one_that_overtook_it_is_refused() {
    for alices_worked_before in [true, false] {
        let world = World::new().await;
        let mut running = world.run().await;
        let mut alices = if alices_worked_before {
            world.connect(&running.agent, ALICE).await
        } else {
            world.pair(&running.agent, ALICE).await
        };
        let mut bobs = world.pair(&running.agent, BOB).await;
        let (genuine, bogus) = (world.sign_in(ALICE).await, bobs_tokens_as_alices(&world).await);
        let (asked, busy) = (
            world.refreshes().await,
            NextError { status: Some(429), retry_after: Some(600), ..NextError::default() },
        );
        world.tenant.next_error(&refresh_error(1, &busy)).await.unwrap();
        let sealed = alices.hand_over(&genuine);
        running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;
        within("it is tried", async {
            while world.refreshes().await == asked {
                tokio::task::yield_now().await;
            }
        })
        .await;
        advance(std::time::Duration::from_secs(121)).await;
        bobs.hand_over(&bogus);
        refused_because(&bobs.receipt().await);

        // What was before it is renewed, and that is no word about the newer one.
        advance(std::time::Duration::from_secs(7200)).await;
        if alices_worked_before {
            assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
        }
        let told = alices.all_so_far().await;
        assert!(!told.iter().any(|message| matches!(message, ToDevice::Receipt(_))), "{told:?}");
        let tried = world.refreshes().await;
        alices.send(sealed.as_bytes());

        let receipt = alices.receipt().await;
        assert_eq!(receipt.of, sealed.jti);
        assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
        assert!(world.refreshes().await > tried, "it was tried itself");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_new_sign_in_that_cannot_be_tried_stalls_nothing_when_the_token_before_it_ends_and_is_tried_when_it_comes_again()
 {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let (asked, another) = (world.refreshes().await, world.sign_in(ALICE).await);
    let busy = NextError { status: Some(429), retry_after: Some(5 * 3600), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1, &busy)).await.unwrap();
    let sealed = alices.hand_over(&another);
    running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;
    within("it is tried", async {
        while world.refreshes().await == asked {
            tokio::task::yield_now().await;
        }
    })
    .await;

    advance(std::time::Duration::from_secs(2 * 3600)).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    let told = alices.all_so_far().await;
    assert!(!told.iter().any(|message| matches!(message, ToDevice::Receipt(_))), "{told:?}");

    alices.send(sealed.as_bytes());
    let receipt = alices.receipt().await;
    assert_eq!(receipt.of, sealed.jti);
    assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
    running.stop().await;
}
