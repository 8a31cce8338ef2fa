//! A sign-in from discovery to a verified person, against the practice tenant; and providers that are turned away before
//! a browser opens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use jiff::Timestamp;
use serde_json::{Value, json};
use support::{Answer, CLIENT, HTTP, Provider, TENANT};
use valetkey_entra::account::AccountId;
use valetkey_entra::authorize::{Pending, Prompt, SignInRequest, authorize};
use valetkey_entra::capability::{Resource, default_capabilities, scopes_for};
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::http::HttpError;
use valetkey_entra::id_token::{self, Claims, Expect};
use valetkey_entra::jwks::Keys;
use valetkey_entra::loopback::{Loopback, Outcome, Page};
use valetkey_entra::metadata::{Metadata, MetadataError};
use valetkey_entra::person::{self, Expected, Verdict};
use valetkey_entra::refusal::{ErrorBody, Reason, classify};
use valetkey_entra::token_endpoint::{CodeGrant, TokenEndpoint, TokenError, TokenResponse};
use valetkey_entra::{graph, secret::Secret};
use valetkey_tests::http_sign_in::{Landing, http_cancel, http_sign_in};
use valetkey_tests::tenant::{ALICE, ANA, BOB, CAROL, CLIENT_ID, Tenant, User};

const PAGE: &str = "<!doctype html><title>Connected</title><p>You can close this tab.";

/// One sign-in as the companion does it.
struct SignIn {
    request: SignInRequest,
    metadata: Metadata,
    pending: Pending,
    listener: Loopback,
}

impl SignIn {
    async fn begin(tenant: &Tenant, who: &str, prompt: Option<Prompt>) -> Self {
        let cloud = Cloud::from_addresses(&tenant.origin, Some(&tenant.origin)).unwrap();
        let request = SignInRequest {
            authority: Authority { cloud, tenant: who.parse().unwrap() },
            client_id: CLIENT_ID.into(),
            capabilities: default_capabilities(),
            login_hint: Some(ALICE.username.into()),
            prompt,
            claims: None,
        };
        let metadata = Metadata::fetch(&HTTP, &request.authority).await.unwrap();
        let listener = Loopback::bind().unwrap();
        let pending = authorize(&metadata, &request, listener.redirect_uri(), Timestamp::now()).unwrap();
        Self { request, metadata, pending, listener }
    }

    /// The callback that `browser` brings, and the page it is left with.
    async fn come_back<E: std::fmt::Debug>(
        &mut self,
        browser: impl Future<Output = Result<Landing, E>>,
    ) -> (Outcome, Landing) {
        let listening = async {
            let callback = self.listener.next(&self.pending.state).await.unwrap();
            assert!(
                self.metadata.permits_iss(&self.request.authority, callback.iss.as_deref()),
                "{callback:?}"
            );
            let outcome = callback.outcome.clone();
            callback.answer(Page { status: 200, html: PAGE.into() });
            outcome
        };
        let (outcome, landing) = tokio::join!(listening, browser);
        (outcome, landing.unwrap())
    }

    async fn code_of(&mut self, user: User) -> Secret {
        let url = self.pending.url.clone();
        let (outcome, landing) = self.come_back(http_sign_in(url.as_str(), user.username)).await;
        assert_eq!(landing.url.path(), "/done", "the code is out of the address bar");
        assert_eq!(landing.url.query(), None);
        assert_eq!(landing.body, PAGE);
        match outcome {
            Outcome::Code(code) => code,
            refused @ Outcome::Refused { .. } => panic!("{refused:?}"),
        }
    }

    async fn exchange(&self, code: &Secret, verifier: &Secret) -> Result<TokenResponse, TokenError> {
        let scopes =
            scopes_for(Resource::Graph, &self.request.authority.cloud, &self.request.capabilities).unwrap();
        let grant = CodeGrant {
            client_id: CLIENT_ID,
            code,
            verifier,
            redirect_uri: &self.pending.redirect_uri,
            scopes: &scopes,
            claims: None,
        };
        let endpoint = TokenEndpoint::new(HTTP.clone(), self.metadata.token_endpoint.clone());
        endpoint.exchange(&grant, Timestamp::now()).await
    }

