//! Where secrets are not: in no log, error, file but the vault, command line or environment; and what the broker sees.
//!
//! The practice tenant tells every code and token that it ever gave out; after a whole journey each of them is looked for.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "secrets/broker_view.rs"]
mod broker_view;
#[path = "secrets/evidence.rs"]
mod evidence;
#[path = "secrets/known.rs"]
mod known;
#[path = "secrets/panics.rs"]
mod panics;
#[path = "secrets/processes.rs"]
mod processes;
#[path = "secrets/search.rs"]
mod search;
mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use support::{DEVICE_PASSWORD, Desk, World};
use valetkey_companion::pairing::Entry;
use valetkey_companion::view::{Screen, Step, StepId};
use valetkey_companion::{Command, EntryName, InviteLink, KeyFile, KeyStore as _};
use valetkey_handoff::{Invite, Keys, Topics};
use valetkey_tests::http_sign_in;
use valetkey_tests::program::Program;
use valetkey_tests::tenant::{ALICE, Lifetimes, NextError};

use crate::evidence::{Evidence, Log, NOTHING};
use crate::known::{ERROR_TEXT, secrets};
use crate::search::{Kind, Search, Secret};

/// Shorter than the agent's five minutes of caution: every call for a token is one that asks the provider.
const ALWAYS_DUE: Lifetimes = Lifetimes { access: Some(60), refresh: None, id: None, refresh_in: None };

/// Shows J4, and of H14 that the companion keeps no token after the receipt, and L8's canary scan of this journey.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_whole_journey_no_secret_is_anywhere_but_in_the_vault() {
    let log = Log::of_this_process();
    let started = SystemTime::now();
    let world = World::with_operators_broker().await;
    let broker = world.broker.as_ref().unwrap();
    let broker_dir = broker.log_file().parent().unwrap().to_owned();
    let recorder = broker.record("#").await.unwrap();
    let mut evidence = Evidence::start();

    let mut journey = Journey::begin(&world, &mut evidence).await;
    let refused = journey.refused_codes(&world, &mut evidence).await;
    assert!(refused >= 1, "the provider's own words were said");
    journey.sign_in_while_the_agent_is_away(&world, &mut evidence).await;
    journey.lapse_and_reconnect(&world, &mut evidence).await;

    // What is no secret and has a name like a device's: planted wherever anybody could look, so that not finding means
    // something. A stranger's message is logged by the broker and the agent, and set aside.
    let planted = Keys::generate().thumbprint();
    let payload = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(planted.as_str()));
    broker
        .publish(&Topics::new(journey.agent.thumbprint()).inbox(&planted), payload.as_bytes(), false)
        .await
        .unwrap();
    journey.heard(|line| line["event"] == "refused").await;
    // An invite's address is in the audit.
    let address = format!("p{planted}@contoso.example");
    evidence.command(&world.daemon, &["invite", "--email", &address], &[Kind::Invite, Kind::BrokerPassword]);
    evidence.command(&world.daemon, &["audit", "--last", "1000"], NOTHING);
    // A thumbprint may begin with a hyphen.
    evidence.command(&world.daemon, &["token", &format!("--account={planted}")], NOTHING);
    tracing::trace!(%planted, "in the companion's log");
    std::fs::File::create(journey.desk.dir.join("planted"))
        .unwrap()
        .write_all(planted.as_str().as_bytes())
        .unwrap();
    let mut elsewhere = tempfile::NamedTempFile::new().unwrap();
    elsewhere.write_all(planted.as_str().as_bytes()).unwrap();
    let mut shell = Process::new("sh");
    shell.args(["-c", "read _", planted.as_str()]).env("PLANTED", planted.as_str()).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    evidence.watch.look();
    drop(shell.stdin.take());
    shell.wait().unwrap();

    let (device, agent) = journey.remove_and_end(&world, &mut evidence).await;
    evidence.add_files(&broker_dir, &|_| NOTHING);
    let ours = world.folder.path().to_owned();
    evidence.add_files_since(&std::env::temp_dir(), started, &|path| {
        if path.starts_with(&ours) { may_hold(&ours, path) } else { SAME_IN_EVERY_TEST }
    });
    broker.publish("end", b"", false).await.unwrap();
    recorder.wait_for(|message| message.topic == "end").await.unwrap();
    recorder.messages().iter().for_each(|message| evidence.add_message(message));
    evidence.add("the companion's log", log.so_far(), NOTHING);
    evidence.add_processes();

    let mut secrets = secrets(&world, &device, &agent).await;
    secrets.push(Secret { kind: Kind::Planted, bytes: planted.as_str().into() });
    for kind in [Kind::Code, Kind::Verifier, Kind::AccessToken, Kind::RefreshToken, Kind::IdToken] {
        assert!(secrets.iter().filter(|secret| secret.kind == kind).count() >= 2, "{kind:?}");
    }
    let (astray, at_home) = Search::for_secrets(&secrets).findings(&evidence.exhibits);
    let (planted, leaked): (BTreeSet<_>, BTreeSet<_>) =
        astray.into_iter().partition(|finding| finding.kind == Kind::Planted);
    assert!(leaked.is_empty(), "{leaked:#?}");
    // The search knows each kind that has a place: in the vault, the keys' files, the invite, the answer to a program.
    let homes = [
        Kind::AccessToken,
        Kind::RefreshToken,
        Kind::IdToken,
        Kind::AnyToken,
        Kind::DeviceKey,
        Kind::AgentKey,
        Kind::Invite,
        Kind::BrokerPassword,
        Kind::Mail,
    ];
    assert_eq!(at_home, BTreeSet::from(homes));
    for place in [
        "agent.log",
        "/quarantine/",
        "/desk/planted",
        "mosquitto.log",
        "an MQTT topic",
        "an MQTT message, decoded",
        "the companion's log",
        "standard error of valetkey-agent token",
        "/audit/",
        "standard output of valetkey-agent audit",
        "command line of valetkey-agent",
        "command line of sh",
        "environment of sh",
        &elsewhere.path().display().to_string(),
    ] {
        assert!(
            planted.iter().any(|finding| finding.place.contains(place)),
            "{place} is not looked at: {planted:#?}"
        );
    }
}

