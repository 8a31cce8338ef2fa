//! The one place where a state changes: `(state, event, now) → (state, effects)`. Pure.

use jiff::Timestamp;
use valetkey_entra::account::AccountId;
use valetkey_entra::authorize::SIGN_IN_TIMEOUT;

use crate::command::{Command, InviteLink};
use crate::problem::{InviteProblem, Problem, SignInProblem};
use crate::state::{
    Account, Activity, Assistant, Delivery, Flow, Happening, Health, Lapse, LinkProblem, LinkState,
    MAX_ACTIVITY, Offer, Pairing, Pinned, SignInLink, State,
};

mod agent;
mod sign_in;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the keyring and the disk hold, at the start or when asked again.
    Loaded {
        pairing: Pairing,
        delivery: Option<Delivery>,
        notified: Option<Lapse>,
    },
    Command(Command),
    InviteRead(Result<Offer, InviteProblem>),
    /// Whom agreeing to the invite with this id would replace, known only now.
    InviteReplaces {
        invite: String,
        replaces: Option<String>,
    },
    /// With whom, and the sign-in that is already on its way there: the link may have been that of the present pairing.
    Paired(Result<(Assistant, Option<Delivery>), NotPaired>),
    SignIn {
        id: u64,
        step: SignInStep,
    },
    LinkUp,
    LinkDown(LinkProblem),
    AgentPresence {
        online: bool,
    },
    /// The broker has taken the handoff of this generation.
    Published {
        generation: u64,
    },
    Enrolled,
    EnrollRefused(InviteProblem),
    Receipt {
        account: AccountId,
        generation: u64,
        /// When the assistant refreshed it, or the reason code of its refusal.
        outcome: Result<Timestamp, String>,
    },
    /// Every account of this device, from the assistant itself.
    AgentState(Vec<Account>),
    AuthExpired {
        account: AccountId,
        reason: String,
        claims: Option<String>,
    },
    Tick,
}

/// Why an invite that was agreed to came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPaired {
    pub problem: Problem,
    /// The pairing of before and its connection are there still, as they were.
    pub goes_on: bool,
}

/// What a running sign-in reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInStep {
    Waiting { link: SignInLink, until: Timestamp, device_code: Option<String>, then: Then },
    Returned,
    SignedIn,
    Checked,
    Sealed { account: AccountId, address: String, generation: u64 },
    Cancelled,
    Failed(Problem),
}

/// What is done with a fresh link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Open,
    Copy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the keyring and the disk again.
    Load,
    ReadInvite(InviteLink),
    /// Make keys, save the pairing, connect, and send `enroll` for the invite with this id.
    Pair {
        invite: String,
        /// Whom the person agreed to replace.
        replaces: Option<String>,
    },
    /// What was agreed to and has not begun does not begin any more.
    GiveUpPairing,
    StartSignIn(Ask),
    RenewSignIn {
        id: u64,
        then: Then,
    },
    StopSignIn {
        id: u64,
    },
    OpenBrowser(SignInLink),
    CopyLink(SignInLink),
    /// The message for an administrator, on the clipboard.
    CopyRequest,
    NotifyLapse {
        address: String,
        health: Health,
    },
    WithdrawLapse,
    SayHello,
    /// Send what waits in the outbox now.
    SendPending,
    /// The sealed sign-in of this generation may be sent now.
    HandOver {
        generation: u64,
    },
    /// Take this generation out of the outbox.
    Discard {
        generation: u64,
    },
    AskDisconnect {
        account: AccountId,
    },
    SaveEnrolled,
    SavePinned(Pinned),
    SaveLapse(Option<Lapse>),
    /// Forget keys, pairing and outbox. The assistant is asked first to give up what it has from this computer, and the accounts
    /// that it told of.
    Unpair {
        tell: Vec<AccountId>,
    },
}

