//! From a device's sealed sign-in to a token that works, over a real broker and against a real OpenID provider.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::os::unix::fs::MetadataExt;

use support::{Device, World, advance, id, refresh_error, refused_because};
use valetkey_agent::{AgentError, Health, InviteRequest, MAX_EXPIRY, Update};
use valetkey_handoff::message::Outcome;
use valetkey_handoff::{Keys, Terms, ToAgent, ToDevice};
use valetkey_tests::tenant::{ALICE, BOB, CAROL, GraphMode, NextError};

/// Shows H18, of H4 the modes, and J5 as far as the agent.
#[tokio::test]
async fn a_handoff_is_stored_0600_refreshed_once_and_only_then_receipted() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let body = world.sign_in(ALICE).await;
    assert_eq!(world.refreshes().await, 0);

    let sealed = device.hand_over(&body);
    let receipt = device.receipt().await;

    assert_eq!((receipt.of, receipt.generation), (sealed.jti, 1));
    assert!(matches!(receipt.outcome, Outcome::Stored { .. }));
    assert_eq!(world.refreshes().await, 1, "refreshed exactly once, before the receipt");
    let meta = std::fs::metadata(world.file(ALICE)).unwrap();
    let dir = std::fs::metadata(world.state_dir()).unwrap();
    assert_eq!((meta.mode() & 0o777, dir.mode() & 0o777), (0o600, 0o700));

    let json = world.json(ALICE);
    for member in ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata", "ValetKey"] {
        assert!(json[member].is_object(), "{member}");
    }
    // What can be read without parsing the cache.
    let ours = &json["ValetKey"];
    assert_eq!(ours["format"], 1);
    assert_eq!(ours["username"], ALICE.username);
    assert!(ours["expires_at"].is_string() && ours["scopes"].as_array().unwrap().len() >= 3, "{ours}");
    let accounts = running.agent.accounts();
    assert_eq!((accounts[0].account, accounts[0].health), (id(ALICE), Health::Connected));
    assert_eq!(accounts[0].expires_at.to_string(), ours["expires_at"].as_str().unwrap());

    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, 1, "served from memory");
    running.stop().await;
}

/// Shows of H5 that a cache that is there already causes no write.
#[tokio::test]
async fn the_same_bytes_again_bring_the_receipt_again_and_no_write() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let sealed = device.hand_over(&world.sign_in(ALICE).await);
    let first = device.receipt().await;
    let before = std::fs::metadata(world.file(ALICE)).unwrap();

    device.send(sealed.as_bytes());

    assert_eq!(device.receipt().await, first);
    let after = std::fs::metadata(world.file(ALICE)).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert_eq!(world.refreshes().await, 1);
    running.stop().await;
}

/// Shows H7. What the device itself has signed is not kept for the operator: the device is told why.
#[tokio::test]
async fn empty_damaged_replayed_older_and_wrongly_signed_handoffs_change_nothing_and_are_reported() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let good = world.sign_in(ALICE).await;
    let second = device.hand_over(&good);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    let stored = std::fs::read(world.file(ALICE)).unwrap();

    // From the right device: answered, so that it stops sending.
    let mut empty = good.clone();
    empty.cache = "{}".into();
    device.hand_over(&empty);
    assert_eq!(refused_because(&device.receipt().await), "no-refresh-token");
    let mut damaged = good.clone();
    damaged.cache = r#"{"RefreshToken": []}"#.into();
    device.hand_over(&damaged);
    assert_eq!(refused_because(&device.receipt().await), "damaged");
    let mut endless = good.clone();
    let mut cache: serde_json::Value = serde_json::from_str(good.cache.expose()).unwrap();
    let token = cache["RefreshToken"].as_object_mut().unwrap().values_mut().next().unwrap();
    token["secret"] = "x".repeat(16 * 1024 + 1).into();
    endless.cache = cache.to_string().into();
    device.hand_over(&endless);
    assert_eq!(refused_because(&device.receipt().await), "damaged", "no refresh token is that long");
    let mut foreign = good.clone();
    foreign.client_id = "22222222-2222-4222-8222-222222222222".to_owned();
    device.hand_over(&foreign);
    assert_eq!(refused_because(&device.receipt().await), "terms-mismatch");
    let mut inside = good.clone();
    inside.cache = good.cache.expose().replace(&good.client_id, &foreign.client_id).into();
    device.hand_over(&inside);
    assert_eq!(refused_because(&device.receipt().await), "terms-mismatch");
    foreign.cache = inside.cache;
    device.hand_over(&foreign);
    assert_eq!(refused_because(&device.receipt().await), "terms-mismatch");
    let mut greedy = good.clone();
    greedy.capabilities.push("mail-send".to_owned());
    device.hand_over(&greedy);
    assert_eq!(refused_because(&device.receipt().await), "capabilities-mismatch");
    let mut elsewhere = good.clone();
    elsewhere.authority = "https://login.evil.example/".to_owned();
    device.hand_over(&elsewhere);
    assert_eq!(refused_because(&device.receipt().await), "terms-mismatch");
    device.send_as(2, &good.clone().into());
    assert_eq!(refused_because(&device.receipt().await), "generation-conflict");
    device.send_as(1, &good.clone().into());
    assert_eq!(refused_because(&device.receipt().await), "older");

    // From anybody: set aside, not answered. Told in words, where what was answered above is told as a code.
    let stranger = Keys::generate();
    let message: ToAgent = good.clone().into();
    let forged = valetkey_handoff::seal(
        &stranger,
        &running.agent.public_keys(),
        &valetkey_handoff::Facts::new(99, jiff::Timestamp::now()),
        &message,
    )
    .unwrap();
    let mut altered = device.seal_as(99, &message).text.into_bytes();
    let last = altered.len() - 10;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    for bytes in [b"".as_slice(), b"nonsense", forged.as_bytes(), &altered] {
        device.send(bytes);
        running
            .until("the report of a refused message", |update| {
                matches!(update, Update::MessageRefused { reason } if reason.contains(' ')).then_some(())
            })
            .await;
    }

    assert_eq!(std::fs::read(world.file(ALICE)).unwrap(), stored, "the good cache survives");
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    let aside = running.agent.state_dir().set_aside().list().unwrap();
    let set_aside = running.agent.state_dir().set_aside();
    let mut kept: Vec<_> = aside.iter().map(|name| set_aside.read(name).unwrap().unwrap().to_vec()).collect();
    let mut sent = [b"".to_vec(), b"nonsense".to_vec(), forged.as_bytes().to_vec(), altered];
    kept.sort();
    sent.sort();
    assert!(kept == sent, "as they came: {aside:?}");
    assert_eq!(running.agent.status().refused_messages, 10 + 4);
    device.send(second.as_bytes());
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }), "the last one still counts");
    running.stop().await;
}

