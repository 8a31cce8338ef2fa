//! Tokens over time: silent refreshes, lapses, reconnects, restarts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use jiff::SignedDuration;
use support::{World, advance, id};
use valetkey_agent::{FindError, Health, HealthChange, TokenFailure, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::ToDevice;
use valetkey_handoff::message::{Health as WireHealth, Outcome};
use valetkey_tests::tenant::{ALICE, ANA, CAROL, NextError, Reuse, User};

const HOUR: Duration = Duration::from_secs(3600);

fn refresh_token(world: &World, user: User) -> String {
    let json = world.json(user);
    let entries = json["RefreshToken"].as_object().unwrap();
    assert_eq!(entries.len(), 1);
    entries.values().next().unwrap()["secret"].as_str().unwrap().to_owned()
}

async fn refreshed_to(world: &World, count: u64) {
    support::within("a refresh", async {
        while world.refreshes().await < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Shows H13, and of H5 that a silent refresh rotates the file.
#[tokio::test]
async fn across_expiries_the_agent_refreshes_by_itself_and_rotates_the_file() {
    let world = World::new().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let mut seen = vec![refresh_token(&world, ALICE)];
    for round in 1..=5 {
        let before = running.agent.accounts()[0].expires_at;
        advance(HOUR).await;
        refreshed_to(&world, 1 + round).await;
        // Nobody has asked for a token; now somebody does.
        assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
        assert!(running.agent.accounts()[0].expires_at > before);
        let rotated = refresh_token(&world, ALICE);
        assert!(!seen.contains(&rotated), "rotated on disk");
        seen.push(rotated);
    }
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    assert_eq!(world.refreshes().await, 6);
    running.stop().await;
}

/// Shows of H6 that exactly one message goes out, of H9 what the error says to do, of H11 the gauge.
#[tokio::test]
async fn a_revoked_sign_in_is_told_exactly_once_even_over_a_restart_and_a_reconnect_makes_the_next_call_work()
{
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let changes = running.agent.status().health_changes;
    world.tenant.revoke(ALICE).await.unwrap();

    advance(HOUR).await;
    let change: HealthChange = running
        .until("the lapse", |update| match update {
            Update::HealthChanged(change) if change.to.health == Health::ReconnectNeeded => {
                Some(change.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!((change.from, change.lapsed), (Health::Connected, true));
    assert_eq!(running.agent.status().health_changes, changes + 1);
    assert_eq!(running.agent.status().health["reconnect_needed"], 1);
    let refreshes = world.refreshes().await;

    // Calls fail fast from now on, and Microsoft is not asked again.
    let failure = world.who(&running.agent, ALICE).await.unwrap_err();
    assert!(
        matches!(&failure, TokenFailure::AuthRequired { reason, never_connected: false } if reason == "revoked")
    );
    advance(6 * HOUR).await;
    device.hello();
    device.state(|state| state.accounts[0].health == WireHealth::ReconnectNeeded).await;
    running.stop().await;
    let running = world.run().await;
    let mut told = device.all_so_far().await;
    told.extend(device.all_so_far().await);
    let expired: Vec<_> = told
        .iter()
        .filter_map(|message| match message {
            ToDevice::AuthExpired(expired) => Some(expired),
            _ => None,
        })
        .collect();
    assert_eq!(expired.len(), 1, "{told:?}");
    assert_eq!(expired[0].reason.as_str(), "revoked");
    assert_eq!(world.refreshes().await, refreshes);
    let failure = world.who(&running.agent, ALICE).await.unwrap_err();
    assert!(failure.to_string().contains("Click Reconnect in Valet Key"), "{failure}");

    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    device.state(|state| state.accounts[0].health == WireHealth::Connected).await;
    running.stop().await;
}

/// Shows of H6 that a failed publish does not mask the error.
#[tokio::test]
async fn a_lapse_that_cannot_be_published_is_told_to_programs_all_the_same_and_to_the_device_later() {
    let mut world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    device.all_so_far().await;
    world.broker.kill();
    world.tenant.revoke(ALICE).await.unwrap();
    advance(2 * HOUR).await;

    let failure = world.who(&running.agent, ALICE).await.unwrap_err();

    let lapsed = TokenFailure::AuthRequired { reason: "revoked".to_owned(), never_connected: false };
    assert_eq!(failure, lapsed);
    world.broker.restart().await.unwrap();
    let state = device.state(|state| state.accounts[0].health == WireHealth::ReconnectNeeded).await;
    assert_eq!(state.accounts[0].reason.as_ref().unwrap().as_str(), "revoked");
    running.stop().await;
}

/// Shows of J8, for the agent, that a service out of order is not a lapse, and takes nothing away that still works.
#[tokio::test]
async fn while_microsoft_is_out_of_order_the_present_token_goes_on_until_it_ends() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let down = NextError {
        endpoint: "token",
        grant: Some("refresh_token"),
        times: Some(1000),
        status: Some(503),
        error: Some("temporarily_unavailable"),
        ..NextError::default()
    };
    world.tenant.next_error(&down).await.unwrap();

    advance(Duration::from_secs(57 * 60)).await;
    running
        .until("retrying", |update| match update {
            Update::HealthChanged(change) => (change.to.health == Health::Retrying).then_some(()),
            _ => None,
        })
        .await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    advance(Duration::from_secs(4 * 60)).await;
    let failure = world.who(&running.agent, ALICE).await.unwrap_err();
    assert!(failure.is_retryable(), "{failure:?}");
    let told = device.all_so_far().await;
    assert!(!told.iter().any(|message| matches!(message, ToDevice::AuthExpired(_))), "{told:?}");
    running.stop().await;
}

/// Shows C6, M8 and M9; that there is no data race, the compiler shows.
#[tokio::test]
async fn many_callers_cause_one_refresh_which_is_saved_though_all_of_them_give_up() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let before = refresh_token(&world, ALICE);
    advance(2 * HOUR).await;

    let agent = world.open();
    let tokens = agent.tokens();
    let account = id(ALICE);
    let mut callers: Vec<_> = (0..50).map(|_| tokens.token(&account, Resource::Graph, None)).collect();
    for caller in &mut callers {
        assert!(futures::poll!(caller).is_pending());
    }
    drop(callers);

    refreshed_to(&world, 2).await;
    support::within("the refresh is saved", async {
        while refresh_token(&world, ALICE) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, 2);
    // The fresh process refreshed at the account's own tenant.
    let log = world.tenant.log().await.unwrap();
    let refreshes: Vec<_> =
        log.iter().filter(|line| line.grant.as_deref() == Some("refresh_token")).collect();
    assert!(refreshes.iter().all(|line| line.tenant == ALICE.tid), "{refreshes:?}");
}

/// Shows of C12 that a personal account refreshes at `consumers`.
#[tokio::test]
async fn a_personal_account_refreshes_at_consumers_and_presents_no_refresh_token_twice() {
    let world = World::new().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let running = world.run().await;
    let _device = world.connect(&running.agent, CAROL).await;
    for _ in 0..3 {
        advance(HOUR).await;
        assert_eq!(world.who(&running.agent, CAROL).await.unwrap(), CAROL.username);
    }
    let ours = &world.json(CAROL)["ValetKey"];
    assert_eq!(ours.get("previous_refresh_token"), None);
    let log = world.tenant.log().await.unwrap();
    let refreshes: Vec<_> =
        log.iter().filter(|line| line.grant.as_deref() == Some("refresh_token")).collect();
    assert!(refreshes.len() >= 4);
    assert!(refreshes.iter().all(|line| line.tenant == "consumers"), "{refreshes:?}");

    // A bare invalid_grant is final at once: a second attempt could end the sign-in for good.
    let bare = NextError {
        endpoint: "token",
        grant: Some("refresh_token"),
        times: Some(1),
        status: Some(400),
        error: Some("invalid_grant"),
        ..NextError::default()
    };
    world.tenant.next_error(&bare).await.unwrap();
    let count = world.refreshes().await;
    advance(HOUR).await;
    let failure = world.who(&running.agent, CAROL).await.unwrap_err();
    assert_eq!(failure, TokenFailure::AuthRequired { reason: "expired".to_owned(), never_connected: false });
    assert_eq!(world.refreshes().await, count + 1);
    running.stop().await;
}

#[tokio::test]
async fn an_organisations_bare_invalid_grant_is_asked_once_more_before_it_is_believed() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let bare = NextError {
        endpoint: "token",
        grant: Some("refresh_token"),
        times: Some(1),
        status: Some(400),
        error: Some("invalid_grant"),
        ..NextError::default()
    };
    world.tenant.next_error(&bare).await.unwrap();
    advance(2 * HOUR).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, 3);
    running.stop().await;
}

#[tokio::test]
async fn a_claims_challenge_brings_a_new_token_and_step_up_reaches_the_device_with_its_claims() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let tokens = running.agent.tokens();
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    let first = tokens.token(&id(ALICE), Resource::Graph, None).await.unwrap();
    let second = tokens.token(&id(ALICE), Resource::Graph, Some(claims)).await.unwrap();
    assert_ne!(first.secret, second.secret);
    assert_eq!(tokens.token(&id(ALICE), Resource::Graph, None).await.unwrap().secret, second.secret);

    // Microsoft now wants it of whoever uses this sign-in: its own words go to the person, not the caller's.
    world.tenant.step_up(ALICE, true).await.unwrap();
    let failure = tokens.token(&id(ALICE), Resource::Graph, Some(claims)).await.unwrap_err();
    assert!(matches!(failure, TokenFailure::AuthRequired { never_connected: false, .. }), "{failure:?}");
    let told = device.all_so_far().await;
    let asked = told.iter().find_map(|message| match message {
        ToDevice::AuthExpired(expired) => expired.claims.clone(),
        _ => None,
    });
    let asked = asked.expect("auth.expired with claims");
    assert!(asked.contains("capolids") && asked != claims, "{asked}");
    device.hello();
    let state = device.state(|state| state.accounts[0].health == WireHealth::ReconnectNeeded).await;
    assert_eq!(state.accounts[0].claims.as_ref(), Some(&asked));
    running.stop().await;
}

#[tokio::test]
async fn each_resource_gets_a_token_of_its_own_and_others_are_refused_without_asking() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let tokens = running.agent.tokens();
    let graph = tokens.token(&id(ALICE), Resource::Graph, None).await.unwrap();
    let outlook = tokens.token(&id(ALICE), Resource::Outlook, None).await.unwrap();
    assert_ne!(graph.secret, outlook.secret);
    let count = world.refreshes().await;
    let refused = tokens.token(&id(ALICE), Resource::WorkIq, None).await.unwrap_err();
    assert_eq!(refused, TokenFailure::NotCovered { resource: Resource::WorkIq });
    assert_eq!(world.refreshes().await, count);
    running.stop().await;
}

/// Shows M13.
#[tokio::test]
async fn an_ambiguous_name_is_an_error_that_lists_the_matches() {
    let world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let _anas = world.connect(&running.agent, ANA).await;
    let agent = &running.agent;
    for name in ["alice@contoso.example", "Alice@Contoso.Example", "alice", &id(ALICE).to_string(), "a11ce"] {
        assert_eq!(agent.find_account(name), Ok(id(ALICE)), "{name}");
    }
    let Err(FindError::Ambiguous { matches, .. }) = agent.find_account("a") else { panic!() };
    assert_eq!(matches.len(), 2);
    assert!(matches.iter().any(|name| name.contains(ANA.mail)), "{matches:?}");
    let Err(FindError::NotFound { there_are, .. }) = agent.find_account("zoe") else { panic!() };
    assert_eq!(there_are.len(), 2);
    assert!(matches!(agent.find_account(""), Err(FindError::NotFound { .. })));
    running.stop().await;
}

/// A day later by the clock is an hour later by no timer, and the other way round.
#[tokio::test]
async fn a_clock_that_is_put_back_or_ahead_makes_no_token_last_longer_and_ends_no_sign_in() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let day = SignedDuration::from_hours(24);
    let mut refreshes = world.refreshes().await;
    for jump in [-day, day, -10 * 365 * day, 10 * 365 * day, 10 * 365 * day, -10 * 365 * day] {
        world.clock.set_ahead(jump);
        // It looks at the clock every half minute.
        advance(Duration::from_secs(30)).await;
        refreshes += 1;
        support::within("a token that ends when it does", async {
            let left = || running.agent.accounts()[0].expires_at.duration_since(world.clock.now());
            while left().abs() > SignedDuration::from_hours(1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(world.refreshes().await, refreshes, "{jump}");
        assert_eq!(running.agent.accounts()[0].health, Health::Connected, "{jump}");
        assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
        // By less than a token's life is put back too: the next one comes no later for it.
        world.clock.set_ahead(SignedDuration::from_mins(-4));
        advance(Duration::from_secs(3300)).await;
        refreshes += 1;
        refreshed_to(&world, refreshes).await;
    }
    assert_eq!(world.refreshes().await, refreshes, "one for each, and no more");
    running.stop().await;
}

#[tokio::test]
async fn a_wait_for_microsoft_is_not_made_longer_by_a_clock_that_is_put_back() {
    let world = World::new().await;
    let mut running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let refreshes = world.refreshes().await;
    let down =
        NextError { endpoint: "token", status: Some(503), retry_after: Some(120), ..NextError::default() };
    world.tenant.next_error(&down).await.unwrap();
    advance(HOUR).await;
    running
        .until("the failure", |update| {
            matches!(update, Update::HealthChanged(change) if change.to.health == Health::Retrying)
                .then_some(())
        })
        .await;
    world.clock.set_ahead(SignedDuration::from_hours(-24));
    assert!(world.who(&running.agent, ALICE).await.unwrap_err().is_retryable(), "it is being left alone");
    advance(Duration::from_secs(121)).await;
    refreshed_to(&world, refreshes + 2).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_by_a_clock_that_was_put_back_trusts_no_stored_token() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let refreshes = world.refreshes().await;
    running.stop().await;
    let agent = world.open();
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, refreshes, "the stored one is as good as a new one");
    drop(agent);
    world.clock.set_ahead(SignedDuration::from_hours(-24));
    let agent = world.open();
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, refreshes + 1);
}
