//! Refusals of a resource (Microsoft Graph and what speaks like it), which have their own shape.

use jiff::SignedDuration;
use serde_json::Value;

use super::{Reason, Refusal, claims_challenge};

/// Codes with which Graph and Exchange say that there is no mailbox behind a valid sign-in.
/// <https://learn.microsoft.com/graph/errors>, <https://learn.microsoft.com/graph/resolve-auth-errors>
const NO_MAILBOX: [&str; 3] =
    ["MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI", "MailboxNotHostedInExchangeOnline"];

/// Classifies an answer of a resource that is not a success. A 401 with a claims challenge carries it; any other 401 is
/// to be believed only after one forced refresh.
pub fn classify_resource<'a>(
    status: u16,
    www_authenticate: impl IntoIterator<Item = &'a str>,
    body: &[u8],
    retry_after: Option<SignedDuration>,
) -> Refusal {
    let claims = (status == 401).then(|| claims_challenge(www_authenticate)).flatten();
    let reason = match status {
        401 if claims.is_some() => Reason::ClaimsChallenge,
        401 => Reason::Unauthorized,
        403 | 404 if no_licence(body) => Reason::NoLicence,
        403 => Reason::Forbidden,
        429 => Reason::Throttled,
        408 | 500.. => Reason::Unavailable,
        _ => Reason::Unrecognised,
    };
    Refusal { claims, retry_after, ..Refusal::new(reason) }
}

fn no_licence(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
    let error = &body["error"];
    let text = |member: &str| error[member].as_str().unwrap_or_default().to_ascii_lowercase();
    let (code, message) = (text("code"), text("message"));
    NO_MAILBOX.iter().any(|known| known.eq_ignore_ascii_case(&code))
        || [code, message].iter().any(|text| text.contains("license") || text.contains("licence"))
}