/// Of all tests, which may run at the same time and leave it in the temporary directory.
const SAME_IN_EVERY_TEST: &[Kind] = &[Kind::BrokerPassword, Kind::Mail, Kind::ErrorText, Kind::AnyToken];

/// The files that are there to hold a secret.
fn may_hold(folder: &Path, path: &Path) -> &'static [Kind] {
    let agent = folder.join("agent");
    if path.starts_with(agent.join("vault")) {
        &[Kind::AccessToken, Kind::RefreshToken, Kind::IdToken, Kind::AnyToken]
    } else if path == agent.join("agent.json") {
        &[Kind::AgentKey]
    } else if path == agent.join("registry.json") {
        &[Kind::Invite]
    } else if [folder.join("agent-password"), folder.join("device-password")].contains(&path.to_owned()) {
        &[Kind::BrokerPassword]
    } else if path == folder.join("device-keys") {
        &[Kind::DeviceKey, Kind::BrokerPassword]
    } else {
        NOTHING
    }
}

/// A person and a daemon, and what they leave.
struct Journey {
    desk: Desk,
    serving: Option<Program>,
    invite: Invite,
    agent: Keys,
    lines: Vec<Value>,
}

impl Journey {
    async fn begin(world: &World, evidence: &mut Evidence) -> Self {
        world.tenant.lifetimes(ALWAYS_DUE).await.unwrap();
        let asked = ["invite", "--email", ALICE.mail, "--json"];
        let printed = evidence.command(&world.daemon, &asked, &[Kind::Invite, Kind::BrokerPassword]);
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let link = printed["link"].as_str().unwrap();
        let agent = std::fs::read(world.daemon.state_dir().join("agent.json")).unwrap();
        let agent: Value = serde_json::from_slice(&agent).unwrap();
        let mut desk = world.desk();
        // A link that was cut when it was copied: the error is about a secret.
        desk.click(Command::PasteInvite { link: InviteLink::new(&link[..link.len() - 9]) });
        let refused = desk.until("a refused link", |view| view.screen == Screen::Error).await;
        evidence.add("the companion's window", format!("{refused:?}"), NOTHING);
        let asks = desk.accept(link).await;
        evidence.add("the companion's window", format!("{asks:?}"), NOTHING);
        Self {
            desk,
            serving: None,
            invite: Invite::parse(link).unwrap(),
            agent: Keys::from_secret_json(agent["keys"].as_str().unwrap()).unwrap(),
            lines: Vec::new(),
        }
    }

