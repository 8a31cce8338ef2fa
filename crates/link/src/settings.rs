//! What a link is told: which broker, as whom, and what to listen to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::topic;

/// Long enough to be no load, short enough that a dead connection is noticed within two minutes.
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(45);

/// How long the broker keeps our subscriptions and undelivered messages: a holiday, not a life.
pub const DEFAULT_SESSION_EXPIRY: Duration = Duration::from_secs(21 * 24 * 3600);

/// The largest MQTT packet taken or sent, in bytes: a sealed message may have 256 KiB, and the topic comes on top.
/// The client library's own limit is 10 KiB, which a token cache exceeds.
pub const DEFAULT_MAX_PACKET: u32 = 320 * 1024;

/// Shortest keep-alives the client library takes; it panics below them.
const MIN_KEEP_ALIVE_V5: Duration = Duration::from_secs(5);
const MIN_KEEP_ALIVE_V311: Duration = Duration::from_secs(1);
/// MQTT has 16 bits of seconds for it.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(u16::MAX as u64);

/// Everything about one connection. [`Settings::new`] gives the usual values; set fields to differ.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `mqtt`, `mqtts`, `ws` or `wss`, a host, and optionally a port (and for WebSocket a path).
    pub url: Url,
    pub version: Version,
    /// The same one each time, or the broker cannot keep this client's session.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Password>,
    /// PEM; only these authorities are trusted then. Otherwise the system's.
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
    pub proxy: Proxy,
    /// Whole seconds; at least 5 with MQTT 5, at least 1 with 3.1.1.
    pub keep_alive: Duration,
    /// MQTT 5 only; a 3.1.1 broker decides by itself.
    pub session_expiry: Duration,
    /// Topic filters, subscribed with QoS 1 on every connect.
    pub subscriptions: Vec<String>,
    /// Published on every connect, after the subscriptions.
    pub birth: Option<Publish>,
    /// Published by the broker when this client vanishes, and by [`crate::Link::stop`] when it leaves.
    pub last_will: Option<Publish>,
    /// Bytes.
    pub max_packet: u32,
}

impl Settings {
    pub fn new(url: &str, client_id: impl Into<String>) -> Result<Self, SettingsError> {
        let url = Url::parse(url).map_err(|_| SettingsError::Url)?;
        Address::parse(&url)?;
        Ok(Self {
            url,
            version: Version::V5,
            client_id: client_id.into(),
            username: None,
            password: None,
            ca_file: None,
            client_certificate: None,
            proxy: Proxy::System,
            keep_alive: DEFAULT_KEEP_ALIVE,
            session_expiry: DEFAULT_SESSION_EXPIRY,
            subscriptions: Vec::new(),
            birth: None,
            last_will: None,
            max_packet: DEFAULT_MAX_PACKET,
        })
    }

    /// Everything that can be found wrong without touching a file or the network.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.client_id.is_empty() {
            return Err(SettingsError::ClientId);
        }
        let shortest = match self.version {
            Version::V5 => MIN_KEEP_ALIVE_V5,
            Version::V311 => MIN_KEEP_ALIVE_V311,
        };
        if self.keep_alive < shortest || self.keep_alive > MAX_KEEP_ALIVE {
            return Err(SettingsError::KeepAlive);
        }
        if let Some(filter) = self.subscriptions.iter().find(|filter| !topic::is_filter(filter)) {
            return Err(SettingsError::Filter(filter.clone()));
        }
        for publish in self.birth.iter().chain(&self.last_will) {
            if !topic::is_topic(&publish.topic) {
                return Err(SettingsError::Topic(publish.topic.clone()));
            }
        }
        Ok(())
    }
}

/// The protocol spoken. Nothing here depends on a property that only MQTT 5 has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V5,
    /// For brokers without MQTT 5, such as NATS. They cannot say that a publish was not allowed.
    V311,
}

/// How to get out of the network.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, and on Windows and macOS the system's settings. Never for loopback.
    #[default]
    System,
    /// Always direct.
    Off,
    /// Always through this HTTP proxy (`http` or `https`, credentials in the address).
    Http(Url),
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Off => f.write_str("Off"),
            // The address may hold a password.
            Self::Http(url) => write!(f, "Http({})", url.host_str().unwrap_or_default()),
        }
    }
}

/// One message to be published with QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: Retain,
}

impl Publish {
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>, retain: Retain) -> Self {
        Self { topic: topic.into(), payload: payload.into(), retain }
    }
}

/// Whether the broker keeps the message for those who subscribe later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    No,
    Yes,
}

/// PEM files of a certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The broker's password for us. The client library makes copies of it that are not wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(password: impl Into<String>) -> Self {
        Self(Zeroizing::new(password.into()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why a link cannot be started with these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    #[error("the broker's address is not of the form mqtt(s)://host[:port] or ws(s)://host[:port]/path")]
    Url,
    #[error("a user name or password in the broker's address is not taken; give them as settings")]
    CredentialsInUrl,
    #[error("the client id is empty")]
    ClientId,
    #[error("the keep-alive is outside what this MQTT version allows")]
    KeepAlive,
    #[error("not a topic filter: {0}")]
    Filter(String),
    #[error("not a topic: {0}")]
    Topic(String),
    #[error("no certificate authority could be read from {0}")]
    CaFile(PathBuf),
    #[error("no client certificate and key could be read from {0}")]
    ClientCertificate(PathBuf),
    #[error("the system's certificate authorities could not be read")]
    SystemRoots,
    #[error("only http and https proxies can carry MQTT")]
    Proxy,
}
