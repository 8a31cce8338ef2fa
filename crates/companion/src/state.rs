//! What the companion knows, as plain values. Nothing here does anything; [`crate::step`] changes it.
//!
//! The facts are kept apart (pairing, sign-in, delivery, what the assistant said) and the screen follows from them, so
//! that no combination can be forgotten. No secret is in here.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use url::Url;
use valetkey_entra::account::AccountId;
use valetkey_entra::secret::Secret;

use crate::problem::{KeysProblem, Problem};

/// How long a `hello` may stay unanswered before the assistant counts as away. A round trip through a broker takes well
/// under a second; this leaves room for a mobile network that has just woken up.
pub const HELLO_PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// When an unanswered `hello` is said again: its answer may have been lost. Not for ever, because each of them waits at the
/// broker for an assistant that is away, and brokers drop what is queued beyond a limit; one that comes back says so.
pub const HELLO_AGAIN: [SignedDuration; 3] =
    [HELLO_PATIENCE, SignedDuration::from_secs(60), SignedDuration::from_mins(5)];
/// A connection that is back within this time is not worth a change of colour.
pub const LINK_GRACE: SignedDuration = SignedDuration::from_secs(10);
/// How often a locked keyring is tried again by itself.
pub const KEYS_RETRY: SignedDuration = SignedDuration::from_secs(30);
/// Lines of activity kept: what fits the window without becoming a log.
pub const MAX_ACTIVITY: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub pairing: Pairing,
    /// An invite on show, not agreed to yet.
    pub offer: Option<Offer>,
    pub flow: Flow,
    /// A sealed sign-in that has no receipt yet.
    pub delivery: Option<Delivery>,
    pub link: LinkState,
    /// The presence topic's hint, or something heard. `None`: not known.
    pub agent_online: Option<bool>,
    pub agent_last_seen: Option<Timestamp>,
    /// When the last `hello` went out that has had no answer.
    pub hello_since: Option<Timestamp>,
    /// How often it was said again since.
    pub hellos: usize,
    /// What the assistant itself said, in this run of the program.
    pub heard: Option<Vec<Account>>,
    /// The lapse that the person has been notified of.
    pub notified: Option<Lapse>,
    pub activity: VecDeque<Activity>,
    /// Number of the latest sign-in; what an older one reports is ignored.
    pub flows: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a program")]
pub enum Pairing {
    /// Not looked yet.
    #[default]
    Checking,
    /// The keys cannot be had now. Says nothing about whether anybody is signed in.
    NoKeys {
        problem: KeysProblem,
        since: Timestamp,
    },
    Missing,
    Paired(Assistant),
}

/// The assistant this computer is paired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assistant {
    pub name: String,
    /// The person the operator expects.
    pub email: Option<String>,
    pub capabilities: Vec<String>,
    /// What the capabilities are called at Microsoft, for the message to an administrator.
    pub permissions: Vec<String>,
    pub client_id: String,
    pub tenant: String,
    pub login_host: String,
    /// Whether the assistant has confirmed the pairing.
    pub enrolled: bool,
    /// The account of the first sign-in; from then on no other will do.
    pub pinned: Option<Pinned>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub id: AccountId,
    pub address: String,
}

/// What an invite asks for, as it is shown before anybody agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The invite's public id: what the person agrees to is this one.
    pub id: String,
    pub agent: String,
    pub email: Option<String>,
    pub capabilities: Vec<String>,
    pub words: [String; 4],
    pub expires_at: Timestamp,
    pub broker_host: String,
    pub login_host: String,
    /// Whether people sign in at [`Self::login_host`] to one of Microsoft's own clouds.
    pub login_is_microsofts: bool,
    /// Name of the assistant that agreeing would replace.
    pub replaces: Option<String>,
    /// A link was opened after it that cannot be used: this is still the one before.
    pub another_failed: bool,
}

/// The person's attempt to sign in. At most one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    #[default]
    Idle,
    /// Agreed; keys are being made and saved.
    Pairing,
    /// Microsoft is being asked where to sign in, and a port is being taken.
    Starting {
        id: u64,
    },
    /// The person is in the browser.
    Waiting {
        id: u64,
        link: SignInLink,
        until: Timestamp,
        device_code: Option<String>,
    },
    /// The browser has come back; what it brought is being checked.
    Finishing {
        id: u64,
        signed_in: bool,
        checked: bool,
    },
    WrongAccount {
        signed_in_as: String,
    },
    /// An administrator must allow something; the reason code.
    Blocked {
        reason: String,
        aadsts: Vec<u32>,
    },
    Failed(Problem),
}