#[tokio::test]
async fn while_microsoft_is_out_of_order_the_receipt_waits_and_then_comes() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let body = world.sign_in(ALICE).await;
    world
        .tenant
        .next_error(&refresh_error(
            2,
            &NextError { status: Some(503), error: Some("temporarily_unavailable"), ..NextError::default() },
        ))
        .await
        .unwrap();

    device.hand_over(&body);
    running.until("the handoff is stored", |u| matches!(u, Update::Stored { .. }).then_some(())).await;
    let accounts = running.agent.accounts();
    assert_eq!(accounts[0].health, Health::Retrying);
    let brought = world.json(ALICE)["AccessToken"].as_object().is_some_and(|tokens| !tokens.is_empty());
    assert!(!brought, "what the device brought is never served");
    // The waits in between grow from seconds.
    while world.refreshes().await < 3 {
        advance(std::time::Duration::from_secs(1)).await;
    }

    let receipt = device.receipt().await;
    assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_repeated_handoff_does_not_make_the_agent_ask_before_microsoft_wants_to_be_asked() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let busy = NextError { status: Some(429), retry_after: Some(600), ..NextError::default() };
    world.tenant.next_error(&refresh_error(1, &busy)).await.unwrap();
    let sealed = device.hand_over(&world.sign_in(ALICE).await);
    while world.refreshes().await < 1 {
        tokio::task::yield_now().await;
    }
    assert!(world.who(&running.agent, ALICE).await.unwrap_err().is_retryable());

    device.send(sealed.as_bytes());
    device.all_so_far().await;
    assert!(world.who(&running.agent, ALICE).await.unwrap_err().is_retryable());

    assert_eq!(world.refreshes().await, 1);
    advance(std::time::Duration::from_secs(601)).await;
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
}

/// Shows of H7 that the good cache survives a sign-in that never worked.
#[tokio::test]
async fn a_new_sign_in_that_microsoft_refuses_is_told_so_and_the_one_before_goes_on() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let body = world.sign_in(ALICE).await;
    let error = NextError {
        status: Some(400),
        error: Some("invalid_grant"),
        code: Some(50_173),
        ..NextError::default()
    };
    world.tenant.next_error(&refresh_error(1, &error)).await.unwrap();

    device.hand_over(&body);

    assert_eq!(refused_because(&device.receipt().await), "revoked");
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    advance(std::time::Duration::from_secs(7200)).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    let all = device.all_so_far().await;
    assert!(!all.iter().any(|message| matches!(message, ToDevice::AuthExpired(_))), "{all:?}");
    running.stop().await;
}

