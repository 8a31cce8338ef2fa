//! What devices are told, and when: receipts, the state of their accounts, and that a person is needed. Nothing here changes
//! anything; what cannot be told now is in the next `state`.

use jiff::Timestamp;
use uuid::Uuid;
use valetkey_entra::account::AccountId;
use valetkey_handoff::message::{
    AccountRef, AccountState, AuthExpired, Health as WireHealth, Outcome, Receipt, State,
};
use valetkey_handoff::{Code, Facts as MessageFacts, PublicKeys, Thumbprint, ToDevice, seal};
use valetkey_link::{Link, Retain};

use crate::account_file::{Facts, Verdict};
use crate::agent::Shared;
use crate::health::{Health, HealthChange, Update};
use crate::progress::{Mark, Settled};
use crate::registry::Device;

/// The agent's voice on one connection.
#[derive(Clone, Copy)]
pub(crate) struct Voice<'a> {
    pub shared: &'a Shared,
    pub link: &'a Link,
}

impl Voice<'_> {
    pub(crate) fn pass_on(&self, update: &Update) {
        match update {
            Update::HealthChanged(change) => self.health_changed(change),
            Update::Settled(settled) => self.settled(settled),
            Update::Removed { account } => self.tell_devices_of(account),
            _ => {}
        }
    }

    fn health_changed(&self, change: &HealthChange) {
        let Some(facts) = self.shared.vault.facts(&change.account) else { return };
        if change.lapsed
            && facts.brought_by(&facts.device)
            && let Some(device) = self.shared.registry.device(&facts.device)
        {
            let body = AuthExpired {
                account: reference(&facts.account),
                reason: code(change.to.reason.as_deref()),
                claims: change.to.claims.clone(),
            };
            self.send(&device, &body.into(), self.shared.clock.now());
        }
        self.tell_devices_of(&change.account);
    }

    fn settled(&self, settled: &Settled) {
        let Some(device) = self.shared.registry.device(&settled.device) else { return };
        let Some(outcome) = outcome(&settled.verdict) else { return };
        let body = Receipt {
            of: settled.jti,
            generation: settled.generation,
            account: Some(reference(&settled.account)),
            outcome,
        };
        self.send(&device, &body.into(), self.shared.clock.now());
    }

    pub(crate) fn tell_all(&self) {
        for device in self.shared.registry.devices() {
            self.tell(&device);
        }
    }

    fn tell_devices_of(&self, account: &AccountId) {
        let Some(facts) = self.shared.vault.facts(account) else { return };
        for device in self.shared.registry.devices().iter().filter(|d| facts.brought_by(&d.id())) {
            self.tell(device);
        }
    }

    fn tell(&self, device: &Device) {
        self.say_state(device, None);
    }

    /// To a device that asked.
    pub(crate) fn answer(&self, device: &Device, hello: Uuid) {
        self.say_state(device, Some(hello));
    }

    /// How the accounts of a device are.
    fn say_state(&self, device: &Device, answers: Option<Uuid>) {
        let now = self.shared.clock.now();
        let id = device.id();
        let accounts =
            self.shared.vault.live().iter().filter_map(|facts| account_state(facts, &id)).collect();
        self.send(device, &State { accounts, at: now, answers }.into(), now);
    }

    pub(crate) fn receipt(
        &self,
        device: &Device,
        mark: &Mark,
        account: Option<AccountRef>,
        outcome: Outcome,
    ) {
        let body = Receipt { of: mark.jti, generation: mark.generation, account, outcome };
        self.send(device, &body.into(), self.shared.clock.now());
    }

    pub(crate) fn send(&self, device: &Device, message: &ToDevice, now: Timestamp) {
        self.send_to(&device.keys, message, now);
    }

    /// A device that cannot be told hears it in the next `state`; nothing else depends on it.
    pub(crate) fn send_to(&self, keys: &PublicKeys, message: &ToDevice, now: Timestamp) {
        let sealed = match seal(&self.shared.identity.keys, keys, &MessageFacts::new(0, now), message) {
            Ok(sealed) => sealed,
            Err(problem) => {
                tracing::error!(%problem, "a message could not be sealed");
                return;
            }
        };
        let topic = self.shared.topics.outbox(&keys.thumbprint());
        if let Err(problem) = self.link.publish(topic, sealed.text, Retain::No) {
            tracing::warn!(%problem, "a message could not be queued for the broker");
        }
    }
}

pub(crate) fn refused(why: &str) -> Outcome {
    Outcome::Refused { reason: Code::or_unknown(why) }
}

/// The receipt for a verdict, if there is one yet.
pub(crate) fn outcome(verdict: &Verdict) -> Option<Outcome> {
    match verdict {
        Verdict::Pending => None,
        Verdict::Stored { refreshed_at } => Some(Outcome::Stored { refreshed_at: *refreshed_at }),
        Verdict::Done => Some(Outcome::Done),
        Verdict::Refused { reason } => Some(refused(reason)),
    }
}

fn account_state(facts: &Facts, device: &Thumbprint) -> Option<AccountState> {
    let seen = facts.seen.get(device).filter(|_| facts.brought_by(device))?;
    let condition = &facts.condition;
    Some(AccountState {
        account: reference(&facts.account),
        username: facts.username.clone(),
        health: match condition.health {
            Health::Connected => WireHealth::Connected,
            Health::Retrying => WireHealth::Retrying,
            Health::ReconnectNeeded => WireHealth::ReconnectNeeded,
            Health::Blocked => WireHealth::Blocked,
        },
        reason: condition.reason.as_deref().map(Code::or_unknown),
        claims: condition.claims.clone(),
        generation: seen.settled(),
        checked_at: facts.refreshed_at,
        // What people read does not change on a device's word.
        capabilities: facts.serving().capabilities.clone(),
    })
}

fn reference(account: &AccountId) -> AccountRef {
    AccountRef { tid: account.tid, oid: account.oid }
}

fn code(reason: Option<&str>) -> Code {
    Code::or_unknown(reason.unwrap_or_default())
}
