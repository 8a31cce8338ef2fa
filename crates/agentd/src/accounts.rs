//! Each device's way into the broker: a user at our own, a command's at the operator's, or one credential for all.

use std::fmt::Display;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::process::Command;
use url::Url;
use valetkey_agent::{BrokerAccounts, BrokerAccountsError};
use valetkey_handoff::{BrokerAccess, InviteId, Sensitive, Thumbprint};

use crate::broker_files::{BrokerFiles, Login};
use crate::own_broker::OwnBroker;

/// A person waits for the invite while the command runs.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Users at the agent's own mosquitto. `url` is what devices are told.
#[derive(Debug)]
pub enum OwnAccounts {
    /// The daemon serves.
    Running { broker: Arc<OwnBroker>, url: Url },
    /// A command without one: the broker reads the files when it starts.
    Files { files: BrokerFiles, url: Url },
}

/// Credentials that a command of the operator's makes.
#[derive(Debug)]
pub struct CommandAccounts {
    pub command: Vec<String>,
    pub url: Url,
}

type Done<'a, T> = BoxFuture<'a, Result<T, BrokerAccountsError>>;

fn problem(error: impl Display) -> BrokerAccountsError {
    BrokerAccountsError(format!("{error:#}"))
}

impl BrokerAccounts for OwnAccounts {
    fn grant<'a>(&'a self, invite: &'a InviteId) -> Done<'a, BrokerAccess> {
        Box::pin(async {
            let login = match self {
                Self::Running { broker, .. } => broker.invited(invite.as_str()).await,
                Self::Files { files, .. } => quietly(files, files.new_login(invite.as_str()).await),
            };
            let Login { username, password } = login.map_err(problem)?;
            let (Self::Running { url, .. } | Self::Files { url, .. }) = self;
            let password = Some(Sensitive::new(password));
            Ok(BrokerAccess { url: url.clone(), username: Some(username), password })
        })
    }

    fn enrolled<'a>(&'a self, invite: &'a InviteId, device: &'a Thumbprint) -> Done<'a, ()> {
        let (invite, device) = (invite.as_str(), device.as_str());
        Box::pin(async move {
            let done = match self {
                Self::Running { broker, .. } => broker.enrolled(invite, device).await,
                Self::Files { files, .. } => quietly(files, files.enrolled(invite, device).await).map(drop),
            };
            done.map_err(problem)
        })
    }

    fn revoke<'a>(&'a self, invite: &'a InviteId) -> Done<'a, ()> {
        Box::pin(async {
            let done = match self {
                Self::Running { broker, .. } => broker.revoked(invite.as_str()).await,
                Self::Files { files, .. } => quietly(files, files.revoked(invite.as_str()).await).map(drop),
            };
            done.map_err(problem)
        })
    }
}

/// What was done to the files, once a mosquitto that was left behind has been told.
fn quietly<T>(files: &BrokerFiles, done: Result<T>) -> Result<T> {
    let done = done?;
    files.reload_left_over()?;
    Ok(done)
}

#[derive(Deserialize)]
struct Printed {
    username: String,
    password: Sensitive<String>,
}

impl CommandAccounts {
    /// Runs the command with `verb` and the invite's id behind its own arguments.
    async fn run(&self, verb: &str, more: &[&str]) -> Result<Vec<u8>> {
        let (program, arguments) =
            self.command.split_first().context("device_credential_command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).arg(verb).args(more).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output())
            .await
            .with_context(|| format!("{program} did not end within {COMMAND_LIMIT:?}"))?
            .with_context(|| format!("cannot run {program}"))?;
        if !output.status.success() {
            bail!("{program} {verb} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }
}

impl BrokerAccounts for CommandAccounts {
    fn grant<'a>(&'a self, invite: &'a InviteId) -> Done<'a, BrokerAccess> {
        Box::pin(async {
            let output = self.run("grant", &[invite.as_str()]).await.map_err(problem)?;
            // What the command printed is a secret, so the error does not quote it.
            let printed: Printed = serde_json::from_slice(&output).map_err(|_| {
                problem("device_credential_command did not print {\"username\", \"password\"}")
            })?;
            Ok(BrokerAccess {
                url: self.url.clone(),
                username: Some(printed.username),
                password: Some(printed.password),
            })
        })
    }

    fn enrolled<'a>(&'a self, invite: &'a InviteId, device: &'a Thumbprint) -> Done<'a, ()> {
        Box::pin(async {
            self.run("enrolled", &[invite.as_str(), device.as_str()]).await.map(drop).map_err(problem)
        })
    }

    fn revoke<'a>(&'a self, invite: &'a InviteId) -> Done<'a, ()> {
        Box::pin(async { self.run("revoke", &[invite.as_str()]).await.map(drop).map_err(problem) })
    }
}
