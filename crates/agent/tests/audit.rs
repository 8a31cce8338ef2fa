//! What is refused and what lapses is in the audit too, with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Device, World, advance, id, refused_because, within};
use valetkey_agent::{Agent, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::message::Outcome;
use valetkey_handoff::{Keys, ToDevice};
use valetkey_tests::tenant::{ALICE, BOB};

fn audit(agent: &Agent) -> Vec<Value> {
    let report = agent.verify_audit().unwrap();
    assert!(report.intact, "{report:?}");
    let lines = agent.audit_lines(usize::MAX).unwrap();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the events of this name say under `key`.
fn told(audit: &[Value], event: &str, key: &str) -> Vec<String> {
    let of_this_name = audit.iter().filter(|line| line["event"] == event);
    of_this_name.map(|line| line[key].as_str().unwrap().to_owned()).collect()
}

/// Shows of L8 that the audit tells of a link that failed: used already, or too late.
#[tokio::test]
async fn refused_devices_handoffs_and_messages_are_there_with_their_reasons() {
    let world = World::new().await;
    let mut running = world.run().await;
    let invite = world.invite(&running.agent, ALICE).await;
    let mut first = Device::new(&invite).await;
    let mut second = Device::new(&invite).await;
    first.enroll(&invite);
    assert!(matches!(first.next().await, ToDevice::Enrolled(_)));
    second.enroll(&invite);
    assert_eq!(refused_because(&second.receipt().await), "invite-used");
    let expired = world.invite(&running.agent, BOB).await;
    let mut late = Device::new(&expired).await;
    advance(Duration::from_secs(601)).await;
    late.enroll(&expired);
    assert_eq!(refused_because(&late.receipt().await), "invite-expired");

    let mut empty = world.sign_in(ALICE).await;
    empty.cache = "{}".into();
    first.hand_over(&empty);
    assert_eq!(refused_because(&first.receipt().await), "no-refresh-token");
    first.send(b"nonsense");
    let noticed = |update: &Update| matches!(update, Update::MessageRefused { .. }).then_some(());
    running.until("the refusal of the handoff", noticed).await;
    running.until("the refusal of the message", noticed).await;

    let all = audit(&running.agent);
    let mut refused = told(&all, "device_refused", "reason");
    // The broker may deliver one twice, and each is noted.
    refused.dedup();
    assert_eq!(refused, ["invite-used", "invite-expired"]);
    assert_eq!(told(&all, "handoff_refused", "reason"), ["no-refresh-token"]);
    assert_eq!(told(&all, "handoff_refused", "account"), [id(ALICE).to_string()]);
    let digest = told(&all, "message_refused", "digest").concat();
    let aside = running.agent.state_dir().set_aside().list().unwrap();
    assert!(aside.len() == 1 && aside[0].contains(&digest) && !digest.is_empty(), "{aside:?} {digest}");
    assert_eq!(told(&all, "invite_used", "invite"), [invite.id().as_str()], "only one was");
    // Agreed to on each of them, the losers too.
    let mut opened = told(&all, "invite_opened", "device");
    opened.dedup();
    let devices = [&first, &second, &late].map(|device| device.keys.thumbprint().as_str().to_owned());
    assert_eq!(opened, devices);
    running.stop().await;
}

/// Shows of L8 that the audit tells of a link that expired unused.
#[tokio::test]
async fn an_invite_that_nobody_used_in_time_is_there_once() {
    let world = World::new().await;
    let running = world.run().await;
    let invite = world.invite(&running.agent, ALICE).await;
    running.stop().await;
    advance(Duration::from_secs(2 * 3600)).await;
    for _ in 0..2 {
        let running = world.run().await;
        assert_eq!(told(&audit(&running.agent), "invite_expired", "invite"), [invite.id().as_str()]);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_program_that_has_the_agent_built_in_is_called_the_library() {
    let world = World::new().await;
    let running = world.run().await;
    world.connect(&running.agent, ALICE).await;
    let tokens = running.agent.tokens();
    tokens.token(&id(ALICE), Resource::Graph, None).await.unwrap();
    tokens.token(&id(ALICE), Resource::WorkIq, None).await.unwrap_err();
    let all = audit(&running.agent);
    for event in ["token_served", "token_refused"] {
        let line = all.iter().find(|line| line["event"] == event).unwrap();
        assert_eq!(line["caller"], serde_json::json!({ "via": "library" }));
    }
    assert_eq!(told(&all, "token_refused", "code"), ["not_covered"]);
    running.stop().await;
}

#[tokio::test]
async fn strangers_that_flood_the_agent_take_twenty_lines_a_minute() {
    let world = World::new().await;
    let running = world.run().await;
    let invite = world.invite(&running.agent, ALICE).await;
    let stranger = Device::with_keys(&invite, Keys::generate()).await;
    for n in 0..50 {
        stranger.send(format!("nonsense {n}").as_bytes());
    }
    within("all are refused", async {
        while running.agent.status().refused_messages < 50 {
            // Not every one of so many is told.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(running.agent.status().refused_messages, 50);
    assert_eq!(told(&audit(&running.agent), "message_refused", "reason").len(), 20);
    advance(Duration::from_secs(61)).await;
    stranger.send(b"once more");
    within("one more is refused", async {
        while running.agent.status().refused_messages < 51 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let all = audit(&running.agent);
    let more = all.iter().find(|line| line["event"] == "more_messages_refused").unwrap();
    assert_eq!(more["count"], 30);
    running.stop().await;
}

#[tokio::test]
async fn an_account_goes_once_however_often_its_device_says_so() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;

    for _ in 0..3 {
        device.disconnect(ALICE);
        assert_eq!(device.receipt().await.outcome, Outcome::Done);
    }

    let removed = told(&audit(&running.agent), "account_removed", "device");
    assert_eq!(removed, [device.keys.thumbprint().as_str()]);
    // Each of them counts: what it sealed before comes too late.
    device.send_as(device.generation - 1, &world.sign_in(ALICE).await.into());
    assert_eq!(refused_because(&device.receipt().await), "older");
    running.stop().await;
}

/// The disk is slow: the only thread that may wait for it is held up.
#[test]
fn what_is_stored_while_the_agent_is_told_to_stop_is_there_too() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let running = world.run().await;
        let mut device = world.pair(&running.agent, ALICE).await;
        let body = world.sign_in(ALICE).await;
        let agent = running.agent.clone();
        let heard = || agent.devices()[0].heard_at;
        let (paired_at, (release, held)) = (heard(), std::sync::mpsc::channel::<()>());
        tokio::task::spawn_blocking(move || held.recv());

        device.hand_over(&body);
        within("the sign-in comes", async {
            while heard() == paired_at {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let stopping = tokio::spawn(running.stop());
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(release);
        stopping.await.unwrap();

        within("it is stored", async {
            while !world.file(ALICE).exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(told(&audit(&agent), "handoff_accepted", "account"), [id(ALICE).to_string()]);
    });
}

/// A broker can deliver a genuine message as often as it likes.
#[tokio::test]
async fn a_handoff_that_is_repeated_without_end_takes_twenty_lines_a_minute() {
    const COPIES: u64 = 60;
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.pair(&running.agent, ALICE).await;
    let first = device.hand_over(&world.sign_in(ALICE).await);
    device.receipt().await;
    device.hand_over(&world.sign_in(ALICE).await);
    device.receipt().await;

    for _ in 0..COPIES {
        device.send(first.as_bytes());
    }
    for _ in 0..COPIES {
        assert_eq!(refused_because(&device.receipt().await), "older");
    }
    assert_eq!(told(&audit(&running.agent), "handoff_refused", "reason"), vec!["older"; 20]);

    advance(Duration::from_secs(61)).await;
    device.send(first.as_bytes());
    device.receipt().await;
    let all = audit(&running.agent);
    let more = all.iter().find(|line| line["event"] == "more_handoffs_refused").unwrap();
    assert_eq!(more["count"], COPIES - 20);
    assert_eq!(more["device"], device.keys.thumbprint().as_str());
    running.stop().await;
}
