//! An invite: one link that pairs a device with an agent and says what to sign in to.
//!
//! Anybody can make a link, so reading one proves nothing and does nothing: it only says who claims to ask,
//! and for what. Its texts are shown to a person, so it refuses texts that could look like others, and its
//! addresses will be contacted, so it refuses schemes that are not ours.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::fmt::serde::timestamp::second as epoch;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use url::{Host, Url};

use crate::encoding;
use crate::keys::PublicKeys;
use crate::label::{Code, Label, is_deceptive};
use crate::sensitive::Sensitive;

/// A usual invite makes a link of 1,000 to 1,200 characters (a QR code holds 2,953 bytes). Bounds what a
/// pasted text can cost.
pub const MAX_LINK_CHARS: usize = 4096;

/// Longest text of one field; addresses of e-mail end at 254 (RFC 5321), and nothing here needs to be longer.
const MAX_FIELD_CHARS: usize = 254;

/// More capabilities than any provider has.
const MAX_CAPABILITIES: usize = 32;

const SCHEME_PREFIX: &str = "valetkey://invite/";
const VERSION: u64 = 1;
const ID_LABEL: &[u8] = b"valetkey/invite-id/v1";
const ID_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// What the agent calls itself.
    pub name: Label,
    pub agent: PublicKeys,
    pub broker: BrokerAccess,
    pub secret: InviteSecret,
    /// By the agent's clock.
    #[serde(rename = "exp", with = "epoch::required")]
    pub expires_at: Timestamp,
    pub terms: Terms,
}

/// Where to meet the agent, and this device's credential there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAccess {
    /// `mqtt`, `mqtts`, `ws` or `wss`, without a credential in it.
    pub url: Url,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Sensitive<String>>,
}

/// What the person is asked to sign in to, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The expected person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The login service's base address, https (http on loopback).
    pub authority: String,
    /// Microsoft Graph's base address, if it is not the one that belongs to the authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// A tenant id or domain, or `organizations`, `consumers`, `common`.
    pub tenant: String,
    pub client_id: String,
    pub capabilities: Vec<String>,
}

/// 128 random bits that prove, once, that a device holds the invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteSecret(Sensitive<[u8; 16]>);

/// The public name of an invite, made from its secret by hash: 22 characters, safe in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InviteId(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InviteError {
    #[error("this is not an invite link")]
    NotAnInvite,
    #[error("this is too long for an invite link")]
    TooLong,
    #[error("the invite link is incomplete or damaged")]
    Damaged,
    #[error("the invite has version {0}, this program reads version 1")]
    UnsupportedVersion(u64),
    #[error("the invite's {0} is not acceptable")]
    Unacceptable(Field),
}

/// Which part of an invite is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    Broker,
    Email,
    Authority,
    Graph,
    Tenant,
    ClientId,
    Capabilities,
}

impl Invite {
    /// Its public name.
    pub fn id(&self) -> InviteId {
        self.secret.id()
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// `valetkey://invite/…`, which the companion is registered for. Whoever has it can pair: show it to one
    /// person.
    pub fn to_link(&self) -> Result<Sensitive<String>, InviteError> {
        let data = self.to_data()?;
        Ok(Sensitive::new(format!("{SCHEME_PREFIX}{}", data.expose())))
    }

    /// The same as a page's address that opens the companion. The invite is the fragment, which browsers keep
    /// to themselves, so the web server never learns it.
    pub fn to_https_link(&self, page: &Url) -> Result<Sensitive<String>, InviteError> {
        if page.scheme() != "https" {
            return Err(InviteError::NotAnInvite);
        }
        let data = self.to_data()?;
        let mut link = page.clone();
        link.set_fragment(Some(data.expose()));
        Ok(Sensitive::new(link.into()))
    }

    /// Reads either link as people paste it: broken over lines, in quotes or angle brackets, with a full stop
    /// behind.
    pub fn parse(pasted: &str) -> Result<Self, InviteError> {
        // Measured first, so that a huge paste costs nothing. Line breaks and quotes need little beside the
        // link.
        if pasted.len() > 2 * MAX_LINK_CHARS {
            return Err(InviteError::TooLong);
        }
        let link: Sensitive<String> =
            Sensitive::new(pasted.chars().filter(|c| !c.is_whitespace() && !is_deceptive(*c)).collect());
        let link = link.expose().trim_matches(is_wrapping);
        if link.len() > MAX_LINK_CHARS {
            return Err(InviteError::TooLong);
        }
        let data = data_of(link).ok_or(InviteError::NotAnInvite)?;
        Self::from_data(data)
    }

    fn to_data(&self) -> Result<Sensitive<String>, InviteError> {
        self.check()?;
        let versioned = Versioned { v: VERSION, invite: self };
        let json = Sensitive::new(serde_json::to_vec(&versioned).map_err(|_| InviteError::Damaged)?);
        let data = Sensitive::new(encoding::encode(json.expose()));
        if SCHEME_PREFIX.len() + data.expose().len() > MAX_LINK_CHARS {
            return Err(InviteError::TooLong);
        }
        Ok(data)
    }

    fn from_data(data: &str) -> Result<Self, InviteError> {
        let json = encoding::decode(data).map(Sensitive::new).ok_or(InviteError::Damaged)?;
        let OnlyVersion { v } = serde_json::from_slice(json.expose()).map_err(|_| InviteError::Damaged)?;
        if v != VERSION {
            return Err(InviteError::UnsupportedVersion(v));
        }
        let invite: Self = serde_json::from_slice(json.expose()).map_err(|_| InviteError::Damaged)?;
        invite.check()?;
        Ok(invite)
    }

    fn check(&self) -> Result<(), InviteError> {
        self.broker.check()?;
        self.terms.check()
    }
}

impl BrokerAccess {
    fn check(&self) -> Result<(), InviteError> {
        let url = &self.url;
        let good = matches!(url.scheme(), "mqtt" | "mqtts" | "ws" | "wss")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && url.as_str().len() <= MAX_FIELD_CHARS
            && self.username.as_deref().is_none_or(is_one_line)
            && self.password.as_ref().is_none_or(|password| is_one_line(password.expose()));
        accept(good, Field::Broker)
    }
}

impl Terms {
    /// Whether these terms may be shown and followed: plain one-line texts, and https addresses (http on
    /// loopback).
    pub fn check(&self) -> Result<(), InviteError> {
        let email = self.email.as_deref();
        accept(email.is_none_or(is_email), Field::Email)?;
        accept(is_web_service(&self.authority), Field::Authority)?;
        accept(self.graph.as_deref().is_none_or(is_web_service), Field::Graph)?;
        accept(is_name(&self.tenant), Field::Tenant)?;
        accept(is_name(&self.client_id), Field::ClientId)?;
        let capabilities = &self.capabilities;
        let good = capabilities.len() <= MAX_CAPABILITIES
            && capabilities.iter().all(|capability| capability.parse::<Code>().is_ok());
        accept(good, Field::Capabilities)
    }
}

impl InviteSecret {
    pub fn generate() -> Self {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes);
        Self(Sensitive::new(bytes))
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Sensitive::new(bytes))
    }

    /// The invite's public name. One way: the name tells nothing of the secret.
    pub fn id(&self) -> InviteId {
        let hash = Sha256::new().chain_update(ID_LABEL).chain_update(self.expose()).finalize();
        InviteId(encoding::encode(&hash[..ID_BYTES]))
    }

    pub(crate) fn expose(&self) -> &[u8; 16] {
        self.0.expose()
    }
}

