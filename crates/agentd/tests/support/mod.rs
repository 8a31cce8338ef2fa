//! An operator's machine: a home, the real program, its files. And a device at the other end of the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "test support; each file uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use valetkey_entra::account::AccountId;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_handoff::message::{Enroll, Hello};
use valetkey_handoff::{Facts, Invite, Keys, Label, Sensitive, ToAgent, Topics, seal, seal_enroll};
use valetkey_link::{Event, Events, Link, Password, PublishId, Retain, Settings};
use valetkey_tests::process::free_port;
use valetkey_tests::program::{PATIENCE, Program};

pub const CLIENT_ID: &str = "11111111-1111-4111-8111-111111111111";
pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000c070";
/// Of the MSAL cache among the test vectors.
const ALICE: (&str, &str) = ("0a11ce00-0000-4000-8000-000000000001", "alice@contoso.example");

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits for something outside that tells nobody.
pub async fn until(what: &str, fits: impl Fn() -> bool) {
    within(what, async {
        while !fits() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What is made by this is its owner's alone.
pub fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Whether it runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Its answer, with `--json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }
}

/// A home with nothing in it at first.
pub struct Home {
    pub folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: TempDir::with_prefix("agentd-").unwrap() }
    }

    /// With keys, and a broker of its own on a free port.
    pub fn initialised() -> Self {
        let home = Self::new();
        let ran = home.run(&["init", "--client-id", CLIENT_ID]);
        assert_eq!(ran.code, 0, "{ran:?}");
        home.configure(&format!("[own_broker]\nport = {}\n", free_port().unwrap()));
        home
    }

    /// Replaces the configuration by a small one with `more` at its end.
    pub fn configure(&self, more: &str) {
        write(&self.config(), &format!("client_id = \"{CLIENT_ID}\"\n{more}"));
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".local/state/valetkey-agent")
    }

    pub fn config(&self) -> PathBuf {
        self.state().join("agent.toml")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The program as a person with this home starts it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_valetkey-agent"));
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    pub fn json(&self, args: &[&str]) -> Ran {
        ran(self.command(args).arg("--json"))
    }

    pub fn start(&self, args: &[&str]) -> Program {
        Program::start(&mut self.command(args), &self.folder.path().join("log")).unwrap()
    }

    /// A daemon that has reached its broker.
    pub async fn serve(&self) -> Program {
        let mut serving = self.start(&["serve", "--json"]);
        serving.event("online").await.unwrap();
        serving
    }

    /// The mosquitto that the daemon runs.
    pub fn mosquitto(&self) -> u32 {
        fs::read_to_string(self.state().join("broker/pid")).unwrap().trim().parse().unwrap()
    }

    pub fn invite(&self) -> Invite {
        let ran = self.json(&["invite", "--email", "ana@contoso.example"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        Invite::parse(ran.json()["link"].as_str().unwrap()).unwrap()
    }

    /// Accounts as a daemon has stored them, by their addresses; the first is the one of the test vectors.
    pub fn store(&self, addresses: &[&str], health: &str) {
        for (index, address) in addresses.iter().enumerate() {
            let vault = self.state().join("vault");
            let oid = format!("{}{index}", &ALICE.0[..ALICE.0.len() - 1]);
            let text = fs::read_to_string(vectors("msal/gen-python-tenant.json")).unwrap();
            let mut file: Value =
                serde_json::from_str(&text.replace(ALICE.0, &oid).replace(ALICE.1, address)).unwrap();
            let account = AccountId { tid: TENANT.parse().unwrap(), oid: oid.parse().unwrap() };
            let authority = Authority { cloud: Cloud::Global, tenant: TENANT.parse().unwrap() };
            file["ValetKey"] = json!({
                "format": 1,
                "account": account,
                "username": address,
                "authority": authority,
                "client_id": CLIENT_ID,
                "capabilities": ["mail", "calendar"],
                "resources": ["graph"],
                "scopes": [],
                "device": Keys::generate().thumbprint(),
                "seen": {},
                "expires_at": "2100-01-01T00:00:00Z",
                "refresh_at": "2100-01-01T00:00:00Z",
                "condition": { "health": health, "reason": "revoked", "blocked_by": "administrator",
                               "since": "2026-01-01T12:00:00Z" },
                "stored_at": "2026-01-01T12:00:00Z",
                "refreshed_at": "2026-01-01T12:00:00Z",
            });
            let path = vault.join(format!("{oid}.{TENANT}.json"));
            write(&path, &file.to_string());
        }
    }
}

/// A daemon that a test drops is killed, and cannot stop its mosquitto.
impl Drop for Home {
    fn drop(&mut self) {
        let Ok(pid) = fs::read_to_string(self.state().join("broker/pid")) else { return };
        let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if command.contains("mosquitto") && command.contains(self.state().to_str().unwrap()) {
            signal(pid.trim().parse().unwrap(), "KILL");
        }
    }
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name)
}

/// A person's computer: it has a login from an invite, and may try with it what it likes.
pub struct Device {
    pub keys: Keys,
    pub topics: Topics,
    invite: Invite,
    link: Link,
    events: Events,
    /// Topics of everything that was delivered.
    pub heard: Vec<String>,
}

impl Device {
    /// Connected with the invite's login and listening to everything the broker lets it hear.
    pub async fn connect(invite: &Invite) -> Self {
        let keys = Keys::generate();
        let topics = Topics::new(invite.agent.thumbprint());
        let mut settings = Settings::new(invite.broker.url.as_str(), keys.thumbprint().as_str()).unwrap();
        settings.username.clone_from(&invite.broker.username);
        settings.password =
            invite.broker.password.as_ref().map(|p: &Sensitive<String>| Password::new(p.expose().as_str()));
        settings.subscriptions = vec!["#".into()];
        let (link, mut events) = Link::start(settings).unwrap();
        let mut heard = Vec::new();
        within("the device connects", async {
            loop {
                match events.next().await.unwrap() {
                    Event::Up { .. } => return,
                    Event::Down { problem, .. } => panic!("not connected: {problem}"),
                    Event::Message(delivery) => {
                        heard.push(delivery.topic.clone());
                        link.ack(delivery);
                    }
                    _ => {}
                }
            }
        })
        .await;
        Self { keys, topics, invite: invite.clone(), link, events, heard }
    }

    /// Paired, with its own topics opened.
    pub async fn paired(home: &Home, serving: &mut Program) -> Self {
        let mut device = Self::connect(&home.invite()).await;
        device.enroll();
        serving.event("paired").await.unwrap();
        let answer = device.topics.outbox(&device.keys.thumbprint());
        device.hears(&answer).await;
        device
    }

    pub fn enroll(&self) {
        let enroll = Enroll { device_name: Label::tidy("Ana's computer") };
        let sealed = seal_enroll(&self.keys, &self.invite, &Facts::new(0, Timestamp::now()), enroll).unwrap();
        self.link.publish(self.topics.enroll(&self.invite.id()), sealed.text, Retain::No).unwrap();
    }

    pub fn id(&self) -> String {
        self.keys.thumbprint().as_str().to_owned()
    }

    /// Waits for something on this topic.
    pub async fn hears(&mut self, topic: &str) {
        within(topic, async {
            while let Some(event) = self.events.next().await {
                if let Event::Message(delivery) = event {
                    let heard = delivery.topic.clone();
                    self.link.ack(delivery);
                    self.heard.push(heard);
                    if self.heard.last().is_some_and(|heard| heard == topic) {
                        return;
                    }
                }
            }
            panic!("the link has ended");
        })
        .await;
    }

    /// Asks the agent how things are, and waits for its answer.
    pub async fn greets(&mut self) {
        let sealed =
            seal(&self.keys, &self.invite.agent, &Facts::new(0, Timestamp::now()), &ToAgent::from(Hello {}))
                .unwrap();
        self.link.publish(self.topics.inbox(&self.keys.thumbprint()), sealed.text, Retain::No).unwrap();
        let answer = self.topics.outbox(&self.keys.thumbprint());
        self.hears(&answer).await;
    }

    /// Whether the broker takes something on this topic from it.
    pub async fn may_write(&mut self, topic: &str) -> bool {
        let asked: PublishId = self.link.publish(topic, "x", Retain::No).unwrap();
        within(topic, async {
            loop {
                match self.events.next().await.unwrap() {
                    Event::Published { id, .. } if id == asked => return true,
                    Event::Refused { id: Some(id), .. } if id == asked => return false,
                    Event::Message(delivery) => {
                        self.heard.push(delivery.topic.clone());
                        self.link.ack(delivery);
                    }
                    _ => {}
                }
            }
        })
        .await
    }

    /// Waits until the broker does not let it in any more; says why.
    pub async fn is_thrown_out(&mut self) -> String {
        within("thrown out", async {
            let mut last = None;
            loop {
                if let Event::Down { problem, .. } = self.events.next().await.unwrap() {
                    let problem = problem.to_string();
                    if last.replace(problem.clone()).is_some_and(|last| last == problem) {
                        return problem;
                    }
                }
                self.link.retry_now();
            }
        })
        .await
    }
}
