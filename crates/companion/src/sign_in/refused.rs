//! From what the identity platform said to the closed code that a person's words are made of.

use valetkey_entra::http::HttpError;
use valetkey_entra::id_token::IdTokenError;
use valetkey_entra::metadata::MetadataError;
use valetkey_entra::reach::{NotReached, cause};
use valetkey_entra::refusal::{Class, ErrorBody, Reason, Refusal, classify};
use valetkey_entra::token_endpoint::TokenError;

use crate::problem::{Distrust, Problem, SignInProblem};

/// How a sign-in ends that brings nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The person went back, or said no: not an error.
    Cancelled,
    Because(Problem),
}

impl From<SignInProblem> for Ended {
    fn from(problem: SignInProblem) -> Self {
        Self::Because(problem.into())
    }
}

pub(super) fn callback_refused(error: &str, description: Option<&str>, suberror: Option<&str>) -> Ended {
    // Entra answers the browser with what it answers a program with status 400.
    refused(&classify(400, &ErrorBody::from_callback(error, description, suberror), None))
}

pub(super) fn token_problem(error: &TokenError) -> Ended {
    match error {
        TokenError::Refused(refusal) => refused(refusal),
        TokenError::Unreachable(error) => http_problem(error),
        _ => SignInProblem::ProviderMalformed.into(),
    }
}

fn refused(refusal: &Refusal) -> Ended {
    let reason = refusal.reason.to_string();
    let aadsts = refusal.aadsts.clone();
    match (refusal.reason, refusal.class) {
        (Reason::Declined, _) => return Ended::Cancelled,
        (Reason::TimedOut, _) => SignInProblem::TimedOut,
        (_, Class::Transient) => SignInProblem::ProviderUnavailable,
        (_, Class::Reconnect) => SignInProblem::Refused(reason),
        (_, Class::Administrator) => SignInProblem::Administrator { reason, aadsts },
        (_, Class::Operator) => SignInProblem::Operator { reason, aadsts },
        (_, Class::Licence) => SignInProblem::NoLicence,
    }
    .into()
}

pub(super) fn http_problem(error: &HttpError) -> Ended {
    match error {
        HttpError::Unreachable { .. } => match cause(error) {
            NotReached::Untrusted => SignInProblem::NotSecure { expired: false },
            NotReached::Expired => SignInProblem::NotSecure { expired: true },
            _ => SignInProblem::NoNetwork,
        },
        HttpError::Certificates(_) => SignInProblem::NotSecure { expired: false },
        HttpError::Status { status, .. } if status.is_server_error() || status.as_u16() == 429 => {
            SignInProblem::ProviderUnavailable
        }
        _ => SignInProblem::ProviderMalformed,
    }
    .into()
}

pub(super) fn metadata_problem(error: &MetadataError) -> Ended {
    match error {
        MetadataError::Http(error) => http_problem(error),
        MetadataError::WrongIssuer { .. } => SignInProblem::Untrusted(Distrust::Issuer).into(),
        _ => SignInProblem::ProviderMalformed.into(),
    }
}

pub(super) fn id_token_problem(error: &IdTokenError) -> Ended {
    let distrust = match error {
        IdTokenError::TenantNotPermitted { .. } => return SignInProblem::WrongTenant.into(),
        IdTokenError::NotYetValid { by } => {
            return SignInProblem::ClockWrong { behind_minutes: Some(by.as_mins()) }.into();
        }
        IdTokenError::Expired { .. } => return SignInProblem::ClockWrong { behind_minutes: None }.into(),
        IdTokenError::Keys(error) => return http_problem(error),
        IdTokenError::Signature | IdTokenError::UnknownKey => Distrust::Signature,
        IdTokenError::Algorithm => Distrust::Algorithm,
        IdTokenError::Audience => Distrust::Audience,
        IdTokenError::Issuer => Distrust::Issuer,
        IdTokenError::Nonce => Distrust::Nonce,
        _ => Distrust::Claims,
    };
    SignInProblem::Untrusted(distrust).into()
}
