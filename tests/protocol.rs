//! A second implementation of docs/protocol.md, in another language with other libraries, against the real daemon over a
//! real mosquitto: `protocol/` is Python with `jwcrypto`, Paho and Debian's `age`, written from that page alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::World;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use valetkey_companion::pairing::Entry;
use valetkey_handoff::{Keys, Topics};
use valetkey_tests::http_sign_in::http_sign_in_up_to_redirect;
use valetkey_tests::private_network::python;
use valetkey_tests::process::free_port;
use valetkey_tests::program::PATIENCE;
use valetkey_tests::tenant::ALICE;

/// What this client may ask for, as the companion asks for `mail` and `calendar`.
const SCOPE: &str = "openid profile offline_access User.Read Mail.Read Calendars.Read";

/// A run of `protocol/device.py`.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(arguments: &[&Path]) -> Self {
        let script = here().join("protocol/device.py");
        let mut child = Command::new(python().unwrap())
            .arg("-B")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// A device that has been given this link, and nothing else of ours.
    fn device(folder: &Path, link: &str) -> Self {
        std::fs::create_dir(folder).unwrap();
        let link_file = folder.join("link");
        put(&link_file, link);
        Self::start(&[folder, &link_file, &here().join("../crates/handoff/words/english.txt")])
    }

    async fn answer(&mut self, request: &Value) -> Value {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(PATIENCE * 2, self.lines.next_line()).await;
        let line = line.expect("an answer").unwrap().expect("the script ended; its words are above");
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, request: Value) -> Value {
        let mut answer = self.answer(&request).await;
        assert!(answer["ok"].is_object(), "{request}: {answer}");
        answer["ok"].take()
    }
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn put(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Shows of H7, for a device of another make, what is altered and what is replayed; and that docs/protocol.md is complete
/// enough to build one.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_made_by_somebody_else_pairs_hands_over_and_the_agent_serves_a_token() {
    handed_over_by_another_make(World::with_operators_broker().await).await;
}

/// The same behind the access list of the agent's own broker.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_device_gets_along_with_the_agents_own_broker() {
    handed_over_by_another_make(World::with_own_broker().await).await;
}

