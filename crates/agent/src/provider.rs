//! The agent's own [`TokenProvider`]: memory first, then the vault, then one refresh for everybody who waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{self, BoxFuture, FutureExt, Shared};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use valetkey_entra::cloud::Authority;
use valetkey_link::Clock;

use crate::account_file::Facts;
use crate::health::{Announcer, Health};
use crate::refresh::{self, Unsaved};
use crate::schedule;
use crate::token::{AccessToken, TokenFailure, TokenProvider};
use crate::vault::Vault;

/// Proactive refreshes at a time. Each waits for Microsoft most of its life; more would only look like an attack.
const AT_ONCE: usize = 8;
/// The least time between two looks at what is due.
const BREATH: SignedDuration = SignedDuration::from_secs(1);

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

/// What is in memory of one account.
#[derive(Debug, Default)]
struct Slot {
    tokens: HashMap<Resource, AccessToken>,
    flights: HashMap<Wanted, Flight>,
    /// All refreshes of an account present the same refresh token: one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    failures: u32,
    not_before: Option<Timestamp>,
    unsaved: Option<Unsaved>,
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
        let now = self.0.clock.now();
        let facts = self.0.vault.facts(account).filter(|facts| facts.removed_at.is_none());
        let facts = facts.ok_or_else(TokenFailure::never_connected)?;
        may_serve(&facts, resource)?;
        let held = self.0.held(account, resource);
        let (how, fallback) = match claims {
            Some(claims) => (How::Claims(claims.to_owned()), None),
            None => (How::Any, held.clone().filter(|held| now < held.expires_at)),
        };
        if let (How::Any, Some(held)) = (&how, held)
            && now < held.expires_at - schedule::SKEW
        {
            if held.refresh_at <= now && self.0.may_try(account, now).is_ok() {
                drop(self.start(*account, Wanted { resource, how: How::Newer }));
            }
            return Ok(held);
        }
        let result = match self.0.may_try(account, now) {
            Ok(()) => self.start(*account, Wanted { resource, how }).await,
            Err(failure) => Err(failure),
        };
        match (result, fallback) {
            // A hiccup takes nothing away that still works.
            (Err(failure), Some(held)) if failure.is_retryable() && self.0.clock.now() < held.expires_at => {
                Ok(held)
            }
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

    /// A new sign-in was stored: forget what held the one before it back, and try it.
    pub(crate) fn prove_new(&self, account: AccountId) {
        {
            let mut slots = self.0.slots();
            let slot = slots.entry(account).or_default();
            slot.failures = 0;
            slot.not_before = None;
            slot.unsaved = None;
        }
        self.prove(account);
    }

    /// Tries a stored sign-in that has no verdict yet, or joins the try under way. Its verdict comes as an update.
    pub(crate) fn prove(&self, account: AccountId) {
        let Some(facts) = self.0.vault.facts(&account) else { return };
        drop(self.start(account, Wanted { resource: primary(&facts), how: How::Newer }));
        self.0.changed.notify_one();
    }

    /// Forgets everything in memory about an account.
    pub(crate) fn forget(&self, account: &AccountId) {
        self.0.slots().remove(account);
    }

    /// Refreshes what is due until it is told to stop.
    pub(crate) async fn keep_fresh(&self, stop: &CancellationToken) {
        loop {
            let now = self.0.clock.now();
            let mut due = self.0.schedule();
            due.retain(|(_, at, _)| *at <= now);
            for batch in due.chunks(AT_ONCE) {
                let begun = batch
                    .iter()
                    .map(|&(account, _, resource)| self.start(account, Wanted { resource, how: How::Newer }));
                // What they come to is in the accounts' health.
                if stop.run_until_cancelled(future::join_all(begun)).await.is_none() {
                    return;
                }
            }
            let next = self.0.schedule().into_iter().map(|(_, at, _)| at).min();
            let breath = self.0.clock.now() + BREATH;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.changed.notified() => {}
                () = self.0.clock.sleep_until(next.unwrap_or(Timestamp::MAX).max(breath)) => {}
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
fn may_serve(facts: &Facts, resource: Resource) -> Result<(), TokenFailure> {
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
    if facts.resources.iter().any(|covered| covered == resource.id()) {
        Ok(())
    } else {
        Err(TokenFailure::NotCovered { resource })
    }
}

fn primary(facts: &Facts) -> Resource {
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
        self.may_try(&account, now)?;
        let proven = facts.is_proven();
        let first = Wanted { resource: primary(&facts), how: How::Newer };
        if !proven && (wanted.resource != first.resource || matches!(wanted.how, How::Claims(_))) {
            // Before anything is asked for with a new sign-in, it is known whose it is and that it works.
            self.refresh(account, first.resource, None).await?;
        }
        let held = self.held(&account, wanted.resource).filter(|_| proven);
        match (&wanted.how, held) {
            // Somebody was before us.
            (How::Any, Some(held)) if now < held.expires_at - schedule::SKEW => return Ok(held),
            (How::Newer, Some(held)) if now < held.refresh_at => return Ok(held),
            (How::Any, None) if proven => {
                if let Some(stored) = self.load(account, wanted.resource).await {
                    return Ok(stored);
                }
            }
            _ => {}
        }
        let claims = match &wanted.how {
            How::Claims(claims) => Some(claims.as_str()),
            How::Any | How::Newer => None,
        };
        self.refresh(account, wanted.resource, claims).await
    }

    /// After a restart, a stored token that is not due yet is as good as a new one.
    async fn load(self: &Arc<Self>, account: AccountId, resource: Resource) -> Option<AccessToken> {
        let file = self.read(account).await.ok()??;
        let stored = file.cache.access_token(resource, &file.facts.authority.cloud)?;
        let refresh_at = stored.refresh_at.unwrap_or(stored.expires_at - schedule::SKEW * 2);
        if self.clock.now() >= refresh_at.min(stored.expires_at - schedule::SKEW) {
            return None;
        }
        let token = AccessToken { secret: stored.secret.clone(), expires_at: stored.expires_at, refresh_at };
        self.slots().entry(account).or_default().tokens.insert(resource, token.clone());
        Some(token)
    }

    /// When each account is to be refreshed next, and for which resource.
    fn schedule(&self) -> Vec<(AccountId, Timestamp, Resource)> {
        let accounts = self.vault.live();
        let slots = self.slots();
        accounts
            .iter()
            .filter(|facts| facts.condition.health != Health::ReconnectNeeded)
            .map(|facts| {
                let not_before = slots.get(&facts.account).and_then(|slot| slot.not_before);
                let at = facts.refresh_at.max(not_before.unwrap_or(Timestamp::MIN));
                (facts.account, at, primary(facts))
            })
            .collect()
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
        let slot = slots.entry(*account).or_default();
        if fresh_sign_in {
            slot.tokens.clear();
        }
        slot.tokens.insert(resource, token);
        slot.failures = 0;
        slot.not_before = None;
        drop(slots);
        self.changed.notify_one();
    }

    /// Refuses while Microsoft wants to be left alone.
    fn may_try(&self, account: &AccountId, now: Timestamp) -> Result<(), TokenFailure> {
        match self.slots().get(account).and_then(|slot| slot.not_before) {
            Some(at) if now < at => {
                Err(TokenFailure::Unavailable { reason: "backing-off".to_owned(), retry_at: Some(at) })
            }
            _ => Ok(()),
        }
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
        slot.not_before = Some(at);
        drop(slots);
        // The service may have moved.
        self.token_urls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.changed.notify_one();
        TokenFailure::Unavailable { reason: reason.to_owned(), retry_at: Some(at) }
    }

    pub(crate) fn not_before(&self, account: &AccountId, at: Timestamp) {
        self.slots().entry(*account).or_default().not_before = Some(at);
        self.changed.notify_one();
    }

    pub(crate) fn keep_unsaved(&self, account: &AccountId, unsaved: Unsaved) {
        self.slots().entry(*account).or_default().unsaved = Some(unsaved);
    }

    pub(crate) fn take_unsaved(&self, account: &AccountId) -> Option<Unsaved> {
        self.slots().get_mut(account)?.unsaved.take()
    }

    pub(crate) fn token_url(&self, authority: &Authority) -> Option<Url> {
        let known = self.token_urls.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&authority.metadata_url()).cloned()
    }

    pub(crate) fn remember_token_url(&self, authority: &Authority, url: Url) {
        let mut known = self.token_urls.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(authority.metadata_url(), url);
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<AccountId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(slot) = self.inner.slots().get_mut(&self.account) {
            slot.flights.remove(&self.wanted);
        }
    }
}
