//! `agent.toml`: the daemon's one configuration file.
//!
//! Unknown keys are refused by name; a file that does not parse changes nothing.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use url::Url;
use valetkey_agent::MAX_EXPIRY;
use valetkey_entra::capability;
use valetkey_entra::cloud::{Authority, Cloud, Tenant};
use valetkey_handoff::{Digest, Label};
use valetkey_link::Settings;

use crate::problem::{Problem, quoted};

mod words;

/// What `init` writes; every key is in it, with its meaning.
pub const TEMPLATE: &str = include_str!("agent.toml");

/// A port of our own: 1883 and 8883 belong to a broker the machine may already have.
const OWN_BROKER_PORT: u16 = 18_883;
const ANYBODY_WRITES: u32 = 0o002;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub name: String,
    pub client_id: Option<String>,
    pub tenant: String,
    pub cloud: String,
    pub login_url: Option<Url>,
    pub graph_url: Option<Url>,
    pub allow: Vec<String>,
    pub invite_expires: String,
    pub link_base: Option<Url>,
    pub broker: Option<BrokerConfig>,
    pub own_broker: OwnBrokerConfig,
    pub vault: VaultConfig,
}

/// How the vault is sealed at rest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Without a key nothing is opened or made.
    pub sealed: bool,
    pub key_file: Option<PathBuf>,
}

/// A broker of the operator's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    pub url: Url,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub client_certificate_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub device_url: Option<Url>,
    pub device_username: Option<String>,
    pub device_password_file: Option<PathBuf>,
    pub device_credential_command: Option<Vec<String>>,
}

/// The mosquitto that the agent runs itself when no broker is configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnBrokerConfig {
    pub address: IpAddr,
    pub port: u16,
    pub device_url: Option<Url>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "Your assistant".into(),
            client_id: None,
            tenant: "organizations".into(),
            cloud: "global".into(),
            login_url: None,
            graph_url: None,
            allow: vec!["mail".into(), "calendar".into()],
            invite_expires: "10m".into(),
            link_base: None,
            broker: None,
            own_broker: OwnBrokerConfig::default(),
            vault: VaultConfig::default(),
        }
    }
}

impl Default for OwnBrokerConfig {
    fn default() -> Self {
        Self {
            address: IpAddr::from([127, 0, 0, 1]),
            port: OWN_BROKER_PORT,
            device_url: None,
            certificate_file: None,
            key_file: None,
        }
    }
}

impl BrokerConfig {
    /// Nothing but an address.
    pub fn at(url: Url) -> Self {
        Self {
            url,
            username: None,
            password_file: None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            device_url: None,
            device_username: None,
            device_password_file: None,
            device_credential_command: None,
        }
    }
}

impl BrokerConfig {
    fn check(&self) -> Result<()> {
        check_address("url", Some(&self.url))?;
        check_address("device_url", self.device_url.as_ref())?;
        both(
            ("client_certificate_file", self.client_certificate_file.is_some()),
            ("client_key_file", self.client_key_file.is_some()),
        )?;
        if let Some(command) = &self.device_credential_command {
            ensure!(
                command.first().is_some_and(|program| !program.is_empty()),
                "device_credential_command names no program"
            );
            ensure!(
                self.device_username.is_none() && self.device_password_file.is_none(),
                "give either device_credential_command, or device_username and device_password_file"
            );
        }
        Ok(())
    }
}

impl OwnBrokerConfig {
    fn check(&self) -> Result<()> {
        check_address("device_url", self.device_url.as_ref())?;
        both(("certificate_file", self.certificate_file.is_some()), ("key_file", self.key_file.is_some()))?;
        ensure!(self.port != 0, "port must be a number from 1 to 65535");
        ensure!(
            !self.address.is_unspecified() || self.device_url.is_some(),
            "address = \"{}\" is no address that devices can reach; say which with device_url",
            self.address
        );
        Ok(())
    }
}

fn check_address(key: &str, url: Option<&Url>) -> Result<()> {
    // The link's own rules: scheme, host, no login in it.
    url.map_or(Ok(()), |url| Settings::new(url.as_str(), "x").map(drop)).context(key.to_owned())
}

fn both((one, has_one): (&str, bool), (other, has_other): (&str, bool)) -> Result<()> {
    ensure!(has_one == has_other, "{one} and {other} are needed together");
    Ok(())
}