    async fn claims(&self, tokens: &TokenResponse, code: &Secret) -> Claims {
        let keys = Keys::new(HTTP.clone(), self.metadata.jwks_uri.clone());
        let expect = Expect {
            authority: &self.request.authority,
            client_id: CLIENT_ID,
            nonce: Some(&self.pending.nonce),
            account: None,
            access_token: Some(&tokens.access_token),
            code: Some(code),
        };
        id_token::verify(tokens.id_token.as_ref().unwrap(), &keys, &expect, Timestamp::now()).await.unwrap()
    }

    async fn signed_in(&mut self, user: User) -> (TokenResponse, Claims) {
        let code = self.code_of(user).await;
        let tokens = self.exchange(&code, &self.pending.verifier).await.unwrap();
        let claims = self.claims(&tokens, &code).await;
        (tokens, claims)
    }
}

fn account(user: User) -> AccountId {
    AccountId { tid: user.tid.parse().unwrap(), oid: user.oid.parse().unwrap() }
}

/// Shows of J2 PKCE, `state`, `nonce` and the loopback redirect.
#[tokio::test]
async fn from_discovery_to_a_verified_person_in_her_own_tenant() {
    let tenant = Tenant::start().await.unwrap();
    let mut sign_in = SignIn::begin(&tenant, ALICE.tid, None).await;
    let (tokens, claims) = sign_in.signed_in(ALICE).await;
    assert_eq!(claims.account, account(ALICE));
    assert!(tokens.refresh_token.is_some());
    let pinned = |account| Expected { email: None, account: Some(account) };
    assert_eq!(person::check(&pinned(account(ALICE)), &claims, None), Verdict::Right);
    let wrong = Verdict::Wrong { signed_in_as: claims.display_name() };
    assert_eq!(person::check(&pinned(account(BOB)), &claims, None), wrong);
    let log = tenant.log().await.unwrap();
    let asked = log.iter().find(|line| line.endpoint == "authorize").unwrap();
    assert_eq!(
        asked.scope.as_deref(),
        Some("User.Read Mail.Read Calendars.Read offline_access openid profile")
    );
    assert_eq!(asked.login_hint.as_deref(), Some(ALICE.username));
    assert_eq!(asked.response_mode.as_deref(), Some("query"));
}

#[tokio::test]
async fn a_shared_authority_takes_people_of_every_kind_it_is_for() {
    let tenant = Tenant::start().await.unwrap();
    for (who, user) in [("common", CAROL), ("common", BOB), ("organizations", ALICE), ("consumers", CAROL)] {
        let mut sign_in = SignIn::begin(&tenant, who, Some(Prompt::SelectAccount)).await;
        let (_, claims) = sign_in.signed_in(user).await;
        assert_eq!(claims.account, account(user), "{who}");
    }
}

/// Shows M3 and M4 as far as the verdict.
#[tokio::test]
async fn somebody_else_than_hinted_is_found_out_and_another_address_of_the_right_one_is_confirmed_by_graph() {
    let tenant = Tenant::start().await.unwrap();
    let ana = Expected { email: Some(ANA.mail.into()), account: None };
    for (user, right) in [(ANA, true), (ALICE, false)] {
        // The hint says Alice either way.
        let mut sign_in = SignIn::begin(&tenant, ALICE.tid, Some(Prompt::Login)).await;
        let (tokens, claims) = sign_in.signed_in(user).await;
        let authority = &sign_in.request.authority;
        let me = graph::me(&HTTP, authority, &tokens.access_token, Timestamp::now()).await.unwrap();
        let verdict = person::check(&ana, &claims, Some(&me));
        assert_eq!(verdict == Verdict::Right, right, "{verdict:?}");
    }
}

