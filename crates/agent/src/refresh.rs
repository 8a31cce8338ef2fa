//! One refresh: read the store, present the refresh token, have the answer on disk, and only then hand the token out.
//!
//! An account's health is what its own refresh says: that of its first resource, without claims. What else callers ask for
//! is theirs alone, however it ends.

mod answer;
mod identify;
mod request;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use valetkey_entra::metadata::Metadata;
use valetkey_entra::refusal::Reason;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::{TokenEndpoint, TokenResponse};

use crate::account_file::{AccountFile, Facts};
use crate::audit::Event;
use crate::health::{BlockedBy, Outcome, Update};
use crate::progress::{self, Misfit, News};
use crate::provider::{Inner, may_serve, primary};
use crate::schedule;
use crate::token::{AccessToken, TokenFailure};
use crate::vault::{Change, VaultError};
use answer::Saved;
pub(crate) use answer::Unsaved;
use request::{Refused, Request, Try, next_try};

/// A bare `invalid_grant` may be another writer's rotation that has not reached the disk, or a hiccup of the provider's.
const INVALID_GRANT_PAUSE: Duration = Duration::from_secs(2);
/// Two writers that keep overtaking us are not chased for ever.
const MAX_ATTEMPTS: usize = 6;

impl Inner {
    /// Refreshes; the caller holds the account's turn.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        account: AccountId,
        resource: Resource,
        claims: Option<&str>,
    ) -> Result<AccessToken, TokenFailure> {
        if let Some(kept) = self.take_unsaved(&account) {
            // Nothing is asked while the last answer is not safe.
            self.catch_up(account, kept).await?;
        }
        let mut refused = Vec::new();
        let mut paused = false;
        for _ in 0..MAX_ATTEMPTS {
            let file = self.read(account).await?.ok_or_else(TokenFailure::never_connected)?;
            let request = Request::of(&file, resource)?;
            let own = claims.is_none() && resource == primary(&file.facts);
            if !own && !file.facts.is_proven() {
                self.prove_first(&file.facts).await?;
                if let Some(facts) = self.vault.facts(&account) {
                    may_serve(&facts, resource)?;
                }
                continue;
            }
            let presented = match next_try(
                &request.refresh_token,
                file.facts.previous_refresh_token.as_ref(),
                account.is_personal(),
                &refused,
                paused,
            ) {
                Try::Present(secret) => secret,
                Try::PauseFirst => {
                    tokio::time::sleep(INVALID_GRANT_PAUSE).await;
                    paused = true;
                    continue;
                }
                Try::Over => {
                    let reason = Reason::Expired.as_str().to_owned();
                    let over = Outcome::NeedsPerson { reason, claims: None };
                    // It is said of the refresh token, and a personal account's is not presented again to be sure.
                    let own = own || account.is_personal();
                    let asked = Asked { resource, own };
                    match self.refused(account, asked, &request.refresh_token, over, None).await {
                        Some(failure) => return Err(failure),
                        None => continue,
                    }
                }
            };
            let asked_at = self.clock.now();
            match self.ask(&request, &presented, claims, asked_at).await {
                Ok(response) => {
                    let answer = Unsaved { resource, own, presented, response, asked_at, person: None };
                    match self.take_in(account, answer).await? {
                        Saved::Token(token) => return Ok(token),
                        Saved::Superseded => {}
                    }
                }
                Err(Refused::BareInvalidGrant) => refused.push(presented),
                Err(Refused::With(outcome, retry_after)) => {
                    let asked = Asked { resource, own };
                    if let Some(failure) =
                        self.refused(account, asked, &presented, outcome, retry_after).await
                    {
                        return Err(failure);
                    }
                    // A newer sign-in came in meanwhile: use that.
                }
            }
        }
        Err(self.back_off(&account, "overtaken", None))
    }

    /// Before anything is asked for with a new sign-in, it is known whose it is and that it works. If it never will, the one
    /// before it goes on.
    fn prove_first<'a>(self: &'a Arc<Self>, facts: &'a Facts) -> BoxFuture<'a, Result<(), TokenFailure>> {
        Box::pin(async move {
            let proved = self.refresh(facts.account, primary(facts), None).await;
            let goes_on = || self.vault.facts(&facts.account).is_some_and(|facts| facts.is_proven());
            proved.map(drop).or_else(|failure| if goes_on() { Ok(()) } else { Err(failure) })
        })
    }

    /// Has the sign-in before a new one go on that cannot be tried now, if it can serve what is wanted. Whether it goes on.
    pub(crate) async fn step_back(self: &Arc<Self>, account: AccountId, wanted: Resource) -> bool {
        let facts = self.vault.facts(&account);
        let before = facts.as_ref().and_then(|facts| facts.replaced.as_ref());
        let serves = before.is_some_and(|before| may_serve(&before.facts, wanted).is_ok());
        // An answer that only the disk keeps back belongs to the new one, which has worked.
        if !serves || self.has_unsaved(&account) {
            return false;
        }
        let now = self.clock.now();
        match self.change(account, move |file| progress::step_back(file, now)).await {
            Ok(Ok(news)) => {
                tracing::warn!(%account, "a new sign-in cannot be tried; the one before it goes on until it comes again");
                self.let_go(&account);
                self.tell(account, news);
                true
            }
            Ok(Err(_)) => false,
            Err(error) => {
                tracing::error!(%account, %error, "the sign-in before a new one cannot go on");
                false
            }
        }
    }

    /// Saves what could not be saved before. What it says of one caller's request is nothing to the next.
    async fn catch_up(self: &Arc<Self>, account: AccountId, kept: Unsaved) -> Result<(), TokenFailure> {
        let own = kept.own;
        match self.take_in(account, kept).await {
            Err(failure) if own || failure.is_retryable() => Err(failure),
            _ => Ok(()),
        }
    }

    async fn ask(
        &self,
        request: &Request,
        refresh_token: &Secret,
        claims: Option<&str>,
        now: Timestamp,
    ) -> Result<TokenResponse, Refused> {
        let token_url = match self.token_url(&request.authority) {
            Some(known) => known,
            None => match Metadata::fetch(&self.http, &request.authority).await {
                Ok(metadata) => {
                    self.remember_token_url(&request.authority, metadata.token_endpoint.clone());
                    metadata.token_endpoint
                }
                Err(problem) => {
                    tracing::warn!(%problem, "the sign-in service's metadata could not be read");
                    let reason = Reason::Unavailable.as_str().to_owned();
                    return Err(Refused::With(Outcome::Transient { reason }, None));
                }
            },
        };
        TokenEndpoint::new(self.http.clone(), token_url)
            .refresh(&request.client_id, refresh_token, &request.scopes, claims, now)
            .await
            .map_err(|error| Refused::of(&error))
    }

    /// What a refusal is for whom. `None`: it was about a refresh token that has been replaced, and means nothing.
    async fn refused(
        self: &Arc<Self>,
        account: AccountId,
        asked: Asked,
        presented: &Secret,
        outcome: Outcome,
        retry_after: Option<SignedDuration>,
    ) -> Option<TokenFailure> {
        if asked.own {
            return self.fail(account, presented, outcome, retry_after).await;
        }
        match self.read(account).await {
            Err(failure) => return Some(failure),
            Ok(file) => {
                let current = file.as_ref().and_then(|file| file.cache.refresh_token());
                let before = file.as_ref().and_then(|file| file.facts.previous_refresh_token.as_ref());
                if current != Some(presented) && before != Some(presented) {
                    return None;
                }
            }
        }
        match outcome {
            Outcome::Worked => None,
            Outcome::Transient { reason } => Some(self.back_off(&account, &reason, retry_after)),
            Outcome::Blocked { reason, .. } if reason == Reason::RequestLoop.as_str() => {
                Some(self.back_off(&account, &reason, retry_after))
            }
            Outcome::NeedsPerson { reason, .. } => {
                Some(TokenFailure::StepUpRequired { resource: asked.resource, reason })
            }
            Outcome::Blocked { by, reason } => Some(blocked(by, reason)),
        }
    }

    /// Notes a failure of the account's own refresh. `None`: it was about a refresh token that has been replaced, and means nothing.
    async fn fail(
        self: &Arc<Self>,
        account: AccountId,
        presented: &Secret,
        outcome: Outcome,
        retry_after: Option<SignedDuration>,
    ) -> Option<TokenFailure> {
        let now = self.clock.now();
        let known = self.vault.facts(&account);
        let noted = {
            let (presented, outcome) = (presented.clone(), outcome.clone());
            self.change(account, move |file| progress::failed(file, &presented, &outcome, now)).await
        };
        // Then what became of the new one is no reason to hold back the one before it, or the next.
        let mut given_up = false;
        match noted {
            Ok(Ok(news)) => {
                given_up = news.settled.is_some();
                if let Some(reason) = outcome.reason() {
                    self.announcer.record(Event::RefreshFailed { account, reason: reason.to_owned() });
                }
                self.tell(account, news);
            }
            Ok(Err(_)) => return None,
            // It is told all the same; the next attempt will find it again.
            Err(error) => {
                tracing::error!(%account, %error, "the health of an account could not be saved");
                if matches!(outcome, Outcome::NeedsPerson { .. }) {
                    // Nothing that is kept says that it is over, so it would be presented again at once, and again.
                    self.back_off(&account, "storage", None);
                }
                // The file may be in its place, and only that it stays there unsure: then no attempt finds it again.
                if let (Some(known), Ok(Some(file))) = (known, self.read(account).await) {
                    let change = progress::told_by(&file, &known, presented);
                    self.tell(account, News { change, settled: None });
                }
            }
        }
        Some(match outcome {
            Outcome::Worked => return None,
            Outcome::Transient { reason } => self.back_off(&account, &reason, retry_after),
            Outcome::NeedsPerson { reason, .. } => {
                TokenFailure::AuthRequired { reason, never_connected: false }
            }
            Outcome::Blocked { by, reason } => {
                if !given_up {
                    self.not_before(&account, now + schedule::BLOCKED_RETRY);
                }
                blocked(by, reason)
            }
        })
    }

    pub(crate) async fn read(
        self: &Arc<Self>,
        account: AccountId,
    ) -> Result<Option<AccountFile>, TokenFailure> {
        let now = self.clock.now();
        let inner = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || inner.vault.read(&account, now)).await;
        match read {
            Ok(Ok(file)) => Ok(file.filter(|file| file.facts.removed_at.is_none())),
            Ok(Err(error @ (VaultError::SetAside { .. } | VaultError::Newer { .. }))) => {
                tracing::error!(%account, %error, "the account cannot be used");
                Err(TokenFailure::never_connected())
            }
            Ok(Err(error)) => Err(TokenFailure::Storage { problem: error.to_string() }),
            Err(_) => Err(TokenFailure::Storage { problem: "reading it was interrupted".to_owned() }),
        }
    }

    /// Changes a file that is there.
    async fn change(
        self: &Arc<Self>,
        account: AccountId,
        decide: impl FnOnce(AccountFile) -> Result<(AccountFile, News), Misfit> + Send + 'static,
    ) -> Result<Result<News, Misfit>, VaultError> {
        let now = self.clock.now();
        let inner = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || {
            inner.vault.change(&account, now, |current| match current.map(decide) {
                Some(Ok((file, news))) => Change::Write(Box::new(file), Ok(news)),
                Some(Err(misfit)) => Change::Leave(Err(misfit)),
                None => Change::Leave(Err(Misfit::Superseded)),
            })
        });
        changed.await.unwrap_or(Err(VaultError::Interrupted { account }))
    }

    fn tell(&self, account: AccountId, news: News) {
        if let Some(change) = news.change {
            self.announcer.tell(Update::HealthChanged(change));
        }
        if let Some(settled) = news.settled {
            self.announcer.tell(Update::Settled(settled));
            if self.vault.facts(&account).is_none_or(|facts| facts.removed_at.is_some()) {
                self.forget(&account);
                self.announcer.tell(Update::Removed { account });
            }
        }
    }
}

/// What was asked for when it was refused.
#[derive(Debug, Clone, Copy)]
struct Asked {
    resource: Resource,
    /// The account's own refresh.
    own: bool,
}

/// The failure that a blocked account answers with.
pub(crate) fn blocked(by: BlockedBy, reason: String) -> TokenFailure {
    if reason == Reason::NoLicence.as_str() {
        TokenFailure::NoLicence
    } else {
        TokenFailure::Blocked { by, reason }
    }
}
