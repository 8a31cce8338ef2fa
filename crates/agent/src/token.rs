//! What a program asks for and what it gets: an access token, or a failure that says who has to do what.

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use valetkey_entra::refusal::Reason;
use valetkey_entra::secret::Secret;
use valetkey_link::{Clock, Deadline};

use crate::health::BlockedBy;

/// Serves access tokens. Cheap to ask for every request: never keep a token yourself.
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// A token for `resource` that still lives for a while. `claims` is a resource's claims challenge (decoded JSON), if it
    /// sent one with its 401: the token is then new, and satisfies it.
    ///
    /// A caller that drops the future stops waiting; a refresh that has begun goes on and is saved.
    fn token<'a>(
        &'a self,
        account: &'a AccountId,
        resource: Resource,
        claims: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenFailure>>;
}

/// A bearer token. `Debug` does not print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    pub secret: Secret,
    pub expires_at: Timestamp,
    /// `expires_at`, or the life it had left, whichever is over first.
    pub(crate) ends: Deadline,
    /// From then on a newer one is fetched in the background.
    pub(crate) refresh_at: Deadline,
}

impl AccessToken {
    pub(crate) fn new(secret: Secret, expires_at: Timestamp, refresh_at: Timestamp, clock: &Clock) -> Self {
        let (ends, refresh_at) = (clock.deadline(expires_at), clock.deadline(refresh_at));
        Self { secret, expires_at, ends, refresh_at }
    }
}

/// Why there is no token. The texts are for a program's user and hold nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenFailure {
    /// A person is needed. Trying again changes nothing before that.
    #[error("{}", auth_required(*.never_connected))]
    AuthRequired { reason: String, never_connected: bool },
    /// Microsoft refuses this one request, for a resource or for the claims that came with it, until the person has proved
    /// or agreed to more. The account works otherwise, and nobody is told but the caller.
    #[error(
        "Microsoft 365 works for this account, but for this request ({resource}) Microsoft wants more from the person \
         ({reason}). Ask them to sign in again in Valet Key; if that changes nothing, an administrator's rule is in the way."
    )]
    StepUpRequired { resource: Resource, reason: String },
    /// An administrator or the operator has to change something; tried again by itself every hour.
    #[error("{}", blocked(*.by, .reason))]
    Blocked { by: BlockedBy, reason: String },
    /// Microsoft cannot be asked at the moment.
    #[error("Microsoft cannot be reached at the moment ({reason}); try again later.")]
    Unavailable { reason: String, retry_at: Option<Timestamp> },
    /// The account has no licence for this. Not a lapse of the sign-in.
    #[error("This account has no licence for this service. An administrator can assign one.")]
    NoLicence,
    /// The sign-in does not cover this resource.
    #[error("This account was not connected for {resource}. Make an invite that asks for it.")]
    NotCovered { resource: Resource },
    /// A new token is there and could not be saved, so it is not handed out.
    #[error("The sign-in could not be saved: {problem}")]
    Storage { problem: String },
}

impl TokenFailure {
    pub(crate) fn never_connected() -> Self {
        Self::AuthRequired { reason: "never-connected".to_owned(), never_connected: true }
    }

    /// Whether the same call can succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Storage { .. })
    }

    /// A code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AuthRequired { .. } => "auth_required",
            Self::StepUpRequired { .. } => "step_up_required",
            Self::Blocked { .. } => "blocked",
            Self::Unavailable { .. } => "unavailable",
            Self::NoLicence => "no_licence",
            Self::NotCovered { .. } => "not_covered",
            Self::Storage { .. } => "storage",
        }
    }
}

fn auth_required(never_connected: bool) -> &'static str {
    if never_connected {
        "Microsoft 365 was never connected for this account. Open Valet Key and click Connect."
    } else {
        "The Microsoft 365 sign-in has ended. Click Reconnect in Valet Key, then try again."
    }
}

fn blocked(by: BlockedBy, reason: &str) -> String {
    match by {
        BlockedBy::Administrator => {
            format!("The organisation's administrator has to allow this ({reason}).")
        }
        BlockedBy::Operator if reason == Reason::GrantedMore.as_str() => format!(
            "Microsoft allows this client id more than was asked for ({reason}). Ask for all of it in an invite, or use a \
             client id that has no other permissions."
        ),
        BlockedBy::Operator => format!("This agent's configuration is not accepted by Microsoft ({reason})."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows H9 for the error itself.
    #[test]
    fn auth_required_is_final_says_what_to_click_and_tells_never_from_no_longer() {
        let never = TokenFailure::never_connected();
        let lapsed = TokenFailure::AuthRequired { reason: "revoked".into(), never_connected: false };
        assert_eq!((never.code(), lapsed.code()), ("auth_required", "auth_required"));
        assert!(!never.is_retryable() && !lapsed.is_retryable());
        assert!(lapsed.to_string().to_lowercase().contains("click reconnect in valet key"));
        assert!(never.to_string().contains("click Connect"));
    }
}
