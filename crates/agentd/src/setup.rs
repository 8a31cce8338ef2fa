//! From a directory and a configuration to an open agent; and `init`, which makes both.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use url::Url;
use valetkey_agent::{Agent, AgentOptions, BrokerAccounts, SharedAccess};
use valetkey_handoff::{BrokerAccess, Label, Sensitive};
use valetkey_link::{ClientCertificate, Password, Settings};

use crate::accounts::{CommandAccounts, OwnAccounts};
use crate::broker_files::{BrokerFiles, Login};
use crate::config::{BrokerConfig, Config, TEMPLATE};
use crate::own_broker::{OwnBroker, local_url};

pub fn open_agent(state_dir: &Path, config: &Config) -> Result<Agent> {
    let name: Label = config.name.parse().with_context(|| {
        format!(
            "name = {:?} cannot be shown to people: one line of up to {} characters",
            config.name,
            Label::MAX_CHARS
        )
    })?;
    Ok(Agent::open(AgentOptions { name: Some(name), ..AgentOptions::new(state_dir) })?)
}

/// Each device's way into the broker. `running` is the agent's own broker, where it runs.
pub fn accounts(
    agent: &Agent,
    config: &Config,
    running: Option<Arc<OwnBroker>>,
) -> Result<Arc<dyn BrokerAccounts>> {
    let Some(broker) = &config.broker else {
        let url = match &config.own_broker.device_url {
            Some(url) => url.clone(),
            None => local_url(&config.own_broker)?,
        };
        let files = own_files(agent)?;
        return Ok(Arc::new(OwnAccounts { files, broker: running, url }));
    };
    let url = broker.device_url.clone().unwrap_or_else(|| broker.url.clone());
    if let Some(command) = &broker.device_credential_command {
        return Ok(Arc::new(CommandAccounts { command: command.clone(), url }));
    }
    let password = broker.device_password_file.as_deref().map(secret_in).transpose()?;
    Ok(Arc::new(SharedAccess(BrokerAccess { url, username: broker.device_username.clone(), password })))
}

pub fn own_files(agent: &Agent) -> Result<BrokerFiles> {
    BrokerFiles::open(agent.state_dir().path(), agent.id().as_str())
}

/// How the agent itself reaches a broker of the operator's.
pub fn operators_broker(agent: &Agent, broker: &BrokerConfig) -> Result<Settings> {
    let mut settings = Settings::new(broker.url.as_str(), agent.id().as_str())?;
    settings.username.clone_from(&broker.username);
    let password = broker.password_file.as_deref().map(secret_in).transpose()?;
    settings.password = password.map(|password| Password::new(password.expose().as_str()));
    settings.ca_file.clone_from(&broker.ca_file);
    settings.client_certificate = match (&broker.client_certificate_file, &broker.client_key_file) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => None,
        _ => anyhow::bail!("broker needs client_certificate_file and client_key_file together"),
    };
    Ok(settings)
}

/// How the agent itself reaches its own broker.
pub fn own_broker(agent: &Agent, url: &Url, login: Login) -> Result<Settings> {
    let mut settings = Settings::new(url.as_str(), agent.id().as_str())?;
    settings.username = Some(login.username);
    settings.password = Some(Password::new(login.password));
    Ok(settings)
}

/// A file's one line.
fn secret_in(path: &Path) -> Result<Sensitive<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sensitive::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What `init` was told.
#[derive(Debug, Default)]
pub struct Wishes {
    pub name: Option<String>,
    pub client_id: Option<String>,
    pub tenant: Option<String>,
}

/// Makes the directory, the keys and the configuration file. What is there already stays as it is.
pub fn init(state_dir: &Path, config_file: &Path, wishes: &Wishes) -> Result<Value> {
    let config_made = !config_file.exists();
    if config_made {
        let text = template(wishes);
        let config = Config::parse(&text).context("these settings do not fit together")?;
        // Opened first: it makes the directory, private from the beginning.
        open_agent(state_dir, &config)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(config_file)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    let agent = open_agent(state_dir, &Config::load(config_file)?)?;
    Ok(json!({
        "name": agent.name(),
        "agent": agent.id(),
        "words": agent.public_keys().words(),
        "state_dir": state_dir,
        "config": config_file,
        "config_made": config_made,
    }))
}

/// The commented template with the wishes filled in.
fn template(wishes: &Wishes) -> String {
    let wish = |line: &str, key: &str, value: &Option<String>| -> Option<String> {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let value = value.as_ref().filter(|_| bare.starts_with(&format!("{key} =")))?;
        Some(format!("{key} = {}\n", toml::Value::from(value.as_str())))
    };
    TEMPLATE
        .lines()
        .map(|line| {
            wish(line, "name", &wishes.name)
                .or_else(|| wish(line, "client_id", &wishes.client_id))
                .or_else(|| wish(line, "tenant", &wishes.tenant))
                .unwrap_or_else(|| format!("{line}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_land_in_the_template_and_the_rest_stays_commented() {
        let wishes = Wishes {
            name: Some("Ana's \"own\" assistant".into()),
            client_id: Some("11111111-2222-3333-4444-555555555555".into()),
            tenant: Some("consumers".into()),
        };
        let config = Config::parse(&template(&wishes)).unwrap();
        assert_eq!(config.name, "Ana's \"own\" assistant");
        assert_eq!(config.client_id, wishes.client_id);
        assert_eq!(config.tenant, "consumers");
        assert!(config.broker.is_none());
        assert_eq!(template(&Wishes::default()), TEMPLATE);
    }
}
