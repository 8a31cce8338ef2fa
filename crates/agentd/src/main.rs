//! `valetkey-agent`: the daemon that keeps sign-ins for programs on this machine, and the commands to run it.

mod accounts;
mod ask;
mod audit;
mod broker_files;
mod broker_users;
mod cli;
mod control;
mod desk;
mod doctor;
mod export;
mod init;
mod mosquitto;
mod own_broker;
mod place;
mod programs;
mod serve;
mod setup;
mod show;
mod stand_in;
mod suggest;
mod vault;
mod vault_key;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use valetkey_agentd::{config, problem};

use crate::ask::Asker;
use crate::cli::{AuditCommand, Cli, Command};
use crate::config::Config;
use crate::control::Question;
use crate::problem::{Problem, USAGE};
use crate::show::Printer;
use crate::vault_key::Keys;

fn main() -> ExitCode {
    keep_to_ourselves();
    if let Some(failed) = stand_in::become_it() {
        return failed;
    }
    valetkey_checkup::keep_quiet("valetkey-agent");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // It is needed as long as the process lives.
    let printer = Printer { json: cli.place.json, told: cli.place.told().leak() };
    // Before anything else is opened: see there.
    let keys = match Keys::take(&cli) {
        Ok(keys) => keys,
        Err(problem) => {
            printer.problem(&problem);
            return ExitCode::from(problem.exit_code());
        }
    };
    // A command's own answer says what there is to say; a daemon has only its log.
    start_log(if matches!(cli.command, Command::Serve) { "info" } else { "warn" });
    let outcome = tokio::runtime::Runtime::new()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(cli, keys, printer)));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let problem = Problem::of(error);
            printer.problem(&problem);
            ExitCode::from(problem.exit_code())
        }
    }
}

/// Whatever this process or one it starts makes is closed to others, and no core file holds a token.
fn keep_to_ourselves() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Refused only where it is forbidden already.
    let _ = rustix::process::setrlimit(Resource::Core, none);
    // The limit does not hold for a core that is piped to a program; this does, and it closes our memory and environment to
    // other programs of the same user.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn start_log(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Wrong usage, or a wish for help.
fn usage(error: &clap::Error) -> ExitCode {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if help || !std::env::args_os().any(|argument| argument == "--json") {
        // Nothing is left to do where it cannot be printed.
        let _ = error.print();
    } else {
        Printer { json: true, told: "" }.problem(&Problem::new("usage", error.render()));
    }
    ExitCode::from(if help { 0 } else { USAGE })
}

async fn run(cli: Cli, keys: Keys, printer: Printer) -> Result<u8> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "valetkey-agent", &mut script);
        show::bytes(&script)?;
        return Ok(0);
    }
    let asker = Asker {
        state_dir: cli.place.state_dir()?,
        config_file: cli.place.config_file()?,
        broker: cli.place.broker,
        keys,
    };
    let ask = async |question| asker.ask(question).await;
    match cli.command {
        Command::Init { name, client_id, tenant } => {
            let wishes = init::Wishes { name, client_id, tenant };
            printer.answer(
                &init::init(&asker.state_dir, &asker.config_file, &wishes, &asker.keys)?,
                show::init,
            )?;
        }
        Command::Serve => {
            let config = Config::load(&asker.config_file, asker.broker.clone())?;
            let Asker { state_dir, config_file, keys, .. } = &asker;
            Box::pin(serve::serve(state_dir, config, config_file, keys, printer)).await?;
        }
        Command::Invite { email, allow, expires } => {
            printer.answer(&ask(Question::Invite { email, allow, expires }).await?, show::invite)?;
        }
        Command::Devices { remove: None } => printer.answer(&ask(Question::Devices).await?, show::devices)?,
        Command::Devices { remove: Some(id) } => {
            printer.answer(&ask(Question::RemoveDevice { id }).await?, show::device_removed)?;
        }
        Command::Accounts => printer.answer(&ask(Question::Accounts).await?, show::accounts)?,
        Command::Token { account, resource, headers } => {
            let token = ask(Question::Token { account, resource }).await?;
            if headers {
                printer.answer(&show::headers(&token)?, Value::to_string)?;
            } else {
                printer.answer(&token, show::token)?;
            }
        }
        Command::Export { account, msal } => {
            let answer = ask(Question::Export { account }).await?;
            export::write(&msal, &answer)?;
            printer.answer(&json!({ "file": msal }), show::exported)?;
        }
        Command::Remove { account } => {
            printer.answer(&ask(Question::Remove { account }).await?, show::removed)?;
        }
        Command::Status => {
            let status = ask(Question::Status).await?;
            printer.answer(&status, show::status)?;
            return Ok(show::status_code(&status));
        }
        Command::Audit { last, command: None } => {
            printer.answer(&ask(Question::Audit { last }).await?, audit::shown)?;
        }
        Command::Audit { command: Some(AuditCommand::Verify), .. } => {
            let report = ask(Question::AuditVerify).await?;
            printer.answer(&report, audit::verified)?;
            return Ok(u8::from(!audit::is_intact(&report)));
        }
        Command::Doctor { report } => return doctor::examine(&asker, report.as_deref(), printer).await,
        Command::Vault { command } => return vault::run(command, &asker, printer),
        Command::Completions { .. } => {}
    }
    Ok(0)
}
