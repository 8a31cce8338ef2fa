//! What the assistant says, and what is asked of it.

use jiff::Timestamp;
use valetkey_entra::account::AccountId;
use valetkey_entra::refusal::{Class, Reason};

use super::Effect;
use crate::problem::{InviteProblem, Problem};
use crate::state::{
    Account, Delivery, Flow, Happening, Health, Lapse, LinkProblem, LinkState, Pairing, Pinned, State,
};

impl State {
    /// Asks the assistant how things are. One that does not know this device yet says nothing; `enroll` is under way then.
    pub(super) fn hello(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.can_ask() && self.assistant().is_some() {
            if self.hello_since.is_none() {
                (self.hello_since, self.hellos) = (Some(now), 0);
            }
            effects.push(Effect::SayHello);
        }
    }

    /// Anybody may have written this, so a change of it is a reason to ask. Only what the assistant signs brings it back.
    pub(super) fn presence(&mut self, online: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        let before = self.agent_online;
        if before != Some(false) {
            self.agent_online = Some(online);
        }
        if before.is_some_and(|before| before != online) {
            self.hello(now, effects);
        }
        // Also one that is seen for the first time: it may have started after what waits here was sent, and got none of it.
        if online && before != Some(true) {
            effects.push(Effect::SendPending);
        }
    }

    fn heard_at(&mut self, now: Timestamp) {
        self.agent_online = Some(true);
        self.agent_last_seen = Some(now);
        self.hello_since = None;
        // What the broker refused once, it has let through by now.
        if matches!(self.link, LinkState::Down { reason: LinkProblem::Refused, .. }) {
            self.link = LinkState::Up;
        }
    }

    pub(super) fn enrolled(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.heard_at(now);
        if let Pairing::Paired(assistant) = &mut self.pairing
            && !assistant.enrolled
        {
            assistant.enrolled = true;
            // Whatever was sent before the assistant knew this device was not for it to answer.
            self.hello(now, effects);
            effects.extend([Effect::SaveEnrolled, Effect::SendPending]);
        }
    }

    pub(super) fn enroll_refused(&mut self, problem: InviteProblem, effects: &mut Vec<Effect>) {
        if self.assistant().is_none_or(|assistant| assistant.enrolled) {
            return;
        }
        self.give_up_sign_in(effects);
        effects.push(Effect::Unpair { tell: Vec::new() });
        *self = Self {
            pairing: Pairing::Missing,
            flow: Flow::Failed(problem.into()),
            activity: std::mem::take(&mut self.activity),
            flows: self.flows,
            ..Self::default()
        };
    }

    pub(super) fn receipt(
        &mut self,
        account: AccountId,
        generation: u64,
        outcome: Result<Timestamp, String>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.heard_at(now);
        let ours = |d: &Delivery| d.account == account && d.generation == generation;
        let Some(delivery) = self.delivery.take_if(|d| ours(d)) else { return };
        match outcome {
            Ok(refreshed_at) => {
                let capabilities = self.assistant().map(|a| a.capabilities.clone()).unwrap_or_default();
                let well = Account {
                    id: account,
                    address: delivery.address,
                    health: Health::Connected,
                    reason: None,
                    claims: None,
                    generation,
                    checked_at: Some(refreshed_at),
                    capabilities,
                };
                self.note(Happening::Connected { address: well.address.clone() }, now);
                self.pin(&well, effects);
                let accounts = self.heard.get_or_insert_default();
                accounts.retain(|known| known.id != account);
                accounts.push(well);
                self.enrolled(now, effects);
                self.lapse(effects);
            }
            Err(reason) if by_administrator(&reason) => {
                self.tell(Flow::Blocked { reason, aadsts: Vec::new() });
            }
            Err(reason) => self.tell(Flow::Failed(Problem::HandoffRefused(reason))),
        }
    }