/// How a sign-in begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub id: u64,
    pub login_hint: Option<String>,
    /// Let the person choose among accounts, instead of taking the one the browser knows.
    pub choose_account: bool,
    pub claims: Option<String>,
}

/// The next state, and what is to be done, in order.
pub fn step(mut state: State, event: Event, now: Timestamp) -> (State, Vec<Effect>) {
    let mut effects = Vec::new();
    state.pass_time(now, &mut effects);
    match event {
        Event::Loaded { pairing, delivery, notified } => {
            // Once paired in this run, an answer to an earlier look at the disk has nothing to say.
            if matches!(state.pairing, Pairing::Checking | Pairing::NoKeys { .. }) {
                state.forget_refusal(&pairing);
                state.pairing = pairing;
                state.delivery = delivery;
                state.notified = notified;
                state.connecting(now);
            }
        }
        Event::Command(command) => state.command(command, now, &mut effects),
        Event::InviteRead(Ok(offer)) if offer.expires_at <= now => {
            state.refuse_link(InviteProblem::Expired);
        }
        Event::InviteRead(Ok(offer)) => {
            if state.flow != Flow::Pairing {
                state.offer = Some(offer);
                // What failed before, such as half a link, would hide it.
                if matches!(state.flow, Flow::Failed(_)) {
                    state.flow = Flow::Idle;
                }
            }
        }
        Event::InviteRead(Err(problem)) => state.refuse_link(problem),
        Event::InviteReplaces { invite, replaces } => {
            if let Some(offer) = state.offer.as_mut().filter(|offer| offer.id == invite) {
                // Agreed to without that question. Nothing has begun, and it is asked now.
                if state.flow == Flow::Pairing && replaces.is_some() && offer.replaces != replaces {
                    state.flow = Flow::Idle;
                }
                offer.replaces = replaces;
            }
        }
        Event::Paired(result) => state.paired(result, now, &mut effects),
        Event::SignIn { id, step } => state.sign_in(id, step, now, &mut effects),
        Event::LinkUp => {
            state.link = LinkState::Up;
            state.agent_online = None;
            state.hello(now, &mut effects);
            effects.push(Effect::SendPending);
        }
        Event::LinkDown(reason) => {
            let since = match state.link {
                LinkState::Down { since, .. } => since,
                _ => now,
            };
            // A question stays unanswered, however often the connection comes and goes meanwhile.
            state.link = LinkState::Down { since, reason };
        }
        Event::AgentPresence { online } => state.presence(online, now, &mut effects),
        Event::Published { generation } => {
            if let Some(delivery) = state.delivery.as_mut().filter(|d| d.generation == generation) {
                delivery.delivered = true;
            }
        }
        Event::Enrolled => state.enrolled(now, &mut effects),
        Event::EnrollRefused(problem) => state.enroll_refused(problem, &mut effects),
        Event::Receipt { account, generation, outcome } => {
            state.receipt(account, generation, outcome, now, &mut effects);
        }
        Event::AgentState(accounts) => state.agent_state(accounts, now, &mut effects),
        Event::AuthExpired { account, reason, claims } => {
            state.auth_expired(account, reason, claims, now, &mut effects);
        }
        Event::Tick => {}
    }
    state.keep_asking(now, &mut effects);
    (state, effects)
}

impl State {
    /// What time alone brings.
    fn pass_time(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.follow_clock(now);
        if self.hello_due().is_some_and(|at| at <= now) && self.assistant().is_some() {
            self.hellos += 1;
            effects.push(Effect::SayHello);
        }
        if let Flow::Waiting { id, until, .. } = self.flow
            && until <= now
        {
            effects.push(Effect::StopSignIn { id });
            self.flow = Flow::Failed(SignInProblem::TimedOut.into());
        }
        if self.flow != Flow::Pairing && self.offer.as_ref().is_some_and(|offer| offer.expires_at <= now) {
            self.refuse_invite(InviteProblem::Expired);
        }
        if let Pairing::NoKeys { problem, since } = self.pairing
            && now.duration_since(since) >= crate::state::KEYS_RETRY
        {
            self.pairing = Pairing::NoKeys { problem, since: now };
            effects.push(Effect::Load);
        }
    }