    /// The provider refuses the code, in words of its own. Returns how often.
    async fn refused_codes(&mut self, world: &World, evidence: &mut Evidence) -> u64 {
        refuse_next(world, "authorization_code").await;
        let url = self.desk.browser().await;
        let page = http_sign_in(url.as_str(), ALICE.username).await.unwrap();
        evidence.add("the page in the browser", page.body, NOTHING);
        self.desk.screen(Screen::Error).await;
        self.look(world, evidence);
        self.desk.click(Command::Retry);
        world.tenant.count("token:authorization_code").await.unwrap()
    }

    /// The sealed sign-in waits on the person's disk, then is taken in; a program reads mail.
    async fn sign_in_while_the_agent_is_away(&mut self, world: &World, evidence: &mut Evidence) {
        self.sign_in(evidence).await;
        let sealed = |step: &Step| step.id == StepId::Sealed && step.done;
        self.desk.until("a sealed sign-in", |view| view.steps.iter().any(sealed)).await;
        let outbox = std::fs::read_dir(self.desk.dir.join("outbox")).unwrap();
        assert!(outbox.count() >= 1, "the sealed sign-in waits here");
        self.look(world, evidence);

        let mut serve = world.daemon.command(&["serve", "--json"]).unwrap();
        serve.env("RUST_LOG", "trace");
        self.serving = Some(Program::start(&mut serve, &world.folder.path().join("agent.log")).unwrap());
        self.heard(|line| line["event"] == "online").await;
        self.desk.screen(Screen::Connected).await;
        self.heard(|line| line["event"] == "stored").await;
        self.read_mail(world, evidence).await;
        for asked in ["status", "accounts", "devices", "doctor", "audit"] {
            evidence.command(&world.daemon, &[asked], NOTHING);
            evidence.command(&world.daemon, &[asked, "--json"], NOTHING);
        }
        let report = evidence.command(&world.daemon, &["doctor", "--report", "-"], NOTHING);
        assert!(report.contains("person-1@contoso.example is connected"), "{report}");
        assert!(!report.contains(ALICE.mail), "{report}");
        self.look(world, evidence);
    }

    /// Once because the provider took the sign-in back, once with words of its own.
    async fn lapse_and_reconnect(&mut self, world: &World, evidence: &mut Evidence) {
        world.tenant.revoke(ALICE).await.unwrap();
        for in_own_words in [false, true] {
            if in_own_words {
                refuse_next(world, "refresh_token").await;
            }
            let asked = ["token", "--account", ALICE.mail, "--json"];
            let answer = evidence.command(&world.daemon, &asked, NOTHING);
            assert!(answer.contains("auth_required"), "{answer}");
            evidence.command(&world.daemon, &asked[..3], NOTHING);
            self.desk.screen(Screen::Reconnect).await;
            self.heard(|line| line["lapsed"] == true).await;
            self.look(world, evidence);
            self.desk.click(Command::Reconnect);
            self.sign_in(evidence).await;
            self.desk.screen(Screen::Connected).await;
            self.read_mail(world, evidence).await;
        }
    }

