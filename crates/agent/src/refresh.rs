//! One refresh: read the store, present the refresh token, have the answer on disk, and only then hand the token out.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::{self, Capability, Resource};
use valetkey_entra::cloud::Authority;
use valetkey_entra::graph::{self, GraphError};
use valetkey_entra::id_token::{self, Claims, Expect};
use valetkey_entra::metadata::Metadata;
use valetkey_entra::person::{self, Expected};
use valetkey_entra::refusal::{Class, Reason};
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::{TokenEndpoint, TokenError, TokenResponse};

use crate::account_file::AccountFile;
use crate::audit::Event;
use crate::health::{BlockedBy, Outcome, Update};
use crate::progress::{self, Life, Misfit, News, Refreshed};
use crate::provider::Inner;
use crate::schedule;
use crate::token::{AccessToken, TokenFailure};
use crate::vault::{Change, VaultError};

/// A bare `invalid_grant` may be another writer's rotation that has not reached the disk, or a hiccup of the provider's.
const INVALID_GRANT_PAUSE: Duration = Duration::from_secs(2);
/// Two writers that keep overtaking us are not chased for ever.
const MAX_ATTEMPTS: usize = 6;

/// The reason when a device's sign-in turns out to be somebody else's than it said.
const WRONG_ACCOUNT: &str = "wrong-account";

/// An answer that could not be saved. Kept, because the provider may not accept the older refresh token again.
#[derive(Debug, Clone)]
pub(crate) struct Unsaved {
    resource: Resource,
    presented: Secret,
    response: TokenResponse,
    asked_at: Timestamp,
    /// Who it is, found out at the first refresh of a sign-in.
    person: Option<Claims>,
}

#[derive(Debug, PartialEq, Eq)]
enum Try {
    Present(Secret),
    PauseFirst,
    Over,
}

/// What to present next, after those in `refused` were met with a bare `invalid_grant`.
fn next_try(
    current: &Secret,
    previous: Option<&Secret>,
    personal: bool,
    refused: &[Secret],
    paused: bool,
) -> Try {
    if !refused.contains(current) {
        return Try::Present(current.clone());
    }
    // Presenting one twice can end a personal account's whole sign-in.
    if personal || refused.len() > 1 {
        return Try::Over;
    }
    if !paused {
        return Try::PauseFirst;
    }
    Try::Present(previous.filter(|previous| !refused.contains(previous)).unwrap_or(current).clone())
}

