//! What a broker, or anybody who reads along there, gets to see of a whole journey.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use valetkey_companion::Command;
use valetkey_companion::pairing::Entry;
use valetkey_companion::view::Screen;
use valetkey_handoff::message::Messages as _;
use valetkey_handoff::{Invite, Keys, Presence, ToAgent, ToDevice, Topic, Topics, open, open_enroll};
use valetkey_tests::broker::Recorded;
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::ALICE;

use crate::support::World;
use crate::{ALWAYS_DUE, ERROR_TEXT, refuse_next};

const AGE_INTRO: &str = "age-encryption.org/v1";

/// Shows H6, also of a lapse that cannot be told because the broker is away; and of J4 that a handoff is encrypted to the
/// agent's key, so that the broker sees no token.
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_sees_presence_and_signed_age_files_and_each_lapse_is_told_once() {
    let mut world = World::with_operators_broker().await;
    world.tenant.lifetimes(ALWAYS_DUE).await.unwrap();
    let recorder = world.broker().record("#").await.unwrap();
    let mut serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut desk = world.desk();
    desk.connect(&link, ALICE).await;

    let refused = |world: &World| {
        let (code, answer) = world.daemon.ask(&["token", "--account", ALICE.mail]).unwrap();
        assert_eq!((code, answer["error"]["code"].as_str()), (3, Some("auth_required")), "{answer}");
    };
    for lapse in ["revoked", "in the provider's own words", "broker away"] {
        match lapse {
            "revoked" => world.tenant.revoke(ALICE).await.unwrap(),
            "broker away" => {
                world.broker().saved().await.unwrap();
                world.broker().kill();
                serving.event("offline").await.unwrap();
                world.tenant.revoke(ALICE).await.unwrap();
            }
            _ => refuse_next(&world, "refresh_token").await,
        }
        // However often programs ask.
        refused(&world);
        refused(&world);
        if lapse == "broker away" {
            world.broker().restart().await.unwrap();
        }
        desk.screen(Screen::Reconnect).await;
        desk.click(Command::Reconnect);
        let url = desk.browser().await;
        http_sign_in(url.as_str(), ALICE.username).await.unwrap();
        desk.screen(Screen::Connected).await;
        assert_eq!(world.graph_me(ALICE).await, 200);
    }
    desk.click(Command::Disconnect { account: None });
    serving.event("removed").await.unwrap();
    desk.until("no account", |view| view.accounts.is_empty()).await;

    let agent = std::fs::read(world.daemon.state_dir().join("agent.json")).unwrap();
    let agent: Value = serde_json::from_slice(&agent).unwrap();
    let reader = Reader {
        agent: Keys::from_secret_json(agent["keys"].as_str().unwrap()).unwrap(),
        device: Entry::open(&desk.keys.entries().pop().unwrap()).unwrap().0,
        invite: Invite::parse(&link).unwrap(),
    };
    desk.stop().await;
    serving.stop().unwrap();
    world.broker().publish("end", b"", false).await.unwrap();
    recorder.wait_for(|message| message.topic == "end").await.unwrap();

    // A subscriber that was away when the broker was killed may get a message twice; it is one message.
    let mut told = BTreeSet::new();
    let mut kinds = BTreeMap::new();
    for message in recorder.messages().iter().filter(|message| message.topic != "end") {
        if let Some((kind, body)) = reader.read(message)
            && told.insert(message.payload.clone())
        {
            *kinds.entry(kind).or_insert(0) += 1;
            if kind == "auth.expired" {
                assert_says_no_more_than_documented(&body);
            }
        }
    }
    assert_eq!(kinds["auth.expired"], 3, "one a lapse: {kinds:?}");
    assert_eq!(kinds["auth.cache.updated"], 4, "one a sign-in: {kinds:?}");
    for kind in ["enroll", "enrolled", "hello", "receipt", "state", "account.disconnect"] {
        assert!(kinds.contains_key(kind), "{kind} never crossed: {kinds:?}");
    }

    // Whoever subscribes now finds presence only: no handoff is kept for later.
    let late = world.broker().record("#").await.unwrap();
    world.broker().publish("end", b"", false).await.unwrap();
    late.wait_for(|message| message.topic == "end").await.unwrap();
    let kept: Vec<Recorded> = late.messages().into_iter().filter(|message| message.retained).collect();
    assert_eq!(kept.len(), 2, "the agent's and the device's presence: {kept:?}");
    assert!(kept.iter().all(|message| reader.read(message).is_none()), "{kept:?}");
}

