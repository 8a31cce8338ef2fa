//! Headline, sentence and buttons of each screen.

use jiff::Timestamp;
use valetkey_entra::capability::{self, Capability};

use super::{
    Action, ActionId, Banner, InviteCard, Kind, Screen, View, accounts, activity, assistant, icon, labels,
    may, reads, screen, steps,
};
use crate::problem::{InviteProblem, KeysProblem, Problem};
use crate::state::{Flow, Health, LinkProblem, LinkState, Pairing, State};
use crate::texts::{AdminRequest, Asks, Button, Language, Text, say};

/// The view of a state at `now`. Pure.
pub fn view(state: &State, now: Timestamp, language: Language) -> View {
    let screen = screen(state, now);
    let painter = Painter { state, language };
    let (headline, detail) = painter.words(screen);
    let actions = painter.actions(screen);
    let banner = match screen {
        Screen::Reconnect | Screen::Blocked => {
            actions.first().cloned().map(|action| Banner { text: headline.clone(), action })
        }
        _ => None,
    };
    View {
        screen,
        icon: icon(screen),
        headline,
        detail,
        banner,
        actions,
        countdown_until: match state.flow {
            Flow::Waiting { until, .. } if screen == Screen::Waiting => Some(until.as_second()),
            _ => None,
        },
        steps: if screen == Screen::HandingOver || screen == Screen::AgentOffline {
            steps(state, language)
        } else {
            Vec::new()
        },
        invite: painter.invite().filter(|_| screen == Screen::Invited),
        assistant: assistant(state, now, language),
        accounts: accounts(state, language),
        activity: activity(state, language),
        copy_text: painter.copy_text(screen),
        code: painter.problem().filter(|_| screen == Screen::Error).map(|problem| problem.to_string()),
        labels: labels(language),
    }
}

struct Painter<'a> {
    state: &'a State,
    language: Language,
}

