//! The agent's own [`TokenProvider`]: memory first, then the vault, then one refresh for everybody who waits.

mod denied;
mod slot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt, Shared};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::{Capability, Resource};
use valetkey_entra::cloud::Authority;
use valetkey_link::{Clock, RECHECK};

use crate::account_file::Facts;
use crate::health::{Announcer, Health};
use crate::refresh;
use crate::schedule;
use crate::token::{AccessToken, TokenFailure, TokenProvider};
use crate::vault::Vault;
use slot::Slot;

/// Proactive refreshes at a time. Each waits for Microsoft most of its life; more would only look like an attack.
const AT_ONCE: usize = 8;
/// The least time between two looks at what is due.
const BREATH: Duration = Duration::from_secs(1);

type Flight = Shared<BoxFuture<'static, Result<AccessToken, TokenFailure>>>;

/// Serves tokens of the vault's accounts.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) vault: Arc<Vault>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) clock: Clock,
    pub(crate) http: reqwest::Client,
    token_urls: Mutex<HashMap<Url, Url>>,
    slots: Mutex<HashMap<AccountId, Slot>>,
    flights: TaskTracker,
    /// Something about the schedule changed.
    changed: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wanted {
    resource: Resource,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum How {
    /// One that lives for a while.
    Any,
    /// The next one, since it is time.
    Newer,
    /// One that satisfies this challenge.
    Claims(String),
}

impl TokenProvider for Tokens {
    fn token<'a>(
        &'a self,
        account: &'a AccountId,
        resource: Resource,
        claims: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenFailure>> {
        Box::pin(self.serve(account, resource, claims))
    }
}

impl Tokens {
    pub(crate) fn new(
        vault: Arc<Vault>,
        announcer: Arc<Announcer>,
        clock: Clock,
        http: reqwest::Client,
    ) -> Self {
        Self(Arc::new(Inner {
            vault,
            announcer,
            clock,
            http,
            token_urls: Mutex::default(),
            slots: Mutex::default(),
            flights: TaskTracker::new(),
            changed: Notify::new(),
        }))
    }

    async fn serve(
        &self,
        account: &AccountId,
        resource: Resource,
        claims: Option<&str>,
    ) -> Result<AccessToken, TokenFailure> {
        let clock = &self.0.clock;
        let facts = self.0.vault.facts(account).filter(|facts| facts.removed_at.is_none());
        let facts = facts.ok_or_else(|| match self.0.vault.unreadable(account) {
            Some(problem) => TokenFailure::Storage { problem },
            None => TokenFailure::never_connected(),
        })?;
        may_serve(&facts, resource)?;
        let held = self.0.held(account, resource);
        let (how, fallback) = match claims {
            Some(claims) => (How::Claims(claims.to_owned()), None),
            None => (How::Any, held.clone().filter(|held| !clock.has_come(&held.ends))),
        };
        if let (How::Any, Some(held)) = (&how, held)
            && clock.left(&held.ends) > schedule::SKEW.unsigned_abs()
        {
            if clock.has_come(&held.refresh_at) && self.0.may_try(account).is_ok() {
                drop(self.start(*account, Wanted { resource, how: How::Newer }));
            }
            return Ok(held);
        }
        let result = match self.0.may_try(account) {
            Err(failure) if facts.replaced.is_none() => Err(failure),
            // What is in store of the sign-in before need not be asked for.
            _ => self.start(*account, Wanted { resource, how }).await,
        };
        match (result, fallback) {
            // A hiccup takes nothing away that still works.
            (Err(failure), Some(held)) if failure.is_retryable() && !clock.has_come(&held.ends) => Ok(held),
            (result, _) => result,
        }
    }

    /// Joins the refresh that is under way for this, or begins it. It goes on without anybody waiting for it.
    fn start(&self, account: AccountId, wanted: Wanted) -> Flight {
        let mut slots = self.0.slots();
        let slot = slots.entry(account).or_default();
        if let Some(flight) = slot.flights.get(&wanted) {
            return flight.clone();
        }
        let landing = Landing { inner: Arc::clone(&self.0), account, wanted: wanted.clone() };
        let turn = Arc::clone(&slot.turn);
        let task = self.0.flights.spawn(async move {
            let _turn = turn.lock_owned().await;
            landing.inner.fly(landing.account, &landing.wanted).await
        });
        let flight = task
            .map(|ended| {
                ended.unwrap_or_else(|_| {
                    Err(TokenFailure::Unavailable { reason: "interrupted".to_owned(), retry_at: None })
                })
            })
            .boxed()
            .shared();
        slot.flights.insert(wanted, flight.clone());
        flight
    }

    /// A new sign-in was stored: forget what held the one before it back, and try it. An answer to that one that is not on
    /// disk yet is not forgotten: the new one may be refused.
    pub(crate) fn prove_new(&self, account: AccountId) {
        {
            let mut slots = self.0.slots();
            let slot = slots.entry(account).or_default();
            slot.let_go();
            slot.denied = denied::Denied::default();
        }
        self.prove(account);
    }

    /// Tries a stored sign-in that has no verdict yet, or joins the try under way. Its verdict comes as an update.
    pub(crate) fn prove(&self, account: AccountId) {
        let Some(facts) = self.0.vault.facts(&account) else { return };
        drop(self.start(account, Wanted { resource: primary(&facts), how: How::Newer }));
        self.0.changed.notify_one();
    }

    /// What the account is connected for that a token for this resource can do.
    pub(crate) fn capabilities(&self, account: &AccountId, resource: Resource) -> Vec<&'static str> {
        let known = self.0.vault.facts(account).map(|facts| facts.known_capabilities()).unwrap_or_default();
        known.iter().filter(|one| one.resource() == resource).map(Capability::id).collect()
    }

    /// Forgets what is in memory of an account that was removed.
    pub(crate) fn forget(&self, account: &AccountId) {
        self.0.forget(account);
    }

    /// Refreshes what is due until it is told to stop.
    pub(crate) async fn keep_fresh(&self, stop: &CancellationToken) {
        loop {
            let mut due = self.0.schedule();
            due.retain(|(_, left, _)| left.is_zero());
            let mut failed = HashMap::new();
            for batch in due.chunks(AT_ONCE) {
                let begun = batch.iter().map(|&(account, _, resource)| {
                    self.start(account, Wanted { resource, how: How::Newer })
                        .map(move |ended| (account, ended))
                });
                // What they come to is in the accounts' health.
                let Some(ended) = stop.run_until_cancelled(future::join_all(begun)).await else { return };
                failed.extend(ended.into_iter().filter_map(|(account, ended)| Some((account, ended.err()?))));
            }
            for (account, _, _) in self.0.schedule().iter().filter(|(_, left, _)| left.is_zero()) {
                if let Some(failure) = failed.get(account) {
                    self.0.look_later(account, failure);
                }
            }
            let next = self.0.schedule().into_iter().map(|(_, left, _)| left).min();
            // Looked at again although nothing seems due: the clock may be set meanwhile.
            let pause = next.unwrap_or(RECHECK).clamp(BREATH, RECHECK);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits until every refresh that has begun has been saved.
    pub(crate) async fn finish(&self) {
        self.0.flights.close();
        self.0.flights.wait().await;
        self.0.flights.reopen();
    }
}

/// The checks that need neither the disk nor the network.
pub(crate) fn may_serve(facts: &Facts, resource: Resource) -> Result<(), TokenFailure> {
    let condition = &facts.condition;
    let reason = || condition.reason.clone().unwrap_or_default();
    match condition.health {
        Health::ReconnectNeeded => {
            return Err(TokenFailure::AuthRequired { reason: reason(), never_connected: false });
        }
        Health::Blocked => {
            let by = condition.blocked_by.unwrap_or(crate::health::BlockedBy::Operator);
            return Err(refresh::blocked(by, reason()));
        }
        Health::Connected | Health::Retrying => {}
    }
    // What a new sign-in leaves out is served until it has worked; what it alone covers, once it has.
    let mut covered = facts.serving().resources.iter().chain(&facts.resources);
    if covered.any(|covered| covered == resource.id()) {
        Ok(())
    } else {
        Err(TokenFailure::NotCovered { resource })
    }
}

/// The clock was put back after the last refresh: how old that is, and when the token ends, nobody knows any more. What
/// [`schedule::SKEW`] covers does not matter.
fn set_back(facts: &Facts, now: Timestamp) -> bool {
    facts.refreshed_at.is_some_and(|at| at.duration_since(now) > schedule::SKEW)
}

/// What an account's own refresh is for. Its health goes by that alone.
pub(crate) fn primary(facts: &Facts) -> Resource {
    facts.resources.first().and_then(|id| id.parse().ok()).unwrap_or(Resource::Graph)
}

impl Inner {
    async fn fly(self: &Arc<Self>, account: AccountId, wanted: &Wanted) -> Result<AccessToken, TokenFailure> {
        let now = self.clock.now();
        let facts = self.vault.facts(&account).ok_or_else(TokenFailure::never_connected)?;
        // Whoever was before us may have found out that there is nothing to be had.
        let blocked_but_due = facts.condition.health == Health::Blocked && wanted.how == How::Newer;
        if !blocked_but_due {
            may_serve(&facts, wanted.resource)?;
        }
        if let Some(token) = self.at_hand(account, wanted, &facts, now).await {
            return Ok(token);
        }
        let held_back = self.may_try(&account);
        if held_back.is_ok()
            && let Some(failure) = self.denied(&account, wanted, now)
        {
            return Err(failure);
        }
        let first = primary(&facts);
        let claims = match &wanted.how {
            How::Claims(claims) => Some(claims.as_str()),
            How::Any | How::Newer => None,
        };
        let mut result = match held_back {
            Ok(()) => self.refresh(account, wanted.resource, claims).await,
            Err(failure) => Err(failure),
        };
        if wanted.how != How::Newer
            && result.as_ref().is_err_and(TokenFailure::is_retryable)
            && self.step_back(account, wanted.resource).await
        {
            result = self.refresh(account, wanted.resource, claims).await;
        }
        if wanted.how == How::Any
            && wanted.resource == first
            && result.as_ref().is_err_and(|failure| !failure.is_retryable())
            && self.may_try(&account).is_ok()
            && let Some(before) = self.vault.facts(&account)
            && before.is_proven()
            && may_serve(&before, wanted.resource).is_ok()
        {
            // That was a new sign-in that never worked. The one before it goes on.
            result = match self.at_hand(account, wanted, &before, now).await {
                Some(token) => Ok(token),
                None => self.refresh(account, wanted.resource, None).await,
            };
        }
        match result {
            Err(failure) if !failure.is_retryable() && (claims.is_some() || wanted.resource != first) => {
                Err(self.denied_or_over(account, first, wanted, failure).await)
            }
            result => result,
        }
    }

    /// The token that needs no asking: one in memory, or in store after a restart. While a new sign-in is tried, that of the
    /// one before it.
    async fn at_hand(
        self: &Arc<Self>,
        account: AccountId,
        wanted: &Wanted,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<AccessToken> {
        let serving = facts.serving();
        let well = facts.replaced.is_none()
            || matches!(serving.condition.health, Health::Connected | Health::Retrying);
        if !serving.is_proven() || !well {
            return None;
        }
        match (&wanted.how, self.held(&account, wanted.resource)) {
            // Somebody was before us.
            (How::Any, Some(held)) => {
                (self.clock.left(&held.ends) > schedule::SKEW.unsigned_abs()).then_some(held)
            }
            (How::Newer, Some(held)) => {
                let early = !self.clock.has_come(&held.refresh_at) && !set_back(serving, now);
                (early && facts.is_proven()).then_some(held)
            }
            (How::Any, None) if !set_back(serving, now) => self.load(account, wanted.resource).await,
            _ => None,
        }
    }

    /// Microsoft has refused what one caller asked for. If the sign-in as a whole is over, that is found out now and told
    /// to everybody; otherwise it is that caller's answer, and nobody else's.
    async fn denied_or_over(
        self: &Arc<Self>,
        account: AccountId,
        first: Resource,
        wanted: &Wanted,
        failure: TokenFailure,
    ) -> TokenFailure {
        let is_well = || self.vault.facts(&account).is_some_and(|facts| may_serve(&facts, first).is_ok());
        if !is_well() {
            return failure;
        }
        let now = self.clock.now();
        if self.is_check_due(&account, now)
            && let Err(over) = self.refresh(account, first, None).await
            && !is_well()
        {
            return over;
        }
        self.note_denied(&account, wanted, &failure, now);
        failure
    }

    /// After a restart, a stored token that is not due yet is as good as a new one.
    async fn load(self: &Arc<Self>, account: AccountId, resource: Resource) -> Option<AccessToken> {
        let mut file = self.read(account).await.ok()??;
        if let Some(before) = file.facts.replaced.take() {
            file = *before;
        }
        let stored = file.cache.access_token(resource, &file.facts.authority.cloud)?;
        let refresh_at = stored.refresh_at.unwrap_or(stored.expires_at - schedule::SKEW * 2);
        if self.clock.now() >= refresh_at.min(stored.expires_at - schedule::SKEW) {
            return None;
        }
        // By what was drawn when it came, the account is due: accounts that were stored together stay spread.
        let drawn = Some(file.facts.refresh_at).filter(|_| resource == primary(&file.facts));
        let refresh_at = drawn.map_or(refresh_at, |drawn| drawn.min(refresh_at));
        let token = AccessToken::new(stored.secret.clone(), stored.expires_at, refresh_at, &self.clock);
        let mut slots = self.slots();
        if self.is_in_use(&account) {
            slots.entry(account).or_default().tokens.insert(resource, token.clone());
        }
        Some(token)
    }

    /// How long until each account is to be refreshed, and for which resource.
    fn schedule(&self) -> Vec<(AccountId, Duration, Resource)> {
        let accounts = self.vault.live();
        let now = self.clock.now();
        let slots = self.slots();
        accounts
            .iter()
            .filter(|facts| facts.condition.health != Health::ReconnectNeeded)
            .map(|facts| {
                let resource = primary(facts);
                let slot = slots.get(&facts.account);
                let held = slot.and_then(|slot| slot.tokens.get(&resource));
                let mut left = Duration::try_from(facts.refresh_at.duration_since(now)).unwrap_or_default();
                if let Some(held) = held {
                    left = left.min(self.clock.left(&held.refresh_at));
                }
                if set_back(facts, now) {
                    left = Duration::ZERO;
                }
                let waits = slot.into_iter().flat_map(|slot| [slot.not_before, slot.look_again]).flatten();
                let wait = waits.map(|at| self.clock.left(&at)).max().unwrap_or_default();
                (facts.account, left.max(wait), resource)
            })
            .collect()
    }

    pub(crate) fn token_url(&self, authority: &Authority) -> Option<Url> {
        let known = self.token_urls.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&authority.metadata_url()).cloned()
    }

    pub(crate) fn remember_token_url(&self, authority: &Authority, url: Url) {
        let mut known = self.token_urls.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(authority.metadata_url(), url);
    }
}

/// Takes a flight off the list however it ends.
struct Landing {
    inner: Arc<Inner>,
    account: AccountId,
    wanted: Wanted,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut slots = self.inner.slots();
        if let Some(slot) = slots.get_mut(&self.account) {
            slot.flights.remove(&self.wanted);
            if slot.is_empty() {
                slots.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests;