impl Flow {
    /// Number of the sign-in that is under way.
    pub fn running(&self) -> Option<u64> {
        match self {
            Self::Starting { id } | Self::Waiting { id, .. } | Self::Finishing { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// A sign-in link. It opens nothing by itself, but it is one person's, so its `Debug` shows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInLink(Secret);

impl SignInLink {
    pub fn new(url: &Url) -> Self {
        Self(Secret::new(url.as_str()))
    }

    /// The link, for the browser, the clipboard, or the terminal.
    pub fn url(&self) -> Option<Url> {
        self.0.expose().parse().ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub account: AccountId,
    pub address: String,
    pub generation: u64,
    /// Whether the broker has taken it.
    pub delivered: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// There is nobody to connect to.
    #[default]
    Unknown,
    Up,
    Down {
        since: Timestamp,
        reason: LinkProblem,
    },
}

/// Why there is no connection to the broker, as far as a person can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkProblem {
    /// No network, or the broker does not answer.
    Unreachable,
    /// The secure connection could not be made.
    NotSecure,
    /// Its certificate is for another name.
    WrongName,
    /// Its certificate, or the clock of this computer.
    Expired,
    /// The broker does not let this device in.
    Refused,
    /// It asks for a certificate of this computer, and has none that it takes.
    NoCertificate,
}

/// An account as the assistant last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub address: String,
    pub health: Health,
    pub reason: Option<String>,
    /// What Microsoft wants of the next sign-in; passed on, never shown.
    pub claims: Option<String>,
    pub generation: u64,
    pub checked_at: Option<Timestamp>,
    pub capabilities: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Connected,
    Retrying,
    ReconnectNeeded,
    Blocked,
    /// In a newer assistant's words, which this version does not know.
    Unknown,
}

/// One ending of one sign-in: a new sign-in has a higher generation, so the next ending is another lapse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapse {
    pub account: AccountId,
    pub generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    pub at: Timestamp,
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Paired { agent: String },
    SignedIn { address: String },
    Connected { address: String },
    Renewed { address: String },
    Lapsed { address: String },
    Blocked { address: String },
    Disconnected { address: String },
    Cancelled,
}

impl State {
    pub fn assistant(&self) -> Option<&Assistant> {
        match &self.pairing {
            Pairing::Paired(assistant) => Some(assistant),
            _ => None,
        }
    }

    /// The account to speak of: the one that needs somebody most.
    pub fn account(&self) -> Option<&Account> {
        let rank = |health| match health {
            Health::ReconnectNeeded => 0,
            Health::Blocked => 1,
            Health::Retrying => 2,
            Health::Unknown => 3,
            Health::Connected => 4,
        };
        self.heard.as_ref()?.iter().min_by_key(|account| rank(account.health))
    }

    /// Whether anything was ever handed over: otherwise there is nothing to wait for.
    pub fn ever_connected(&self) -> bool {
        self.assistant().is_some_and(|assistant| assistant.pinned.is_some())
    }

    /// Whether the assistant is out of reach, as far as known at `now`.
    pub fn away(&self, now: Timestamp) -> bool {
        match self.link {
            LinkState::Unknown => false,
            LinkState::Down { since, .. } => now.duration_since(since) >= LINK_GRACE,
            LinkState::Up => {
                self.agent_online == Some(false)
                    || self.hello_since.is_some_and(|since| now.duration_since(since) >= HELLO_PATIENCE)
            }
        }
    }

    /// Whether a question may get through. A broker that has refused one message is still there, and may take the next.
    pub fn can_ask(&self) -> bool {
        matches!(self.link, LinkState::Up | LinkState::Down { reason: LinkProblem::Refused, .. })
    }

    /// When the unanswered `hello` is to be said again.
    pub fn hello_due(&self) -> Option<Timestamp> {
        let after = HELLO_AGAIN.get(self.hellos).filter(|_| self.can_ask())?;
        self.hello_since?.checked_add(*after).ok()
    }

    /// The next moment at which time alone changes something.
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let later = |since: Timestamp, after| since.checked_add(after).ok().filter(|at| *at > now);
        let link = match self.link {
            LinkState::Down { since, .. } => later(since, LINK_GRACE),
            _ => None,
        };
        let hello = self.hello_since.and_then(|since| later(since, HELLO_PATIENCE));
        let again = self.hello_due().filter(|at| *at > now);
        let keys = match self.pairing {
            Pairing::NoKeys { since, .. } => since.checked_add(KEYS_RETRY).ok(),
            _ => None,
        };
        let waiting = match self.flow {
            Flow::Waiting { until, .. } => Some(until),
            _ => None,
        };
        // Once agreed to, its end changes nothing here.
        let offer = self.offer.as_ref().filter(|_| self.flow != Flow::Pairing).map(|offer| offer.expires_at);
        [link, hello, again, keys, waiting, offer].into_iter().flatten().min()
    }
}
