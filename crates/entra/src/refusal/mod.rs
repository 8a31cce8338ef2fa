//! What a refusal means, and who can do something about it: one table for the sign-in page, the token endpoint and the
//! resources behind it.
//!
//! It is total: whatever was answered, there is a class and a reason. It decides on the protocol's `error` and
//! Microsoft's `suberror` first; AADSTS numbers only refine. Descriptions are read for numbers and then dropped: they
//! may repeat what was sent, so they are never kept, shown or logged.

mod body;
mod challenge;
mod numbers;
mod reason;
mod resource;
mod retry_after;

use std::fmt;

use jiff::SignedDuration;
use uuid::Uuid;

pub use body::ErrorBody;
pub use challenge::claims_challenge;
pub use reason::{Class, Reason, UnknownReason};
pub use resource::classify_resource;
pub use retry_after::{MAX_RETRY_AFTER, parse as parse_retry_after};

/// A refusal, classified. Nothing in it is free text of the provider's, except `claims`, which is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    pub class: Class,
    pub reason: Reason,
    /// Microsoft's own numbers, for diagnosis.
    pub aadsts: Vec<u32>,
    /// A claims challenge (a JSON object), to be sent along with the next sign-in.
    pub claims: Option<String>,
    /// How long the provider asked us to wait.
    pub retry_after: Option<SignedDuration>,
    /// What Microsoft's support asks for.
    pub correlation_id: Option<Uuid>,
    pub trace_id: Option<Uuid>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            class: reason.class(),
            reason,
            aadsts: Vec::new(),
            claims: None,
            retry_after: None,
            correlation_id: None,
            trace_id: None,
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("class", &self.class)
            .field("reason", &self.reason)
            .field("aadsts", &self.aadsts)
            .field("claims", &self.claims.as_ref().map(|_| "…"))
            .field("retry_after", &self.retry_after)
            .field("correlation_id", &self.correlation_id)
            .field("trace_id", &self.trace_id)
            .finish()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        self.aadsts.iter().try_for_each(|number| write!(f, " AADSTS{number}"))
    }
}

/// Classifies an answer of the token endpoint that is not a success, or (with status 400) an error that came back
/// from the authorize page.
pub fn classify(status: u16, body: &ErrorBody, retry_after: Option<SignedDuration>) -> Refusal {
    Refusal {
        aadsts: body.aadsts.clone(),
        claims: body.claims.as_deref().and_then(challenge::claims_json),
        retry_after,
        correlation_id: body.correlation_id,
        trace_id: body.trace_id,
        ..Refusal::new(reason_of(status, body))
    }
}

fn reason_of(status: u16, body: &ErrorBody) -> Reason {
    // Stopping is the one thing that must not wait for anything else.
    if body.aadsts.contains(&50_196) {
        return Reason::RequestLoop;
    }
    match status {
        429 => return Reason::Throttled,
        408 | 500.. => return Reason::Unavailable,
        _ => {}
    }
    let number = body.aadsts.iter().find_map(|number| numbers::reason(*number));
    match (said(body), number) {
        (Said::Decided(reason), Some(number)) if refines(number, reason) => number,
        (Said::Decided(reason), _) | (Said::Coarse(reason), None) => reason,
        (Said::Coarse(_), Some(number)) => number,
    }
}

/// A number tells more about a decision; it does not turn it into another, with one exception: where consent is
/// missing, only the number tells that the person cannot give it.
fn refines(number: Reason, decided: Reason) -> bool {
    number.class() == decided.class()
        || (decided == Reason::Consent && number.class() == Class::Administrator)
}

/// What `error` and `suberror` say by themselves.
enum Said {
    /// Enough to decide the class.
    Decided(Reason),
    /// The protocol has one code for many things; a number that is known says more.
    Coarse(Reason),
}

fn said(body: &ErrorBody) -> Said {
    use Said::{Coarse, Decided};
    match body.suberror.as_deref() {
        Some("basic_action" | "additional_action") => return Decided(Reason::InteractionRequired),
        Some("message_only" | "protection_policy_required") => return Decided(Reason::ConditionalAccess),
        Some("consent_required") => return Decided(Reason::Consent),
        Some("user_password_expired") => return Decided(Reason::PasswordExpired),
        Some("bad_token") => return Decided(Reason::Revoked),
        Some("token_expired") => return Decided(Reason::Expired),
        Some("client_mismatch") => return Decided(Reason::ClientMismatch),
        Some("device_authentication_failed") => return Decided(Reason::Device),
        _ => {}
    }
    match body.error.as_deref() {
        Some("temporarily_unavailable" | "server_error") => Decided(Reason::Unavailable),
        Some("authorization_pending") => Decided(Reason::AuthorizationPending),
        Some("slow_down") => Decided(Reason::SlowDown),
        Some("interaction_required" | "login_required" | "account_selection_required") => {
            Decided(Reason::InteractionRequired)
        }
        Some("consent_required") => Decided(Reason::Consent),
        Some("authorization_declined") => Decided(Reason::Declined),
        Some("expired_token" | "bad_verification_code" | "code_expired") => Decided(Reason::TimedOut),
        Some("access_denied") => Coarse(Reason::Declined),
        Some("invalid_grant") => Coarse(Reason::InvalidGrant),
        Some("invalid_scope" | "invalid_resource" | "invalid_target") => Coarse(Reason::Scope),
        Some(
            "invalid_client"
            | "invalid_request"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "unsupported_response_type",
        ) => Coarse(Reason::ClientMisconfigured),
        Some(_) => Coarse(Reason::Unrecognised),
        // Not an OAuth answer at all: a proxy's page, or a hotel's. Offline is never "signed out".
        None => Coarse(Reason::Unavailable),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