#[tokio::test]
async fn a_code_is_worth_nothing_without_the_verifier_and_nothing_a_second_time() {
    let tenant = Tenant::start().await.unwrap();
    let mut sign_in = SignIn::begin(&tenant, ALICE.tid, None).await;
    let code = sign_in.code_of(ALICE).await;
    let other = SignIn::begin(&tenant, ALICE.tid, None).await.pending.verifier;
    assert!(matches!(sign_in.exchange(&code, &other).await, Err(TokenError::Refused(_))));

    let mut sign_in = SignIn::begin(&tenant, ALICE.tid, None).await;
    let code = sign_in.code_of(ALICE).await;
    sign_in.exchange(&code, &sign_in.pending.verifier).await.unwrap();
    assert!(matches!(sign_in.exchange(&code, &sign_in.pending.verifier).await, Err(TokenError::Refused(_))));
}

#[tokio::test]
async fn pressing_cancel_at_microsoft_comes_back_as_a_refusal() {
    let tenant = Tenant::start().await.unwrap();
    let mut sign_in = SignIn::begin(&tenant, ALICE.tid, None).await;
    let url = sign_in.pending.url.clone();
    let (outcome, landing) = sign_in.come_back(http_cancel(url.as_str())).await;
    assert_eq!(landing.body, PAGE);
    let Outcome::Refused { error, error_description, suberror } = outcome else { panic!("{outcome:?}") };
    let body = ErrorBody::from_callback(&error, error_description.as_deref(), suberror.as_deref());
    assert_eq!(classify(400, &body, None).reason, Reason::Declined);
}

#[tokio::test]
async fn a_provider_that_is_not_what_it_should_be_is_refused_before_a_browser_opens() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    let issuer = authority.issuer(TENANT.parse().unwrap());
    let other_issuer = issuer.replace(TENANT, CLIENT);
    let refusal = async |changes: Value| {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": provider.url("/authorize"),
            "token_endpoint": provider.url("/token"),
            "jwks_uri": provider.url("/keys"),
            "code_challenge_methods_supported": ["S256"],
        });
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        provider.answer(&path, [Answer::json(200, &document)]);
        Metadata::fetch(&HTTP, &authority).await.map(|_| ()).map_err(|error| match error {
            MetadataError::WrongIssuer { .. } => "issuer",
            MetadataError::ForeignEndpoint { name } => name,
            MetadataError::NoS256 => "S256",
            MetadataError::Http(HttpError::NotJson { .. }) => "document",
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(refusal(json!({})).await, Ok(()));
    for (changes, because) in [
        (json!({"issuer": other_issuer}), "issuer"),
        (json!({"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}), "issuer"),
        (json!({"authorization_endpoint": "http://login.example/authorize"}), "authorization_endpoint"),
        (json!({"token_endpoint": "http://login.example/token"}), "token_endpoint"),
        (json!({"jwks_uri": "https://login.microsoftonline.com/common/discovery/v2.0/keys"}), "jwks_uri"),
        (json!({"device_authorization_endpoint": "http://login.example/d"}), "device_authorization_endpoint"),
        (json!({"code_challenge_methods_supported": ["plain"]}), "S256"),
        (json!({"code_challenge_methods_supported": []}), "S256"),
        (json!({"token_endpoint": "/token"}), "document"),
        (json!({"jwks_uri": null}), "document"),
    ] {
        assert_eq!(refusal(changes.clone()).await, Err(because), "{changes}");
    }
    assert_eq!(provider.received("/authorize").len(), 0);
}

#[tokio::test]
async fn a_redirect_an_error_or_an_endless_answer_is_no_metadata() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    let elsewhere = Answer::json(302, &json!({})).with_header("location", provider.url("/x").as_str());
    let endless = Answer::json(200, &json!({ "issuer": "x".repeat(1024 * 1024) }));
    provider.answer(&path, [elsewhere, Answer::json(503, &json!({})), endless]);
    let fetch = async || match Metadata::fetch(&HTTP, &authority).await {
        Err(MetadataError::Http(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(fetch().await, HttpError::Status { status, .. } if status == 302));
    assert!(matches!(fetch().await, HttpError::Status { status, .. } if status == 503));
    assert!(matches!(fetch().await, HttpError::TooLong { .. }));
    assert_eq!(provider.received("/x").len(), 0, "a redirect is not followed");
}