async fn handed_over_by_another_make(world: World) {
    let mut serving = world.daemon.serve().await.unwrap();
    let (code, invite) = world.daemon.ask(&["invite", "--email", ALICE.mail]).unwrap();
    assert_eq!(code, 0, "{invite}");
    let mut device = Other::device(&world.folder.path().join("other"), invite["link"].as_str().unwrap());

    let read = device.ask(json!({"do": "read"})).await;
    assert_eq!((&read["words"], &read["name"]), (&invite["words"], &json!("Practice assistant")));
    assert_eq!(read["agent"], serving.event("serving").await.unwrap()["agent"]);

    // Without the invite's secret nobody pairs, and the invite stays good.
    device.ask(json!({"do": "pair", "secret": "AAAAAAAAAAAAAAAAAAAAAA"})).await;
    let refused = serving.event("refused").await.unwrap();
    assert_eq!(refused["reason"], "the proof of the invite's secret is wrong");
    let paired = device.ask(json!({"do": "pair"})).await;
    assert_eq!(paired["body"], json!({"agent_name": "Practice assistant", "terms": read["terms"]}));
    assert_eq!((&paired["header"]["iss"], &paired["header"]["aud"]), (&read["agent"], &read["device"]));
    assert_eq!(serving.event("paired").await.unwrap()["device"], read["device"]);
    let state = device.ask(json!({"do": "hello"})).await;
    assert_eq!(state["body"]["accounts"], json!([]));

    let authorize = json!({"do": "authorize", "scope": SCOPE, "port": free_port().unwrap()});
    let url = device.ask(authorize).await["url"].as_str().unwrap().to_owned();
    let redirect = http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap();
    let receipt = device.ask(json!({"do": "hand_over", "redirect": redirect})).await;
    assert_eq!(receipt["body"]["outcome"]["result"], "stored", "{receipt}");
    assert_eq!(receipt["body"]["account"], json!({"tid": ALICE.tid, "oid": ALICE.oid}));
    assert_eq!(receipt["body"]["gen"], 1);
    serving.event("stored").await.unwrap();

    // One bit of any part another, and it is refused before anything is done with it.
    for (part, why) in [
        (0, ["not a signed message", "the signature", "another sender", "addressed to somebody"].as_slice()),
        (1, &["the signature"]),
        (2, &["the signature"]),
    ] {
        device.ask(json!({"do": "altered", "part": part})).await;
        let refused = serving.event("refused").await.unwrap();
        let reason = refused["reason"].as_str().unwrap();
        assert!(why.iter().any(|why| reason.contains(why)), "part {part}: {reason}");
    }
    // The very same bytes again: the receipt again, and nothing is stored twice.
    let again = device.ask(json!({"do": "again"})).await;
    assert_eq!(again["body"], receipt["body"]);
    assert_eq!(serving.count(|line| line["event"] == "stored"), 0);
    let state = device.ask(json!({"do": "hello"})).await;
    let account = &state["body"]["accounts"][0];
    assert_eq!((&account["health"], &account["gen"]), (&json!("connected"), &json!(1)), "{state}");
    assert_eq!(account["username"], ALICE.mail);

    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Every message of a whole pairing and handoff, both ways, as it crossed the broker: verified by `jwcrypto` and opened by
/// Debian's `age`, each under the keys that docs/protocol.md names; with one bit another, or by another sender, refused.
///
/// Shows of J4 that a handoff is encrypted with age to the agent's public key.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_ours_are_verified_by_jwcrypto_and_opened_by_debians_age() {
    let mut world = World::with_operators_broker().await;
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = world.desk();
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    let entry = desk.keys.entries().pop().unwrap();
    let device = Entry::open(&entry).unwrap().0;
    let agent = std::fs::read_to_string(world.daemon.state_dir().join("agent.json")).unwrap();
    let agent: Value = serde_json::from_str(&agent).unwrap();
    let agent = Keys::from_secret_json(agent["keys"].as_str().unwrap()).unwrap();

    let mut seen = Vec::new();
    for (receiver, sender, name) in [(&agent, &device, "agent"), (&device, &agent, "device")] {
        let dir = world.folder.path().join(format!("reads-as-{name}"));
        std::fs::create_dir(&dir).unwrap();
        let (keys, pinned) = (dir.join("keys"), dir.join("sender"));
        put(&keys, receiver.to_secret_json().expose());
        put(&pinned, &serde_json::to_string(&sender.public()).unwrap());
        let mut reader = Other::start(&[Path::new("open"), &keys, &pinned]);

        let topics = Topics::new(agent.thumbprint());
        let out = topics.outbox(&device.thumbprint());
        for message in wire.messages() {
            let to_device = message.topic == out;
            if message.topic.contains("/presence/") || to_device != (name == "device") {
                continue;
            }
            let text = String::from_utf8(message.payload).unwrap();
            let opened = reader.ask(json!({"do": "open", "message": text})).await;
            assert_eq!(opened["header"]["kid"], json!(sender.thumbprint()));
            seen.push(opened["kind"].as_str().unwrap().to_owned());

            let at = text.find('.').unwrap() + 20;
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            let refused = reader.answer(&json!({"do": "open", "message": altered})).await;
            assert_eq!(refused["refused"], "the signature is not the sender's", "{refused}");
        }
        // What the other side says is not taken for the pinned sender's.
        let other_way = wire.messages().into_iter().find(|message| {
            !message.topic.contains("/presence/") && (message.topic == out) == (name == "agent")
        });
        let text = String::from_utf8(other_way.unwrap().payload).unwrap();
        let refused = reader.answer(&json!({"do": "open", "message": text})).await;
        assert_eq!(refused["refused"], "the signature is not the sender's");
    }
    for kind in ["enroll", "hello", "auth.cache.updated", "enrolled", "receipt", "state"] {
        assert!(seen.iter().any(|seen| seen == kind), "{kind} never crossed: {seen:?}");
    }
    serving.stop().unwrap();
}