impl InviteId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The part of a link that holds the invite.
fn data_of(link: &str) -> Option<&str> {
    let starts_with =
        |prefix: &str| link.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let data = if starts_with(SCHEME_PREFIX) {
        // Some systems end an address with a slash.
        link[SCHEME_PREFIX.len()..].trim_end_matches('/')
    } else if starts_with("https://") {
        link.split_once('#')?.1
    } else {
        return None;
    };
    (!data.is_empty()).then_some(data)
}

/// What stands around a link in a chat or an e-mail.
fn is_wrapping(c: char) -> bool {
    matches!(
        c,
        '<' | '>'
            | '"'
            | '\''
            | '`'
            | '('
            | ')'
            | '['
            | ']'
            | '.'
            | ','
            | ';'
            | '“'
            | '”'
            | '„'
            | '‘'
            | '’'
            | '«'
            | '»'
            | '‹'
            | '›'
    )
}

fn accept(good: bool, field: Field) -> Result<(), InviteError> {
    if good { Ok(()) } else { Err(InviteError::Unacceptable(field)) }
}

fn is_one_line(text: &str) -> bool {
    text.chars().count() <= MAX_FIELD_CHARS && !text.chars().any(is_deceptive)
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    !local.is_empty() && !domain.is_empty() && !text.contains(char::is_whitespace) && is_one_line(text)
}

fn is_name(text: &str) -> bool {
    (1..=MAX_FIELD_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn is_web_service(text: &str) -> bool {
    let Ok(url) = text.parse::<Url>() else {
        return false;
    };
    let on_loopback = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain && is_one_line(text) && (url.scheme() == "https" || (url.scheme() == "http" && on_loopback))
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u64,
    #[serde(flatten)]
    invite: &'a Invite,
}

#[derive(Deserialize)]
struct OnlyVersion {
    v: u64,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker",
            Self::Email => "e-mail address",
            Self::Authority => "login service",
            Self::Graph => "Graph address",
            Self::Tenant => "tenant",
            Self::ClientId => "client id",
            Self::Capabilities => "list of capabilities",
        })
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InviteId {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        match encoding::decode_array::<ID_BYTES>(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(InviteError::Damaged),
        }
    }
}

impl TryFrom<String> for InviteId {
    type Error = InviteError;

    fn try_from(text: String) -> Result<Self, InviteError> {
        text.parse()
    }
}

impl From<InviteId> for String {
    fn from(id: InviteId) -> String {
        id.0
    }
}

impl Serialize for InviteSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encoding::encode(self.expose()))
    }
}

impl<'de> Deserialize<'de> for InviteSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Sensitive::<String>::deserialize(deserializer)?;
        encoding::decode_array(text.expose())
            .map(Self::from_bytes)
            .ok_or_else(|| D::Error::custom("not 16 bytes in base64url"))
    }
}
