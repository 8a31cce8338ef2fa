//! What Microsoft refuses one caller, or grants beyond what was asked: it is nobody else's, and nobody is bothered by it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::{Device, Running, World, advance, id, refused_because};
use valetkey_agent::{BlockedBy, Health, InviteRequest, TokenFailure, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::ToDevice;
use valetkey_handoff::message::{Health as WireHealth, Outcome};
use valetkey_tests::tenant::{ALICE, ANA, BOB, NextError, Reuse, User};

const HOUR: Duration = Duration::from_secs(3600);
const STEP_UP: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c25"}}}"#;

/// What Entra says to a challenge that the sign-in does not meet.
fn interaction_required() -> NextError {
    NextError {
        endpoint: "token",
        grant: Some("refresh_token"),
        times: Some(1),
        status: Some(400),
        error: Some("interaction_required"),
        code: Some(50_076),
        suberror: Some("basic_action"),
        claims: Some(STEP_UP),
        ..NextError::default()
    }
}

async fn health_becomes(running: &mut Running, health: Health) {
    let became = |update: &Update| match update {
        Update::HealthChanged(change) => (change.to.health == health).then_some(()),
        _ => None,
    };
    running.until(health.as_str(), became).await;
}

async fn was_told_of_no_lapse(device: &mut Device) {
    for message in device.all_so_far().await {
        match message {
            ToDevice::AuthExpired(expired) => panic!("{expired:?}"),
            ToDevice::State(state) => {
                let ill = state.accounts.iter().find(|account| account.health != WireHealth::Connected);
                assert!(ill.is_none_or(|account| account.health == WireHealth::Retrying), "{ill:?}");
            }
            _ => {}
        }
    }
}

fn stored_refresh_token(world: &World, user: User) -> String {
    let json = world.json(user);
    json["RefreshToken"].as_object().unwrap().values().next().unwrap()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_challenge_that_one_program_brings_is_that_programs_answer_and_no_banner() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let tokens = running.agent.tokens();
    let changes = running.agent.status().health_changes;
    world.tenant.next_error(&interaction_required()).await.unwrap();
    let before = world.refreshes().await;

    let failure = tokens.token(&id(ALICE), Resource::Graph, Some(STEP_UP)).await.unwrap_err();

    assert!(
        matches!(&failure, TokenFailure::StepUpRequired { resource: Resource::Graph, reason } if reason == "mfa"),
        "{failure:?}"
    );
    assert!(!failure.is_retryable());
    assert!(failure.to_string().contains("sign in again in Valet Key"), "{failure}");
    assert_eq!(world.refreshes().await, before + 2, "asked once, and whether the sign-in as a whole goes on");
    // A program that asks in a loop is answered from here.
    for _ in 0..20 {
        let again = tokens.token(&id(ALICE), Resource::Graph, Some(STEP_UP)).await.unwrap_err();
        assert_eq!(again, failure);
    }
    assert_eq!(world.refreshes().await, before + 2);
    // Everybody else goes on, also after the next refresh.
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    advance(2 * HOUR).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    assert_eq!(running.agent.status().health_changes, changes);
    was_told_of_no_lapse(&mut device).await;

    // After that time, or at once after a new sign-in, Microsoft is asked again.
    tokens.token(&id(ALICE), Resource::Graph, Some(STEP_UP)).await.unwrap();
    world.tenant.next_error(&interaction_required()).await.unwrap();
    tokens.token(&id(ALICE), Resource::Graph, Some(STEP_UP)).await.unwrap_err();
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    tokens.token(&id(ALICE), Resource::Graph, Some(STEP_UP)).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_one_resource_is_refused_for_that_one() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let tokens = running.agent.tokens();
    let outlook = async || tokens.token(&id(ALICE), Resource::Outlook, None).await.unwrap_err();
    let refuse = async |error, code| {
        let refusal = NextError {
            error: Some(error),
            code: Some(code),
            suberror: None,
            claims: None,
            ..interaction_required()
        };
        world.tenant.next_error(&refusal).await.unwrap();
    };

    refuse("invalid_grant", 65_001).await;
    let failure = outlook().await;
    assert!(
        matches!(&failure, TokenFailure::StepUpRequired { resource: Resource::Outlook, reason } if reason == "consent"),
        "{failure:?}"
    );
    advance(Duration::from_secs(301)).await;
    refuse("invalid_resource", 500_011).await;
    let failure = outlook().await;
    assert!(matches!(&failure, TokenFailure::Blocked { by: BlockedBy::Administrator, .. }), "{failure:?}");

    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    was_told_of_no_lapse(&mut device).await;
    advance(Duration::from_secs(301)).await;
    tokens.token(&id(ALICE), Resource::Outlook, None).await.unwrap();
    running.stop().await;
}

/// The person is needed for everything then, and it must not take until the next refresh to find out.
#[tokio::test]
async fn a_refusal_of_one_request_finds_out_that_the_whole_sign_in_is_over() {
    let world = World::new().await;
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    world.tenant.revoke(ALICE).await.unwrap();

    let failure = running.agent.tokens().token(&id(ALICE), Resource::Outlook, None).await.unwrap_err();

    assert!(
        matches!(&failure, TokenFailure::AuthRequired { reason, never_connected: false } if reason == "revoked"),
        "{failure:?}"
    );
    health_becomes(&mut running, Health::ReconnectNeeded).await;
    device.state(|state| state.accounts[0].health == WireHealth::ReconnectNeeded).await;
    running.stop().await;
}

/// Shows of L6 that granted scopes other than those asked are refused, with nothing stored, at the agent too.
#[tokio::test]
async fn a_sign_in_with_other_permissions_than_were_asked_for_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    for (more, without, reason) in
        [(&["Mail.Send"][..], &[][..], "granted-more"), (&[], &["Calendars.Read"], "consent")]
    {
        let body = world.sign_in(ALICE).await;
        world.tenant.granted(ALICE, more, without).await.unwrap();
        device.hand_over(&body);
        assert_eq!(refused_because(&device.receipt().await), reason);
        assert!(running.agent.accounts().is_empty());
        let left = world.json(ALICE);
        assert!(left["RefreshToken"].as_object().is_none_or(serde_json::Map::is_empty), "tokens are left");
        world.tenant.granted(ALICE, &[], &[]).await.unwrap();
    }
    // Part of what was asked for, by another name, is no more than that.
    world
        .tenant
        .granted(ALICE, &["Mail.ReadBasic", "https://graph.microsoft.com/Mail.Read"], &[])
        .await
        .unwrap();
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
}

