//! From a directory and a configuration to an open agent and its way to the broker.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use valetkey_agent::{Agent, AgentOptions, BrokerAccounts, SharedAccess};
use valetkey_handoff::{BrokerAccess, Sensitive};
use valetkey_link::{ClientCertificate, Password, Settings};

use crate::accounts::{CommandAccounts, OwnAccounts};
use crate::broker_files::{BrokerFiles, Login};
use crate::config::{BrokerConfig, Config};
use crate::own_broker::{OwnBroker, device_url};
use crate::problem::Problem;
use crate::vault_key::Keys;

/// In the state directory.
const CLIENT_ID: &str = "broker-client-id";

pub fn open_agent(state_dir: &Path, config: &Config, keys: &Keys) -> Result<Agent> {
    let vault_key = keys.present(config, state_dir)?;
    let name = config.label().map_err(Problem::configuration)?;
    Ok(Agent::open(AgentOptions { name: Some(name), vault_key, ..AgentOptions::new(state_dir) })?)
}

/// Each device's way into the broker. `running` is the agent's own broker, where it runs.
pub fn accounts(
    agent: &Agent,
    config: &Config,
    running: Option<Arc<OwnBroker>>,
) -> Result<Arc<dyn BrokerAccounts>> {
    let Some(broker) = &config.broker else {
        let url = device_url(&config.own_broker)?;
        return Ok(Arc::new(match running {
            Some(broker) => OwnAccounts::Running { broker, url },
            None => OwnAccounts::Files { files: own_files(agent)?, url },
        }));
    };
    let url = broker.device_url.clone().unwrap_or_else(|| broker.url.clone());
    if let Some(command) = &broker.device_credential_command {
        return Ok(Arc::new(CommandAccounts { command: command.clone(), url }));
    }
    let password = broker.device_password_file.as_deref().map(secret_in).transpose()?;
    Ok(Arc::new(SharedAccess(BrokerAccess { url, username: broker.device_username.clone(), password })))
}

/// Opened once a process: its lock is in it.
pub fn own_files(agent: &Agent) -> Result<BrokerFiles> {
    BrokerFiles::open(agent.state_dir().path(), agent.id().as_str())
}

/// How the agent itself reaches a broker of the operator's.
pub fn operators_broker(agent: &Agent, broker: &BrokerConfig) -> Result<Settings> {
    let mut settings = Settings::new(broker.url.as_str(), client_id(agent)?)?;
    settings.username.clone_from(&broker.username);
    let password = broker.password_file.as_deref().map(secret_in).transpose()?;
    settings.password = password.map(|password| Password::new(password.expose().as_str()));
    settings.ca_file.clone_from(&broker.ca_file);
    let certificate = broker.client_certificate_file.clone().zip(broker.client_key_file.clone());
    settings.client_certificate =
        certificate.map(|(certificate, key)| ClientCertificate { certificate, key });
    Ok(settings)
}

/// What the agent calls itself at the operator's broker. Whoever connects under a client's id throws that client out, and
/// every device knows the agent's thumbprint; so it is a secret, and the same one each time for the session's sake.
fn client_id(agent: &Agent) -> Result<String> {
    let directory = agent.state_dir();
    if let Some(kept) = directory.read(CLIENT_ID)?
        && let Ok(id) = String::from_utf8(kept.to_vec())
        && !id.is_empty()
    {
        return Ok(id);
    }
    let id = format!("{:032x}", rand::random::<u128>());
    directory.replace(CLIENT_ID, id.as_bytes())?;
    Ok(id)
}

/// How the agent itself reaches its own broker.
pub fn own_broker(files: &BrokerFiles, broker: &OwnBroker, login: Login) -> Result<Settings> {
    let mut settings = Settings::new(broker.local_url()?.as_str(), files.client_id()?)?;
    settings.username = Some(login.username);
    settings.password = Some(Password::new(login.password));
    Ok(settings)
}

/// A file's one line.
fn secret_in(path: &Path) -> Result<Sensitive<String>, Problem> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map(Sensitive::new)
        .map_err(|error| Problem::configuration(format!("cannot read {shown}: {error}")))?;
    let line = text.expose().trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(['\r', '\n']) {
        return Err(Problem::configuration(format!("{shown} must hold one line")));
    }
    Ok(Sensitive::new(line.to_owned()))
}