/// Shows M3 at the agent, which does not rely on the companion.
#[tokio::test]
async fn a_sign_in_of_another_person_than_the_invites_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let running = world.run().await;
    let mut bobs = world.pair(&running.agent, BOB).await;
    let mut body = world.sign_in(ALICE).await;
    BOB.username.clone_into(&mut body.account.username);

    let sealed = bobs.hand_over(&body);

    assert_eq!(refused_because(&bobs.receipt().await), "wrong-account");
    assert!(running.agent.accounts().is_empty());
    let left = world.json(ALICE);
    assert!(left["RefreshToken"].as_object().is_none_or(serde_json::Map::is_empty), "tokens are left");
    assert_eq!(left["ValetKey"]["condition"]["health"], "retrying");
    bobs.send(sealed.as_bytes());
    assert_eq!(refused_because(&bobs.receipt().await), "wrong-account");

    // Where the account is there already, it goes on as it was.
    let _alices = world.connect(&running.agent, ALICE).await;
    bobs.hand_over(&world.sign_in(ALICE).await);
    assert_eq!(refused_because(&bobs.receipt().await), "wrong-account");
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn the_user_name_is_what_microsoft_says_and_not_what_the_device_says() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let mut body = world.sign_in(ALICE).await;
    BOB.username.clone_into(&mut body.account.username);
    body.account.name = Some("Bob".to_owned());

    device.hand_over(&body);

    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    assert_eq!(running.agent.accounts()[0].username, ALICE.username);
    let state = device.state(|state| !state.accounts.is_empty()).await;
    assert_eq!(state.accounts[0].username, ALICE.username);
    running.stop().await;
}

#[tokio::test]
async fn while_graph_cannot_say_who_it_is_the_receipt_waits_and_no_token_is_served() {
    let world = World::new().await;
    world.tenant.reuse(valetkey_tests::tenant::Reuse::Strict).await.unwrap();
    let running = world.run().await;
    let mut device = world.pair(&running.agent, CAROL).await;
    world.tenant.graph(CAROL, GraphMode::Throttle, Some(1)).await.unwrap();

    device.hand_over(&world.sign_in(CAROL).await);
    while world.tenant.count("graph:/me").await.unwrap() < 1 {
        tokio::task::yield_now().await;
    }
    assert!(world.who(&running.agent, CAROL).await.unwrap_err().is_retryable());
    advance(std::time::Duration::from_secs(3600)).await;

    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    assert_eq!(running.agent.accounts()[0].username, CAROL.username);
    assert_eq!(world.refreshes().await, 2);
    running.stop().await;
}

#[tokio::test]
async fn of_two_devices_with_one_invite_one_is_paired_and_the_other_is_told() {
    let world = World::new().await;
    let running = world.run().await;
    let invite = world.invite(&running.agent, ALICE).await;
    let mut first = Device::new(&invite).await;
    let mut second = Device::new(&invite).await;
    first.enroll(&invite);
    assert!(matches!(first.next().await, ToDevice::Enrolled(_)));
    second.enroll(&invite);
    assert_eq!(refused_because(&second.receipt().await), "invite-used");
    // The winner's answer may have been lost: it asks again and is answered again.
    first.enroll(&invite);
    assert!(matches!(first.next().await, ToDevice::Enrolled(_)));
    assert_eq!(running.agent.devices().len(), 1);
    assert_eq!(running.agent.status().open_invites, 0);

    let expired = world.invite(&running.agent, BOB).await;
    let mut late = Device::new(&expired).await;
    advance(std::time::Duration::from_secs(601)).await;
    late.enroll(&expired);
    assert_eq!(refused_because(&late.receipt().await), "invite-expired");
    running.stop().await;
}

#[tokio::test]
async fn an_invite_is_good_for_more_than_nothing_and_for_a_week_at_most() {
    let world = World::new().await;
    let agent = world.open();
    let second = jiff::SignedDuration::from_secs(1);
    for (expires_in, good) in [
        (-second, false),
        (jiff::SignedDuration::ZERO, false),
        (MAX_EXPIRY + second, false),
        (second, true),
        (MAX_EXPIRY, true),
    ] {
        let request = InviteRequest { expires_in, ..InviteRequest::new(world.terms(ALICE.mail)) };
        let made = agent.invite(request, &world.access()).await;
        assert!(made.is_ok() == good && matches!(made, Ok(_) | Err(AgentError::Expiry)), "{expires_in}");
    }
    assert_eq!(agent.status().open_invites, 2);
}

#[tokio::test]
async fn what_a_device_writes_into_a_cache_beside_it_is_not_taken_for_ours() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let mut body = world.sign_in(ALICE).await;
    body.cache = body.cache.expose().replacen('{', r#"{"ValetKey": {"format": 99}, "#, 1).into();

    device.hand_over(&body);

    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
}

#[tokio::test]
async fn a_sign_in_of_a_tenant_that_the_invite_does_not_admit_is_not_stored() {
    let world = World::new().await;
    let running = world.run().await;
    let terms = Terms { tenant: "consumers".to_owned(), ..world.terms(ALICE.mail) };
    let invite = running.agent.invite(InviteRequest::new(terms), &world.access()).await.unwrap();
    let mut device = Device::new(&invite).await;
    device.enroll(&invite);
    assert!(matches!(device.next().await, ToDevice::Enrolled(_)));

    device.hand_over(&world.sign_in(ALICE).await);

    assert_eq!(refused_because(&device.receipt().await), "terms-mismatch");
    assert!(!world.file(ALICE).exists());
    running.stop().await;
}
