//! The practice tenant as a child process, with its hooks as methods.
//!
//! A certified OpenID provider (npm `oidc-provider`) dressed as Entra; see `practice-tenant/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::http_sign_in;

/// The public client registered in the practice tenant.
pub const CLIENT_ID: &str = "11111111-1111-4111-8111-111111111111";
/// Everybody's password.
pub const PASSWORD: &str = "practice";
/// The tenant of all personal Microsoft accounts.
pub const PERSONAL_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// An organisation's user with a mailbox and an `email` claim.
pub const ALICE: User = User {
    username: "alice@contoso.example",
    mail: "alice@contoso.example",
    tid: "aaaaaaaa-0000-4000-8000-00000000c070",
    oid: "a11ce000-0000-4000-8000-000000000001",
};
/// In Alice's tenant; her sign-in name is not her mailbox, and her tokens have no `email` claim.
pub const ANA: User = User {
    username: "ana.upn@contoso.example",
    mail: "ana@contoso.example",
    tid: ALICE.tid,
    oid: "a0a00000-0000-4000-8000-000000000002",
};
/// In another organisation.
pub const BOB: User = User {
    username: "bob@fabrikam.example",
    mail: "bob@fabrikam.example",
    tid: "bbbbbbbb-0000-4000-8000-00000000fab0",
    oid: "b0b00000-0000-4000-8000-000000000003",
};
/// A personal account.
pub const CAROL: User = User {
    username: "carol@outlook.example",
    mail: "carol@outlook.example",
    tid: PERSONAL_TENANT,
    oid: "00000000-0000-0000-0c40-100000000004",
};

/// Node starts in about a second here; a cold, busy machine is given the rest.
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub username: &'static str,
    pub mail: &'static str,
    pub tid: &'static str,
    pub oid: &'static str,
}

/// A running practice tenant. It ends when this is dropped, or when this process dies.
#[derive(Debug)]
pub struct Tenant {
    /// `http://localhost:PORT`: login and Graph address alike.
    pub origin: String,
    /// The certificate authority's PEM file, with TLS.
    pub ca: Option<PathBuf>,
    hooks: String,
    http: Client,
    /// `None` for a tenant that somebody else started.
    child: Option<Child>,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 0: any free one. A fixed one is for starting again where clients expect it.
    pub port: u16,
    /// Serve https, with a certificate authority made in this folder.
    pub tls: Option<PathBuf>,
}

/// Seconds; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lifetimes {
    pub access: Option<u32>,
    pub refresh: Option<u32>,
    pub id: Option<u32>,
    pub refresh_in: Option<u32>,
}

/// An error that the next requests to an endpoint meet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NextError {
    /// `token`, `authorize`, `devicecode`, `discovery`, `jwks`, `instance` or `graph`.
    pub endpoint: &'static str,
    /// Only a token request with this grant, such as `refresh_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<&'static str>,
    /// How often; once if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// The AADSTS number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suberror: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'static str>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Close the connection without an answer instead.
    pub drop: bool,
}

/// What becomes of a refresh token that has been replaced.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// It still works, as with Entra.
    Tolerant,
    /// It works for a minute.
    Grace,
    /// Presenting it ends the whole grant.
    Strict,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GraphMode {
    Ok,
    /// 401 with a claims challenge.
    Claims,
    /// 429 with Retry-After.
    Throttle,
    /// 403.
    NoLicence,
}

/// One request that the tenant has answered. It never holds a code or token.
#[derive(Clone, Debug, Deserialize)]
pub struct LogLine {
    /// Epoch seconds.
    pub at: f64,
    /// How long the answer took, in milliseconds.
    pub ms: f64,
    pub endpoint: String,
    pub tenant: String,
    pub status: u16,
    pub grant: Option<String>,
    pub client_id: Option<String>,
    pub scope: Option<String>,
    pub prompt: Option<String>,
    pub login_hint: Option<String>,
    pub claims: Option<String>,
    pub response_mode: Option<String>,
    /// `AADSTS…`, or the error's name.
    pub error: Option<String>,
}

/// What must be in no log, file or message that is not meant for it: every one that the tenant ever gave out or saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Secrets {
    pub codes: Vec<String>,
    /// Of PKCE.
    pub verifiers: Vec<String>,
    pub access_tokens: Vec<String>,
    pub refresh_tokens: Vec<String>,
    pub id_tokens: Vec<String>,
    /// Words that stand in the subject or text of every mail.
    pub mail: Vec<String>,
}

impl Secrets {
    /// All of them, whatever they are.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let kinds = [
            &self.codes,
            &self.verifiers,
            &self.access_tokens,
            &self.refresh_tokens,
            &self.id_tokens,
            &self.mail,
        ];
        kinds.into_iter().flatten().map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Ready {
    origin: String,
    hooks: String,
    ca: Option<PathBuf>,
}

