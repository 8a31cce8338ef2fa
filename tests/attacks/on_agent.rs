//! Attacks on the daemon, by whoever may publish at the broker.

use std::io::Write as _;
use std::process::{Command as Process, Stdio};

use serde_json::json;
use valetkey_companion::Command;
use valetkey_companion::view::Screen;
use valetkey_handoff::message::{Hello, Outcome};
use valetkey_handoff::{Facts, Keys, MAX_MESSAGE_BYTES, ToAgent, ToDevice, open, seal};
use valetkey_tests::broker::{Broker, BrokerOptions, Recorded, User};
use valetkey_tests::http_sign_in;
use valetkey_tests::program::Program;
use valetkey_tests::tenant::{ALICE, ANA, Lifetimes};

use crate::forge::{
    agent_keys, altered, device_keys, handoffs, header, jws, on, parts, refusal, signing_of, status,
    swollen_age_file, topics, vault,
};
use crate::support::{AGENT_PASSWORD, DEVICE_PASSWORD, Desk, World};

/// As many as the state directory keeps.
const MAX_SET_ASIDE: usize = 32;

/// Shows of H7 that what is empty, damaged or wrongly signed is reported, and the good cache survives.
#[expect(clippy::too_many_lines, reason = "one table of attacks on one world")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_forges_cuts_swells_or_sends_elsewhere_is_refused_and_changes_nothing() {
    let mut world = World::with_operators_broker().await;
    let mut serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let (mut alice, mut ana) =
        (world.desk(), Desk::start(&world.folder.path().join("ana"), std::sync::Arc::default()));
    alice.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    ana.connect(&world.daemon.invite(ANA.mail).unwrap(), ANA).await;
    let (topics, agent, stranger) = (topics(&world), agent_keys(&world), Keys::generate());
    let (alices, anas) = (device_keys(&alice.keys), device_keys(&ana.keys));
    let (inbox, outbox) = (topics.inbox(&alices.thumbprint()), topics.outbox(&alices.thumbprint()));
    let (anas_inbox, strangers_inbox) =
        (topics.inbox(&anas.thumbprint()), topics.inbox(&stranger.thumbprint()));
    let handoff = handoffs(&mut world, &wire, &inbox).await.remove(0);
    let anas_handoff = handoffs(&mut world, &wire, &anas_inbox).await.remove(0);
    let from_agent = on(&wire, &outbox).remove(0);
    let enroll_topic = |message: &&Recorded| message.topic.contains("/enroll/");
    let enroll = wire.messages().iter().find(enroll_topic).unwrap().clone();
    let before = vault(&world);
    let devices = world.daemon.ask(&["devices"]).unwrap().1;

    let (stranger_signs, alice_signs) = (signing_of(&stranger), signing_of(&alices));
    let hello = ToAgent::from(Hello {});
    let sealed = |from: &Keys, to: &Keys| {
        let facts = Facts::new(99, jiff::Timestamp::now());
        seal(from, &to.public(), &facts, &hello).unwrap().text.into_bytes()
    };
    let strangers = sealed(&stranger, &agent);
    let as_alice = json!({"iss": alices.thumbprint(), "kid": alices.thumbprint()});
    let mut flipped = handoff.clone();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let swollen = jws(&header(&alices, &agent), &swollen_age_file(), &alice_signs);
    assert!(swollen.len() < MAX_MESSAGE_BYTES, "large, and not too large to be read");
    let unsigned = [handoff.rsplitn(2, |byte| *byte == b'.').nth(1).unwrap(), b"."].concat();

    let malformed = "not a signed message of this protocol";
    let attacks: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("nothing", &inbox, Vec::new(), malformed),
        ("nonsense", &inbox, b"nonsense".to_vec(), malformed),
        ("a stranger's own", &inbox, strangers.clone(), "names another sender"),
        (
            "a stranger who says he is Alice",
            &inbox,
            altered(&strangers, as_alice.clone(), &stranger_signs),
            "signature is not",
        ),
        ("the algorithm none", &inbox, altered(&handoff, json!({"alg": "none"}), &stranger_signs), malformed),
        (
            "a key of its own in the header",
            &inbox,
            altered(&handoff, json!({"jwk": {}}), &stranger_signs),
            malformed,
        ),
        ("unsigned", &inbox, unsigned, malformed),
        (
            "a higher number",
            &inbox,
            altered(&handoff, json!({"gen": 999}), &stranger_signs),
            "signature is not",
        ),
        ("one bit", &inbox, flipped, "signature is not"),
        ("cut in the header", &inbox, handoff[..40].to_vec(), malformed),
        ("cut in the age file", &inbox, handoff[..middle].to_vec(), malformed),
        ("cut by one byte", &inbox, handoff[..handoff.len() - 1].to_vec(), malformed),
        ("something behind", &inbox, [&handoff[..], b".x"].concat(), malformed),
        ("Ana's on Alice's topic", &inbox, anas_handoff.clone(), "names another sender"),
        ("Alice's on a stranger's topic", &strangers_inbox, handoff.clone(), "not paired"),
        ("the agent's own, sent back", &inbox, from_agent, "addressed to somebody else"),
        ("for another agent", &inbox, sealed(&alices, &stranger), "addressed to somebody else"),
        ("an enrolment as a handoff", &inbox, enroll.payload.clone(), malformed),
        ("a handoff as an enrolment", &enroll.topic, handoff.clone(), malformed),
        // Signed by a device that is paired: Ana passes Alice's sealed sign-in off as her own.
        (
            "stripped and signed anew",
            &anas_inbox,
            altered(
                &handoff,
                json!({"iss": anas.thumbprint(), "kid": anas.thumbprint(), "gen": 999}),
                &signing_of(&anas),
            ),
            "not the one that the signature is for",
        ),
        // Signed by the device itself, so only the bound stands before the age parser.
        ("a swollen age header", &inbox, swollen, "header of the age file is too large"),
        ("too large", &inbox, vec![b'x'; MAX_MESSAGE_BYTES + 1], "more than"),
    ];
    for (name, topic, bytes, why) in &attacks {
        let started = std::time::Instant::now();
        let reason = refusal(&mut world, &mut serving, topic, bytes).await;
        assert!(reason.contains(why), "{name}: {reason}");
        // The age parser alone takes seconds over such a header; there is room here for a busy machine.
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{name}: {:?}", started.elapsed());
    }
    // What is larger than the packets it takes does not even reach it.
    world.broker().publish(&inbox, &vec![b'y'; 400 * 1024], false).await.unwrap();
    let next = refusal(&mut world, &mut serving, &inbox, b"after the largest").await;
    assert!(next.contains(malformed), "{next}");

    assert_eq!(vault(&world), before);
    let to_alice = on(&wire, &outbox);
    let receipts = to_alice.iter().filter(|bytes| {
        let opened = open::<ToDevice>(bytes, &agent.public(), &alices, jiff::Timestamp::now()).unwrap();
        matches!(opened.message, ToDevice::Receipt(_) | ToDevice::Enrolled(_))
    });
    assert_eq!(receipts.count(), 2, "her own enrolment and handoff, and none of these, were answered");
    assert_eq!(
        world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(),
        devices.as_array().unwrap().len()
    );
    assert_eq!(status(&world)["refused_messages"], attacks.len() + 1);
    assert_eq!(world.graph_me(ALICE).await, 200);
    assert_eq!(world.graph_me(ANA).await, 200);
    serving.stop().unwrap();
}