fn assert_says_no_more_than_documented(auth_expired: &Value) {
    let body = auth_expired.as_object().unwrap();
    assert!(body.keys().all(|member| ["account", "reason", "claims"].contains(&member.as_str())), "{body:?}");
    assert_eq!((&body["account"]["tid"], &body["account"]["oid"]), (&ALICE.tid.into(), &ALICE.oid.into()));
    assert!(!auth_expired.to_string().contains(&ERROR_TEXT[..16]), "{auth_expired}");
    assert!(!auth_expired.to_string().contains("AADSTS"), "{auth_expired}");
}

/// Whoever holds everybody's keys, and takes nothing but what the protocol has.
struct Reader {
    agent: Keys,
    device: Keys,
    invite: Invite,
}

impl Reader {
    /// The kind and body of a message; `None` for presence.
    fn read(&self, message: &Recorded) -> Option<(&'static str, Value)> {
        let (agent, device) = (self.agent.public(), self.device.public());
        assert_eq!(self.invite.agent, agent, "the key that the device pinned");
        let topic = Topics::new(agent.thumbprint()).parse(&message.topic);
        let topic = topic.unwrap_or_else(|| panic!("{} is no topic of the protocol", message.topic));
        if let Topic::Presence(who) = &topic {
            assert!([agent.thumbprint(), device.thumbprint()].contains(who), "{}", message.topic);
            assert!(Presence::parse(&message.payload).is_some(), "{}", message.topic);
            return None;
        }
        assert!(!message.retained, "{}", message.topic);
        let payload = &message.payload;
        assert_is_a_signed_age_file(payload, matches!(topic, Topic::Enroll(_)));
        let now = Timestamp::now();
        // Each opens only under the sender's key that was pinned for its topic.
        let (kind, message) = match topic {
            Topic::In(who) => {
                assert_eq!(who, device.thumbprint());
                let opened = open::<ToAgent>(payload, &device, &self.agent, now).unwrap();
                (opened.message.kind(), serde_json::to_value(&opened.message).unwrap())
            }
            Topic::Out(who) => {
                assert_eq!(who, device.thumbprint());
                let opened = open::<ToDevice>(payload, &agent, &self.device, now).unwrap();
                (opened.message.kind(), serde_json::to_value(&opened.message).unwrap())
            }
            Topic::Enroll(id) => {
                assert_eq!(id, self.invite.id());
                let enrolment = open_enroll(payload, &self.invite.secret, &self.agent, now).unwrap();
                assert_eq!(enrolment.device, device);
                return Some(("enroll", Value::Null));
            }
            Topic::Presence(_) => unreachable!("handled above"),
        };
        Some((kind, message["body"].clone()))
    }
}

/// By its shape alone, with no code of ours: three parts, the documented header, an age file to one X25519 key.
fn assert_is_a_signed_age_file(payload: &[u8], enroll: bool) {
    let text = std::str::from_utf8(payload).unwrap();
    let parts: Vec<Vec<u8>> = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let [header, age_file, signature] = parts.as_slice() else { panic!("not three parts: {text}") };
    assert_eq!(signature.len(), 64, "Ed25519");

    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!((&header["alg"], &header["typ"]), (&"EdDSA".into(), &"valetkey+age".into()));
    let mut documented = vec!["alg", "typ", "kid", "iss", "aud", "jti", "gen", "iat"];
    if enroll {
        documented.extend(["exp", "enroll"]);
        assert_eq!(members(&header["enroll"]), BTreeSet::from(["invite", "device", "proof"]));
        assert_eq!(members(&header["enroll"]["device"]), BTreeSet::from(["sign", "age"]));
        assert_eq!(
            members(&header["enroll"]["device"]["sign"]),
            BTreeSet::from(["kty", "crv", "x"]),
            "no private half"
        );
    }
    assert_eq!(members(&header), documented.into_iter().collect());

    let lines: Vec<&str> = age_file
        .split(|byte| *byte == b'\n')
        .map_while(|line| std::str::from_utf8(line).ok().filter(|line| !line.starts_with("--- ")))
        .collect();
    assert_eq!(lines[0], AGE_INTRO);
    let stanzas: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("-> ")?.split(' ').next()).collect();
    // age adds a stanza that means nothing, at random.
    let (recipients, grease): (Vec<&str>, Vec<&str>) =
        stanzas.iter().partition(|kind| !kind.ends_with("-grease"));
    assert_eq!(recipients, ["X25519"], "{grease:?}");
}

fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}
