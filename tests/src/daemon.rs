//! `valetkey-agent` as an operator has it: a state directory, a configuration, a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::free_port;
use crate::program::{Program, output, program};

/// A state directory with keys and a configuration in it.
#[derive(Debug, Clone)]
pub struct Daemon {
    state_dir: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Runs `init`, for people of `tenant` who sign in at `origin` (the practice tenant). `more` goes to the end of the
    /// configuration: sections for brokers.
    pub fn init(folder: &Path, origin: &str, tenant: &str, client_id: &str, more: &str) -> Result<Self> {
        let cloud = format!("cloud = \"custom\"\nlogin_url = \"{origin}\"\ngraph_url = \"{origin}\"\n");
        Self::init_in(folder, &cloud, tenant, client_id, more)
    }

    /// The same for people who sign in at Microsoft's own address: see [`crate::private_network`].
    pub fn init_global(folder: &Path, tenant: &str, client_id: &str) -> Result<Self> {
        Self::init_in(folder, "cloud = \"global\"\n", tenant, client_id, "")
    }

    fn init_in(folder: &Path, cloud: &str, tenant: &str, client_id: &str, more: &str) -> Result<Self> {
        let daemon = Self { state_dir: folder.join("agent"), log: folder.join("agent.log") };
        let init = daemon.run(&["init", "--name", "Practice assistant", "--client-id", client_id])?;
        if init.0 != 0 {
            bail!("init failed: {}", init.1);
        }
        let own_port = if more.contains("[broker]") {
            String::new()
        } else {
            format!("[own_broker]\nport = {}\n", free_port()?)
        };
        fs::File::create(daemon.state_dir.join("agent.toml")).and_then(|mut file| {
            use std::io::Write as _;
            write!(
                file,
                "name = \"Practice assistant\"\nclient_id = \"{client_id}\"\ntenant = \"{tenant}\"\n\
                 {cloud}{own_port}{more}"
            )
        })?;
        Ok(daemon)
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `valetkey-agent` with these arguments, not started yet.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("valetkey-agent")?);
        command.arg("--state-dir").arg(&self.state_dir).args(args).env("RUST_LOG", "debug");
        Ok(command)
    }

    /// Starts `serve`, and returns once the broker is reached.
    pub async fn serve(&self) -> Result<Program> {
        let mut serving = Program::start(&mut self.command(&["serve", "--json"])?, &self.log)?;
        serving.event("online").await?;
        Ok(serving)
    }

    /// Runs a command to its end: its exit code, and what it printed.
    pub fn run(&self, args: &[&str]) -> Result<(i32, String)> {
        let output = output(&mut self.command(args)?)?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Runs a command with `--json`: its exit code, and the object it printed.
    pub fn ask(&self, args: &[&str]) -> Result<(i32, Value)> {
        let output = output(self.command(args)?.arg("--json"))?;
        let value = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("{args:?} printed no JSON: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        Ok((output.status.code().unwrap_or(-1), value))
    }

    /// An invite's link.
    pub fn invite(&self, email: &str) -> Result<String> {
        let (code, invite) = self.ask(&["invite", "--email", email])?;
        let link = invite["link"].as_str().map(str::to_owned);
        link.with_context(|| format!("invite ended with {code}: {invite}"))
    }

    /// A token, or the whole answer as the error.
    pub fn token(&self, account: &str) -> Result<String> {
        let (code, answer) = self.ask(&["token", "--account", account])?;
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.with_context(|| format!("token ended with {code}: {answer}"))
    }

    /// The one vault file.
    pub fn vault_file(&self) -> Result<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.state_dir.join("vault"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        match (files.pop(), files.len()) {
            (Some(file), 0) => Ok(file),
            (_, others) => bail!("{} accounts in the vault, not one", others + 1),
        }
    }
}