/// Shows of H7 that a replayed or an older handoff changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_and_reordered_handoffs_never_bring_an_older_sign_in_or_a_removed_account_back() {
    let mut world = World::with_operators_broker().await;
    world.tenant.lifetimes(Lifetimes { access: Some(60), ..Lifetimes::default() }).await.unwrap();
    let mut serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let mut desk = world.desk();
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    world.tenant.revoke(ALICE).await.unwrap();
    assert_ne!(world.daemon.ask(&["token", "--account", ALICE.mail]).unwrap().0, 0);
    desk.screen(Screen::Reconnect).await;
    desk.click(Command::Reconnect);
    let url = desk.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    desk.screen(Screen::Connected).await;

    let (topics, agent, keys) = (topics(&world), agent_keys(&world), device_keys(&desk.keys));
    let (inbox, outbox) = (topics.inbox(&keys.thumbprint()), topics.outbox(&keys.thumbprint()));
    let old = handoffs(&mut world, &wire, &inbox).await;
    let [first, second] = old.as_slice() else { panic!("{} handoffs", old.len()) };
    // The receipt for a replayed message: what it says, and that the vault stayed as it was.
    let replay = async |world: &mut World, message: &[u8]| {
        let (before, there) = (vault(world), on(&wire, &outbox));
        world.broker().publish(&inbox, message, false).await.unwrap();
        let jti = parts(message).0["jti"].clone();
        let outcome =
            |bytes: &[u8]| match open::<ToDevice>(bytes, &agent.public(), &keys, jiff::Timestamp::now())
                .unwrap()
                .message
            {
                ToDevice::Receipt(receipt) if json!(receipt.of) == jti => Some(receipt.outcome),
                _ => None,
            };
        let new = |seen: &Recorded| seen.topic == outbox && !there.contains(&seen.payload);
        let receipt = wire.wait_for(|seen| new(seen) && outcome(&seen.payload).is_some()).await.unwrap();
        assert_eq!(vault(world), before, "the vault was written");
        outcome(&receipt.payload).unwrap()
    };
    let refused = |outcome: Outcome| match outcome {
        Outcome::Refused { reason } => reason.to_string(),
        other => format!("{other:?}"),
    };
    for _ in 0..2 {
        assert!(matches!(replay(&mut world, second).await, Outcome::Stored { .. }), "the receipt again");
        assert_eq!(refused(replay(&mut world, first).await), "older");
    }
    assert_eq!(world.graph_me(ALICE).await, 200);
    assert_eq!(desk.screen(Screen::Connected).await.banner, None);

    desk.click(Command::Disconnect { account: None });
    serving.event("removed").await.unwrap();
    for message in [first, second] {
        assert_eq!(refused(replay(&mut world, message).await), "older", "a removed account came back");
    }
    assert_eq!(status(&world)["accounts"].as_array().unwrap().len(), 0);
    serving.stop().unwrap();
}