    /// A clock that was put back must not lengthen a wait: it begins again.
    fn follow_clock(&mut self, now: Timestamp) {
        self.hello_since = self.hello_since.map(|since| since.min(now));
        if let LinkState::Down { since, .. } = &mut self.link {
            *since = now.min(*since);
        }
        if let Pairing::NoKeys { since, .. } = &mut self.pairing {
            *since = now.min(*since);
        }
        if let Flow::Waiting { until, .. } = &mut self.flow {
            *until = (*until).min(now.saturating_add(SIGN_IN_TIMEOUT).unwrap_or(Timestamp::MAX));
        }
    }

    /// Somebody to connect to, and no word from the connection yet: soon it is said that there is none.
    fn connecting(&mut self, now: Timestamp) {
        if self.link == LinkState::Unknown && self.assistant().is_some() {
            self.link = LinkState::Down { since: now, reason: LinkProblem::Unreachable };
        }
    }

    /// Whatever happened in whatever order: as long as the assistant has not said how things are, a question is under way.
    fn keep_asking(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.heard.is_none() && self.hello_since.is_none() {
            self.hello(now, effects);
        }
    }

    fn command(&mut self, command: Command, now: Timestamp, effects: &mut Vec<Effect>) {
        match command {
            Command::PasteInvite { link } => effects.push(Effect::ReadInvite(link)),
            Command::AcceptInvite { invite } => self.accept(invite.as_deref(), effects),
            Command::DeclineInvite => {
                if self.flow != Flow::Pairing {
                    self.offer = None;
                }
            }
            Command::Connect | Command::Reconnect => self.begin(false, effects),
            Command::UseDifferentAccount => self.begin(true, effects),
            Command::Cancel => self.cancel(now, effects),
            Command::OpenAgain => self.renew(Then::Open, effects),
            Command::CopyLink => self.renew(Then::Copy, effects),
            Command::Disconnect { account } => self.disconnect(account.as_deref(), effects),
            Command::CopyRequest => effects.push(Effect::CopyRequest),
            Command::Retry => self.retry(now, effects),
            Command::Unpair => self.unpair(effects),
            Command::Dismiss => self.tell(Flow::Idle),
        }
    }

    fn retry(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Pairing::NoKeys { problem, .. } = self.pairing {
            self.pairing = Pairing::NoKeys { problem, since: now };
            effects.push(Effect::Load);
        } else if self.offer.is_some() && matches!(self.flow, Flow::Failed(_)) {
            self.flow = Flow::Idle;
            // Nobody's link ends without its question: that is on the invite's screen.
            if self.offer.as_ref().is_some_and(|offer| offer.replaces.is_none()) {
                self.accept(None, effects);
            }
        } else if matches!(self.flow, Flow::Failed(Problem::Invite(_))) {
            self.flow = Flow::Idle;
        } else if matches!(self.flow, Flow::Failed(_) | Flow::Blocked { .. } | Flow::WrongAccount { .. }) {
            if self.can_begin() {
                self.begin(false, effects);
            } else {
                self.flow = Flow::Idle;
            }
        } else if self.account().is_some_and(|account| account.health == Health::Blocked) && self.can_begin()
        {
            self.begin(false, effects);
        } else if self.assistant().is_some() {
            self.hello(now, effects);
            effects.push(Effect::SendPending);
        }
    }