    pub(super) fn agent_state(&mut self, accounts: Vec<Account>, now: Timestamp, effects: &mut Vec<Effect>) {
        self.heard_at(now);
        let known = self.heard.take().unwrap_or_default();
        for account in &accounts {
            let before = known.iter().find(|old| old.id == account.id);
            let address = account.address.clone();
            match (account.health, before.map(|old| old.health)) {
                (Health::Connected, Some(Health::Connected)) => {
                    if before.is_some_and(|old| old.checked_at < account.checked_at) {
                        self.note(Happening::Renewed { address }, now);
                    }
                }
                (Health::Connected, Some(_)) => self.note(Happening::Connected { address }, now),
                (Health::ReconnectNeeded, Some(Health::ReconnectNeeded))
                | (Health::Blocked, Some(Health::Blocked))
                | (Health::Retrying | Health::Connected | Health::Unknown, _) => {}
                (Health::ReconnectNeeded, _) => self.note(Happening::Lapsed { address }, now),
                (Health::Blocked, _) => self.note(Happening::Blocked { address }, now),
            }
        }
        for gone in known.iter().filter(|old| accounts.iter().all(|new| new.id != old.id)) {
            self.note(Happening::Disconnected { address: gone.address.clone() }, now);
        }
        // The receipt may have been lost; the assistant's own account of things says the same.
        let arrived = |d: &mut Delivery| {
            let told = |account: &Account| !matches!(account.health, Health::Retrying | Health::Unknown);
            accounts.iter().any(|new| new.id == d.account && new.generation >= d.generation && told(new))
        };
        if let Some(delivery) = self.delivery.take_if(arrived) {
            effects.push(Effect::Discard { generation: delivery.generation });
        }
        for account in &accounts {
            self.pin(account, effects);
        }
        self.heard = Some(accounts);
        self.enrolled(now, effects);
        self.lapse(effects);
    }

    pub(super) fn auth_expired(
        &mut self,
        account: AccountId,
        reason: String,
        claims: Option<String>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.heard_at(now);
        let lapsed = self.heard.as_mut().and_then(|all| all.iter_mut().find(|known| known.id == account));
        let Some(lapsed) = lapsed else {
            // Not described yet in this run: ask, rather than guess at its address and generation.
            self.hello(now, effects);
            return;
        };
        lapsed.health = Health::ReconnectNeeded;
        lapsed.reason = Some(reason);
        lapsed.claims = claims;
        let address = lapsed.address.clone();
        self.note(Happening::Lapsed { address }, now);
        self.lapse(effects);
    }

    /// One notification per lapse, taken back when all is well.
    fn lapse(&mut self, effects: &mut Vec<Effect>) {
        let Some(account) = self.account() else { return };
        if matches!(account.health, Health::Connected | Health::Retrying | Health::Unknown) {
            if account.health == Health::Connected && self.notified.take().is_some() {
                effects.extend([Effect::WithdrawLapse, Effect::SaveLapse(None)]);
            }
            return;
        }
        let lapse = Lapse { account: account.id, generation: account.generation };
        let at_it = self.flow.running().is_some() || self.delivery.is_some();
        if at_it || self.notified.as_ref() == Some(&lapse) {
            return;
        }
        effects.push(Effect::NotifyLapse { address: account.address.clone(), health: account.health });
        effects.push(Effect::SaveLapse(Some(lapse.clone())));
        self.notified = Some(lapse);
    }

    pub(super) fn disconnect(&mut self, account: Option<&str>, effects: &mut Vec<Effect>) {
        let accounts = self.heard.as_deref().unwrap_or_default();
        let chosen = match account {
            Some(id) => accounts.iter().find(|known| known.id.to_string() == id),
            None => accounts.first().filter(|_| accounts.len() == 1),
        };
        let Some(account) = chosen.map(|account| account.id) else { return };
        // The question may have been on show while a sign-in began: it would bring back what is given up here.
        self.give_up_sign_in(effects);
        // What waits in the outbox is overtaken, and nobody will answer it.
        self.delivery.take_if(|delivery| delivery.account == account);
        effects.push(Effect::AskDisconnect { account });
    }

    /// Pinned at the first sign-in, and never to anybody else afterwards.
    fn pin(&mut self, account: &Account, effects: &mut Vec<Effect>) {
        let pinned = Pinned { id: account.id, address: account.address.clone() };
        if let Pairing::Paired(assistant) = &mut self.pairing
            && assistant.pinned.as_ref() != Some(&pinned)
            && assistant.pinned.as_ref().is_none_or(|known| known.id == pinned.id)
        {
            assistant.pinned = Some(pinned.clone());
            effects.push(Effect::SavePinned(pinned));
        }
    }
}

/// Whether only an administrator can do something about a reason code.
fn by_administrator(reason: &str) -> bool {
    reason.parse::<Reason>().is_ok_and(|reason| reason.class() == Class::Administrator)
}