impl Tenant {
    /// Starts on any free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&Options::default()).await
    }

    pub async fn start_with(options: &Options) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("practice-tenant");
        ensure!(
            folder.join("node_modules/oidc-provider").is_dir(),
            "the practice tenant is not installed: run `cargo xtask setup`"
        );
        let mut command = Command::new("node");
        command.arg(folder.join("main.mjs")).args(["--port", &options.port.to_string()]);
        if let Some(tls) = &options.tls {
            command.arg("--tls").arg(tls);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node could not be started: run `cargo xtask setup`")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let line = tokio::time::timeout(START_TIMEOUT, BufReader::new(stdout).lines().next_line())
            .await
            .context("the practice tenant took too long to start")??
            .context("the practice tenant ended at once; see its error output")?;
        Ok(Self { child: Some(child), ..Self::attach(&line)? })
    }

    /// The hooks of a tenant that runs already, by the line that it printed. Dropping this does not end it.
    pub fn attach(line: &str) -> anyhow::Result<Self> {
        let Ready { origin, hooks, ca } = serde_json::from_str(line)?;
        Ok(Self { origin, ca, hooks, http: http_sign_in::client()?, child: None })
    }

    /// Ends it and waits for that, so that its port is free again.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child {
            child.kill().await?;
        }
        Ok(())
    }

    /// `{origin}/{tenant}`, for a tenant id or `common`, `organizations`, `consumers`.
    pub fn authority(&self, tenant: &str) -> String {
        format!("{}/{tenant}", self.origin)
    }

    pub async fn lifetimes(&self, lifetimes: Lifetimes) -> anyhow::Result<()> {
        let mut body = serde_json::to_value(lifetimes)?;
        if let Value::Object(members) = &mut body {
            members.retain(|_, value| !value.is_null());
        }
        self.hook("/lifetimes", &body).await
    }

    /// Ends all sign-ins of a user. Access tokens already given out live on, as with Entra.
    pub async fn revoke(&self, user: User) -> anyhow::Result<()> {
        self.hook("/revoke", &json!({ "user": user.username })).await
    }

    pub async fn next_error(&self, error: &NextError) -> anyhow::Result<()> {
        self.hook("/next-error", &serde_json::to_value(error)?).await
    }

    /// Refreshing asks for more than before (a claims challenge) until the user signs in with those claims.
    pub async fn step_up(&self, user: User, on: bool) -> anyhow::Result<()> {
        self.hook("/step-up", &json!({ "user": user.username, "on": on })).await
    }

    /// Lets the answers to a user's token requests name other permissions than were asked for.
    pub async fn granted(&self, user: User, more: &[&str], without: &[&str]) -> anyhow::Result<()> {
        self.hook("/granted", &json!({ "user": user.username, "more": more, "without": without })).await
    }

    /// What Graph says is the address of a user's mailbox. An administrator can write anything there.
    pub async fn mail(&self, user: User, mail: &str) -> anyhow::Result<()> {
        self.hook("/mail", &json!({ "user": user.username, "mail": mail })).await
    }

    /// How Graph behaves to a user: the next `times` requests, or from now on.
    pub async fn graph(&self, user: User, mode: GraphMode, times: Option<u32>) -> anyhow::Result<()> {
        let mut body = json!({ "user": user.username, "mode": mode });
        if let Some(times) = times {
            body["times"] = times.into();
        }
        self.hook("/graph", &body).await
    }

    pub async fn reuse(&self, mode: Reuse) -> anyhow::Result<()> {
        self.hook("/reuse", &json!({ "mode": mode })).await
    }

    /// Whether the user consents after signing in.
    pub async fn consent(&self, user: User, given: bool) -> anyhow::Result<()> {
        self.hook("/consent", &json!({ "user": user.username, "mode": if given { "ok" } else { "deny" } }))
            .await
    }

    pub async fn no_refresh_token(&self, on: bool) -> anyhow::Result<()> {
        self.hook("/no-refresh-token", &json!({ "on": on })).await
    }

    /// Whether a `login_hint` of a known user signs in without the form (never with `prompt=login` or `select_account`).
    pub async fn auto_sign_in(&self, on: bool) -> anyhow::Result<()> {
        self.hook("/auto-sign-in", &json!({ "on": on })).await
    }

    /// Signs with a new key from now on.
    pub async fn rotate_keys(&self, drop_old: bool) -> anyhow::Result<()> {
        self.hook("/rotate-keys", &json!({ "drop_old": drop_old })).await
    }

    /// The requests answered so far, oldest first.
    pub async fn log(&self) -> anyhow::Result<Vec<LogLine>> {
        self.show("/log").await
    }

    /// Requests by endpoint (`authorize`, `token`, `graph`, …), grant (`token:refresh_token`) and Graph path (`graph:/me`).
    pub async fn counts(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.show("/counts").await
    }

    /// One of [`Tenant::counts`]; 0 for what never happened.
    pub async fn count(&self, name: &str) -> anyhow::Result<u64> {
        Ok(self.counts().await?.get(name).copied().unwrap_or_default())
    }

    pub async fn secrets(&self) -> anyhow::Result<Secrets> {
        self.show("/secrets").await
    }

    async fn hook(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.http.post(format!("{}{path}", self.hooks)).json(body).send().await?;
        ensure!(answer.status().is_success(), "hook {path}: {}", answer.text().await?);
        Ok(())
    }

    async fn show<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.http.get(format!("{}{path}", self.hooks)).send().await?.error_for_status()?.json().await?)
    }
}
