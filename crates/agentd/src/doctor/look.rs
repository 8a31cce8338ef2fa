//! Gathers the facts: files, processes, the broker, the sign-in service. It decides nothing and changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;
use tokio::process::Command;
use valetkey_agent::{Agent, at_rest};
use valetkey_entra::{http, reach};
use valetkey_link::system_proxy;

use crate::ask::{Asker, Present};
use crate::audit::{self, Wish};
use crate::config::{BrokerConfig, Config, OwnBrokerConfig, is_loopback};
use crate::control::{self, Answer, Question};
use crate::desk::Desk;
use crate::doctor::facts::{Audit, Broker, Directory, Facts, Login, Met, Mosquitto, Status, Tried, Vault};
use crate::mosquitto::MAX_QUEUED_MESSAGES;
use crate::problem::Problem;
use crate::programs::find;
use crate::{own_broker, setup};

/// A slow proxy takes ten seconds, and a broker that does not answer is given up by the link after twenty.
const BROKER_LIMIT: Duration = Duration::from_secs(25);

pub async fn look(asker: &Asker) -> Facts {
    let config = Config::load(&asker.config_file, asker.broker.clone());
    let directory = directory(&asker.state_dir);
    let (met, audit) = if directory.has_agent {
        ask(asker, config.as_ref().ok()).await
    } else {
        (neither(&Problem::configuration("there is no agent")), None)
    };
    let (broker, login) = match &config {
        Ok(config) => {
            let broker = match &config.broker {
                Some(broker) => operators(broker),
                None => own(&config.own_broker).await,
            };
            (Some(broker), login(config).await)
        }
        Err(_) => (None, None),
    };
    let vault = vault(asker, config.as_ref().ok(), &met);
    Facts {
        at: Timestamp::now(),
        directory,
        vault,
        configuration_file: asker.config_file.clone(),
        has_client_id: config.as_ref().is_ok_and(|config| config.client_id.is_some()),
        configuration_problem: config.err().map(|problem| problem.message),
        agent: met,
        broker,
        login,
        audit,
    }
}

fn directory(path: &Path) -> Directory {
    // What is to be done about it is copied into another shell.
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut found =
        Directory { path: shown, us: rustix::process::geteuid().as_raw(), ..Directory::default() };
    let Ok(facts) = fs::symlink_metadata(path) else { return found };
    found.exists = true;
    found.is_plain = facts.is_dir();
    found.owner = facts.uid();
    found.mode = facts.permissions().mode() & 0o7777;
    found.has_agent = path.join("agent.json").exists();
    found.holder = fs::read_to_string(path.join("lock")).ok().and_then(|text| text.trim().parse().ok());
    // Under the name of what a crash leaves half-written: should it stay, the next start clears it.
    let made = tempfile::Builder::new().prefix(".new-").tempfile_in(path);
    found.unwritable = made.err().map(|error| error.kind().to_string());
    found.free_bytes = rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    found
}

fn vault(asker: &Asker, config: Option<&Config>, met: &Met) -> Option<Vault> {
    let look = at_rest::look(&asker.state_dir, None).ok()?;
    let key_from = match met {
        Met::Running { status } => status.vault_key_from,
        Met::NotRunning { .. } | Met::Neither { .. } => config.and_then(|config| asker.keys.source(config)),
    };
    Some(Vault {
        sealed: look.sealed,
        interrupted: !look.two_keys.is_empty() || !look.astray.is_empty(),
        key_from,
        key_file: config.and_then(|config| config.vault.key_file.clone()),
    })
}

/// Whoever answers, and what the audit looks like to them.
async fn ask(asker: &Asker, config: Option<&Config>) -> (Met, Option<Audit>) {
    let met = match asker.meet().await {
        Ok(Present::Daemon(status)) => {
            let audit = control::ask(&asker.state_dir, &Question::AuditVerify).ok().flatten();
            let audit = audit.and_then(|answer| match answer {
                Answer::Ok(value) => serde_json::from_value(value).ok(),
                Answer::Error(_) => None,
            });
            return (
                status_of(status).map_or_else(|problem| neither(&problem), |status| Met::Running { status }),
                audit,
            );
        }
        Ok(Present::Nobody(desk)) => not_running(&desk, config).await,
        Err(error) => Err(Problem::of(error)),
    };
    match met {
        Ok((met, audit)) => (met, audit),
        Err(problem) => (neither(&problem), None),
    }
}

async fn not_running(desk: &Desk, config: Option<&Config>) -> Result<(Met, Option<Audit>), Problem> {
    let status =
        serde_json::to_value(desk.agent.status()).map_err(|error| Problem::new("internal", error))?;
    let status = status_of(status)?;
    let audit = audit::of_agent(&desk.agent, Wish::Verify).await.ok();
    let audit = audit.and_then(|value| serde_json::from_value(value).ok());
    let broker = config.and_then(|config| config.broker.as_ref());
    let try_broker = match broker {
        Some(broker) => Some(try_broker(&desk.agent, broker).await),
        // It does not run.
        None => None,
    };
    Ok((Met::NotRunning { status, try_broker }, audit))
}

fn status_of(status: Value) -> Result<Status, Problem> {
    serde_json::from_value(status)
        .map_err(|_| Problem::new("version", "the running agent is of another version; restart it"))
}

fn neither(problem: &Problem) -> Met {
    Met::Neither { code: problem.code.clone(), message: problem.message.clone() }
}

async fn try_broker(agent: &Agent, broker: &BrokerConfig) -> Tried {
    let settings = match setup::operators_broker(agent, broker) {
        Ok(settings) => settings,
        Err(error) => return Tried::Unusable(Problem::of(error).message),
    };
    match agent.try_broker(settings, BROKER_LIMIT).await {
        Ok(Ok(())) => Tried::Reached,
        Ok(Err(problem)) => Tried::Failed(problem.to_string()),
        Err(error) => Tried::Unusable(error.to_string()),
    }
}

async fn own(config: &OwnBrokerConfig) -> Broker {
    let mosquitto = match find("mosquitto").and_then(|program| find("mosquitto_passwd").map(|_| program)) {
        Ok(program) => {
            let version = version(&program).await.ok();
            Some(Mosquitto { program, version })
        }
        Err(_) => None,
    };
    Broker::Own {
        mosquitto,
        max_queued_messages: MAX_QUEUED_MESSAGES,
        address: own_broker::device_url(config).map(|url| url.to_string()).unwrap_or_default(),
        open_without_tls: config.certificate_file.is_none() && !config.address.is_loopback(),
    }
}

/// The second line of its help begins with its name and version; it has no option that prints them alone.
async fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("-h")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("mosquitto version "));
    Ok(line.context("it does not say")?.trim().to_owned())
}

fn operators(broker: &BrokerConfig) -> Broker {
    Broker::Operators {
        url: broker.url.to_string(),
        tls: matches!(broker.url.scheme(), "mqtts" | "wss"),
        loopback: is_loopback(&broker.url),
        proxy: system_proxy(&broker.url),
    }
}

async fn login(config: &Config) -> Option<Login> {
    let authority = config.authority().ok()?;
    let url = authority.cloud.login();
    let reached = match http::client() {
        Ok(client) => reach::reach(&client, &authority, Timestamp::now).await,
        Err(_) => Err(reach::NotReached::Certificates),
    };
    Some(Login {
        host: reach::name(url),
        proxy: system_proxy(url),
        clock_ahead: reached.ok().and_then(|reached| reached.clock_ahead).map(|ahead| ahead.as_secs()),
        problem: reached.err().map(|problem| problem.to_string()),
    })
}
