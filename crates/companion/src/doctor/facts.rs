//! What was looked at, as it was found. Written into a report as it is, so nothing secret may be in it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use valetkey_entra::reach::NotReached;
use valetkey_link::Problem;

use crate::state::Health;

#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub at: Timestamp,
    /// Whether there is a program that opens the browser.
    pub browser: bool,
    /// Whether the browser can come back to a port of this computer.
    pub loopback: bool,
    pub data_dir: PathBuf,
    /// What the system says when a file is made there; `None`: it can be, or nothing was there to try.
    pub data_dir_problem: Option<String>,
    pub policy_file: Option<PathBuf>,
    pub policy: Policy,
    /// Without the certificates that were named for the broker there is no connection.
    pub certificates_problem: Option<Unusable>,
    pub pairing: Pairing,
    pub keys: Keys,
    /// A companion runs on the data directory, and has the connection.
    pub in_use: bool,
    pub login: Option<Login>,
    pub broker: Option<Broker>,
    pub assistant: Option<Assistant>,
    /// What was sealed here and has no receipt, oldest first.
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    None,
    InForce,
    /// It is in force and forbids the assistant that this computer is linked to.
    Forbids,
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    File(PathBuf),
    /// The system's list of authorities.
    OfTheSystem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    Missing,
    Unusable,
    /// The assistant has not confirmed it yet.
    Begun,
    Paired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Without a pairing the keyring is not asked.
    NotAsked,
    There,
    /// The keyring is open and has none, or others' keys.
    Missing,
    Locked,
    NoKeyring,
    Unusable,
}

/// Microsoft's sign-in service.
#[derive(Clone, Debug, Serialize)]
pub struct Login {
    pub host: String,
    pub proxy: Option<String>,
    #[serde(serialize_with = "in_words")]
    pub problem: Option<NotReached>,
    /// Seconds that this computer's clock is ahead.
    pub clock_ahead: Option<i64>,
}

/// The server between this computer and the assistant.
#[derive(Clone, Debug, Serialize)]
pub struct Broker {
    pub host: String,
    /// The way to it is secure, or does not leave this computer.
    pub secure: bool,
    pub proxy: Option<String>,
    #[serde(serialize_with = "in_words")]
    pub problem: Option<Problem>,
}

/// What the assistant answered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Assistant {
    pub answered_at: Option<Timestamp>,
    /// Its presence at the broker, which is a hint that anybody could write.
    pub said_online: Option<bool>,
    pub accounts: Vec<Account>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Account {
    pub address: String,
    #[serde(serialize_with = "as_debug")]
    pub health: Health,
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub what: Kept,
    pub since: Timestamp,
}

/// What can wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Link,
    SignIn,
    Disconnect,
}

impl Facts {
    /// Every person that is named in here.
    pub fn people(&self) -> Vec<&str> {
        self.assistant.iter().flat_map(|one| &one.accounts).map(|account| account.address.as_str()).collect()
    }
}

#[allow(clippy::ref_option, reason = "as serde calls it")]
fn in_words<T: std::fmt::Display, S: Serializer>(problem: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match problem {
        Some(problem) => to.collect_str(problem),
        None => to.serialize_none(),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_debug<S: Serializer>(health: &Health, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{health:?}"))
}
