//! Gathers the facts: files, the keyring, the sign-in service, the broker, the assistant. It decides nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::{http, reach};
use valetkey_handoff::message::State as Answer;
use valetkey_handoff::{Presence, ToDevice, Topic, open};
use valetkey_link::{Event, Link, Problem, Refusal, Retain, Settings, system_proxy};

use super::facts::{
    Account, Assistant, Broker, Facts, Kept, Keys, Login, Pairing as Linked, Policy as Rules, Waiting,
};
use crate::controller::Options;
use crate::courier;
use crate::held::{Held, NotHeld};
use crate::keeper::Keeper;
use crate::keystore::{EntryName, KeyStoreError};
use crate::outbox::{Outbox, What};
use crate::pairing::{Entry, Pairing, PairingFile, host};
use crate::policy::{Policies, policy_file};
use crate::session;
use crate::state::HELLO_PATIENCE;

/// A slow proxy takes ten seconds, and a broker that does not answer is given up by the link after twenty.
const BROKER_PATIENCE: Duration = Duration::from_secs(25);

/// Looks at everything. While a companion runs on the same data directory its connection is left alone: a device is
/// connected once.
pub async fn look(options: &Options) -> Facts {
    let data_dir = &options.data_dir;
    let mut facts = Facts {
        at: options.clock.now(),
        browser: has_opener(),
        loopback: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok(),
        data_dir: data_dir.clone(),
        data_dir_problem: unwritable(data_dir),
        policy_file: in_force(options),
        policy: Rules::None,
        pairing: Linked::Missing,
        keys: Keys::NotAsked,
        in_use: false,
        login: None,
        broker: None,
        assistant: None,
        waiting: Vec::new(),
    };
    let (file, outbox) = match (PairingFile::load(data_dir), Outbox::open_if_there(data_dir)) {
        (Ok(Some(file)), Ok(outbox)) => (file, outbox),
        (Ok(None), _) => {
            facts.policy = rules(options, None);
            return facts;
        }
        _ => {
            facts.policy = rules(options, None);
            facts.pairing = Linked::Unusable;
            return facts;
        }
    };
    facts.policy = rules(options, Some(file.get()));
    facts.pairing = if file.get().enrolled { Linked::Paired } else { Linked::Begun };
    facts.waiting = outbox.all().map(|one| Waiting { what: kept(&one.what), since: one.sealed_at }).collect();
    // What is not allowed is not contacted.
    if matches!(facts.policy, Rules::Forbids | Rules::Unreadable) {
        return facts;
    }
    facts.login = login(file.get(), options).await;
    let _held = match Held::take(data_dir).await {
        Ok(held) => held,
        Err(NotHeld::By(_)) => {
            facts.in_use = true;
            return facts;
        }
        Err(NotHeld::Io(error)) => {
            facts.data_dir_problem = Some(error.kind().to_string());
            return facts;
        }
    };
    let url = file.get().broker_url.clone();
    let (entry, keys) = keys(options, file.get()).await;
    facts.keys = keys;
    if let Some((device, password)) = entry {
        let keeper = Keeper::new(device, file, outbox);
        let settings = session::settings(&keeper, password, options.broker_ca.as_deref());
        let asked = match settings {
            Ok(settings) => ask(&keeper, settings, options).await,
            Err(_) => Asked { problem: Some(Problem::ProtocolError), assistant: Assistant::default() },
        };
        let host = host(url.as_str());
        let secure = matches!(url.scheme(), "mqtts" | "wss") || is_here(&host);
        let reached = asked.problem.is_none();
        facts.broker = Some(Broker { host, secure, proxy: system_proxy(&url), problem: asked.problem });
        facts.assistant = reached.then_some(asked.assistant);
    }
    facts
}

fn has_opener() -> bool {
    if !cfg!(all(unix, not(target_os = "macos"))) {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("xdg-open").is_file())
}

/// Nothing is made where nothing is yet.
fn unwritable(dir: &Path) -> Option<String> {
    if !dir.exists() {
        return None;
    }
    // Under the name of what a crash leaves half-written.
    let made = tempfile::Builder::new().prefix(".new-").tempfile_in(dir);
    made.err().map(|error| error.kind().to_string())
}

fn rules(options: &Options, pairing: Option<&Pairing>) -> Rules {
    match Policies::read(options.policy_file.as_deref()) {
        Err(_) => Rules::Unreadable,
        Ok(policies) if pairing.is_some_and(|pairing| !policies.allow_pairing(pairing)) => Rules::Forbids,
        Ok(_) if in_force(options).is_some() => Rules::InForce,
        Ok(_) => Rules::None,
    }
}

/// The file whose rules hold: the one that was named, or the system's if there is one.
fn in_force(options: &Options) -> Option<PathBuf> {
    let named = options.policy_file.clone();
    named.or_else(|| policy_file().filter(|file| fs::symlink_metadata(file).is_ok()))
}

