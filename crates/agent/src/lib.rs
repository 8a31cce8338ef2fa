//! The headless side, as a library any Rust agent can use: it takes sign-ins from the companion, keeps them, refreshes
//! them silently, hands out tokens, and says when a person is needed.
//!
//! It knows the platform (`valetkey-entra`), the messages (`valetkey-handoff`) and the connection (`valetkey-link`). It
//! knows nothing of configuration files, commands or desktops.
//!
//! [`Agent::open`] takes a state directory, [`Agent::run`] keeps it connected, [`Agent::tokens`] serves tokens, and
//! [`Agent::updates`] tells what happens.

mod account_file;
mod agent;
mod arrivals;
pub mod at_rest;
pub mod audit;
mod evidence;
mod folder;
mod health;
mod identity;
mod inbox;
mod intake;
mod progress;
mod provider;
mod refresh;
mod registry;
mod run;
mod schedule;
pub mod state_dir;
mod status;
mod tell;
mod token;
mod unproven;
mod vault;

pub use account_file::{AccountFileError, Verdict};
// For what attacks the reader of the vault's files by itself.
#[doc(hidden)]
pub use account_file::AccountFile;
pub use agent::{Agent, AgentError, AgentOptions, DEFAULT_HEARTBEAT, InviteRequest};
pub use at_rest::{AtRestError, VaultKey};
pub use audit::Caller;
pub use folder::Folder;
pub use health::{BlockedBy, Condition, Health, HealthChange, Update};
pub use identity::IdentityError;
pub use progress::Settled;
pub use registry::{
    BrokerAccounts, BrokerAccountsError, DEFAULT_EXPIRY, Device, MAX_EXPIRY, RegistryError, SharedAccess,
};
pub use state_dir::{StateDir, StateDirError};
pub use status::{AccountStatus, DeviceStatus, FindError, LinkStatus, Removed, Status};
pub use token::{AccessToken, TokenFailure, TokenProvider};
pub use vault::{Trouble, VaultError};

// What this crate's own signatures are made of, so that a small agent needs no other dependency.
pub use tokio_util::sync::CancellationToken;
pub use valetkey_entra::account::AccountId;
pub use valetkey_entra::capability::Resource;
pub use valetkey_handoff::BrokerAccess;
pub use valetkey_link::{Clock, Settings};
