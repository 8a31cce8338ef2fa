//! What a device calls an account, before it is known whose it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{World, advance, id, refused_because};
use uuid::Uuid;
use valetkey_agent::{AccountId, FindError, Health, TokenFailure, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::message::{CacheUpdated, Outcome};
use valetkey_tests::tenant::{ALICE, BOB, NextError, User};

/// A sign-in of somebody who does not exist, by the name of somebody who does, with a refresh token that nobody gave out.
async fn junk(world: &World, called: User) -> (AccountId, CacheUpdated) {
    let mut body = world.sign_in(called).await;
    let made_up = Uuid::from_u128(rand::random());
    let mut cache: serde_json::Value =
        serde_json::from_str(&body.cache.expose().replace(called.oid, &made_up.to_string())).unwrap();
    for token in cache["RefreshToken"].as_object_mut().unwrap().values_mut() {
        token["secret"] = "made up".into();
    }
    body.cache = cache.to_string().into();
    body.account.id.oid = made_up;
    (AccountId { tid: body.account.id.tid, oid: made_up }, body)
}

/// Shows of M13 that a name is ambiguous only between accounts that have worked.
#[tokio::test]
async fn an_account_that_never_worked_stands_in_nobodys_way_and_goes_when_microsoft_refuses_it() {
    let world = World::new().await;
    let mut running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut mallorys = world.pair(&running.agent, BOB).await;
    let agent = running.agent.clone();

    // While it cannot be tried, it is there, and found by its id alone.
    let later = NextError {
        endpoint: "token",
        grant: Some("refresh_token"),
        status: Some(503),
        error: Some("temporarily_unavailable"),
        retry_after: Some(3600),
        ..NextError::default()
    };
    world.tenant.next_error(&later).await.unwrap();
    let (made_up, body) = junk(&world, ALICE).await;
    mallorys.hand_over(&body);
    running
        .until("it is stored", |update| match update {
            Update::Stored { account } if *account == made_up => Some(()),
            _ => None,
        })
        .await;
    let tried = agent.tokens().token(&made_up, Resource::Graph, None).await.unwrap_err();
    assert!(tried.is_retryable(), "{tried:?}");
    let listed = agent.accounts();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|account| account.username == ALICE.username));
    assert_eq!(listed.iter().filter(|account| account.proven).count(), 1);
    for name in [ALICE.username, "alice"] {
        assert_eq!(agent.find_account(name), Ok(id(ALICE)), "{name}");
    }
    assert_eq!(agent.find_account(&made_up.to_string()), Ok(made_up));
    let beginning = &made_up.to_string()[..13];
    let Err(FindError::NotFound { there_are, .. }) = agent.find_account(beginning) else { panic!() };
    assert!(there_are.iter().any(|label| label.contains("say its whole id")), "{there_are:?}");

    // Tried again and refused, it is gone, and so is every other that comes.
    mallorys.hand_over(&body);
    assert!(matches!(mallorys.receipt().await.outcome, Outcome::Refused { .. }));
    let (second, body) = junk(&world, ALICE).await;
    mallorys.hand_over(&body);
    assert!(matches!(mallorys.receipt().await.outcome, Outcome::Refused { .. }));
    assert_eq!(agent.accounts().len(), 1);
    for gone in [made_up, second] {
        assert!(agent.find_account(&gone.to_string()).is_err());
        let failure = agent.tokens().token(&gone, Resource::Graph, None).await.unwrap_err();
        assert!(matches!(failure, TokenFailure::AuthRequired { never_connected: true, .. }), "{failure:?}");
    }
    drop(agent);
    running.stop().await;

    // The tombstone keeps an old one from coming back, also over a restart.
    let running = world.run().await;
    let refreshes = world.refreshes().await;
    mallorys.send_as(mallorys.generation - 1, &body.into());
    assert_eq!(refused_because(&mallorys.receipt().await), "older");
    assert_eq!(world.refreshes().await, refreshes);
    running.stop().await;
}

#[tokio::test]
async fn a_device_names_sixteen_accounts_in_vain_and_no_more() {
    let world = World::new().await;
    let running = world.run().await;
    let mut mallorys = world.pair(&running.agent, BOB).await;
    let mut reasons = Vec::new();
    for _ in 0..18 {
        // No more than one in a minute is tried.
        advance(std::time::Duration::from_secs(61)).await;
        mallorys.hand_over(&junk(&world, ALICE).await.1);
        reasons.push(refused_because(&mallorys.receipt().await).to_owned());
    }
    let too_many = reasons.iter().filter(|reason| *reason == "too-many-accounts").count();
    assert_eq!(
        (too_many, reasons[15] == "too-many-accounts", &*reasons[16]),
        (2, false, "too-many-accounts")
    );
    assert_eq!(std::fs::read_dir(world.state_dir().join("vault")).unwrap().count(), 16);
    // Another device is not held to account for it.
    let alices = world.connect(&running.agent, ALICE).await;
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    drop(alices);
    running.stop().await;
}
