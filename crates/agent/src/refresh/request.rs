//! What a refresh presents and asks for, and what a refusal of it means. Pure.

use jiff::SignedDuration;
use valetkey_entra::capability::{self, Resource};
use valetkey_entra::cloud::Authority;
use valetkey_entra::refusal::{Class, Reason};
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenError;

use crate::account_file::AccountFile;
use crate::health::{BlockedBy, Outcome};
use crate::token::TokenFailure;

/// What a refresh asks for, by the stored facts.
pub(super) struct Request {
    pub(super) authority: Authority,
    pub(super) client_id: String,
    pub(super) refresh_token: Secret,
    pub(super) scopes: Vec<String>,
}

impl Request {
    pub(super) fn of(file: &AccountFile, resource: Resource) -> Result<Self, TokenFailure> {
        let facts = &file.facts;
        // A capability that a later version knew is no reason to refuse the others.
        let scopes = capability::scopes_for(resource, &facts.authority.cloud, &facts.known_capabilities())
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
pub(super) enum Refused {
    /// To be believed only after another look.
    BareInvalidGrant,
    With(Outcome, Option<SignedDuration>),
}

impl Refused {
    /// One behaviour for each class.
    pub(super) fn of(error: &TokenError) -> Self {
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
                // Microsoft's own. What a caller asked for is never put before the person.
                Outcome::NeedsPerson { reason, claims: refusal.claims.clone() }
            }
            Class::Administrator | Class::Licence => {
                Outcome::Blocked { by: BlockedBy::Administrator, reason }
            }
            Class::Operator => Outcome::Blocked { by: BlockedBy::Operator, reason },
        };
        Self::With(outcome, refusal.retry_after)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Try {
    Present(Secret),
    PauseFirst,
    Over,
}

/// What to present next, after those in `refused` were met with a bare `invalid_grant`.
pub(super) fn next_try(
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
