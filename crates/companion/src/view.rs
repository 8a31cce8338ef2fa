//! What the window and the tray paint. Made from a state; holds no logic and no secret.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::{Account, Flow, Happening, Health, LinkProblem, LinkState, Pairing, State};
use crate::texts::{AccountStatus, Label, Language, Step as StepText, Text, say};

mod screens;

pub use screens::view;

/// Everything on screen. Times are epoch seconds; the shell formats them in the person's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    pub screen: Screen,
    pub icon: Icon,
    pub headline: String,
    pub detail: Option<String>,
    pub banner: Option<Banner>,
    /// In order of importance; the tray's one action is the first.
    pub actions: Vec<Action>,
    pub countdown_until: Option<i64>,
    pub steps: Vec<Step>,
    pub invite: Option<InviteCard>,
    pub assistant: Option<AssistantCard>,
    pub accounts: Vec<AccountCard>,
    /// Latest first.
    pub activity: Vec<ActivityLine>,
    pub copy_text: Option<String>,
    /// The closed code of a problem, for support and scripts; never shown on its own.
    pub code: Option<String>,
    pub labels: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Screen {
    Checking,
    NotPaired,
    Invited,
    NotConnected,
    Waiting,
    HandingOver,
    Connected,
    AgentOffline,
    Reconnect,
    WrongAccount,
    Blocked,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Icon {
    Neutral,
    Busy,
    Ok,
    Attention,
    Offline,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Banner {
    pub text: String,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    pub id: ActionId,
    pub label: String,
    pub kind: Kind,
    /// Asked before it is done.
    pub confirm: Option<String>,
}

/// The `do` of the [`crate::command::Command`] that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionId {
    PasteInvite,
    AcceptInvite,
    DeclineInvite,
    Connect,
    Cancel,
    OpenAgain,
    CopyLink,
    Reconnect,
    Disconnect,
    UseDifferentAccount,
    CopyRequest,
    Retry,
    Unpair,
    Dismiss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Primary,
    Secondary,
    Quiet,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub id: StepId,
    pub label: String,
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepId {
    SignedIn,
    Checked,
    Sealed,
    Delivered,
    Stored,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InviteCard {
    /// For the command that agrees to it.
    pub id: String,
    pub agent: String,
    pub email: Option<String>,
    pub reads: Vec<String>,
    pub words: [String; 4],
    pub expires_at: i64,
    pub broker_host: String,
    pub login_host: String,
    /// Shown as plainly as the address: the person would not sign in to Microsoft.
    pub warning: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AssistantCard {
    pub name: String,
    pub online: Option<bool>,
    pub last_seen: Option<i64>,
    pub status: String,
    /// It has said that it knows this computer. Not shown: for who has to wait until it has.
    #[serde(skip)]
    pub enrolled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountCard {
    /// `oid.tid`.
    pub id: String,
    pub name: Option<String>,
    pub address: String,
    pub reads: Vec<String>,
    pub status: String,
    pub checked_at: Option<i64>,
    pub health: CardHealth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CardHealth {
    Connected,
    Retrying,
    ReconnectNeeded,
    Blocked,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActivityLine {
    pub at: i64,
    pub text: String,
}

/// Which screen a state is. The order of the questions is the order of what matters to the person.
pub fn screen(state: &State, now: Timestamp) -> Screen {
    match &state.flow {
        Flow::Pairing | Flow::Starting { .. } => return Screen::Waiting,
        _ if state.offer.is_some() && !matches!(state.flow, Flow::Failed(_)) => return Screen::Invited,
        Flow::Waiting { .. } => return Screen::Waiting,
        Flow::Finishing { .. } => return Screen::HandingOver,
        Flow::WrongAccount { .. } => return Screen::WrongAccount,
        Flow::Blocked { .. } => return Screen::Blocked,
        Flow::Failed(_) => return Screen::Error,
        Flow::Idle => {}
    }
    let assistant = match &state.pairing {
        Pairing::Checking => return Screen::Checking,
        Pairing::NoKeys { .. } => return Screen::Error,
        Pairing::Missing => return Screen::NotPaired,
        Pairing::Paired(assistant) => assistant,
    };
    let away = state.away(now);
    if state.delivery.is_some() {
        return if away { Screen::AgentOffline } else { Screen::HandingOver };
    }
    // A lapse that the assistant has told of is true even while it cannot be reached.
    match state.account().map(|account| account.health) {
        Some(Health::ReconnectNeeded) => Screen::Reconnect,
        Some(Health::Blocked) => Screen::Blocked,
        Some(Health::Connected | Health::Retrying) if away => Screen::AgentOffline,
        Some(Health::Connected | Health::Retrying) => Screen::Connected,
        None if state.heard.is_some() || assistant.pinned.is_none() => Screen::NotConnected,
        None if away => Screen::AgentOffline,
        Some(Health::Unknown) | None => Screen::Checking,
    }
}

fn icon(screen: Screen) -> Icon {
    match screen {
        Screen::NotPaired | Screen::Invited | Screen::NotConnected => Icon::Neutral,
        Screen::Checking | Screen::Waiting | Screen::HandingOver => Icon::Busy,
        Screen::Connected => Icon::Ok,
        Screen::AgentOffline => Icon::Offline,
        Screen::Reconnect | Screen::WrongAccount | Screen::Blocked | Screen::Error => Icon::Attention,
    }
}

fn steps(state: &State, language: Language) -> Vec<Step> {
    let (signed_in, checked, sealed, delivered) = match (&state.delivery, &state.flow) {
        (_, Flow::Finishing { signed_in, checked, .. }) => (*signed_in, *checked, false, false),
        (Some(delivery), _) => (true, true, true, delivery.delivered),
        _ => return Vec::new(),
    };
    [
        (StepId::SignedIn, StepText::SignedIn, signed_in),
        (StepId::Checked, StepText::Checked, checked),
        (StepId::Sealed, StepText::Sealed, sealed),
        (StepId::Delivered, StepText::Delivered, delivered),
        (StepId::Stored, StepText::Stored, false),
    ]
    .map(|(id, text, done)| Step { id, label: say(language, Text::Step(text)), done })
    .into()
}

fn reads(capabilities: &[String], language: Language) -> Vec<String> {
    capabilities.iter().map(|capability| say(language, Text::Reads(capability))).collect()
}

/// What may be done with an account: what was granted when this computer signed in, whatever the assistant says of it, and
/// what the assistant says besides.
fn may(state: &State, account: &Account) -> Vec<String> {
    let mut all = state.assistant().map(|assistant| assistant.capabilities.clone()).unwrap_or_default();
    all.extend(account.capabilities.iter().cloned());
    let mut seen = HashSet::new();
    all.retain(|capability| seen.insert(capability.clone()));
    all
}

fn accounts(state: &State, language: Language) -> Vec<AccountCard> {
    let Some(assistant) = state.assistant() else { return Vec::new() };
    let Some(heard) = &state.heard else {
        let unknown = |pinned: &crate::state::Pinned| AccountCard {
            id: pinned.id.to_string(),
            name: None,
            address: pinned.address.clone(),
            reads: reads(&assistant.capabilities, language),
            status: say(language, Text::AccountStatus(AccountStatus::Unknown)),
            checked_at: None,
            health: CardHealth::Unknown,
        };
        return assistant.pinned.iter().map(unknown).collect();
    };
    heard
        .iter()
        .map(|account| {
            let reason = account.reason.as_deref();
            let (health, status) = match account.health {
                Health::Connected => (CardHealth::Connected, AccountStatus::Connected),
                Health::Retrying => (CardHealth::Retrying, AccountStatus::Retrying),
                Health::ReconnectNeeded => {
                    (CardHealth::ReconnectNeeded, AccountStatus::ReconnectNeeded { reason })
                }
                Health::Blocked => (CardHealth::Blocked, AccountStatus::Blocked),
                Health::Unknown => (CardHealth::Unknown, AccountStatus::Unknown),
            };
            AccountCard {
                id: account.id.to_string(),
                name: None,
                address: account.address.clone(),
                reads: reads(&may(state, account), language),
                status: say(language, Text::AccountStatus(status)),
                checked_at: account.checked_at.map(Timestamp::as_second),
                health,
            }
        })
        .collect()
}

fn assistant(state: &State, now: Timestamp, language: Language) -> Option<AssistantCard> {
    let assistant = state.assistant()?;
    let online = if state.away(now) { Some(false) } else { state.agent_online };
    let status = match (online, state.link) {
        (_, LinkState::Down { reason: LinkProblem::Unreachable, .. }) if online == Some(false) => {
            Text::NoNetwork
        }
        (Some(true), _) => Text::AssistantOnline,
        (Some(false), _) => Text::AssistantOffline,
        (None, _) => Text::AssistantUnknown,
    };
    Some(AssistantCard {
        name: assistant.name.clone(),
        online,
        last_seen: state.agent_last_seen.map(Timestamp::as_second),
        status: say(language, status),
        enrolled: assistant.enrolled,
    })
}

fn activity(state: &State, language: Language) -> Vec<ActivityLine> {
    let line = |what: &Happening| {
        say(
            language,
            match what {
                Happening::Paired { agent } => Text::DidPair { agent },
                Happening::SignedIn { address } => Text::DidSignIn { address },
                Happening::Connected { address } => Text::DidConnect { address },
                Happening::Renewed { .. } => Text::DidRenew,
                Happening::Lapsed { address } => Text::DidLapse { address },
                Happening::Blocked { address } => Text::DidBlock { address },
                Happening::Disconnected { address } => Text::DidDisconnect { address },
                Happening::Cancelled => Text::DidCancel,
            },
        )
    };
    state.activity.iter().map(|a| ActivityLine { at: a.at.as_second(), text: line(&a.what) }).collect()
}

fn labels(language: Language) -> BTreeMap<&'static str, String> {
    Label::ALL.into_iter().map(|(label, key)| (key, say(language, Text::Label(label)))).collect()
}

#[cfg(test)]
mod tests;
