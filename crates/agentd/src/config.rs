//! `agent.toml`: the daemon's one configuration file.
//!
//! Unknown keys are refused by name; a file that does not parse changes nothing.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use url::Url;
use valetkey_entra::cloud::{Authority, Cloud, Tenant};

/// What `init` writes; every key is in it, with its meaning.
pub const TEMPLATE: &str = include_str!("agent.toml");

/// A port of our own: 1883 and 8883 belong to a broker the machine may already have.
const OWN_BROKER_PORT: u16 = 18_883;

#[derive(Debug, Clone, Deserialize)]
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
}

/// A broker of the operator's.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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

impl Config {
    /// The file at `path`; without one, the defaults.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.authority()?;
        parse_duration(&config.invite_expires).context("invite_expires")?;
        if config.own_broker.certificate_file.is_some() != config.own_broker.key_file.is_some() {
            bail!("own_broker needs certificate_file and key_file together");
        }
        Ok(config)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_its_name() {
        let error = format!("{:#}", Config::parse("client_id = \"x\"\nclent_secret = \"y\"").unwrap_err());
        assert!(error.contains("clent_secret"), "{error}");
        let error = format!("{:#}", Config::parse("[own_broker]\nprot = 1").unwrap_err());
        assert!(error.contains("prot"), "{error}");
    }

    /// Every key stands in the template, which is a valid file as it is and with every comment mark taken away.
    #[test]
    fn the_template_documents_every_key() {
        Config::parse(TEMPLATE).expect("the template as written");
        let all: String = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                // A comment for people has a space after its mark; a switched-off key has none.
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let table: toml::Table = toml::from_str(&all).expect("the template with every key switched on");
        for (section, keys) in [
            (
                "",
                "name client_id tenant cloud login_url graph_url allow invite_expires link_base broker own_broker",
            ),
            (
                "broker",
                "url username password_file ca_file client_certificate_file client_key_file device_url \
                 device_username device_password_file device_credential_command",
            ),
            ("own_broker", "address port device_url certificate_file key_file"),
        ] {
            let table = if section.is_empty() { Some(&table) } else { table[section].as_table() };
            for key in keys.split_whitespace() {
                assert!(
                    table.is_some_and(|table| table.contains_key(key)),
                    "{section} {key} is not in the template"
                );
            }
        }
    }

    #[test]
    fn a_cloud_of_ones_own_needs_both_addresses_and_the_others_take_none() {
        assert!(Config::parse("cloud = \"custom\"").is_err());
        assert!(Config::parse("login_url = \"https://login.example\"").is_err());
        assert!(Config::parse("cloud = \"mars\"").is_err());
        assert!(Config::parse("tenant = \"no such\"").is_err());
    }

    #[test]
    fn durations_are_read_in_four_units_and_nothing_else() {
        assert_eq!(parse_duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration(" 2h ").unwrap(), Duration::from_secs(7_200));
        assert_eq!(parse_duration("7d").unwrap(), Duration::from_secs(604_800));
        for wrong in
            ["", "10", "m", "-1m", "1.5h", "0s", "10 m", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