/// Kibibytes that the daemon holds in memory.
fn resident(serving: &Program) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_messages_of_nonsense_cost_little_and_a_sign_in_arrives_among_them() {
    const FLOOD: usize = 5000;
    /// In KiB: messages on their way and a sign-in. The flood itself has four times that.
    const ROOM: u64 = 16 * 1024;
    // Without persistence: this broker would write its whole queue to the disk for each message.
    let users = vec![
        User::new("agent", AGENT_PASSWORD, &["topic readwrite valetkey/v1/#"]),
        User::new("device", DEVICE_PASSWORD, &["topic readwrite valetkey/v1/#"]),
    ];
    let broker = Broker::start(BrokerOptions { users, ..BrokerOptions::default() }).await.unwrap();
    let mut world = World::with(Some(broker), ALICE.tid).await;
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let (topics, port) = (topics(&world), world.broker().port().to_string());
    let before = resident(&serving);

    // As another client who has the credential that all devices share, to inboxes and invites that there are and that there are not.
    let mut floods = Vec::new();
    let inbox = topics.inbox(&Keys::generate().thumbprint());
    let invite = topics.enroll(&valetkey_handoff::InviteSecret::generate().id());
    for topic in [inbox, invite] {
        let mut flood = Process::new("mosquitto_pub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-u",
                "device",
                "-P",
                DEVICE_PASSWORD,
                "-q",
                "1",
                "-l",
                "-t",
            ])
            .arg(&topic)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = flood.stdin.take().unwrap();
        floods.push(tokio::task::spawn_blocking(move || {
            for number in 0..FLOOD / 2 {
                let _ = writeln!(lines, "{number}.{}", "nonsense".repeat(1500));
            }
            drop(lines);
            assert!(flood.wait().unwrap().success());
        }));
    }
    let mut desk = world.desk();
    desk.connect(&link, ALICE).await;
    let most = resident(&serving);
    for flood in floods {
        flood.await.unwrap();
    }
    let after = resident(&serving).max(most);

    assert_eq!(world.graph_me(ALICE).await, 200);
    let refused = status(&world)["refused_messages"].as_u64().unwrap();
    assert!(refused > 500, "the flood has not reached the daemon: {refused}");
    assert!(after < before + ROOM, "{before} KiB before, {after} KiB after");
    let aside = std::fs::read_dir(world.daemon.state_dir().join("quarantine")).unwrap().count();
    assert!(aside <= MAX_SET_ASIDE, "{aside} messages were kept");
    let lines = world.daemon.log().matches("a message was refused").count();
    assert!((1..200).contains(&lines), "{lines} lines in the log for {refused} messages");
    serving.stop().unwrap();
}
