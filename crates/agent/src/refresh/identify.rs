//! Whose a new sign-in is, found out with its first refresh, whatever its device said; and what becomes of one that is not
//! what its invite was for.

use std::sync::Arc;

use jiff::SignedDuration;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Misgrant;
use valetkey_entra::cloud::Authority;
use valetkey_entra::graph::{self, GraphError};
use valetkey_entra::id_token::{self, Expect};
use valetkey_entra::person::{self, Expected};
use valetkey_entra::refusal::{Class, Reason};
use valetkey_entra::token_endpoint::TokenError;

use super::answer::{Saved, Unsaved};
use super::blocked;
use super::request::Refused;
use crate::account_file::AccountFile;
use crate::health::{BlockedBy, Outcome};
use crate::progress::{self, Misfit};
use crate::provider::Inner;
use crate::token::TokenFailure;

pub(super) enum Identified {
    /// The answer, with the person it is.
    Right(Box<Unsaved>),
    /// A newer sign-in came in meanwhile.
    Superseded,
}

/// Why nothing of a new sign-in is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rejected {
    pub(super) code: &'static str,
    class: Class,
}

impl Rejected {
    /// It turned out to be somebody else's than was said or invited.
    pub(super) const WRONG_ACCOUNT: Self = Self { code: "wrong-account", class: Class::Reconnect };

    pub(super) fn for_misgrant(misgrant: &Misgrant) -> Self {
        let reason = misgrant.reason();
        Self { code: reason.as_str(), class: reason.class() }
    }

    pub(super) fn outcome(self) -> Outcome {
        let reason = self.code.to_owned();
        match self.class {
            Class::Reconnect | Class::Transient => Outcome::NeedsPerson { reason, claims: None },
            Class::Administrator | Class::Licence => {
                Outcome::Blocked { by: BlockedBy::Administrator, reason }
            }
            Class::Operator => Outcome::Blocked { by: BlockedBy::Operator, reason },
        }
    }

    fn failure(self) -> TokenFailure {
        match self.outcome() {
            Outcome::Blocked { by, reason } => blocked(by, reason),
            _ => TokenFailure::AuthRequired { reason: self.code.to_owned(), never_connected: false },
        }
    }
}

impl Inner {
    /// Finds out whose a new sign-in is. The device alone would be believed by nobody else.
    ///
    /// While that takes a question to Graph, a rotated refresh token is on disk already. Whatever the disk refuses here,
    /// the answer is kept and this is done again with it.
    pub(super) async fn identify(
        self: &Arc<Self>,
        file: &AccountFile,
        mut answer: Unsaved,
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
            return self.is_rejected(account, answer).await;
        };
        // Addresses change: a device that has brought this account before is held to the account alone.
        let email = facts.expected_email.clone().filter(|_| !facts.brought_by(&facts.device));
        let expected = Expected { email, account: None };
        let verdict = match person::check(&expected, &claims, None) {
            person::Verdict::AskGraph => {
                let got = answer.clone();
                let kept = self.change(account, move |file| {
                    progress::rotated(file, &got.presented, &got.response, got.asked_at)
                });
                match kept.await {
                    Ok(Ok(_)) => {}
                    Ok(Err(Misfit::Superseded)) => return Ok(Identified::Superseded),
                    Ok(Err(Misfit::OtherAccount)) => return self.is_rejected(account, answer).await,
                    Err(error) => return Err(self.unsaved(account, answer, &error)),
                }
                if let Some(new) = &answer.response.refresh_token {
                    answer.presented = new.clone();
                }
                let invited = Authority { tenant: facts.admitted, ..facts.authority.clone() };
                let now = self.clock.now();
                match graph::me(&self.http, &invited, &answer.response.access_token, now).await {
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
            person::Verdict::Right => {
                answer.person = Some(claims);
                Ok(Identified::Right(Box::new(answer)))
            }
            person::Verdict::AskGraph | person::Verdict::Wrong { .. } => {
                self.is_rejected(account, answer).await
            }
        }
    }

    async fn is_rejected(
        self: &Arc<Self>,
        account: AccountId,
        answer: Unsaved,
    ) -> Result<Identified, TokenFailure> {
        self.reject(account, answer, Rejected::WRONG_ACCOUNT).await.map(|_| Identified::Superseded)
    }

    /// A new sign-in that is not taken: its tokens go, and its device is told.
    pub(super) async fn reject(
        self: &Arc<Self>,
        account: AccountId,
        answer: Unsaved,
        why: Rejected,
    ) -> Result<Saved, TokenFailure> {
        let now = self.clock.now();
        let refused = answer.presented.clone();
        match self.change(account, move |file| progress::rejected(file, &refused, why.code, now)).await {
            Ok(Ok(news)) => {
                self.tell(account, news);
                Err(why.failure())
            }
            Ok(Err(_)) => Ok(Saved::Superseded),
            Err(error) => Err(self.unsaved(account, answer, &error)),
        }
    }
}

/// What it means for a new sign-in that Graph did not say whose it is.
fn unanswered(error: GraphError) -> (Outcome, Option<SignedDuration>) {
    let transient = |reason: Reason| Outcome::Transient { reason: reason.as_str().to_owned() };
    match error {
        GraphError::Refused(refusal) => match Refused::of(&TokenError::Refused(refusal)) {
            Refused::With(outcome, retry_after) => (outcome, retry_after),
            Refused::BareInvalidGrant => (transient(Reason::Unavailable), None),
        },
        _ => (transient(Reason::Unavailable), None),
    }
}
