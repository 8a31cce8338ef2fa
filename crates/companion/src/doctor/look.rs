//! Gathers the facts: files, the keyring, the sign-in service, the broker, the assistant. It decides nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use url::Url;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::{http, reach};
use valetkey_link::{Problem, SettingsError, system_proxy};

use super::ask::{Asked, ask};
use super::facts::{
    Assistant, Broker, Facts, Kept, Keys, Login, Pairing as Stage, Policy as Rules, Unusable, Waiting,
};
use super::within::Known;
use crate::controller::Options;
use crate::held::{Held, NotHeld};
use crate::keeper::Keeper;
use crate::keystore::{EntryName, KeyStoreError};
use crate::outbox::{Outbox, What};
use crate::pairing::{Entry, Pairing, PairingFile, host};
use crate::policy::{Certificates, NoCertificates, Policies, policy_file};
use crate::session;

/// Looks at everything. While a companion runs on the same data directory its connection is left alone: a device is
/// connected once.
pub async fn look(options: &Options) -> Facts {
    let (mut facts, linked) = around(options).await;
    let Some(linked) = linked else { return facts };
    let _held = match Held::take(&options.data_dir).await {
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
    let url = linked.file.get().broker_url.clone();
    let (entry, keys) = keys(options, linked.file.get()).await;
    facts.keys = keys;
    if let Some((device, password)) = entry {
        let keeper = Keeper::new(device, linked.file, linked.outbox);
        let asked = match session::settings(&keeper, password, linked.certificates) {
            Ok(settings) => ask(&keeper, settings, options).await,
            Err(_) => Asked { problem: Some(Problem::ProtocolError), assistant: Assistant::default() },
        };
        let reached = asked.problem.is_none();
        facts.broker = Some(broker(&url, asked.problem));
        facts.assistant = reached.then_some(asked.assistant);
    }
    facts
}

/// The same from inside the companion that runs: what it knows of the connection is asked of it, and no second one is made.
pub(super) async fn look_within(options: &Options, known: impl Future<Output = Known>) -> Facts {
    let ((mut facts, linked), known) = tokio::join!(around(options), known);
    let Some(linked) = linked else { return facts };
    facts.in_use = known.in_use;
    let pairing = linked.file.get();
    facts.keys = keys(options, pairing).await.1;
    if let Some(connection) = known.connection {
        facts.broker = Some(broker(&pairing.broker_url, connection.problem));
        facts.assistant = connection.problem.is_none().then_some(connection.assistant);
    }
    facts
}

/// What the connection would be made with.
struct Linked {
    file: PairingFile,
    outbox: Outbox,
    certificates: Certificates,
}

/// Everything but the connection; and what it takes to look at that, if it may be made.
async fn around(options: &Options) -> (Facts, Option<Linked>) {
    let data_dir = &options.data_dir;
    let mut facts = Facts {
        at: options.clock.now(),
        browser: has_opener(),
        loopback: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok(),
        data_dir: data_dir.clone(),
        data_dir_problem: unwritable(data_dir),
        policy_file: in_force(options),
        policy: Rules::None,
        certificates_problem: None,
        pairing: Stage::Missing,
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
            return (facts, None);
        }
        _ => {
            facts.policy = rules(options, None);
            facts.pairing = Stage::Unusable;
            return (facts, None);
        }
    };
    facts.policy = rules(options, Some(file.get()));
    facts.pairing = if file.get().enrolled { Stage::Paired } else { Stage::Begun };
    facts.waiting = outbox.all().map(|one| Waiting { what: kept(&one.what), since: one.sealed_at }).collect();
    // What is not allowed is not contacted.
    if matches!(facts.policy, Rules::Forbids | Rules::Unreadable) {
        return (facts, None);
    }
    let certificates = Certificates::of(options);
    facts.certificates_problem = certificates.as_ref().err().map(unusable);
    facts.login = login(file.get(), options).await;
    let linked = certificates.ok().map(|certificates| Linked { file, outbox, certificates });
    (facts, linked)
}

fn unusable(problem: &NoCertificates) -> Unusable {
    match problem {
        NoCertificates::Files(SettingsError::CaFile(file) | SettingsError::ClientCertificate(file)) => {
            Unusable::File(file.clone())
        }
        _ => Unusable::OfTheSystem,
    }
}

fn broker(url: &Url, problem: Option<Problem>) -> Broker {
    let host = host(url.as_str());
    let secure = matches!(url.scheme(), "mqtts" | "wss") || is_here(&host);
    Broker { host, secure, proxy: system_proxy(url), problem }
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

fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
