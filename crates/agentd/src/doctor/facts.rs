//! What was looked at, as it was found. Written into a report as it is, so nothing secret may be in it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::vault_key::Source;

#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    pub at: Timestamp,
    pub directory: Directory,
    /// What is wrong with the configuration, in words; `None`: it can be used.
    pub configuration_problem: Option<String>,
    pub configuration_file: PathBuf,
    pub has_client_id: bool,
    /// `None`: it could not be looked at, or there is none.
    pub vault: Option<Vault>,
    pub agent: Met,
    pub broker: Option<Broker>,
    pub login: Option<Login>,
    /// `None`: it could not be asked for.
    pub audit: Option<Audit>,
}

/// The state directory.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Directory {
    pub path: PathBuf,
    pub exists: bool,
    /// A directory, and no symbolic link to one.
    pub is_plain: bool,
    pub has_agent: bool,
    pub owner: u32,
    pub us: u32,
    pub mode: u32,
    /// What the system says when a file is made there; `None`: it can be.
    pub unwritable: Option<String>,
    pub free_bytes: Option<u64>,
    /// Whose process number stands in the lock's file. It holds it only if it still runs.
    pub holder: Option<u32>,
}

/// How the vault is at rest. Never a key.
#[derive(Debug, Clone, Serialize)]
pub struct Vault {
    pub sealed: bool,
    /// Sealing, unsealing or a change of keys did not come to its end.
    pub interrupted: bool,
    /// Of the daemon where one runs, else of this command.
    pub key_from: Option<Source>,
    pub key_file: Option<PathBuf>,
}

/// Whom the questions were put to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// The daemon.
    Running { status: Status },
    /// Nobody serves; `try_broker` is what a try of our own at the operator's broker came to.
    NotRunning { status: Status, try_broker: Option<Tried> },
    /// The directory cannot be used; `code` as in errors.
    Neither { code: String, message: String },
}

/// What a try at the broker came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tried {
    Reached,
    /// In the words of [`valetkey_link::Problem`].
    Failed(String),
    /// The settings cannot be used at all: a file that is missing, say.
    Unusable(String),
}

/// Of the agent's own status what helps here: nothing that names a device's owner or a scope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub link: Link,
    pub accounts: Vec<Account>,
    pub devices: Vec<Device>,
    pub open_invites: usize,
    pub refused_messages: u64,
    pub troubles: Vec<Trouble>,
    #[serde(default)]
    pub vault_key_from: Option<Source>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    pub state: String,
    pub since: Option<Timestamp>,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    pub username: String,
    pub health: String,
    pub reason: Option<String>,
    pub since: Timestamp,
    pub refreshed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    pub enrolled_at: Timestamp,
    pub heard_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trouble {
    pub file: String,
    pub problem: String,
}

/// Which broker it is, and what is known of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Broker {
    Own {
        /// `None`: mosquitto is not installed, or one of its programs is missing.
        mosquitto: Option<Mosquitto>,
        /// As in the generated configuration.
        max_queued_messages: u32,
        /// Where devices reach it.
        address: String,
        /// Other machines reach it, and without TLS.
        open_without_tls: bool,
    },
    Operators {
        /// The address without a login; it cannot hold one.
        url: String,
        tls: bool,
        loopback: bool,
        proxy: Option<String>,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct Mosquitto {
    pub program: PathBuf,
    pub version: Option<String>,
}

/// Microsoft's sign-in service.
#[derive(Debug, Clone, Serialize)]
pub struct Login {
    pub host: String,
    pub proxy: Option<String>,
    /// Why it cannot be used now, in the words of [`valetkey_entra::reach::NotReached`].
    pub problem: Option<String>,
    /// Seconds that this computer's clock is ahead.
    pub clock_ahead: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    pub intact: bool,
    pub lines: u64,
    pub problems: Vec<String>,
}