/// Where an old refresh token is not taken again: the access token is refused, the sign-in is not lost by it.
#[tokio::test]
async fn a_token_that_can_suddenly_do_more_is_not_served_and_the_account_is_back_when_it_cannot() {
    let world = World::new().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let mut running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let before = stored_refresh_token(&world, ALICE);
    world.tenant.granted(ALICE, &["Mail.ReadWrite"], &[]).await.unwrap();

    advance(HOUR).await;
    health_becomes(&mut running, Health::Blocked).await;
    let failure = world.who(&running.agent, ALICE).await.unwrap_err();
    assert!(
        matches!(&failure, TokenFailure::Blocked { by: BlockedBy::Operator, reason } if reason == "granted-more"),
        "{failure:?}"
    );
    assert!(failure.to_string().contains("more than was asked for"), "{failure}");
    assert_eq!(world.json(ALICE)["AccessToken"], serde_json::json!({}), "kept nowhere");
    assert_ne!(stored_refresh_token(&world, ALICE), before);
    device.state(|state| state.accounts[0].health == WireHealth::Blocked).await;

    world.tenant.granted(ALICE, &[], &[]).await.unwrap();
    advance(2 * HOUR).await;
    health_becomes(&mut running, Health::Connected).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

/// This tenant names it in the answer to the account's own refresh as well.
#[tokio::test]
async fn the_refresh_token_that_came_with_a_refused_token_for_one_resource_is_kept() {
    let world = World::new().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let mut running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    let before = stored_refresh_token(&world, ALICE);
    world.tenant.granted(ALICE, &["https://outlook.office.com/SMTP.Send"], &[]).await.unwrap();

    let failure = running.agent.tokens().token(&id(ALICE), Resource::Outlook, None).await.unwrap_err();

    assert!(
        matches!(&failure, TokenFailure::Blocked { reason, .. } if reason == "granted-more"),
        "{failure:?}"
    );
    assert_ne!(stored_refresh_token(&world, ALICE), before);
    health_becomes(&mut running, Health::Blocked).await;
    world.tenant.granted(ALICE, &[], &[]).await.unwrap();
    advance(2 * HOUR).await;
    health_becomes(&mut running, Health::Connected).await;
    running.agent.tokens().token(&id(ALICE), Resource::Outlook, None).await.unwrap();
    running.stop().await;
}

/// Shows M3 where any organisation may sign in: its administrator can write any address into a mailbox.
#[tokio::test]
async fn another_organisations_mailbox_that_calls_itself_by_the_invited_address_is_refused() {
    let world = World::new().await;
    let running = world.run().await;
    world.tenant.mail(BOB, ANA.mail).await.unwrap();
    let mut mallorys = world.pair(&running.agent, ANA).await;

    mallorys.hand_over(&world.sign_in(BOB).await);

    assert_eq!(refused_because(&mallorys.receipt().await), "wrong-account");
    assert!(running.agent.accounts().is_empty());
    // Ana, whose sign-in name differs from her mailbox too, is confirmed: both are in her organisation's domain.
    mallorys.hand_over(&world.sign_in(ANA).await);
    assert!(matches!(mallorys.receipt().await.outcome, Outcome::Stored { .. }));

    // Whoever names an organisation in the invite takes its administrators' word.
    let mut terms = world.terms(ANA.mail);
    BOB.tid.clone_into(&mut terms.tenant);
    let invite = running.agent.invite(InviteRequest::new(terms), &world.access()).await.unwrap();
    let mut device = Device::new(&invite).await;
    device.enroll(&invite);
    assert!(matches!(device.next().await, ToDevice::Enrolled(_)));
    device.hand_over(&world.sign_in(BOB).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
}
