//! The parameters of a callback, from its query or its form.

use std::collections::HashMap;

use url::form_urlencoded;

use super::Outcome;
use crate::secret::Secret;

/// A callback that is well formed; whether it is the expected one is for its `state` to show.
#[derive(Debug)]
pub(super) struct Parameters {
    pub state: Secret,
    pub outcome: Outcome,
    pub iss: Option<String>,
}

/// `None` unless there is a state, and either a code or an error. What is there twice makes it no callback at all
/// (RFC 6749 §3.1), so that two readers can never see two different answers.
pub(super) fn parse(encoded: &[u8]) -> Option<Parameters> {
    let mut found: HashMap<String, String> = HashMap::new();
    for (name, value) in form_urlencoded::parse(encoded) {
        if found.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    let mut take = |name| found.remove(name).filter(|value: &String| !value.is_empty());
    let outcome = match (take("code"), take("error")) {
        (Some(code), None) => Outcome::Code(Secret::new(code)),
        (None, Some(error)) => Outcome::Refused {
            error,
            error_description: take("error_description"),
            suberror: take("suberror").or_else(|| take("error_subcode")),
        },
        _ => return None,
    };
    Some(Parameters { state: Secret::new(take("state")?), outcome, iss: take("iss") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_comes_with_its_state_and_issuer() {
        let query = b"code=a%2Bb+c&state=s&iss=https%3A%2F%2Fid.example%2Fx&session_state=1&client_info=e";
        let found = parse(query).unwrap();
        assert_eq!(found.outcome, Outcome::Code(Secret::new("a+b c")));
        assert_eq!(found.iss.as_deref(), Some("https://id.example/x"));
        assert!(found.state.matches("s"));
    }

    #[test]
    fn a_refusal_is_decoded_whole_and_never_printed() {
        let query = b"error=access_denied&error_subcode=cancel&error_description=%3Cscript%3Ealert(1)%3C%2Fscript%3E&state=s";
        let found = parse(query).unwrap();
        assert!(!format!("{found:?}").contains("script"), "{found:?}");
        let expected = Outcome::Refused {
            error: "access_denied".into(),
            error_description: Some("<script>alert(1)</script>".into()),
            suberror: Some("cancel".into()),
        };
        assert_eq!(found.outcome, expected);
    }

    #[test]
    fn half_a_callback_is_none() {
        for query in [
            "",
            "state=s",
            "code=c",
            "code=c&state=",
            "code=&state=s",
            "code=c&error=e&state=s",
            "code=c&state=s&state=s",
            "code=c&code=d&state=s",
            "code=c&state=s&iss=a&iss=b",
            "error_description=d&state=s",
        ] {
            assert!(parse(query.as_bytes()).is_none(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>) {
            parse(&bytes);
        }
    }
}
