//! What the facts mean, as codes with what they are about. Pure; the words are elsewhere.

use jiff::Timestamp;
use valetkey_checkup::Level;
use valetkey_entra::reach::NotReached;
use valetkey_link::Problem;

use super::facts::{Facts, Kept, Keys, Pairing, Policy, Unusable};
use crate::state::Health;

/// Microsoft's proofs of sign-in are checked with five minutes of allowance on either side.
const CLOCK_WRONG: i64 = 300;
/// A clock that is kept right is right to a second, and an answer takes a few.
const CLOCK_OFF: i64 = 60;

/// One thing that was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Browser {
        found: bool,
    },
    Loopback {
        works: bool,
    },
    DataDir {
        path: String,
        problem: Option<String>,
    },
    Policy {
        file: String,
        state: Policy,
    },
    Pairing(Pairing),
    Keys(Keys),
    /// Another Valet Key has the connection, so it is not tried.
    InUse,
    SignInService {
        host: String,
        proxy: Option<String>,
        problem: Option<NotReached>,
    },
    /// Seconds that the clock is ahead.
    Clock {
        ahead: i64,
    },
    /// The file with it; `None`: the system's.
    Certificate {
        file: Option<String>,
    },
    BrokerNotSecure {
        host: String,
    },
    Broker {
        host: String,
        proxy: Option<String>,
        problem: Option<Problem>,
    },
    /// It answered, or its presence says that it is away, or nothing is known of it.
    Assistant {
        answered: bool,
        said_online: Option<bool>,
    },
    Account {
        address: String,
        health: Health,
    },
    Waiting {
        what: Kept,
        since: Timestamp,
    },
    NothingWaits,
}

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut found = vec![Check::Browser { found: facts.browser }, Check::Loopback { works: facts.loopback }];
    found.push(Check::DataDir {
        path: facts.data_dir.display().to_string(),
        problem: facts.data_dir_problem.clone(),
    });
    if let Some(file) = facts.policy_file.as_ref().filter(|_| facts.policy != Policy::None) {
        found.push(Check::Policy { file: file.display().to_string(), state: facts.policy });
    }
    found.push(Check::Pairing(facts.pairing));
    if facts.keys != Keys::NotAsked {
        found.push(Check::Keys(facts.keys));
    }
    if facts.in_use {
        found.push(Check::InUse);
    }
    if let Some(login) = &facts.login {
        let (host, proxy, problem) = (login.host.clone(), login.proxy.clone(), login.problem);
        found.push(Check::SignInService { host, proxy, problem });
        found.extend(login.clock_ahead.map(|ahead| Check::Clock { ahead }));
    }
    if let Some(problem) = &facts.certificates_problem {
        let file = match problem {
            Unusable::File(file) => Some(file.display().to_string()),
            Unusable::OfTheSystem => None,
        };
        found.push(Check::Certificate { file });
    }
    if let Some(broker) = &facts.broker {
        let (host, proxy, problem) = (broker.host.clone(), broker.proxy.clone(), broker.problem);
        if !broker.secure {
            found.push(Check::BrokerNotSecure { host: host.clone() });
        }
        found.push(Check::Broker { host, proxy, problem });
    }
    if let Some(assistant) = &facts.assistant {
        let (answered, said_online) = (assistant.answered_at.is_some(), assistant.said_online);
        found.push(Check::Assistant { answered, said_online });
        let account =
            |one: &super::facts::Account| Check::Account { address: one.address.clone(), health: one.health };
        found.extend(assistant.accounts.iter().map(account));
    }
    found.extend(facts.waiting.iter().map(|one| Check::Waiting { what: one.what, since: one.since }));
    if facts.waiting.is_empty() && facts.pairing == Pairing::Paired {
        found.push(Check::NothingWaits);
    }
    found
}

impl Check {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Browser { .. } => "browser",
            Self::Loopback { .. } => "loopback",
            Self::DataDir { .. } => "data_directory",
            Self::Policy { .. } => "policy",
            Self::Pairing(_) => "pairing",
            Self::Keys(_) => "keyring",
            Self::InUse => "in_use",
            Self::SignInService { .. } => "sign_in_service",
            Self::Clock { .. } => "clock",
            Self::Certificate { .. } => "broker_certificate",
            Self::BrokerNotSecure { .. } => "broker_tls",
            Self::Broker { .. } => "broker",
            Self::Assistant { .. } => "assistant",
            Self::Account { .. } => "account",
            Self::Waiting { .. } | Self::NothingWaits => "waiting",
        }
    }

    pub fn level(&self) -> Level {
        match self {
            Self::Browser { found } => or(*found, Level::Warning),
            Self::Loopback { works } => or(*works, Level::Problem),
            Self::DataDir { problem, .. } => or(problem.is_none(), Level::Problem),
            Self::Policy { state, .. } => match state {
                Policy::None | Policy::InForce => Level::Note,
                Policy::Forbids | Policy::Unreadable => Level::Problem,
            },
            Self::Pairing(pairing) => match pairing {
                Pairing::Missing => Level::Note,
                Pairing::Unusable => Level::Problem,
                Pairing::Begun => Level::Warning,
                Pairing::Paired => Level::Ok,
            },
            Self::Keys(keys) => match keys {
                Keys::There => Level::Ok,
                Keys::NotAsked => Level::Note,
                // Nothing is lost: it is asked again when the person unlocks it.
                Keys::Locked => Level::Warning,
                Keys::Missing | Keys::NoKeyring | Keys::Unusable => Level::Problem,
            },
            Self::SignInService { problem, .. } => or(problem.is_none(), Level::Problem),
            Self::Clock { ahead } => match ahead.abs() {
                off if off >= CLOCK_WRONG => Level::Problem,
                off if off >= CLOCK_OFF => Level::Warning,
                _ => Level::Ok,
            },
            Self::InUse => Level::Note,
            Self::Certificate { .. } => Level::Problem,
            Self::BrokerNotSecure { .. } | Self::Waiting { .. } => Level::Warning,
            Self::Broker { problem, .. } => or(problem.is_none(), Level::Problem),
            // It may be switched off for the night: nothing for the person to mend.
            Self::Assistant { answered, .. } => or(*answered, Level::Warning),
            Self::Account { health, .. } => match health {
                Health::Connected => Level::Ok,
                Health::Retrying | Health::Unknown => Level::Note,
                Health::ReconnectNeeded | Health::Blocked => Level::Problem,
            },
            Self::NothingWaits => Level::Ok,
        }
    }
}

fn or(good: bool, bad: Level) -> Level {
    if good { Level::Ok } else { bad }
}
