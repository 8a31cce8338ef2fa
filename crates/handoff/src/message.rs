//! The bodies of every kind of message.
//!
//! Readers ignore members they do not know, so a body may grow; a change that old readers must not miss gets
//! a new kind or a new `v`. Times are epoch seconds. Reasons are codes: texts and links never travel, and
//! nothing secret goes to a device.

use std::fmt;

use jiff::Timestamp;
use jiff::fmt::serde::timestamp::second as epoch;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::invite::Terms;
use crate::label::{Code, Label};
use crate::sensitive::Sensitive;

macro_rules! messages {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($variant:ident($body:ty) = $kind:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "kind", content = "body")]
        $vis enum $name {
            $(#[serde(rename = $kind)] $variant($body),)+
        }

        impl Messages for $name {
            fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }
        }

        impl sealed::Parse for $name {
            fn parse(kind: &str, body: &RawValue) -> Result<Self, sealed::ParseFailed> {
                match kind {
                    $($kind => serde_json::from_str(body.get())
                        .map(Self::$variant)
                        .map_err(|_| sealed::ParseFailed::Body($kind)),)+
                    _ => Err(sealed::ParseFailed::UnknownKind),
                }
            }
        }

        $(impl From<$body> for $name {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })+
    };
}

/// The kinds that travel one way: [`ToAgent`] or [`ToDevice`].
pub trait Messages: Serialize + sealed::Parse {
    /// As it stands in the sealed JSON's `kind`.
    fn kind(&self) -> &'static str;
}

messages! {
    /// From a paired device to its agent.
    pub enum ToAgent {
        Hello(Hello) = "hello",
        CacheUpdated(CacheUpdated) = "auth.cache.updated",
        AccessSet(AccessSet) = "access.set",
        AccountDisconnect(AccountDisconnect) = "account.disconnect",
    }
}

messages! {
    /// From an agent to one of its devices.
    pub enum ToDevice {
        Enrolled(Enrolled) = "enrolled",
        Receipt(Receipt) = "receipt",
        State(State) = "state",
        AuthExpired(AuthExpired) = "auth.expired",
    }
}

messages! {
    /// From a device that is not paired yet. Its keys stand in the protected header, under the invite's
    /// proof.
    pub(crate) enum ToEnroll {
        Enroll(Enroll) = "enroll",
    }
}

/// Pair this device, by an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// For the operator's list of devices.
    pub device_name: Label,
}

/// Tell me how my accounts are: answered by [`State`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {}

/// A fresh sign-in: the handoff itself. Judged by its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUpdated {
    pub account: AccountDetails,
    /// The login service, as in [`Terms::authority`].
    pub authority: String,
    pub tenant: String,
    pub client_id: String,
    /// Granted scopes.
    pub scopes: Vec<String>,
    pub capabilities: Vec<String>,
    /// When the access token inside ends.
    #[serde(with = "epoch::required")]
    pub expires_at: Timestamp,
    /// The MSAL token cache: one JSON value, embedded as it is.
    #[serde(with = "json_text")]
    pub cache: Sensitive<String>,
}

/// From now on programs may use only these capabilities of this account. Judged by its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessSet {
    pub account: AccountRef,
    /// One program by its name at the agent, or every program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Label>,
    pub capabilities: Vec<String>,
}

/// Forget this account: targets, permissions and tokens together. Judged by its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDisconnect {
    pub account: AccountRef,
}

/// The device is paired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub agent_name: Label,
    pub terms: Terms,
}

/// What became of one message of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The `jti` of the message this answers.
    pub of: Uuid,
    /// Its generation.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// None where the message could not be read that far, or was about no account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountRef>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// Opened, checked, on the agent's disk, and refreshed once.
    Stored {
        #[serde(with = "epoch::required")]
        refreshed_at: Timestamp,
    },
    /// Done: an access or disconnect message took effect.
    Done,
    /// Nothing was changed.
    Refused { reason: Code },
}

/// Every account of this device, also as a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub accounts: Vec<AccountState>,
    #[serde(with = "epoch::required")]
    pub at: Timestamp,
    /// The `jti` of the [`Hello`] that asked: proof that this was said after it, and is not an old one delivered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    pub account: AccountRef,
    pub username: String,
    pub health: Health,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Code>,
    /// A claims challenge to sign in with (OpenID Connect `claims` parameter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
    /// Of the sign-in that is in use.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// When a token was last got for it.
    #[serde(default, with = "epoch::optional", skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    pub capabilities: Vec<String>,
}

/// A person is needed for this account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthExpired {
    pub account: AccountRef,
    pub reason: Code,
    /// A claims challenge to sign in with (OpenID Connect `claims` parameter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
}

/// How an account is, as the agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Connected,
    Retrying,
    ReconnectNeeded,
    Blocked,
    /// A newer agent's word that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One account: its tenant's and its own object id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountRef {
    pub tid: Uuid,
    pub oid: Uuid,
}

/// An account with what a person knows it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDetails {
    #[serde(flatten)]
    pub id: AccountRef,
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for AccountRef {
    /// `oid.tid`, as MSAL writes a home account id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.oid, self.tid)
    }
}

/// Closed to other crates: the kinds are the protocol.
pub(crate) mod sealed {
    use serde_json::value::RawValue;

    /// Why a body could not be read. Holds nothing of it: it may be secret.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ParseFailed {
        UnknownKind,
        Body(&'static str),
    }

    pub trait Parse: Sized {
        fn parse(kind: &str, body: &RawValue) -> Result<Self, ParseFailed>;
    }
}

/// A text that holds JSON, embedded as the JSON it holds: no second layer of quotes, and every byte of it as
/// it was.
mod json_text {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Error as _, Serialize, Serializer};
    use serde_json::value::RawValue;

    use crate::sensitive::Sensitive;

    pub fn serialize<S: Serializer>(text: &Sensitive<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_str(text.expose())
            .map_err(|_| S::Error::custom("the token cache is not JSON"))?;
        json.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sensitive<String>, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Sensitive::new(Box::<str>::from(json).into_string()))
    }
}
