//! Seals, and keeps what was sealed: the device's keys, the counter and the outbox, together because their order matters.
//! The number is on the disk before anything is sealed with it; the sealed bytes are on the disk before anybody sends them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use thiserror::Error;
use valetkey_entra::account::AccountId;
use valetkey_handoff::message::{AccountDisconnect, AccountRef, CacheUpdated, Enroll, Hello};
use valetkey_handoff::{Facts, Invite, Keys, Label, SealError, Sealed, ToAgent, seal, seal_enroll};

use crate::outbox::{Outbox, Pending, What};
use crate::pairing::{PairingError, PairingFile};

#[derive(Debug, Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Pairing(#[from] PairingError),
    #[error("the outbox cannot be written")]
    Outbox(#[from] std::io::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub keys: Keys,
    kept: Mutex<Kept>,
}

/// What is in this computer's data directory. Behind one lock, so that nobody can take two in a different order than others.
#[derive(Debug)]
pub(crate) struct Kept {
    pub pairing: PairingFile,
    pub outbox: Outbox,
}

impl Keeper {
    pub fn new(keys: Keys, pairing: PairingFile, outbox: Outbox) -> Self {
        Self { keys, kept: Mutex::new(Kept { pairing, outbox }) }
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this device writes to its agent.
    pub fn inbox_topic(&self) -> String {
        self.kept().pairing.get().topics().inbox(&self.keys.thumbprint())
    }

    /// Seals a sign-in and keeps it on hold, until whoever began it knows of it. What was in `body` is wiped when this returns.
    pub fn keep_sign_in(
        &self,
        body: CacheUpdated,
        account: AccountId,
        now: Timestamp,
    ) -> Result<u64, KeepError> {
        let address = body.account.username.clone();
        self.keep(&body.into(), now, |generation| What::SignIn { account, address, generation })
    }

    pub fn keep_disconnect(&self, account: AccountId, now: Timestamp) -> Result<u64, KeepError> {
        let body = AccountDisconnect { account: AccountRef { tid: account.tid, oid: account.oid } };
        self.keep(&body.into(), now, |generation| What::Disconnect { account, generation })
    }

    pub fn keep_enroll(&self, invite: &Invite, device_name: &str, now: Timestamp) -> Result<(), KeepError> {
        let enroll = Enroll { device_name: Label::tidy(device_name) };
        let sealed = seal_enroll(&self.keys, invite, &self.facts(now), enroll)?;
        let topic = self.kept().pairing.get().topics().enroll(&invite.id());
        self.put(sealed, topic, What::Enroll { expires_at: invite.expires_at }, now)
    }

    /// A `hello` is not kept: it only asks.
    pub fn hello(&self, now: Timestamp) -> Result<Sealed, KeepError> {
        let facts = self.facts(now);
        let agent = self.kept().pairing.get().agent.clone();
        Ok(seal(&self.keys, &agent, &facts, &ToAgent::from(Hello {}))?)
    }

    fn facts(&self, now: Timestamp) -> Facts {
        Facts::new(self.kept().pairing.get().generation(), now)
    }

    fn keep(&self, body: &ToAgent, now: Timestamp, what: impl FnOnce(u64) -> What) -> Result<u64, KeepError> {
        let (generation, agent) = {
            let pairing = &mut self.kept().pairing;
            (pairing.next_generation()?, pairing.get().agent.clone())
        };
        let sealed = seal(&self.keys, &agent, &Facts::new(generation, now), body)?;
        self.put(sealed, self.inbox_topic(), what(generation), now)?;
        Ok(generation)
    }

    fn put(&self, sealed: Sealed, topic: String, what: What, now: Timestamp) -> Result<(), KeepError> {
        let on_hold = matches!(what, What::SignIn { .. });
        let pending = Pending { jti: sealed.jti, topic, what, sealed_at: now, sealed: sealed.text };
        let outbox = &mut self.kept().outbox;
        Ok(if on_hold { outbox.add_on_hold(pending) } else { outbox.add(pending) }?)
    }
}

impl Kept {
    /// The accounts that the agent has from this device, or is about to get: a sign-in may be on its way.
    pub fn handed_over(&self) -> Vec<AccountId> {
        let mut accounts: Vec<_> = self.pairing.get().pinned.iter().map(|pinned| pinned.id).collect();
        for pending in self.outbox.under_way() {
            if let What::SignIn { account, .. } = pending.what
                && !accounts.contains(&account)
            {
                accounts.push(account);
            }
        }
        accounts
    }

    /// What this agent is to give up when the person pairs by `invite`: nothing, when that is its own.
    pub fn given_up_for(&self, invite: &Invite) -> Vec<AccountId> {
        if self.pairing.get().agent == invite.agent { Vec::new() } else { self.handed_over() }
    }
}

#[cfg(test)]
mod tests {
    use valetkey_handoff::InviteSecret;

    use super::*;
    use crate::pairing::PinnedAccount;
    use crate::samples::{ANA, BOB, invite, now};

    fn sign_in(account: AccountId) -> Pending {
        let what = What::SignIn { account, address: "somebody".into(), generation: 1 };
        Pending {
            jti: uuid::Uuid::new_v4(),
            topic: "t".into(),
            what,
            sealed_at: now(),
            sealed: "sealed".into(),
        }
    }

    #[test]
    fn another_agents_invite_makes_it_give_up_what_it_has_and_what_is_on_its_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = invite("Rocky", Keys::generate().public());
        let pairing = PairingFile::create(dir.path(), &first, &Keys::generate()).unwrap();
        let mut kept = Kept { pairing, outbox: Outbox::open(dir.path()).unwrap() };
        let again = Invite { secret: InviteSecret::generate(), ..first };
        let another = invite("Another", Keys::generate().public());
        assert_eq!(kept.given_up_for(&another), []);
        kept.outbox.add(sign_in(ANA)).unwrap();
        assert_eq!(kept.given_up_for(&another), [ANA], "no receipt yet, but it may arrive");
        kept.pairing
            .change(|p| p.pinned = Some(PinnedAccount { id: ANA, address: "ana@contoso.example".into() }))
            .unwrap();
        assert_eq!(kept.given_up_for(&another), [ANA]);
        kept.outbox.add_on_hold(sign_in(BOB)).unwrap();
        assert_eq!(kept.given_up_for(&another), [ANA], "what nobody has sent is with nobody");
        assert_eq!(kept.given_up_for(&again), [], "its own");
    }
}
