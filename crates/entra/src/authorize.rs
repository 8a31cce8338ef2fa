//! The authorize request (RFC 6749 §4.1.1 with PKCE, RFC 7636): what is put into the browser's address, and what has to be
//! remembered until the callback comes.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
pub use oauth2::RedirectUrl;
use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, Scope};
use url::Url;

use crate::capability::{self, Capability, CapabilityError};
use crate::cloud::Authority;
use crate::metadata::Metadata;
use crate::secret::Secret;

/// How long a person may take. Entra's own pages give up after about ten minutes; a listener open for longer than
/// somebody is in front of it only waits for somebody else.
pub const SIGN_IN_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

/// 256 bits each for `state` and `nonce`: nobody guesses either.
const RANDOM_BYTES: u32 = 32;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct SignInRequest {
    pub authority: Authority,
    pub client_id: String,
    pub capabilities: Vec<Capability>,
    /// The address filled in for the person. A hint: who signed in is told by the ID token alone.
    pub login_hint: Option<String>,
    pub prompt: Option<Prompt>,
    /// A claims challenge to be met (the JSON that came with a refusal).
    pub claims: Option<String>,
}

/// Which of Microsoft's pages is shown whatever the browser remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    Login,
    Consent,
    /// "Use a different account".
    SelectAccount,
}

/// A sign-in that has been begun. Kept in memory only: it holds the verifier.
#[derive(Clone)]
pub struct Pending {
    /// To open in the browser, or to copy.
    pub url: Url,
    pub state: Secret,
    pub nonce: Secret,
    pub verifier: Secret,
    /// Repeated, letter by letter, when the code is exchanged.
    pub redirect_uri: RedirectUrl,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Pending {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("redirect_uri", &self.redirect_uri.as_str())
            .field("started_at", &self.started_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Begins a sign-in at `now`; `redirect` is where the listener is.
pub fn authorize(
    metadata: &Metadata,
    request: &SignInRequest,
    redirect: &RedirectUrl,
    now: Timestamp,
) -> Result<Pending, CapabilityError> {
    let scopes = capability::authorize_scopes(&request.authority.cloud, &request.capabilities)?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let nonce = CsrfToken::new_random_len(RANDOM_BYTES).into_secret();
    let client = BasicClient::new(ClientId::new(request.client_id.clone()))
        .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint.clone()))
        .set_redirect_uri(redirect.clone());
    let mut authorization = client
        .authorize_url(|| CsrfToken::new_random_len(RANDOM_BYTES))
        .add_scopes(scopes.into_iter().map(Scope::new))
        .set_pkce_challenge(challenge)
        .add_extra_param("nonce", &nonce)
        // A form posted from https to http brings a warning in some browsers; a query does not, and the listener takes
        // it out of the address bar at once.
        .add_extra_param("response_mode", "query")
        // Answers with the account's ids beside the tokens, as MSAL asks for.
        .add_extra_param("client_info", "1");
    let optional = [
        ("login_hint", request.login_hint.as_deref()),
        ("prompt", request.prompt.map(Prompt::as_str)),
        ("claims", request.claims.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            authorization = authorization.add_extra_param(name, value);
        }
    }
    let (url, state) = authorization.url();
    Ok(Pending {
        url,
        state: Secret::new(state.into_secret()),
        nonce: Secret::new(nonce),
        verifier: Secret::new(verifier.into_secret()),
        redirect_uri: redirect.clone(),
        started_at: now,
        expires_at: now.checked_add(SIGN_IN_TIMEOUT).unwrap_or(Timestamp::MAX),
    })
}

impl Prompt {
    fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::capability::default_capabilities;
    use crate::cloud::{Cloud, Tenant};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn request() -> SignInRequest {
        SignInRequest {
            authority: Authority { cloud: Cloud::Global, tenant: Tenant::Organizations },
            client_id: "11111111-1111-4111-8111-111111111111".into(),
            capabilities: default_capabilities(),
            login_hint: None,
            prompt: None,
            claims: None,
        }
    }

    fn begin(request: &SignInRequest) -> Pending {
        let at =
            |path: &str| format!("https://login.microsoftonline.com/organizations/{path}").parse().unwrap();
        let metadata = Metadata {
            issuer: request.authority.metadata_issuer(),
            authorization_endpoint: at("oauth2/v2.0/authorize"),
            token_endpoint: at("oauth2/v2.0/token"),
            jwks_uri: at("discovery/v2.0/keys"),
            device_authorization_endpoint: None,
            iss_parameter_supported: false,
        };
        authorize(&metadata, request, &RedirectUrl::new("http://localhost:4321".into()).unwrap(), NOW)
            .unwrap()
    }

    fn query(pending: &Pending) -> BTreeMap<String, String> {
        pending.url.query_pairs().into_owned().collect()
    }

    /// Shows of L2 the default scopes, of J2 PKCE, `state` and `nonce`, in the address.
    #[test]
    fn it_asks_for_a_code_with_pkce_state_nonce_and_the_default_scopes_and_nothing_else() {
        let pending = begin(&request());
        let mut query = query(&pending);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(pending.verifier.expose()));
        assert_eq!(query.remove("code_challenge").unwrap(), challenge);
        assert!(pending.state.matches(&query.remove("state").unwrap()));
        assert!(pending.nonce.matches(&query.remove("nonce").unwrap()));
        let rest: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            rest,
            [
                "client_id=11111111-1111-4111-8111-111111111111",
                "client_info=1",
                "code_challenge_method=S256",
                "redirect_uri=http://localhost:4321",
                "response_mode=query",
                "response_type=code",
                "scope=User.Read Mail.Read Calendars.Read offline_access openid profile",
            ]
        );
    }

    #[test]
    fn hint_prompt_and_claims_are_passed_on_escaped() {
        let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
        let asked = SignInRequest {
            login_hint: Some("ana+x&prompt=none@contoso.com".into()),
            prompt: Some(Prompt::SelectAccount),
            claims: Some(claims.into()),
            ..request()
        };
        let query = query(&begin(&asked));
        assert_eq!(query["login_hint"], "ana+x&prompt=none@contoso.com");
        assert_eq!(query["prompt"], "select_account");
        assert_eq!(query["claims"], claims);
    }

    #[test]
    fn no_two_sign_ins_share_a_secret_and_none_is_printed() {
        let (one, two) = (begin(&request()), begin(&request()));
        let secrets = [&one.state, &one.nonce, &one.verifier, &two.state, &two.nonce, &two.verifier];
        for (place, secret) in secrets.iter().enumerate() {
            assert!(secret.expose().len() >= 43, "256 bits");
            assert!(!secrets[place + 1..].contains(secret));
            assert!(!format!("{one:?}{two:?}").contains(secret.expose()));
        }
    }

    /// Shows of M18 that the flow times out, for the decision.
    #[test]
    fn it_ends_after_five_minutes() {
        let pending = begin(&request());
        let at = |seconds| NOW + SignedDuration::from_secs(seconds);
        assert!(!pending.is_expired(at(299)));
        assert!(pending.is_expired(at(300)));
    }
}
