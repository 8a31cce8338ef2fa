//! The companion for a terminal: the same decisions and the same words as the desktop's, shown line by line.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use tokio::sync::{mpsc, watch};
use valetkey_companion::texts::{Step, Text};
use valetkey_companion::view::{Screen, View};
use valetkey_companion::{
    Clock, Command as Do, Companion, Handle, InviteLink, KeyFile, KeyStore, Language, Options, OsKeyring,
    Outlet, Way,
};

use args::{Cli, Command, SignIn};
use terminal::{Exit, Terminal, ask, complain, exit_of, failed, line, open, show_invite, text};

mod args;
mod doctor;
mod terminal;

/// Longer than a keyring gets to open and an assistant gets to answer, so that the reason is what is shown.
const STATUS_WAIT: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    valetkey_companion::memory::keep_to_ourselves();
    valetkey_checkup::keep_quiet("valetkey-cli");
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "valetkey-cli", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let level = if cli.verbose { "info,valetkey_companion=debug,valetkey_link=debug" } else { "error" };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(run(cli));
    // A keyring that hangs must not keep the terminal.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match exit {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&format!("{error:#}"));
            Exit::Failed.into()
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let (connect, in_keyring) = (cli.connect_again(), cli.key_file.is_none());
    let data_dir = cli.data_dir.map_or_else(default_data_dir, Ok)?;
    let keys: Arc<dyn KeyStore> = match cli.key_file {
        Some(path) => Arc::new(KeyFile::new(path)),
        None => Arc::new(OsKeyring::new(&data_dir.display().to_string())),
    };
    let way = match &cli.command {
        Command::Accept { sign_in, .. } | Command::Connect { sign_in } if sign_in.device_code => {
            Way::DeviceCode
        }
        Command::Accept { sign_in, .. } | Command::Connect { sign_in } => Way::Browser { port: sign_in.port },
        _ => Way::Browser { port: None },
    };
    let (outlets, outlet) = mpsc::unbounded_channel();
    let options = Options {
        // The system's holds anyway.
        policy_file: None,
        data_dir,
        keys,
        outlets,
        clock: Clock::system(),
        language: Language::English,
        device_name: device_name(),
        sign_in: way,
        broker_ca: cli.broker_ca,
    };
    if let Command::Doctor { json, report } = cli.command {
        return doctor::examine(&options, json, report.as_deref()).await;
    }
    let companion = Companion::start(options);
    let terminal = Terminal::default();
    let mut talk = Talk { views: companion.views(), companion, outlet, terminal, connect };
    let exit = match cli.command {
        Command::Accept { invite, yes, sign_in } => talk.accept(&invite, yes, sign_in).await,
        Command::Connect { sign_in } => talk.connect(sign_in).await,
        Command::Status { json } => talk.status(json).await,
        Command::Unpair { yes } => talk.unpair(yes).await,
        Command::Doctor { .. } | Command::Completions { .. } => Ok(Exit::Done),
    };
    if in_keyring && talk.views.borrow().code.as_deref() == Some("keyring-unavailable") {
        complain(&text(Text::TerminalNoKeyring));
    }
    talk.companion.stop().await;
    exit
}

struct Talk {
    companion: Handle,
    views: watch::Receiver<View>,
    outlet: mpsc::UnboundedReceiver<Outlet>,
    terminal: Terminal,
    /// The command that goes on from here.
    connect: String,
}

impl Talk {
    async fn accept(&mut self, invite: &str, yes: bool, sign_in: SignIn) -> anyhow::Result<Exit> {
        let link = match invite {
            "-" => {
                let mut text = String::new();
                let input = std::io::stdin();
                // Somebody who pastes it ends with Enter, and is asked there afterwards.
                if input.is_terminal() {
                    input.read_line(&mut text)
                } else {
                    input.lock().read_to_string(&mut text)
                }
                .context("the invite could not be read from standard input")?;
                text
            }
            link => link.to_owned(),
        };
        let settled = self.settled().await?;
        if settled.screen == Screen::Error {
            return Ok(failed(&settled));
        }
        self.companion.send(Do::PasteInvite { link: InviteLink::new(link) });
        let view = self.until(|view| matches!(view.screen, Screen::Invited | Screen::Error)).await?;
        let Some(card) = &view.invite else { return Ok(failed(&view)) };
        show_invite(&view, card);
        let question = view.actions.first();
        if let Some(confirm) = question.and_then(|action| action.confirm.as_deref()) {
            line(confirm);
        }
        let agreed = yes
            || match ask(question.map_or("", |action| action.label.as_str())) {
                Some(answer) => answer,
                None => {
                    complain(&text(Text::TerminalNotAsked));
                    return Ok(Exit::Cancelled);
                }
            };
        if !agreed {
            line(&text(Text::TerminalDeclined));
            return Ok(Exit::Cancelled);
        }
        self.companion.send(Do::AcceptInvite { invite: Some(card.id.clone()) });
        self.until(|view| view.screen != Screen::Invited).await?;
        self.finish(sign_in).await
    }

    async fn finish(&mut self, sign_in: SignIn) -> anyhow::Result<Exit> {
        let exit = self.follow(sign_in).await?;
        // Then it was waited for.
        let patience = if exit == Exit::NotConfirmed { 0 } else { sign_in.wait };
        self.linked(Duration::from_secs(patience)).await?;
        Ok(exit)
    }