    /// The account is removed: from here on not even the vault holds a token. Returns the device's and the agent's keys.
    async fn remove_and_end(mut self, world: &World, evidence: &mut Evidence) -> (Keys, Keys) {
        self.look(world, evidence);
        evidence.command(&world.daemon, &["remove", "--account", ALICE.mail], NOTHING);
        self.heard(|line| line["event"] == "removed").await;
        evidence.add_files(&world.daemon.state_dir().join("vault"), &|_| NOTHING);
        self.desk.until("no account", |view| view.accounts.is_empty()).await;
        self.look(world, evidence);
        let sheet = self.desk.doctor().examine("a test").await;
        let said = serde_json::to_string(&sheet).unwrap();
        assert!(said.contains("Your assistant answered just now."), "{said}");
        evidence.add("the window's check of the set-up", said, NOTHING);
        let entry = self.desk.keys.entries().pop().unwrap();
        let (device, password) = Entry::open(&entry).unwrap();
        assert_eq!(password.unwrap().expose(), DEVICE_PASSWORD);
        assert_eq!(*self.invite.broker.password.as_ref().unwrap().expose(), DEVICE_PASSWORD);
        evidence.add(
            "the companion's entry in the keyring",
            entry.expose(),
            &[Kind::DeviceKey, Kind::BrokerPassword],
        );
        let notices = self.desk.notices();
        evidence.add("the companion's notifications", format!("{notices:?}"), NOTHING);
        let dir = self.desk.stop().await.0;
        doctor_of_the_person(world, &dir, &device, entry, evidence).await;
        let mut serving = self.serving.take().unwrap();
        let rest = std::cell::RefCell::new(Vec::new());
        serving.count(|line| {
            rest.borrow_mut().push(line.clone());
            false
        });
        serving.stop().unwrap();
        for line in self.lines.iter().chain(&rest.into_inner()) {
            evidence.add("standard output of valetkey-agent serve", line.to_string(), NOTHING);
        }
        evidence.add_files(&dir, &|_| NOTHING);
        evidence.add_files(world.folder.path(), &|path| may_hold(world.folder.path(), path));
        (device, self.agent)
    }

    async fn sign_in(&mut self, evidence: &mut Evidence) {
        let url = self.desk.browser().await;
        evidence.add("the address opened in the browser", url.as_str(), NOTHING);
        let page = http_sign_in(url.as_str(), ALICE.username).await.unwrap();
        assert_eq!(page.url.query(), None, "the code stays in the address bar");
        evidence.add("the page in the browser", page.body, NOTHING);
    }

    /// As a program does: a token from the daemon, mail from Graph.
    async fn read_mail(&mut self, world: &World, evidence: &mut Evidence) {
        let asked = ["token", "--account", ALICE.mail];
        let token = evidence.command(&world.daemon, &asked, &[Kind::AccessToken, Kind::AnyToken]);
        let client = http_sign_in::client().unwrap();
        let mail = client.get(format!("{}/v1.0/me/messages", world.tenant.origin)).bearer_auth(token.trim());
        let mail = mail.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        evidence.add("Graph's answer to the program", mail, &[Kind::Mail]);
    }

    /// What stands on both disks and in the window now.
    fn look(&self, world: &World, evidence: &mut Evidence) {
        let folder = world.folder.path();
        evidence.add_files(folder, &|path| may_hold(folder, path));
        let view = self.desk.view();
        evidence.add("the companion's window", format!("{view:?}"), NOTHING);
        evidence.add("the companion's window", serde_json::to_vec(&view).unwrap(), NOTHING);
    }

    async fn heard(&mut self, wanted: impl Fn(&Value) -> bool) {
        let line = self.serving.as_mut().unwrap().next("an event", wanted).await.unwrap();
        self.lines.push(line);
    }
}

/// `valetkey-cli doctor` on the person's computer, with its keys in a file, as it talks with the agent.
async fn doctor_of_the_person(
    world: &World,
    dir: &Path,
    device: &Keys,
    entry: valetkey_entra::secret::Secret,
    evidence: &mut Evidence,
) {
    let path = world.folder.path().join("device-keys");
    KeyFile::new(&path).store(EntryName::Device(device.thumbprint()), entry).await.unwrap();
    for arguments in [["doctor", "--report", "-"], ["doctor", "--json", "--verbose"]] {
        let mut command = Process::new(valetkey_tests::program::program("valetkey-cli").unwrap());
        command
            .arg("--data-dir")
            .arg(dir)
            .arg("--key-file")
            .arg(&path)
            .args(arguments)
            .env("RUST_LOG", "trace");
        let output = valetkey_tests::program::output(&mut command).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Your assistant answered just now."), "{said}");
        evidence.add("standard output of valetkey-cli doctor", output.stdout, NOTHING);
        evidence.add("standard error of valetkey-cli doctor", output.stderr, NOTHING);
    }
}

/// The next request with this grant is refused in the provider's own words.
async fn refuse_next(world: &World, grant: &'static str) {
    let refusal = NextError {
        endpoint: "token",
        grant: Some(grant),
        status: Some(400),
        error: Some("invalid_grant"),
        code: Some(50173),
        description: Some(ERROR_TEXT),
        ..NextError::default()
    };
    world.tenant.next_error(&refusal).await.unwrap();
}
