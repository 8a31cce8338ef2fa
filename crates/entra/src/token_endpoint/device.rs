//! Signing in on another device (RFC 8628). The caller waits and asks again, by its own clock.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use super::response::lifetime;
use super::{Malformed, TokenEndpoint, TokenError, TokenResponse};
use crate::cloud::is_safe;
use crate::refusal::{Reason, Refusal};
use crate::secret::Secret;

/// Added to the interval, for good, each time the provider says `slow_down` (RFC 8628 §3.5).
pub const SLOW_DOWN: SignedDuration = SignedDuration::from_secs(5);
/// Where the provider does not say (RFC 8628 §3.2).
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// A provider that says 0 does not mean a busy loop.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(1);
/// Entra's have nine characters; nobody types more than this.
const LONGEST_CODE: usize = 32;
/// Entra's codes live for 15 minutes.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// A device sign-in that has been begun.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// To be typed by the person at `verification_uri`.
    pub user_code: String,
    pub verification_uri: Url,
    pub expires_at: Timestamp,
    /// How long to wait before each poll. It grows when the provider asks for that.
    pub interval: SignedDuration,
    secret: Secret,
    scope: String,
}

/// What one poll brought.
#[derive(Clone, Debug)]
pub enum Poll {
    /// Not finished; ask again after [`DeviceCode::interval`].
    Pending,
    Granted(Box<TokenResponse>),
}

#[derive(Deserialize)]
struct Wire {
    device_code: Secret,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: Url,
    #[serde(default, deserialize_with = "lifetime")]
    expires_in: Option<SignedDuration>,
    #[serde(default, deserialize_with = "lifetime")]
    interval: Option<SignedDuration>,
}

impl TokenEndpoint {
    /// Begins a sign-in on another device; `device_url` is the metadata's `device_authorization_endpoint`.
    pub async fn begin_device_code(
        &self,
        device_url: &Url,
        client_id: &str,
        scopes: &[String],
        now: Timestamp,
    ) -> Result<DeviceCode, TokenError> {
        let scope = scopes.join(" ");
        let body = self.post(device_url, &[("client_id", client_id), ("scope", &scope)], now).await?;
        let wire: Wire = serde_json::from_slice(&body).map_err(|_| TokenError::Malformed(Malformed::Body))?;
        // It is shown to a person, who is to open it and sign in there.
        if !is_safe(&wire.verification_uri) || !is_typeable(&wire.user_code) || wire.device_code.is_empty() {
            return Err(TokenError::Malformed(Malformed::Body));
        }
        Ok(DeviceCode {
            user_code: wire.user_code,
            verification_uri: wire.verification_uri,
            expires_at: now.checked_add(wire.expires_in.unwrap_or(LIFETIME)).unwrap_or(Timestamp::MAX),
            interval: wire.interval.unwrap_or(INTERVAL).max(MIN_INTERVAL),
            secret: wire.device_code,
            scope,
        })
    }

    /// Asks once whether the person has finished. A code that has expired is [`Reason::TimedOut`], and is not sent any
    /// more; "no" is [`Reason::Declined`]. On a transient error, wait for longer and poll again.
    pub async fn poll_device_code(
        &self,
        client_id: &str,
        device: &mut DeviceCode,
        now: Timestamp,
    ) -> Result<Poll, TokenError> {
        if now >= device.expires_at {
            return Err(TokenError::Refused(Box::new(Refusal::new(Reason::TimedOut))));
        }
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", client_id),
            ("device_code", device.secret.expose()),
            ("client_info", "1"),
        ];
        match self.tokens(&form, &device.scope, now).await {
            Ok(tokens) => Ok(Poll::Granted(Box::new(tokens))),
            Err(TokenError::Refused(refusal)) => match refusal.reason {
                Reason::AuthorizationPending => Ok(Poll::Pending),
                Reason::SlowDown => {
                    device.interval += SLOW_DOWN;
                    Ok(Poll::Pending)
                }
                _ => Err(TokenError::Refused(refusal)),
            },
            Err(other) => Err(other),
        }
    }
}

/// It is shown in a terminal and typed by a person (RFC 8628 §6.1): nothing that a terminal would obey.
fn is_typeable(code: &str) -> bool {
    (1..=LONGEST_CODE).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