impl Inner {
    /// Refreshes; the caller holds the account's turn.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        account: AccountId,
        resource: Resource,
        claims: Option<&str>,
    ) -> Result<AccessToken, TokenFailure> {
        if let Some(unsaved) = self.take_unsaved(&account) {
            // Nothing is asked while the last answer is not safe.
            self.save(account, unsaved).await?;
        }
        let mut refused = Vec::new();
        let mut paused = false;
        for _ in 0..MAX_ATTEMPTS {
            let file = self.read(account).await?.ok_or_else(TokenFailure::never_connected)?;
            let request = Request::of(&file, resource)?;
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
                    let over = Outcome::NeedsPerson {
                        reason: Reason::Expired.as_str().to_owned(),
                        claims: claims.map(str::to_owned),
                    };
                    match self.fail(account, &request.refresh_token, over, None).await {
                        Some(failure) => return Err(failure),
                        None => continue,
                    }
                }
            };
            let asked_at = self.clock.now();
            match self.ask(&request, &presented, claims, asked_at).await {
                Ok(response) => {
                    let mut answer = Unsaved { resource, presented, response, asked_at, person: None };
                    if !file.facts.is_proven() {
                        match self.identify(&file, &mut answer).await? {
                            Identified::Right(person) => answer.person = Some(*person),
                            Identified::Superseded => continue,
                        }
                    }
                    match self.save(account, answer).await? {
                        Saved::Token(token) => return Ok(token),
                        Saved::Superseded => {}
                    }
                }
                Err(Refused::BareInvalidGrant) => refused.push(presented),
                Err(Refused::With(outcome, retry_after)) => {
                    if let Some(failure) = self.fail(account, &presented, outcome, retry_after).await {
                        return Err(failure);
                    }
                    // A newer sign-in came in meanwhile: use that.
                }
            }
        }
        Err(self.back_off(&account, "overtaken", None))
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
            .map_err(|error| Refused::of(&error, claims))
    }

    /// Finds out whose a new sign-in is, whatever its device said. The device alone would be believed by nobody else.
    async fn identify(
        self: &Arc<Self>,
        file: &AccountFile,
        answer: &mut Unsaved,
    ) -> Result<Identified, TokenFailure> {
        let facts = &file.facts;
        let account = facts.account;
        let expect = Expect {
            authority: &facts.authority,
            client_id: &facts.client_id,
            nonce: None,
            access_token: None,
            code: None,
            account: Some(account),
        };
        let told =
            answer.response.id_token.as_ref().map(|token| id_token::from_token_endpoint(token, &expect));
        let Some(Ok(claims)) = told else {
            tracing::warn!(%account, problem = ?told.and_then(Result::err), "a new sign-in is not the account's");
            return self.reject(account, &answer.presented).await;
        };
        // Addresses change: a device that has brought this account before is held to the account alone.
        let email = facts.expected_email.clone().filter(|_| !facts.brought_by(&facts.device));
        let expected = Expected { email, account: None };
        let verdict = match person::check(&expected, &claims, None) {
            person::Verdict::AskGraph => {
                let (presented, response, asked_at) =
                    (answer.presented.clone(), answer.response.clone(), answer.asked_at);
                let kept = self
                    .change(account, move |file| progress::rotated(file, &presented, &response, asked_at));
                match kept.await {
                    Ok(Ok(_)) => {}
                    Ok(Err(Misfit::Superseded)) => return Ok(Identified::Superseded),
                    Ok(Err(Misfit::OtherAccount)) => return self.reject(account, &answer.presented).await,
                    Err(error) => {
                        self.back_off(&account, "storage", None);
                        return Err(TokenFailure::Storage { problem: error.to_string() });
                    }
                }
                if let Some(new) = &answer.response.refresh_token {
                    answer.presented = new.clone();
                }
                let now = self.clock.now();
                match graph::me(&self.http, &facts.authority, &answer.response.access_token, now).await {
                    Ok(me) => person::check(&expected, &claims, Some(&me)),
                    Err(error) => {
                        let (outcome, retry_after) = unanswered(error);
                        return match self.fail(account, &answer.presented, outcome, retry_after).await {
                            Some(failure) => Err(failure),
                            None => Ok(Identified::Superseded),
                        };
                    }
                }
            }
            verdict => verdict,
        };
        match verdict {
            person::Verdict::Right => Ok(Identified::Right(Box::new(claims))),
            person::Verdict::AskGraph | person::Verdict::Wrong { .. } => {
                self.reject(account, &answer.presented).await
            }
        }
    }

    /// Somebody else's sign-in: its tokens go, and its device is told.
    async fn reject(
        self: &Arc<Self>,
        account: AccountId,
        presented: &Secret,
    ) -> Result<Identified, TokenFailure> {
        let now = self.clock.now();
        let refused = presented.clone();
        match self.change(account, move |file| progress::rejected(file, &refused, WRONG_ACCOUNT, now)).await {
            Ok(Ok(news)) => {
                self.tell(news);
                if self.vault.facts(&account).is_none_or(|facts| facts.removed_at.is_some()) {
                    self.announcer.tell(Update::Removed { account });
                }
                Err(TokenFailure::AuthRequired { reason: WRONG_ACCOUNT.to_owned(), never_connected: false })
            }
            Ok(Err(_)) => Ok(Identified::Superseded),
            Err(error) => {
                self.back_off(&account, "storage", None);
                Err(TokenFailure::Storage { problem: error.to_string() })
            }
        }
    }

    /// Has the answer on disk, then in memory.
    async fn save(self: &Arc<Self>, account: AccountId, answer: Unsaved) -> Result<Saved, TokenFailure> {
        let jitter = rand::random();
        let got = answer.clone();
        let person = answer.person.clone();
        let saved = self
            .change(account, move |file| {
                let got = Refreshed {
                    resource: got.resource,
                    presented: &got.presented,
                    response: &got.response,
                    asked_at: got.asked_at,
                    jitter,
                };
                let (mut file, news) = progress::worked(file, &got)?;
                if let Some(person) = &person {
                    progress::named(&mut file, person);
                }
                Ok((file, news))
            })
            .await;
        match saved {
            Ok(Ok(news)) => {
                let life = Life::of(&answer.response, answer.asked_at, jitter);
                let token = AccessToken {
                    secret: answer.response.access_token.clone(),
                    expires_at: life.expires_at,
                    refresh_at: life.refresh_at,
                };
                self.hold(&account, answer.resource, token.clone(), news.settled.is_some());
                self.announcer.record(Event::Refreshed { account, resource: answer.resource });
                self.tell(news);
                Ok(Saved::Token(token))
            }
            Ok(Err(Misfit::Superseded)) => Ok(Saved::Superseded),
            Ok(Err(Misfit::OtherAccount)) => {
                if answer.person.is_some() {
                    return self.reject(account, &answer.presented).await.map(|_| Saved::Superseded);
                }
                let outcome = Outcome::NeedsPerson { reason: WRONG_ACCOUNT.to_owned(), claims: None };
                match self.fail(account, &answer.presented, outcome, None).await {
                    Some(failure) => Err(failure),
                    None => Ok(Saved::Superseded),
                }
            }
            Err(error) => {
                tracing::error!(%account, %error, "a refreshed sign-in could not be saved; it is kept in memory and tried again");
                self.keep_unsaved(&account, answer);
                self.back_off(&account, "storage", None);
                Err(TokenFailure::Storage { problem: error.to_string() })
            }
        }
    }

    /// Notes a failure. `None`: it was about a refresh token that has been replaced, and means nothing.
    async fn fail(
        self: &Arc<Self>,
        account: AccountId,
        presented: &Secret,
        outcome: Outcome,
        retry_after: Option<SignedDuration>,
    ) -> Option<TokenFailure> {
        let now = self.clock.now();
        let noted = {
            let (presented, outcome) = (presented.clone(), outcome.clone());
            self.change(account, move |file| progress::failed(file, &presented, &outcome, now)).await
        };
        // Then what became of the new one is no reason to hold back the one before it.
        let mut fell_back = false;
        match noted {
            Ok(Ok(news)) => {
                fell_back = news.settled.is_some()
                    && self.vault.facts(&account).is_some_and(|facts| facts.is_proven());
                if let Some(reason) = outcome.reason() {
                    self.announcer.record(Event::RefreshFailed { account, reason: reason.to_owned() });
                }
                self.tell(news);
            }
            Ok(Err(_)) => return None,
            // It is told all the same; the next attempt will find it again.
            Err(error) => tracing::error!(%account, %error, "the health of an account could not be saved"),
        }
        Some(match outcome {
            Outcome::Worked => return None,
            Outcome::Transient { reason } => self.back_off(&account, &reason, retry_after),
            Outcome::NeedsPerson { reason, .. } => {
                TokenFailure::AuthRequired { reason, never_connected: false }
            }
            Outcome::Blocked { by, reason } => {
                if !fell_back {
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

    fn tell(&self, news: News) {
        if let Some(change) = news.change {
            self.announcer.tell(Update::HealthChanged(change));
        }
        if let Some(settled) = news.settled {
            self.announcer.tell(Update::Settled(settled));
        }
    }
}

enum Identified {
    Right(Box<Claims>),
    /// A newer sign-in came in meanwhile.
    Superseded,
}

/// What it means for a new sign-in that Graph did not say whose it is.
fn unanswered(error: GraphError) -> (Outcome, Option<SignedDuration>) {
    let transient = |reason: Reason| Outcome::Transient { reason: reason.as_str().to_owned() };
    match error {
        GraphError::Refused(refusal) => match Refused::of(&TokenError::Refused(refusal), None) {
            Refused::With(outcome, retry_after) => (outcome, retry_after),
            Refused::BareInvalidGrant => (transient(Reason::Unavailable), None),
        },
        _ => (transient(Reason::Unavailable), None),
    }
}

enum Saved {
    Token(AccessToken),
    Superseded,
}

/// What a refresh asks for, by the stored facts.
struct Request {
    authority: Authority,
    client_id: String,
    refresh_token: Secret,
    scopes: Vec<String>,
}

impl Request {
    fn of(file: &AccountFile, resource: Resource) -> Result<Self, TokenFailure> {
        let facts = &file.facts;
        // A capability that a later version knew is no reason to refuse the others.
        let capabilities: Vec<Capability> =
            facts.capabilities.iter().filter_map(|id| id.parse().ok()).collect();
        let scopes = capability::scopes_for(resource, &facts.authority.cloud, &capabilities)
            .map_err(|_| TokenFailure::NotCovered { resource })?;
        let refresh_token = file.cache.refresh_token().cloned().ok_or_else(TokenFailure::never_connected)?;
        Ok(Self {
            authority: facts.authority.clone(),
            client_id: facts.client_id.clone(),
            refresh_token,
            scopes,
        })
    }
}

/// Why there is no answer.
enum Refused {
    /// To be believed only after another look.
    BareInvalidGrant,
    With(Outcome, Option<SignedDuration>),
}

impl Refused {
    /// One behaviour for each class.
    fn of(error: &TokenError, asked_claims: Option<&str>) -> Self {
        let TokenError::Refused(refusal) = error else {
            return Self::With(Outcome::Transient { reason: error.reason().as_str().to_owned() }, None);
        };
        if refusal.reason == Reason::InvalidGrant {
            return Self::BareInvalidGrant;
        }
        tracing::debug!(%refusal, correlation_id = ?refusal.correlation_id, "a refresh was refused");
        let reason = refusal.reason.as_str().to_owned();
        let outcome = match refusal.class {
            Class::Transient => Outcome::Transient { reason },
            Class::Reconnect => {
                let claims = refusal.claims.clone().or_else(|| asked_claims.map(str::to_owned));
                Outcome::NeedsPerson { reason, claims }
            }
            Class::Administrator | Class::Licence => {
                Outcome::Blocked { by: BlockedBy::Administrator, reason }
            }
            Class::Operator => Outcome::Blocked { by: BlockedBy::Operator, reason },
        };
        Self::With(outcome, refusal.retry_after)
    }
}

/// The failure that a blocked account answers with.
pub(crate) fn blocked(by: BlockedBy, reason: String) -> TokenFailure {
    if reason == Reason::NoLicence.as_str() {
        TokenFailure::NoLicence
    } else {
        TokenFailure::Blocked { by, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_bare_invalid_grant_is_believed_only_after_the_store_and_one_spaced_retry() {
        let (old, new) = (secret("old"), secret("new"));
        assert_eq!(next_try(&old, None, false, &[], false), Try::Present(old.clone()));
        let refused = [old.clone()];
        assert_eq!(next_try(&new, None, false, &refused, false), Try::Present(new.clone()));
        assert_eq!(next_try(&old, None, false, &refused, false), Try::PauseFirst);
        assert_eq!(next_try(&old, None, false, &refused, true), Try::Present(old.clone()));
        assert_eq!(next_try(&old, None, false, &[old.clone(), old.clone()], true), Try::Over);
    }

    #[test]
    fn the_spaced_retry_of_an_organisation_presents_the_previous_one() {
        let (current, previous) = (secret("current"), secret("previous"));
        let refused = [current.clone()];
        assert_eq!(next_try(&current, Some(&previous), false, &refused, true), Try::Present(previous));
    }

    #[test]
    fn a_personal_account_never_presents_one_twice() {
        let (current, previous) = (secret("current"), secret("previous"));
        let refused = [current.clone()];
        for paused in [false, true] {
            assert_eq!(next_try(&current, Some(&previous), true, &refused, paused), Try::Over);
        }
    }
}