    /// `agreed`: the invite that the person saw. Another may have taken its place before the click arrived.
    fn accept(&mut self, agreed: Option<&str>, effects: &mut Vec<Effect>) {
        let Some(offer) = &self.offer else { return };
        let (invite, replaces) = (offer.id.clone(), offer.replaces.clone());
        if agreed.is_some_and(|agreed| agreed != invite) || self.flow == Flow::Pairing {
            return;
        }
        if let Pairing::NoKeys { problem, .. } = self.pairing
            && problem.may_pass()
        {
            self.give_up_sign_in(effects);
            self.flow = Flow::Failed(problem.into());
            return;
        }
        if self.pairing == Pairing::Checking {
            return;
        }
        self.give_up_sign_in(effects);
        self.flow = Flow::Pairing;
        effects.push(Effect::Pair { invite, replaces });
    }

    /// Why an invite could not be agreed to: what is known of the keys now takes its place.
    fn forget_refusal(&mut self, found: &Pairing) {
        if matches!((&self.flow, &self.pairing), (Flow::Failed(Problem::Keys(_)), Pairing::NoKeys { .. })) {
            self.flow = match found {
                Pairing::NoKeys { problem, .. } => Flow::Failed((*problem).into()),
                _ => Flow::Idle,
            };
        }
    }

    /// Any web page can open a link: one that cannot be used takes nothing away from an invite that is on show.
    fn refuse_link(&mut self, problem: InviteProblem) {
        match &mut self.offer {
            Some(offer) if !matches!(self.flow, Flow::Failed(_)) => offer.another_failed = true,
            _ => self.refuse_invite(problem),
        }
    }

    fn refuse_invite(&mut self, problem: InviteProblem) {
        self.offer = None;
        self.tell(Flow::Failed(problem.into()));
    }

    fn paired(
        &mut self,
        result: Result<(Assistant, Option<Delivery>), NotPaired>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let wanted = self.flow == Flow::Pairing;
        self.give_up_sign_in(effects);
        match result {
            Ok((assistant, delivery)) => {
                self.note(Happening::Paired { agent: assistant.name.clone() }, now);
                *self = Self {
                    pairing: Pairing::Paired(assistant),
                    delivery,
                    activity: std::mem::take(&mut self.activity),
                    flows: self.flows,
                    ..Self::default()
                };
                self.connecting(now);
                effects.extend([Effect::WithdrawLapse, Effect::SaveLapse(None)]);
                if wanted {
                    self.begin(false, effects);
                }
            }
            Err(NotPaired { problem, goes_on }) => {
                // Whoever is found on the disk now has not said anything yet.
                if !goes_on {
                    *self = Self {
                        offer: self.offer.take(),
                        flow: std::mem::take(&mut self.flow),
                        notified: self.notified.take(),
                        activity: std::mem::take(&mut self.activity),
                        flows: self.flows,
                        ..Self::default()
                    };
                }
                self.pairing = Pairing::Checking;
                effects.push(Effect::Load);
                if wanted {
                    self.flow = Flow::Failed(problem);
                }
            }
        }
    }

    fn unpair(&mut self, effects: &mut Vec<Effect>) {
        if self.assistant().is_none() || self.flow == Flow::Pairing {
            return;
        }
        self.give_up_sign_in(effects);
        let tell = self.heard.iter().flatten().map(|account| account.id).collect();
        effects.extend([Effect::WithdrawLapse, Effect::Unpair { tell }]);
        *self = Self {
            pairing: Pairing::Missing,
            offer: self.offer.take(),
            activity: std::mem::take(&mut self.activity),
            flows: self.flows,
            ..Self::default()
        };
    }

    /// Unless the person is at something else.
    fn tell(&mut self, outcome: Flow) {
        if self.flow.running().is_none() && self.flow != Flow::Pairing {
            self.flow = outcome;
        }
    }

    fn note(&mut self, what: Happening, at: Timestamp) {
        if self.activity.front().is_some_and(|latest| latest.what == what) {
            self.activity.pop_front();
        }
        self.activity.push_front(Activity { at, what });
        self.activity.truncate(MAX_ACTIVITY);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
