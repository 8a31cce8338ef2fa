//! What is in memory of each account: tokens, what is under way, and how long Microsoft wants to be left alone.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use valetkey_link::Deadline;

use super::denied::Denied;
use super::{Flight, How, Inner, Wanted};
use crate::refresh::Unsaved;
use crate::schedule;
use crate::token::{AccessToken, TokenFailure};

/// What is in memory of one account.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(super) tokens: HashMap<Resource, AccessToken>,
    pub(super) flights: HashMap<Wanted, Flight>,
    /// All refreshes of an account present the same refresh token: one at a time.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) failures: u32,
    pub(super) not_before: Option<Deadline>,
    /// Proactive refreshes in a row that failed and left the account as due as it was: it cannot be read, say.
    fruitless: u32,
    /// When the next one may begin. Callers are not held back by it.
    pub(super) look_again: Option<Deadline>,
    pub(super) unsaved: Option<Unsaved>,
    /// What callers asked for and Microsoft refused.
    pub(super) denied: Denied,
}

impl Slot {
    /// Nothing is waited for any more.
    pub(super) fn let_go(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.fruitless = 0;
        self.look_again = None;
    }

    /// Nothing is lost with it. A flight may still hold the turn when it is off the list.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
            && self.flights.is_empty()
            && Arc::strong_count(&self.turn) == 1
            && self.not_before.is_none()
            && self.look_again.is_none()
            && self.unsaved.is_none()
            && self.denied.is_empty()
    }
}

impl Inner {
    /// Forgets what is known of an account. What is under way keeps its turn: whatever is stored next, even the same
    /// account's next sign-in, is presented after it and not beside it.
    pub(crate) fn forget(&self, account: &AccountId) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(account) else { return };
        let (flights, turn) = (std::mem::take(&mut slot.flights), Arc::clone(&slot.turn));
        *slot = Slot { flights, turn, ..Slot::default() };
        if slot.is_empty() {
            slots.remove(account);
        }
    }

    /// Whether its tokens may be kept in memory: it may have been removed, or signed in anew, since they were stored.
    pub(super) fn is_in_use(&self, account: &AccountId) -> bool {
        self.vault.facts(account).is_some_and(|facts| facts.is_proven())
    }

    pub(crate) fn held(&self, account: &AccountId, resource: Resource) -> Option<AccessToken> {
        self.slots().get(account)?.tokens.get(&resource).cloned()
    }

    /// Puts a token that is safely stored into memory. After a new sign-in the older tokens go.
    pub(crate) fn hold(
        &self,
        account: &AccountId,
        resource: Resource,
        token: AccessToken,
        fresh_sign_in: bool,
    ) {
        let mut slots = self.slots();
        let is_in_use = self.is_in_use(account);
        let slot = slots.entry(*account).or_default();
        if fresh_sign_in {
            slot.tokens.clear();
        }
        if is_in_use {
            slot.tokens.insert(resource, token);
        }
        slot.let_go();
        drop(slots);
        self.changed.notify_one();
    }

    /// Refuses while Microsoft wants to be left alone.
    pub(super) fn may_try(&self, account: &AccountId) -> Result<(), TokenFailure> {
        let not_before = self.slots().get(account).and_then(|slot| slot.not_before);
        let left = not_before.map_or(Duration::ZERO, |at| self.clock.left(&at));
        if left.is_zero() {
            return Ok(());
        }
        let retry_at = self.clock.now().saturating_add(left).ok();
        Err(TokenFailure::Unavailable { reason: "backing-off".to_owned(), retry_at })
    }

    pub(crate) fn back_off(
        &self,
        account: &AccountId,
        reason: &str,
        retry_after: Option<SignedDuration>,
    ) -> TokenFailure {
        let mut slots = self.slots();
        let slot = slots.entry(*account).or_default();
        slot.failures = slot.failures.saturating_add(1);
        let at = schedule::retry_at(self.clock.now(), slot.failures, retry_after, rand::random());
        slot.not_before = Some(self.clock.deadline(at));
        drop(slots);
        // The service may have moved.
        self.token_urls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.changed.notify_one();
        TokenFailure::Unavailable { reason: reason.to_owned(), retry_at: Some(at) }
    }

    /// What held one sign-in back is no reason to hold back another.
    pub(crate) fn let_go(&self, account: &AccountId) {
        if let Some(slot) = self.slots().get_mut(account) {
            slot.let_go();
        }
        self.changed.notify_one();
    }

    pub(crate) fn not_before(&self, account: &AccountId, at: Timestamp) {
        let at = self.clock.deadline(at);
        self.slots().entry(*account).or_default().not_before = Some(at);
        self.changed.notify_one();
    }

    /// A refresh failed, and nothing that would make the account wait was written down.
    pub(super) fn look_later(&self, account: &AccountId, failure: &TokenFailure) {
        let mut slots = self.slots();
        let slot = slots.entry(*account).or_default();
        slot.fruitless = slot.fruitless.saturating_add(1);
        let again = schedule::retry_at(self.clock.now(), slot.fruitless, None, rand::random());
        slot.look_again = Some(self.clock.deadline(again));
        drop(slots);
        tracing::warn!(%account, %failure, %again, "an account cannot be refreshed");
    }

    pub(crate) fn keep_unsaved(&self, account: &AccountId, unsaved: Unsaved) {
        self.slots().entry(*account).or_default().unsaved = Some(unsaved);
    }

    pub(crate) fn has_unsaved(&self, account: &AccountId) -> bool {
        self.slots().get(account).is_some_and(|slot| slot.unsaved.is_some())
    }

    pub(crate) fn take_unsaved(&self, account: &AccountId) -> Option<Unsaved> {
        self.slots().get_mut(account)?.unsaved.take()
    }

    /// The refusal that still stands for what is wanted.
    pub(super) fn denied(
        &self,
        account: &AccountId,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Option<TokenFailure> {
        self.slots().get_mut(account)?.denied.answer(&wanted.asked(), now)
    }

    pub(super) fn note_denied(
        &self,
        account: &AccountId,
        wanted: &Wanted,
        failure: &TokenFailure,
        now: Timestamp,
    ) {
        self.slots().entry(*account).or_default().denied.note(wanted.asked(), failure.clone(), now);
    }

    pub(super) fn is_check_due(&self, account: &AccountId, now: Timestamp) -> bool {
        self.slots().entry(*account).or_default().denied.is_check_due(now)
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, HashMap<AccountId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn asked(&self) -> (Resource, Option<String>) {
        let claims = match &self.how {
            How::Claims(claims) => Some(claims.clone()),
            How::Any | How::Newer => None,
        };
        (self.resource, claims)
    }
}