impl Painter<'_> {
    fn say(&self, text: Text<'_>) -> String {
        say(self.language, text)
    }

    fn words(&self, screen: Screen) -> (String, Option<String>) {
        let agent = self.state.assistant().map_or("", |assistant| assistant.name.as_str());
        let (headline, detail) = match screen {
            Screen::Checking => (Text::Checking, None),
            Screen::NotPaired => (Text::NotPaired, Some(Text::NotPairedHow)),
            Screen::Invited => return self.offer_words(),
            Screen::NotConnected => (Text::NotConnected, Some(Text::NotConnectedWhy { agent })),
            Screen::Waiting => return self.waiting_words(),
            Screen::HandingOver => match self.state.delivery {
                None => (Text::Finishing, None),
                Some(_) => (Text::HandingOver, Some(Text::HandingOverTo { agent })),
            },
            Screen::Connected => {
                let account = self.state.account();
                let address = account.map_or("", |account| account.address.as_str());
                let read_only = account.is_some_and(|account| {
                    may(self.state, account).iter().all(|capability| read_only(capability))
                });
                let retrying = account.is_some_and(|account| account.health == Health::Retrying);
                (Text::Connected { address, read_only }, retrying.then_some(Text::ConnectedRetrying))
            }
            Screen::AgentOffline => self.offline_words(),
            Screen::Reconnect => {
                let reason = self.state.account().and_then(|account| account.reason.as_deref());
                (Text::Reconnect, reason.map(Text::Reason))
            }
            Screen::WrongAccount => {
                let Flow::WrongAccount { signed_in_as } = &self.state.flow else { return Default::default() };
                let wanted = self.wanted().unwrap_or_default();
                (Text::WrongAccount { signed_in_as, wanted }, Some(Text::WrongAccountDetail))
            }
            Screen::Blocked => (Text::Blocked, Some(Text::BlockedDetail)),
            Screen::Error => return self.problem_words(),
        };
        (self.say(headline), detail.map(|text| self.say(text)))
    }

    /// The address that the person is expected to sign in with.
    fn wanted(&self) -> Option<&str> {
        let assistant = self.state.assistant()?;
        assistant.pinned.as_ref().map(|pinned| pinned.address.as_str()).or(assistant.email.as_deref())
    }

    fn offer_words(&self) -> (String, Option<String>) {
        let Some(offer) = &self.state.offer else { return Default::default() };
        let headline = self.say(Text::InvitedBy { agent: &offer.agent, to: asks(&offer.capabilities) });
        let detail = match &offer.email {
            _ if offer.another_failed => self.say(Text::AnotherInviteFailed),
            Some(email) => self.say(Text::InvitedFor { email }),
            None => self.say(Text::InvitedForAnyone),
        };
        (headline, Some(detail))
    }

    fn waiting_words(&self) -> (String, Option<String>) {
        match &self.state.flow {
            Flow::Pairing => (self.say(Text::Pairing), None),
            Flow::Waiting { link, device_code: Some(code), .. } => {
                let link = link.url().map(String::from).unwrap_or_default();
                (
                    self.say(Text::WaitingWithCode { code }),
                    Some(self.say(Text::DeviceCodeWarning { link: &link })),
                )
            }
            Flow::Waiting { .. } => {
                let detail = self.wanted().map(|address| self.say(Text::WaitingFor { address }));
                (self.say(Text::Waiting), detail)
            }
            _ => (self.say(Text::Starting), None),
        }
    }

    fn offline_words(&self) -> (Text<'static>, Option<Text<'static>>) {
        match self.state.link {
            LinkState::Down { reason: LinkProblem::Unreachable, .. } => {
                (Text::NoNetwork, Some(Text::NoNetworkDetail))
            }
            LinkState::Down { reason: LinkProblem::NotSecure, .. } => {
                (Text::NoNetwork, Some(Text::BrokerNotSecure))
            }
            LinkState::Down { reason: LinkProblem::WrongName, .. } => {
                (Text::NoNetwork, Some(Text::BrokerWrongName))
            }
            LinkState::Down { reason: LinkProblem::Expired, .. } => {
                (Text::NoNetwork, Some(Text::BrokerExpired))
            }
            LinkState::Down { reason: LinkProblem::Refused, .. } => {
                (Text::NoNetwork, Some(Text::BrokerRefused))
            }
            LinkState::Down { reason: LinkProblem::NoCertificate, .. } => {
                (Text::NoNetwork, Some(Text::BrokerWantsCertificate))
            }
            _ if self.state.delivery.is_some() => (Text::AgentOffline, Some(Text::AgentOfflinePending)),
            _ => (Text::AgentOffline, Some(Text::AgentOfflineIdle)),
        }
    }

    fn problem(&self) -> Option<Problem> {
        match (&self.state.flow, &self.state.pairing) {
            (Flow::Failed(problem), _) => Some(problem.clone()),
            (_, Pairing::NoKeys { problem, .. }) => Some((*problem).into()),
            _ => None,
        }
    }

    fn problem_words(&self) -> (String, Option<String>) {
        let Some(problem) = self.problem() else { return Default::default() };
        (self.say(Text::ProblemWhat(&problem)), Some(self.say(Text::ProblemRemedy(&problem))))
    }

    fn invite(&self) -> Option<InviteCard> {
        let offer = self.state.offer.as_ref()?;
        Some(InviteCard {
            id: offer.id.clone(),
            agent: offer.agent.clone(),
            email: offer.email.clone(),
            reads: reads(&offer.capabilities, self.language),
            words: offer.words.clone(),
            expires_at: offer.expires_at.as_second(),
            broker_host: offer.broker_host.clone(),
            login_host: offer.login_host.clone(),
            warning: (!offer.login_is_microsofts)
                .then(|| self.say(Text::InvitedElsewhere { host: &offer.login_host })),
        })
    }

    fn copy_text(&self, screen: Screen) -> Option<String> {
        let assistant = self.state.assistant().filter(|_| screen == Screen::Blocked)?;
        let (reason, aadsts) = match (&self.state.flow, self.state.account()) {
            (Flow::Blocked { reason, aadsts }, _) => (reason.as_str(), aadsts.as_slice()),
            (_, Some(account)) => (account.reason.as_deref().unwrap_or("blocked"), [].as_slice()),
            _ => return None,
        };
        Some(self.say(Text::AdminRequest(AdminRequest {
            agent: &assistant.name,
            address: self.wanted().unwrap_or_default(),
            client_id: &assistant.client_id,
            tenant: &assistant.tenant,
            permissions: &assistant.permissions,
            reason,
            aadsts,
        })))
    }

    fn actions(&self, screen: Screen) -> Vec<Action> {
        use Kind::{Primary, Quiet, Secondary};
        let agent = self.state.assistant().map_or("", |assistant| assistant.name.as_str());
        let plain =
            |id, button, kind| Action { id, label: self.say(Text::Button(button)), kind, confirm: None };
        let asking =
            |id, button, kind, text| Action { confirm: Some(self.say(text)), ..plain(id, button, kind) };
        let unpair = || asking(ActionId::Unpair, Button::Unpair, Quiet, Text::ConfirmUnpair { agent });
        let disconnect =
            |kind| asking(ActionId::Disconnect, Button::Disconnect, kind, Text::ConfirmDisconnect { agent });
        match screen {
            Screen::Checking if self.state.assistant().is_some() => {
                vec![plain(ActionId::Retry, Button::CheckAgain, Quiet), unpair()]
            }
            Screen::Checking => Vec::new(),
            Screen::NotPaired => vec![plain(ActionId::PasteInvite, Button::PasteInvite, Primary)],
            Screen::Invited => {
                let replaces = self.state.offer.as_ref().and_then(|offer| offer.replaces.as_deref());
                let confirm = replaces.map(|agent| self.say(Text::ConfirmReplace { agent }));
                // Where a warning stands, the safe way is the one that stands out.
                let warned = self.state.offer.as_ref().is_some_and(|offer| !offer.login_is_microsofts);
                let (accept, decline) = if warned { (Secondary, Primary) } else { (Primary, Secondary) };
                vec![
                    Action { confirm, ..plain(ActionId::AcceptInvite, Button::Accept, accept) },
                    plain(ActionId::DeclineInvite, Button::Decline, decline),
                ]
            }
            Screen::NotConnected => vec![plain(ActionId::Connect, Button::Connect, Primary), unpair()],
            Screen::Waiting => match self.state.flow {
                Flow::Waiting { .. } => vec![
                    plain(ActionId::OpenAgain, Button::OpenAgain, Primary),
                    plain(ActionId::CopyLink, Button::CopyLink, Secondary),
                    plain(ActionId::Cancel, Button::Cancel, Secondary),
                ],
                _ => vec![plain(ActionId::Cancel, Button::Cancel, Secondary)],
            },
            Screen::HandingOver => match self.state.delivery {
                None => vec![plain(ActionId::Cancel, Button::Cancel, Quiet)],
                Some(_) => vec![plain(ActionId::Retry, Button::SendAgain, Quiet), unpair()],
            },
            Screen::Connected => vec![disconnect(Secondary), unpair()],
            Screen::AgentOffline => vec![plain(ActionId::Retry, Button::CheckAgain, Secondary), unpair()],
            Screen::Reconnect => {
                vec![plain(ActionId::Reconnect, Button::Reconnect, Primary), disconnect(Quiet), unpair()]
            }
            Screen::WrongAccount => vec![
                plain(ActionId::UseDifferentAccount, Button::UseDifferentAccount, Primary),
                plain(ActionId::Dismiss, Button::Cancel, Secondary),
            ],
            Screen::Blocked => {
                let mut actions = vec![
                    plain(ActionId::CopyRequest, Button::CopyRequest, Primary),
                    plain(ActionId::Retry, Button::TryAgain, Secondary),
                ];
                match self.state.flow {
                    Flow::Blocked { .. } => actions.push(plain(ActionId::Dismiss, Button::Cancel, Quiet)),
                    _ => actions.extend([disconnect(Quiet), unpair()]),
                }
                actions
            }
            Screen::Error => self.error_actions(),
        }
    }

    /// One button, the one that helps.
    fn error_actions(&self) -> Vec<Action> {
        let button = |id, button| {
            vec![Action { id, label: self.say(Text::Button(button)), kind: Kind::Primary, confirm: None }]
        };
        match self.problem() {
            Some(Problem::Invite(InviteProblem::Unreadable)) if self.state.assistant().is_none() => {
                button(ActionId::PasteInvite, Button::PasteInvite)
            }
            Some(Problem::Invite(_)) => button(ActionId::Dismiss, Button::Dismiss),
            Some(Problem::Keys(KeysProblem::Unreadable)) => {
                button(ActionId::PasteInvite, Button::PasteInvite)
            }
            _ => button(ActionId::Retry, Button::TryAgain),
        }
    }
}

fn asks(capabilities: &[String]) -> Asks {
    let Ok(asked) = capability::parse(capabilities) else { return Asks::Unknown };
    let sends = asked.iter().any(|one| one.id() == "mail-send");
    let changes = asked.iter().any(|one| !one.read_only() && one.id() != "mail-send");
    match (changes, sends) {
        (false, false) => Asks::Read,
        (false, true) => Asks::Send,
        (true, false) => Asks::Change,
        (true, true) => Asks::ChangeAndSend,
    }
}

/// Whether nothing can be changed with it. What is not known is not promised.
fn read_only(capability: &str) -> bool {
    capability.parse::<Capability>().is_ok_and(|known| known.read_only())
}