impl Config {
    /// The file at `path`, with `broker` instead of what it says about brokers.
    pub fn load(path: &Path, broker: Option<Url>) -> Result<Self, Problem> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => "; make one with: valetkey-agent init",
                _ => "",
            };
            Problem::configuration(format!("cannot read {shown}: {error}{hint}"))
        })?;
        let mode = fs::metadata(path).map(|facts| facts.permissions().mode()).unwrap_or_default();
        if mode & ANYBODY_WRITES != 0 {
            // It names commands that are run.
            let word = quoted(&path.to_string_lossy());
            return Err(Problem::configuration(format!("anybody can write {shown}; run: chmod o-w {word}")));
        }
        Self::parse(&text, broker).map_err(|problem| Problem::configuration(format!("in {shown}: {problem}")))
    }

    pub fn parse(text: &str, broker: Option<Url>) -> Result<Self, Problem> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| Problem::configuration(words::plain(text, &error)))?;
        if let Some(url) = broker {
            config.use_broker(url);
        }
        config.check().map_err(Problem::configuration)?;
        Ok(config)
    }

    /// What people are shown.
    pub fn label(&self) -> Result<Label> {
        let long = Label::MAX_CHARS;
        self.name.parse().ok().with_context(|| {
            format!(
                "name = {:?} cannot be shown to people: use one line of up to {long} characters",
                self.name
            )
        })
    }

    /// Stands for all that is in effect, defaults and `--broker` too, and tells nothing of it.
    pub fn digest(&self) -> Result<String> {
        Ok(Digest::of(serde_json::to_vec(self)?).to_string())
    }

    /// The login stays, and devices are told the same address.
    fn use_broker(&mut self, url: Url) {
        match &mut self.broker {
            Some(broker) => {
                broker.url = url;
                broker.device_url = None;
            }
            None => self.broker = Some(BrokerConfig::at(url)),
        }
    }

    /// Everything that can be found wrong without touching another file or the network.
    fn check(&self) -> Result<()> {
        self.label()?;
        self.authority()?;
        if let Some(client_id) = &self.client_id {
            let fits = !client_id.is_empty() && client_id.chars().all(|c| c.is_ascii_graphic());
            ensure!(fits, "client_id = {client_id:?} is not an application id");
        }
        capability::parse(&self.allow).context("allow")?;
        ensure!(!self.allow.is_empty(), "allow is empty, so an invite would ask for nothing");
        let expires = parse_duration(&self.invite_expires).context("invite_expires")?;
        ensure!(
            SignedDuration::try_from(expires).is_ok_and(|expires| expires <= MAX_EXPIRY),
            "invite_expires = {:?} is more than 7 days",
            self.invite_expires
        );
        if let Some(page) = &self.link_base {
            ensure!(page.scheme() == "https", "link_base must begin with https://");
        }
        if let Some(broker) = &self.broker {
            broker.check().context("[broker]")?;
        }
        self.own_broker.check().context("[own_broker]")
    }

    /// Where this agent's people sign in.
    pub fn authority(&self) -> Result<Authority> {
        let cloud = match (self.cloud.as_str(), &self.login_url, &self.graph_url) {
            ("custom", Some(login), Some(graph)) => Cloud::custom(login.clone(), graph.clone())?,
            ("custom", ..) => bail!("cloud = \"custom\" needs login_url and graph_url"),
            (_, Some(_), _) | (_, _, Some(_)) => {
                bail!("login_url and graph_url are only for cloud = \"custom\"")
            }
            ("global", ..) => Cloud::Global,
            ("us-government", ..) => Cloud::UsGovernment,
            ("us-government-dod", ..) => Cloud::UsGovernmentDod,
            ("china", ..) => Cloud::China,
            (other, ..) => bail!(
                "cloud = \"{other}\" is not known; use global, us-government, us-government-dod, china or custom"
            ),
        };
        let tenant: Tenant = self.tenant.parse().with_context(|| {
            format!("tenant = \"{}\": use a tenant id, organizations, consumers or common", self.tenant)
        })?;
        Ok(Authority { cloud, tenant })
    }
}

/// `90s`, `10m`, `2h` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!("`{text}` is not a duration; write 90s, 10m, 2h or 7d"),
    };
    let number: u64 = number.parse().with_context(|| format!("`{text}` is not a duration"))?;
    let total = number.checked_mul(seconds).filter(|total| *total > 0);
    total.map(Duration::from_secs).with_context(|| format!("`{text}` is out of range"))
}

/// Whether an address means the machine that asks for it.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let named = host == "localhost" || host.ends_with(".localhost");
    named
        || host.parse::<IpAddr>().is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address.is_unspecified()
        })
}

#[cfg(test)]
mod tests;