fn kept(what: &What) -> Kept {
    match what {
        What::Enroll { .. } => Kept::Link,
        What::SignIn { .. } => Kept::SignIn,
        What::Disconnect { .. } => Kept::Disconnect,
    }
}

async fn login(pairing: &Pairing, options: &Options) -> Option<Login> {
    let terms = &pairing.terms;
    let cloud = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()).ok()?;
    let url = cloud.login().clone();
    let authority = Authority { cloud, tenant: terms.tenant.parse().ok()? };
    let reached = match http::client() {
        Ok(client) => reach::reach(&client, &authority, || options.clock.now()).await,
        Err(_) => Err(reach::NotReached::Certificates),
    };
    Some(Login {
        host: reach::name(&url),
        proxy: system_proxy(&url),
        clock_ahead: reached.ok().and_then(|reached| reached.clock_ahead).map(|ahead| ahead.as_secs()),
        problem: reached.err(),
    })
}

type Device = (valetkey_handoff::Keys, Option<valetkey_handoff::Sensitive<String>>);

async fn keys(options: &Options, pairing: &Pairing) -> (Option<Device>, Keys) {
    let mut entry = options.keys.load(EntryName::Device(pairing.device.clone())).await;
    if let Ok(None) = entry {
        entry = options.keys.load(EntryName::Unnamed).await;
    }
    let entry = match entry {
        Ok(Some(entry)) => entry,
        Ok(None) => return (None, Keys::Missing),
        Err(KeyStoreError::Locked) => return (None, Keys::Locked),
        Err(KeyStoreError::Unavailable) => return (None, Keys::NoKeyring),
        Err(KeyStoreError::Unusable) => return (None, Keys::Unusable),
    };
    match Entry::open(&entry) {
        Some(device) if device.0.thumbprint() == pairing.device => (Some(device), Keys::There),
        Some(_) => (None, Keys::Missing),
        None => (None, Keys::Unusable),
    }
}

struct Asked {
    problem: Option<Problem>,
    assistant: Assistant,
}

/// Says hello and waits for the answer to it. Nothing is acknowledged: what the broker has kept comes again.
async fn ask(keeper: &Keeper, settings: Settings, options: &Options) -> Asked {
    let failed = |problem| Asked { problem: Some(problem), assistant: Assistant::default() };
    // Nobody is told that this device is there: it is gone in a moment.
    let settings = Settings { birth: None, last_will: None, ..settings };
    let Ok((link, mut events)) = Link::start(settings) else { return failed(Problem::ProtocolError) };
    let up = async {
        loop {
            match events.next().await {
                Some(Event::Up { .. }) => return Ok(()),
                Some(Event::Down { problem, .. }) => return Err(problem),
                Some(Event::Refused { id: None, .. }) => {
                    return Err(Problem::Refused(Refusal::NotAuthorized));
                }
                Some(_) => {}
                None => return Err(Problem::ClosedByBroker),
            }
        }
    };
    let up = timeout(BROKER_PATIENCE, up).await.unwrap_or(Err(Problem::Unreachable));
    if let Err(problem) = up {
        link.stop().await;
        return failed(problem);
    }
    let mut assistant = Assistant::default();
    let patience = Duration::try_from(HELLO_PATIENCE).unwrap_or_default();
    let answered =
        timeout(patience, answer(keeper, &link, &mut events, &mut assistant.said_online, options)).await;
    link.stop().await;
    if let Ok(Some((state, at))) = answered {
        assistant.answered_at = Some(at);
        assistant.accounts = courier::accounts(state)
            .into_iter()
            .map(|one| Account { address: one.address, health: one.health, reason: one.reason })
            .collect();
    }
    Asked { problem: None, assistant }
}

async fn answer(
    keeper: &Keeper,
    link: &Link,
    events: &mut valetkey_link::Events,
    online: &mut Option<bool>,
    options: &Options,
) -> Option<(Answer, Timestamp)> {
    let (agent, topics) = {
        let file = keeper.pairing();
        (file.get().agent.clone(), file.get().topics())
    };
    let hello = keeper.hello(options.clock.now()).ok()?;
    link.publish(keeper.inbox_topic(), hello.text, Retain::No).ok()?;
    while let Some(event) = events.next().await {
        let Event::Message(delivery) = event else { continue };
        match topics.parse(&delivery.topic) {
            Some(Topic::Presence(who)) if who == *topics.agent() => {
                *online = Presence::parse(&delivery.payload).map(|presence| presence == Presence::Online);
            }
            Some(Topic::Out(device)) if device == keeper.keys.thumbprint() => {
                let now = options.clock.now();
                if let Ok(opened) = open::<ToDevice>(&delivery.payload, &agent, &keeper.keys, now)
                    && let ToDevice::State(state) = opened.message
                    && state.answers == Some(hello.jti)
                {
                    return Some((state, now));
                }
            }
            _ => {}
        }
    }
    None
}

fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
