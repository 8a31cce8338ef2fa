//! The practice tenant behaves as Entra does where our clients can tell, for plain HTTP and for Microsoft's own clients.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "msal/clients.rs"]
mod msal;
#[path = "tenant/sign_in.rs"]
mod sign_in;
#[path = "tenant/tokens.rs"]
mod tokens;

use reqwest::Client;
use serde_json::Value;
use url::Url;
use valetkey_tests::http_sign_in::{client, http_sign_in_up_to_redirect};
use valetkey_tests::tenant::{CLIENT_ID, Tenant, User};

const SCOPES: &str = "User.Read Mail.Read offline_access openid profile";
const REDIRECT: &str = "http://localhost:1/";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn http() -> Client {
    client().unwrap()
}

fn authorize_url(tenant: &Tenant, alias: &str, scope: &str, more: &[(&str, &str)]) -> String {
    let mut url = Url::parse(&format!("{}/oauth2/v2.0/authorize", tenant.authority(alias))).unwrap();
    url.query_pairs_mut()
        .extend_pairs([
            ("client_id", CLIENT_ID),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("state", "a-state"),
            ("nonce", "a-nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ])
        .extend_pairs(more);
    url.into()
}

fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn token(tenant: &Tenant, alias: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = http()
        .post(format!("{}/oauth2/v2.0/token", tenant.authority(alias)))
        .form(&[&[("client_id", CLIENT_ID)], form].concat())
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn sign_in(tenant: &Tenant, alias: &str, user: User, scope: &str, more: &[(&str, &str)]) -> Value {
    let landing =
        http_sign_in_up_to_redirect(&authorize_url(tenant, alias, scope, more), user.username).await.unwrap();
    assert_eq!(query(&landing, "state").as_deref(), Some("a-state"));
    assert_eq!(query(&landing, "iss"), None, "Entra's answer names no issuer");
    let code = query(&landing, "code").unwrap_or_else(|| panic!("no code in {landing}"));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_info", "1"),
    ];
    let (status, body) = token(tenant, alias, &form).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn refresh(tenant: &Tenant, alias: &str, refresh_token: &Value, scope: &str) -> (u16, Value) {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.as_str().unwrap()),
        ("scope", scope),
    ];
    token(tenant, alias, &form).await
}

/// The payload of a token, not verified: these tests ask what the tenant writes.
fn claims(token: &Value) -> Value {
    use base64::Engine as _;
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

async fn graph(tenant: &Tenant, path: &str, access_token: &Value) -> reqwest::Response {
    let url = format!("{}/v1.0{path}", tenant.origin);
    http().get(url).bearer_auth(access_token.as_str().unwrap()).send().await.unwrap()
}

fn aadsts(body: &Value) -> u64 {
    body["error_codes"][0].as_u64().unwrap_or_else(|| panic!("no number in {body}"))
}
