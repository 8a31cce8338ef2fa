//! What the companion shows, on a terminal: a line when something happens, and an exit code at the end.

use std::collections::HashSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::{Command as Process, ExitCode, Stdio};

use url::Url;
use valetkey_companion::Language;
use valetkey_companion::texts::{Label, Text, say};
use valetkey_companion::view::{InviteCard, Screen, View};

const LANGUAGE: Language = Language::English;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Cancelled = 3,
    WrongAccount = 4,
    Blocked = 5,
    NotConfirmed = 6,
    Keyring = 7,
    SignInNeeded = 8,
    NotPaired = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Remembers what was said, so that each thing is said once.
#[derive(Debug, Default)]
pub struct Terminal {
    headline: String,
    steps: HashSet<String>,
}

impl Terminal {
    /// Says what is new in this view.
    pub fn show(&mut self, view: &View) {
        for step in view.steps.iter().filter(|step| step.done) {
            self.step(&step.label);
        }
        if self.headline != view.headline {
            self.headline.clone_from(&view.headline);
            line(&view.headline);
            if let Some(detail) = &view.detail {
                line(detail);
            }
        }
    }

    /// A receipt says that each step was done, whichever of them there was time to show.
    pub fn finish_steps(&mut self, labels: &[String]) {
        if !self.steps.is_empty() {
            for label in labels {
                self.step(label);
            }
        }
    }

    fn step(&mut self, label: &str) {
        if self.steps.insert(label.to_owned()) {
            line(&format!("✓ {label}"));
        }
    }
}

/// Standard output; whoever closed it does not want to know.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub fn text(text: Text<'_>) -> String {
    say(LANGUAGE, text)
}

pub fn show_invite(view: &View, card: &InviteCard) {
    line(&view.headline);
    let reads = card.reads.join(" · ");
    let words = card.words.join(" ");
    let expires = jiff::Timestamp::from_second(card.expires_at)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string())
        .unwrap_or_default();
    let rows = [
        (Label::For, card.email.as_deref()),
        (Label::Reads, Some(reads.as_str())),
        (Label::SignInAt, Some(card.login_host.as_str())),
        (Label::Broker, Some(card.broker_host.as_str())),
        (Label::Expires, Some(expires.as_str())),
        (Label::CompareWords, Some(words.as_str())),
    ];
    for (label, value) in rows {
        if let Some(value) = value {
            line(&format!("  {:<20} {value}", text(Text::Label(label))));
        }
    }
    line(&text(Text::Label(Label::CompareWordsHow)));
    if let Some(warning) = &card.warning {
        line(warning);
    }
}

/// Yes or no, from somebody who is there. `None`: nobody is.
pub fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let _ = write!(io::stdout().lock(), "{question} [y/N] ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// Prints the address, which always works, and tries to open a browser with it.
pub fn open(url: &Url, browser: bool) {
    if browser {
        // The system's own opener, from PATH; it may be missing, and then the address is enough.
        let mut program = if cfg!(target_os = "macos") {
            Process::new("open")
        } else if cfg!(windows) {
            let mut rundll = Process::new("rundll32");
            rundll.arg("url.dll,FileProtocolHandler");
            rundll
        } else {
            Process::new("xdg-open")
        };
        let child = program
            .arg(url.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = child {
            // Reaped when it ends, which a browser that it started in the foreground may never do.
            std::thread::spawn(move || child.wait());
        }
    }
    line(&text(Text::TerminalLink));
    line(url.as_str());
}

/// What a screen at which nothing more will happen means to a script.
pub fn exit_of(view: &View) -> Exit {
    match view.screen {
        Screen::Connected => Exit::Done,
        Screen::WrongAccount => Exit::WrongAccount,
        Screen::Blocked => Exit::Blocked,
        Screen::NotPaired | Screen::Invited => Exit::NotPaired,
        Screen::NotConnected | Screen::Reconnect | Screen::Waiting => Exit::SignInNeeded,
        Screen::Checking | Screen::HandingOver | Screen::AgentOffline => Exit::NotConfirmed,
        Screen::Error => match view.code.as_deref() {
            Some("keyring-locked" | "keyring-unavailable") => Exit::Keyring,
            _ => Exit::Failed,
        },
    }
}

/// The reason, on standard error.
pub fn failed(view: &View) -> Exit {
    complain(&view.headline);
    for more in [&view.detail, &view.copy_text].into_iter().flatten() {
        complain(more);
    }
    exit_of(view)
}
