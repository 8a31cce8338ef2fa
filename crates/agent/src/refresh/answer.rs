//! What becomes of an answer of the token endpoint: whose it is, whether it is for what was asked, and that it is on disk
//! before anybody gets it.

use std::sync::Arc;

use jiff::Timestamp;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::{self, Misgrant, Resource};
use valetkey_entra::id_token::Claims;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenResponse;

use super::Asked;
use super::identify::{Identified, Rejected};
use crate::account_file::Facts;
use crate::audit::Event;
use crate::health::Outcome;
use crate::progress::{self, Life, Misfit, Refreshed};
use crate::provider::Inner;
use crate::token::{AccessToken, TokenFailure};
use crate::vault::VaultError;

/// An answer that is not on disk yet. Kept until it is, because the provider may not accept the older refresh token again.
#[derive(Debug, Clone)]
pub(crate) struct Unsaved {
    pub(super) resource: Resource,
    /// It answers the account's own refresh, by which its health goes.
    pub(super) own: bool,
    pub(super) presented: Secret,
    pub(super) response: TokenResponse,
    pub(super) asked_at: Timestamp,
    /// Who it is, found out at the first refresh of a sign-in.
    pub(super) person: Option<Claims>,
}

pub(super) enum Saved {
    Token(AccessToken),
    /// A newer sign-in came in meanwhile.
    Superseded,
}

impl Inner {
    /// Has an answer checked and on disk. Nothing is asked of the token endpoint here, so that it can be done again.
    pub(super) async fn take_in(
        self: &Arc<Self>,
        account: AccountId,
        mut answer: Unsaved,
    ) -> Result<Saved, TokenFailure> {
        let file = match self.read(account).await {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Saved::Superseded),
            Err(failure @ TokenFailure::Storage { .. }) => {
                self.keep_unsaved(&account, answer);
                self.back_off(&account, "storage", None);
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        if !progress::is_of(&file, &answer.presented) {
            return self.superseded(account, answer).await;
        }
        let as_it_came = answer.clone();
        if !file.facts.is_proven() && answer.person.is_none() {
            match self.identify(&file, answer).await? {
                Identified::Right(identified) => answer = *identified,
                Identified::Superseded => return self.superseded(account, as_it_came).await,
            }
        }
        let unknown = file.facts.unknown_capabilities();
        let saved = match judge(&file.facts, &answer) {
            Ok(()) => self.save(account, answer).await,
            // The version that knows them may take it.
            Err(misgrant) if file.facts.is_proven() || !unknown.is_empty() => {
                self.misgranted(account, answer, &misgrant, &unknown).await
            }
            Err(misgrant) => {
                tracing::warn!(%account, beyond = ?misgrant.beyond, missing = ?misgrant.missing, "a new sign-in is not taken");
                self.reject(account, answer, Rejected::for_misgrant(&misgrant)).await
            }
        };
        match saved? {
            Saved::Superseded => self.superseded(account, as_it_came).await,
            token @ Saved::Token(_) => Ok(token),
        }
    }

    /// A newer sign-in was stored before the answer was. If it fails, the one that was asked with goes on, and so the refresh
    /// token that it got is kept with it.
    async fn superseded(
        self: &Arc<Self>,
        account: AccountId,
        answer: Unsaved,
    ) -> Result<Saved, TokenFailure> {
        let got = answer.clone();
        let kept = self.change(account, move |file| {
            progress::rotated_behind(file, &got.presented, &got.response, got.asked_at)
        });
        match kept.await {
            Ok(_) => Ok(Saved::Superseded),
            Err(error) => Err(self.unsaved(account, answer, &error)),
        }
    }

    /// Other permissions than were asked for: the refresh token goes on, and the access token is nobody's.
    async fn misgranted(
        self: &Arc<Self>,
        account: AccountId,
        answer: Unsaved,
        misgrant: &Misgrant,
        unknown: &[&str],
    ) -> Result<Saved, TokenFailure> {
        tracing::warn!(%account, resource = %answer.resource, beyond = ?misgrant.beyond, missing = ?misgrant.missing, unknown_capabilities = ?unknown, "a token with other permissions than were asked for is not used");
        let kept = {
            let got = answer.clone();
            self.change(account, move |file| {
                progress::rotated(file, &got.presented, &got.response, got.asked_at)
            })
        };
        match kept.await {
            Ok(Ok(_)) => {}
            Ok(Err(Misfit::Superseded | Misfit::OtherAccount)) => return Ok(Saved::Superseded),
            Err(error) => return Err(self.unsaved(account, answer, &error)),
        }
        let current = answer.response.refresh_token.as_ref().unwrap_or(&answer.presented);
        let asked = Asked { resource: answer.resource, own: answer.own };
        match self.refused(account, asked, current, Rejected::for_misgrant(misgrant).outcome(), None).await {
            Some(failure) => Err(failure),
            None => Ok(Saved::Superseded),
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
                // A new sign-in came in since it was known whose this one is.
                if !file.facts.is_proven() && person.is_none() {
                    return Err(Misfit::Superseded);
                }
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
                let secret = answer.response.access_token.clone();
                let token = AccessToken::new(secret, life.expires_at, life.refresh_at, &self.clock);
                self.hold(&account, answer.resource, token.clone(), news.settled.is_some());
                self.announcer.record(Event::Refreshed { account, resource: answer.resource });
                self.tell(account, news);
                Ok(Saved::Token(token))
            }
            Ok(Err(Misfit::Superseded)) => Ok(Saved::Superseded),
            Ok(Err(Misfit::OtherAccount)) => {
                if answer.person.is_some() {
                    return self.reject(account, answer, Rejected::WRONG_ACCOUNT).await;
                }
                let reason = Rejected::WRONG_ACCOUNT.code.to_owned();
                let outcome = Outcome::NeedsPerson { reason, claims: None };
                match self.fail(account, &answer.presented, outcome, None).await {
                    Some(failure) => Err(failure),
                    None => Ok(Saved::Superseded),
                }
            }
            Err(error) => Err(self.unsaved(account, answer, &error)),
        }
    }

    /// The disk refused. The answer is kept, and nothing is asked before it is on disk.
    pub(super) fn unsaved(&self, account: AccountId, answer: Unsaved, error: &VaultError) -> TokenFailure {
        tracing::error!(%account, %error, "a refreshed sign-in could not be saved; it is kept in memory and tried again");
        self.keep_unsaved(&account, answer);
        self.back_off(&account, "storage", None);
        TokenFailure::Storage { problem: error.to_string() }
    }
}

/// Whether the token is for what its person agreed to. What a capability stands for that only a later version knows, nobody
/// here can say: it lets nothing through.
fn judge(facts: &Facts, answer: &Unsaved) -> Result<(), Misgrant> {
    let known = facts.known_capabilities();
    capability::judge_grant(answer.resource, &facts.authority.cloud, &known, &answer.response.scope)
}
