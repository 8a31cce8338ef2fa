//! The check from inside the companion that runs, for its window: on the same data directory and the same keyring, and with
//! what it knows of the connection that it has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use valetkey_link::{Problem, Refusal};

use super::facts;
use super::look::look_within;
use super::sheet::Sheet;
use crate::controller::Options;
use crate::outlet::Outlet;
use crate::problem::KeysProblem;
use crate::state::{Account, HELLO_PATIENCE, LINK_GRACE, LinkProblem, LinkState, Pairing, State};

/// Looks when it is asked, and remembers what it found last.
#[derive(Clone, Debug)]
pub struct Doctor {
    options: Options,
    pulse: watch::Receiver<Pulse>,
    /// Has the companion ask the assistant how it is.
    ask: mpsc::UnboundedSender<()>,
    report: Arc<Mutex<Option<String>>>,
}

/// What the companion that runs knows, as far as a check wants to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    linked: Linked,
    in_use: bool,
    link: LinkState,
    said_online: Option<bool>,
    accounts: Vec<Account>,
    /// How often the assistant itself has said how things are.
    answers: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Linked {
    #[default]
    NotKnownYet,
    No,
    Yes,
}

/// What came of asking.
#[derive(Debug)]
pub(super) struct Known {
    /// Another companion has the data directory.
    pub in_use: bool,
    /// `None`: this one has none.
    pub connection: Option<Connection>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub problem: Option<Problem>,
    pub assistant: facts::Assistant,
}

impl Pulse {
    pub fn of(state: &State, answers: u64) -> Self {
        let linked = match state.pairing {
            Pairing::Checking => Linked::NotKnownYet,
            Pairing::Missing | Pairing::NoKeys { .. } => Linked::No,
            Pairing::Paired(_) => Linked::Yes,
        };
        Self {
            linked,
            in_use: matches!(state.pairing, Pairing::NoKeys { problem: KeysProblem::InUse(_), .. }),
            link: state.link,
            said_online: state.agent_online,
            accounts: state.heard.clone().unwrap_or_default(),
            answers,
        }
    }

    fn is_up(&self) -> bool {
        self.link == LinkState::Up
    }

    fn may_come_up(&self, now: Timestamp) -> bool {
        match self.link {
            LinkState::Down { since, .. } => now.duration_since(since) < LINK_GRACE,
            LinkState::Unknown | LinkState::Up => true,
        }
    }

    fn problem(&self) -> Option<Problem> {
        match self.link {
            LinkState::Up => None,
            LinkState::Unknown => Some(Problem::Unreachable),
            LinkState::Down { reason, .. } => Some(match reason {
                LinkProblem::Unreachable => Problem::Unreachable,
                LinkProblem::NotSecure => Problem::TlsUntrusted,
                LinkProblem::WrongName => Problem::TlsWrongName,
                LinkProblem::Expired => Problem::TlsExpired,
                LinkProblem::Refused => Problem::Refused(Refusal::NotAuthorized),
                LinkProblem::NoCertificate => Problem::Refused(Refusal::ClientCertificate),
            }),
        }
    }
}

impl Doctor {
    pub(crate) fn new(
        options: Options,
        pulse: watch::Receiver<Pulse>,
        ask: mpsc::UnboundedSender<()>,
    ) -> Self {
        Self { options, pulse, ask, report: Arc::default() }
    }

    /// Looks at everything, which takes half a minute at most where nothing answers.
    pub async fn examine(&self, program: &'static str) -> Sheet {
        let facts = look_within(&self.options, self.connection()).await;
        let sheet = Sheet::of(&facts, program, self.options.language);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(sheet.report.clone());
        sheet
    }

    /// Puts the last report on the clipboard: the very text that was shown.
    pub fn copy_report(&self) {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(report) = report {
            // A shell that is gone has no clipboard.
            let _ = self.options.outlets.send(Outlet::Clipboard(report));
        }
    }

    async fn connection(&self) -> Known {
        let patience = |time| Duration::try_from(time).unwrap_or_default();
        let mut pulse = self.pulse.clone();
        let mut until = async |wanted: &(dyn Fn(&Pulse) -> bool + Sync), limit| {
            let _ = timeout(limit, pulse.wait_for(|pulse| wanted(pulse))).await;
            pulse.borrow().clone()
        };
        // The program may have started just now.
        let known = until(&|pulse| pulse.linked != Linked::NotKnownYet, patience(HELLO_PATIENCE)).await;
        if known.linked != Linked::Yes {
            return Known { in_use: known.in_use, connection: None };
        }
        let mut last = known;
        if last.may_come_up(self.options.clock.now()) {
            last = until(&|pulse| pulse.is_up() || pulse.linked != Linked::Yes, patience(LINK_GRACE)).await;
        }
        let before = last.answers;
        if last.is_up() {
            let _ = self.ask.send(());
            last = until(&|pulse| pulse.answers > before || !pulse.is_up(), patience(HELLO_PATIENCE)).await;
        }
        let account = |one: &Account| facts::Account {
            address: one.address.clone(),
            health: one.health,
            reason: one.reason.clone(),
        };
        let answered = last.answers > before;
        let assistant = facts::Assistant {
            answered_at: answered.then(|| self.options.clock.now()),
            said_online: last.said_online,
            accounts: last.accounts.iter().filter(|_| answered).map(account).collect(),
        };
        Known { in_use: last.in_use, connection: Some(Connection { problem: last.problem(), assistant }) }
    }
}
