//! A successful answer (RFC 6749 §5.1), with what Entra adds.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use super::Malformed;
use crate::secret::Secret;

/// For an answer without `expires_in`. Short, so that a wrong guess costs a refresh and not a failed call; longer than the
/// five minutes that everybody refreshes ahead of the end.
pub const UNSTATED_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Entra's longest (with continuous access evaluation) is 28 hours. More than this is a mistake, and is cut.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(48);

/// Tokens, and for how long they are good from the moment of the answer.
#[derive(Clone, Debug)]
pub struct TokenResponse {
    pub access_token: Secret,
    pub refresh_token: Option<Secret>,
    pub id_token: Option<Secret>,
    /// Granted, separated by spaces. What was asked for, if the answer does not say.
    pub scope: String,
    pub expires_in: SignedDuration,
    /// Until when the token may serve if Entra itself is out of order.
    pub ext_expires_in: Option<SignedDuration>,
    /// When Entra would like it to be refreshed.
    pub refresh_in: Option<SignedDuration>,
    /// Base64url JSON with the account's ids (`uid`, `utid`), as MSAL keeps it.
    pub client_info: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    token_type: String,
    access_token: Secret,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
    scope: Option<String>,
    #[serde(default, deserialize_with = "lifetime")]
    expires_in: Option<SignedDuration>,
    #[serde(default, deserialize_with = "lifetime")]
    ext_expires_in: Option<SignedDuration>,
    #[serde(default, deserialize_with = "lifetime")]
    refresh_in: Option<SignedDuration>,
    client_info: Option<String>,
}

impl TokenResponse {
    pub(super) fn parse(body: &[u8], asked: &str) -> Result<Self, Malformed> {
        let wire: Wire = serde_json::from_slice(body).map_err(|_| Malformed::Body)?;
        if !wire.token_type.eq_ignore_ascii_case("Bearer") {
            return Err(Malformed::TokenType);
        }
        if wire.access_token.is_empty() {
            return Err(Malformed::Body);
        }
        let present = |token: &Secret| !token.is_empty();
        Ok(Self {
            access_token: wire.access_token,
            refresh_token: wire.refresh_token.filter(present),
            id_token: wire.id_token.filter(present),
            scope: wire.scope.filter(|scope| !scope.trim().is_empty()).unwrap_or_else(|| asked.to_owned()),
            expires_in: wire.expires_in.unwrap_or(UNSTATED_LIFETIME),
            ext_expires_in: wire.ext_expires_in,
            refresh_in: wire.refresh_in,
            client_info: wire.client_info,
        })
    }
}

/// Seconds as a number or, as some servers write them, as text.
pub(super) fn lifetime<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SignedDuration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
        None,
    }
    let seconds = match Seconds::deserialize(deserializer)? {
        Seconds::Number(seconds) => Some(seconds),
        Seconds::Text(text) => Some(text.trim().parse().map_err(serde::de::Error::custom)?),
        Seconds::None => None,
    };
    Ok(seconds.map(|seconds| {
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)).min(MAX_LIFETIME)
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &serde_json::Value) -> Result<TokenResponse, Malformed> {
        TokenResponse::parse(body.to_string().as_bytes(), "User.Read offline_access")
    }

    #[test]
    fn the_lifetime_is_read_as_number_or_text_and_short_if_unstated() {
        let lifetime = |value: serde_json::Value| {
            parse(&json!({"token_type": "Bearer", "access_token": "a", "expires_in": value}))
                .map(|tokens| tokens.expires_in.as_secs())
        };
        assert_eq!(lifetime(json!(3599)), Ok(3599));
        assert_eq!(lifetime(json!("3599")), Ok(3599));
        assert_eq!(lifetime(json!(null)), Ok(600));
        assert_eq!(lifetime(json!(u64::MAX)), Ok(48 * 3600));
        assert_eq!(lifetime(json!(-5)), Err(Malformed::Body));
        assert_eq!(lifetime(json!("soon")), Err(Malformed::Body));
        let unstated = parse(&json!({"token_type": "Bearer", "access_token": "a"})).unwrap();
        assert_eq!(unstated.expires_in, UNSTATED_LIFETIME);
        assert_eq!(unstated.scope, "User.Read offline_access");
    }

    #[test]
    fn bearer_is_bearer_in_any_case_and_nothing_else_is() {
        let of_type = |name: &str| parse(&json!({"token_type": name, "access_token": "a"})).map(|_| ());
        assert_eq!(of_type("bEARER"), Ok(()));
        assert_eq!(of_type("pop"), Err(Malformed::TokenType));
        assert_eq!(parse(&json!({"access_token": "a"})).map(|_| ()), Err(Malformed::Body));
    }

    #[test]
    fn an_empty_token_is_none() {
        assert_eq!(
            parse(&json!({"token_type": "Bearer", "access_token": ""})).map(|_| ()),
            Err(Malformed::Body)
        );
        let tokens =
            parse(&json!({"token_type": "Bearer", "access_token": "a", "refresh_token": "", "id_token": ""}))
                .unwrap();
        assert!(tokens.refresh_token.is_none() && tokens.id_token.is_none());
    }
}
