//! `valetkey-agent`: the daemon that keeps sign-ins for programs on this machine, and the commands to run it.

mod accounts;
mod broker_files;
mod cli;
mod config;
mod control;
mod desk;
mod own_broker;
mod place;
mod serve;
mod setup;
mod show;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::cli::{Cli, Command};
use crate::config::{BrokerConfig, Config};
use crate::control::{Answer, Answers as _, Problem, Question};
use crate::desk::Desk;
use crate::show::Printer;

/// A person is needed: what `status` and `token` exit with.
const PERSON_NEEDED: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer { json: cli.place.json };
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let outcome = tokio::runtime::Runtime::new()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(cli, printer)));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let problem = match error.downcast::<Failed>() {
                Ok(Failed(problem)) => problem,
                Err(other) => Problem::new("failed", other),
            };
            printer.problem(&problem);
            ExitCode::from(desk::exit_code(&problem))
        }
    }
}

/// A problem on its way through `anyhow`, with its code kept.
#[derive(Debug)]
struct Failed(Problem);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Failed {}

async fn run(cli: Cli, printer: Printer) -> Result<u8> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "valetkey-agent", &mut std::io::stdout());
        return Ok(0);
    }
    let state_dir = cli.place.state_dir()?;
    let config_file = cli.place.config_file()?;
    let ask = async |question| ask(&state_dir, &config_file, question).await;
    match cli.command {
        Command::Init { name, client_id, tenant } => {
            let wishes = setup::Wishes { name, client_id, tenant };
            printer.answer(&setup::init(&state_dir, &config_file, &wishes)?, show::init);
        }
        Command::Serve { broker } => {
            let mut config = Config::load(&config_file)?;
            if let Some(url) = broker {
                use_broker(&mut config, url);
            }
            serve::serve(&state_dir, config, printer).await?;
        }
        Command::Invite { email, allow, expires } => {
            printer.answer(&ask(Question::Invite { email, allow, expires }).await?, show::invite);
        }
        Command::Devices { remove: None } => printer.answer(&ask(Question::Devices).await?, show::devices),
        Command::Devices { remove: Some(id) } => {
            printer.answer(&ask(Question::RemoveDevice { id }).await?, show::device_removed);
        }
        Command::Accounts => printer.answer(&ask(Question::Accounts).await?, show::accounts),
        Command::Token { account, resource } => {
            printer.answer(&ask(Question::Token { account, resource }).await?, show::token);
        }
        Command::Export { account, msal } => {
            let answer = ask(Question::Export { account }).await?;
            write_export(&msal, answer["cache"].as_str().unwrap_or_default())?;
            printer.answer(&json!({ "file": msal }), show::exported);
        }
        Command::Remove { account } => {
            printer.answer(&ask(Question::Remove { account }).await?, show::removed);
        }
        Command::Status => {
            let status = ask(Question::Status).await?;
            printer.answer(&status, show::status);
            let needs = |account: &Value| account["health"] == "reconnect_needed";
            if status["accounts"].as_array().is_some_and(|accounts| accounts.iter().any(needs)) {
                return Ok(PERSON_NEEDED);
            }
        }
        Command::Completions { .. } => {}
    }
    Ok(0)
}

/// `--broker` instead of what the file says about brokers; a login in the file is kept.
fn use_broker(config: &mut Config, url: Url) {
    match &mut config.broker {
        Some(broker) => broker.url = url,
        None => config.broker = Some(BrokerConfig::at(url)),
    }
}

/// The running daemon's answer, or our own under the same lock.
async fn ask(state_dir: &Path, config_file: &Path, question: Question) -> Result<Value> {
    let answer = match control::ask(state_dir, &question)? {
        Some(answer) => answer,
        None => {
            if !state_dir.join("agent.json").exists() {
                anyhow::bail!(
                    "there is no agent in {}; make one with: valetkey-agent init",
                    state_dir.display()
                );
            }
            let config = Config::load(config_file)?;
            let agent = setup::open_agent(state_dir, &config)?;
            let accounts = setup::accounts(&agent, &config, None)?;
            Desk { agent, config, accounts }.answer(question).await
        }
    };
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error(problem) => Err(Failed(problem).into()),
    }
}

/// Readable by its owner alone from the beginning, and never in the place of another file.
fn write_export(path: &Path, cache: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(cache.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