    /// An invite works for some minutes: whatever became of the sign-in, the assistant is to know this computer by then.
    async fn linked(&mut self, patience: Duration) -> anyhow::Result<()> {
        // Nobody answers: waiting here would bring nothing.
        let over = |view: &View| {
            view.assistant
                .as_ref()
                .is_none_or(|assistant| assistant.enrolled || assistant.online == Some(false))
        };
        tokio::select! {
            waited = tokio::time::timeout(patience, self.until(over)) => if let Ok(view) = waited { drop(view?) },
            _ = tokio::signal::ctrl_c() => {}
        }
        if self.views.borrow().assistant.as_ref().is_some_and(|assistant| !assistant.enrolled) {
            complain(&text(Text::TerminalNotLinked { connect: &self.connect }));
        }
        Ok(())
    }

    async fn connect(&mut self, sign_in: SignIn) -> anyhow::Result<Exit> {
        let view = self.settled().await?;
        match view.screen {
            Screen::NotConnected | Screen::Reconnect => {
                self.terminal.show(&view);
                self.companion.send(Do::Connect);
                self.until(|view| !matches!(view.screen, Screen::NotConnected | Screen::Reconnect)).await?;
            }
            Screen::Blocked => self.companion.send(Do::Retry),
            Screen::HandingOver | Screen::AgentOffline => {}
            _ => {
                self.terminal.show(&view);
                return Ok(exit_of(&view));
            }
        }
        self.finish(sign_in).await
    }

    /// Shows what happens until there is nothing more to wait for.
    async fn follow(&mut self, sign_in: SignIn) -> anyhow::Result<Exit> {
        // Runs only while the assistant is waited for: a person at a sign-in page has the page's own time limit.
        let patience = Duration::from_secs(sign_in.wait);
        let mut deadline = None;
        loop {
            let view = self.views.borrow_and_update().clone();
            self.terminal.show(&view);
            match view.screen {
                Screen::Connected => {
                    self.terminal
                        .finish_steps(&[Step::Delivered, Step::Stored].map(|step| text(Text::Step(step))));
                    return Ok(Exit::Done);
                }
                Screen::NotConnected | Screen::Reconnect | Screen::NotPaired => return Ok(Exit::Cancelled),
                Screen::WrongAccount | Screen::Blocked | Screen::Error => return Ok(failed(&view)),
                Screen::HandingOver | Screen::AgentOffline | Screen::Checking => {
                    deadline.get_or_insert_with(|| tokio::time::Instant::now() + patience);
                }
                Screen::Waiting | Screen::Invited => deadline = None,
            }
            let late = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.views.changed() => changed.context("the companion has ended")?,
                Some(outlet) = self.outlet.recv() => {
                    if let Outlet::OpenBrowser(url) = outlet {
                        open(&url, !sign_in.no_browser);
                    }
                }
                () = late => {
                    line(&text(Text::TerminalLater { connect: &self.connect }));
                    return Ok(Exit::NotConfirmed);
                }
                _ = tokio::signal::ctrl_c() => {
                    self.companion.send(Do::Cancel);
                    return Ok(Exit::Cancelled);
                }
            }
        }
    }

    async fn status(&mut self, json: bool) -> anyhow::Result<Exit> {
        let view = self.settled().await?;
        if json {
            line(&serde_json::to_string_pretty(&view)?);
        } else {
            self.terminal.show(&view);
            for account in &view.accounts {
                line(&format!("  {} · {}", account.address, account.status));
            }
            if let Some(assistant) = &view.assistant {
                line(&format!("  {} · {}", assistant.name, assistant.status));
            }
        }
        Ok(exit_of(&view))
    }

    async fn unpair(&mut self, yes: bool) -> anyhow::Result<Exit> {
        let view = self.settled().await?;
        if view.assistant.is_none() {
            self.terminal.show(&view);
            return Ok(exit_of(&view));
        }
        let unpair =
            view.actions.iter().find(|action| action.id == valetkey_companion::view::ActionId::Unpair);
        if let Some(confirm) = unpair.and_then(|action| action.confirm.as_deref()) {
            line(confirm);
        }
        if !yes && ask(unpair.map_or("", |action| action.label.as_str())) != Some(true) {
            complain(&text(Text::TerminalNotAsked));
            return Ok(Exit::Cancelled);
        }
        self.companion.send(Do::Unpair);
        self.until(|view| view.assistant.is_none()).await?;
        line(&text(Text::TerminalUnpaired));
        Ok(Exit::Done)
    }

    /// The first view that says something: the keys are read, and the assistant has answered or had its time.
    async fn settled(&mut self) -> anyhow::Result<View> {
        let known = |view: &View| {
            let waits_for_answer =
                view.assistant.as_ref().is_some_and(|assistant| assistant.online.is_none());
            view.screen != Screen::Checking && !waits_for_answer
        };
        match tokio::time::timeout(STATUS_WAIT, self.until(known)).await {
            Ok(view) => view,
            Err(_) => Ok(self.views.borrow().clone()),
        }
    }

    async fn until(&mut self, wanted: impl FnMut(&View) -> bool) -> anyhow::Result<View> {
        Ok(self.views.wait_for(wanted).await.context("the companion has ended")?.clone())
    }
}

/// The convention of each system.
fn default_data_dir() -> anyhow::Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        var("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        var("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")))
    };
    Ok(base.context("no home directory; name one with --data-dir")?.join("valet-key-cli"))
}

fn device_name() -> String {
    let from_file = || std::fs::read_to_string("/etc/hostname").ok();
    let name = std::env::var("COMPUTERNAME").ok().or_else(from_file).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "A terminal".to_owned() } else { format!("{name} (terminal)") }
}
