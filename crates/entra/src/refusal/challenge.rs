//! Claims challenges: a resource saying, in `WWW-Authenticate`, what more a token has to show.
//!
//! <https://learn.microsoft.com/entra/identity-platform/claims-challenge>

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// A challenge names a handful of claims; what is longer than this is something else.
const MAX_CLAIMS: usize = 8 * 1024;

/// The claims asked for, as JSON ready for a `claims` parameter, from all `WWW-Authenticate` headers of an answer.
///
/// `None` unless one of them says `error="insufficient_claims"` with base64 claims that are a JSON object.
pub fn claims_challenge<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<String> {
    headers.into_iter().flat_map(challenges).find_map(|parameters| {
        let get = |name| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        (get("error")? == "insufficient_claims").then_some(())?;
        claims_json(&decode(get("claims")?)?)
    })
}

/// `text` if it is a JSON object of a sensible length, which is all that a `claims` parameter may be.
pub(super) fn claims_json(text: &str) -> Option<String> {
    let object = text.len() <= MAX_CLAIMS && matches!(serde_json::from_str(text), Ok(Value::Object(_)));
    object.then(|| text.to_owned())
}

fn decode(text: &str) -> Option<String> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&STANDARD, &URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

type Parameters = Vec<(String, String)>;

/// The challenges of one header with their parameters (RFC 9110 §11.6.1): `Scheme a=b, c="d", Other e=f`.
fn challenges(header: &str) -> Vec<Parameters> {
    let mut found: Vec<Parameters> = Vec::new();
    for item in split_outside_quotes(header) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        // A space before the `=` ends a scheme's name, and so begins the next challenge.
        let name = match name.trim().rsplit_once(char::is_whitespace) {
            Some((_scheme, name)) => {
                found.push(Vec::new());
                name
            }
            None => name.trim(),
        };
        if let Some(challenge) = found.last_mut() {
            challenge.push((name.to_owned(), unquote(value.trim())));
        }
    }
    found
}

fn split_outside_quotes(header: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    header.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut characters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};

    use super::*;

    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true, "value":"1796015000"}}}"#;

    #[test]
    fn a_challenge_is_found_among_others_and_decoded() {
        let padded = BASE64.encode(CLAIMS);
        let headers = [
            "Basic realm=\"printer, third floor\"".to_owned(),
            "Negotiate".to_owned(),
            format!(
                r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", error_description="said \"no\", truly", claims="{padded}""#
            ),
        ];
        assert_eq!(claims_challenge(headers.iter().map(String::as_str)).as_deref(), Some(CLAIMS));
        let together = headers.join(", ");
        assert_eq!(claims_challenge([together.as_str()]).as_deref(), Some(CLAIMS));
    }

    #[test]
    fn unquoted_values_other_alphabets_and_any_case_are_read() {
        let unpadded = URL_SAFE_NO_PAD.encode(CLAIMS);
        let header = format!("bearer CLAIMS={unpadded} , Error=insufficient_claims");
        assert_eq!(claims_challenge([header.as_str()]).as_deref(), Some(CLAIMS));
    }

    #[test]
    fn error_and_claims_must_stand_in_one_challenge() {
        let claims = BASE64.encode(CLAIMS);
        let apart = format!(r#"Bearer error="insufficient_claims", PoP claims="{claims}""#);
        assert_eq!(claims_challenge([apart.as_str()]), None);
        let first = r#"Bearer error="insufficient_claims""#.to_owned();
        let second = format!(r#"Bearer error="invalid_token", claims="{claims}""#);
        assert_eq!(claims_challenge([first.as_str(), second.as_str()]), None);
    }

    #[test]
    fn what_is_not_a_challenge_is_none() {
        let no_object = BASE64.encode("[1]");
        let huge = BASE64.encode(format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_CLAIMS)));
        for header in [
            "",
            ",,,",
            "Bearer",
            "=",
            r#"Bearer error="insufficient_claims""#,
            r#"Bearer error="insufficient_claims", claims="!!""#,
            r#"Bearer error="insufficient_claims", claims="unterminated"#,
            &format!(r#"Bearer error="insufficient_claims", claims="{no_object}""#),
            &format!(r#"Bearer error="insufficient_claims", claims="{huge}""#),
        ] {
            assert_eq!(claims_challenge([header]), None, "{header}");
        }
    }
}
