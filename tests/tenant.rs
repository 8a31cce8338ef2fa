//! The practice tenant behaves as Entra does where our clients can tell, for plain HTTP and for Microsoft's own clients.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "msal/clients.rs"]
mod msal;

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};
use url::Url;
use valetkey_tests::browser::Browser;
use valetkey_tests::http_sign_in::{client, http_cancel_up_to_redirect, http_sign_in_up_to_redirect};
use valetkey_tests::tenant::{
    ALICE, ANA, BOB, CAROL, CLIENT_ID, GraphMode, Lifetimes, NextError, Reuse, Tenant, User,
};

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

#[tokio::test]
async fn a_sign_in_gives_tokens_shaped_as_entras() {
    let tenant = Tenant::start().await.unwrap();
    let body = sign_in(&tenant, "organizations", ALICE, SCOPES, &[]).await;
    assert_eq!(body["scope"], "User.Read Mail.Read openid profile email");
    assert_eq!(body["ext_expires_in"], body["expires_in"]);

    let id = claims(&body["id_token"]);
    assert_eq!(id["iss"], format!("{}/{}/v2.0", tenant.origin, ALICE.tid));
    assert_eq!(id["aud"], CLIENT_ID);
    assert_eq!((&id["tid"], &id["oid"]), (&json!(ALICE.tid), &json!(ALICE.oid)));
    assert_eq!((&id["email"], &id["preferred_username"]), (&json!(ALICE.mail), &json!(ALICE.username)));
    assert_eq!((&id["nonce"], &id["ver"]), (&json!("a-nonce"), &json!("2.0")));
    assert_ne!(id["sub"], ALICE.oid, "the subject is pairwise");
    assert!(id["nbf"].is_u64());

    let access = claims(&body["access_token"]);
    assert_eq!(
        (&access["aud"], &access["scp"]),
        (&json!("https://graph.microsoft.com"), &json!("User.Read Mail.Read"))
    );

    let me: Value = graph(&tenant, "//me", &body["access_token"]).await.json().await.unwrap();
    assert_eq!(me["mail"], ALICE.mail);
    assert_eq!(graph(&tenant, "/me/messages", &body["access_token"]).await.status(), 200);
    assert_eq!(
        graph(&tenant, "/me/events", &body["access_token"]).await.status(),
        403,
        "no calendar was asked"
    );
    assert_eq!(graph(&tenant, "/me", &json!("eyJ.not.one")).await.status(), 401);
}

#[tokio::test]
async fn a_user_may_have_another_mailbox_than_name_or_a_personal_account() {
    let tenant = Tenant::start().await.unwrap();
    let ana = sign_in(&tenant, ANA.tid, ANA, SCOPES, &[]).await;
    assert_eq!(claims(&ana["id_token"]).get("email"), None);
    let me: Value = graph(&tenant, "/me", &ana["access_token"]).await.json().await.unwrap();
    assert_eq!((&me["mail"], &me["userPrincipalName"]), (&json!(ANA.mail), &json!(ANA.username)));

    let carol = sign_in(&tenant, "common", CAROL, SCOPES, &[]).await;
    assert_eq!(claims(&carol["id_token"])["tid"], CAROL.tid);
    let (_, refused) = refresh(&tenant, "common", &carol["refresh_token"], SCOPES).await;
    assert_eq!(aadsts(&refused), 70_000, "personal accounts refresh on `consumers`");
    assert_eq!(refresh(&tenant, "consumers", &carol["refresh_token"], SCOPES).await.0, 200);

    let wrong =
        http_sign_in_up_to_redirect(&authorize_url(&tenant, ALICE.tid, SCOPES, &[]), BOB.username).await;
    assert!(wrong.unwrap_err().to_string().contains("AADSTS50020"));
}

#[tokio::test]
async fn one_refresh_token_serves_every_resource_consented_to() {
    let tenant = Tenant::start().await.unwrap();
    let imap = "https://outlook.office.com/IMAP.AccessAsUser.All";
    let body = sign_in(&tenant, ALICE.tid, ALICE, &format!("{SCOPES} {imap}"), &[]).await;
    let (status, outlook) =
        refresh(&tenant, ALICE.tid, &body["refresh_token"], &format!("{imap} offline_access openid profile"))
            .await;
    assert_eq!(status, 200, "{outlook}");
    assert_eq!(claims(&outlook["access_token"])["aud"], "https://outlook.office.com");
    assert!(outlook["scope"].as_str().unwrap().contains(imap), "{}", outlook["scope"]);

    let (_, default) =
        refresh(&tenant, ALICE.tid, &body["refresh_token"], "https://graph.microsoft.com/.default").await;
    assert_eq!(claims(&default["access_token"])["scp"], "User.Read Mail.Read");

    let (_, refused) = refresh(
        &tenant,
        ALICE.tid,
        &body["refresh_token"],
        "api://workiq.svc.cloud.microsoft/WorkIQAgent.Ask",
    )
    .await;
    assert_eq!((aadsts(&refused), &refused["suberror"]), (65_001, &json!("consent_required")));
    let (_, refused) =
        refresh(&tenant, ALICE.tid, &body["refresh_token"], &format!("Mail.Read {imap}")).await;
    assert_eq!(aadsts(&refused), 28_000);
}

#[tokio::test]
async fn an_old_refresh_token_still_works_unless_reuse_is_strict() {
    let tenant = Tenant::start().await.unwrap();
    let first = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await["refresh_token"].clone();
    for _ in 0..2 {
        let (status, body) = refresh(&tenant, ALICE.tid, &first, SCOPES).await;
        assert_eq!(status, 200, "{body}");
        assert_ne!(body["refresh_token"], first, "it rotates all the same");
    }
    tenant.reuse(Reuse::Grace).await.unwrap();
    let (_, body) = refresh(&tenant, ALICE.tid, &first, SCOPES).await;
    let second = body["refresh_token"].clone();

    tenant.reuse(Reuse::Strict).await.unwrap();
    let (status, third) = refresh(&tenant, ALICE.tid, &second, SCOPES).await;
    assert_eq!(status, 200);
    let (status, refused) = refresh(&tenant, ALICE.tid, &second, SCOPES).await;
    assert_eq!(
        (status, &refused["error"], &refused["suberror"]),
        (400, &json!("invalid_grant"), &json!("bad_token"))
    );
    let (_, refused) = refresh(&tenant, ALICE.tid, &third["refresh_token"], SCOPES).await;
    assert_eq!(aadsts(&refused), 50_173, "the whole grant is gone");
}

#[tokio::test]
async fn a_revoked_users_refresh_is_refused_in_entras_words() {
    let tenant = Tenant::start().await.unwrap();
    let alice = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await;
    let ana = sign_in(&tenant, ANA.tid, ANA, SCOPES, &[]).await;
    tenant.revoke(ALICE).await.unwrap();

    let (status, refused) = refresh(&tenant, ALICE.tid, &alice["refresh_token"], SCOPES).await;
    assert_eq!(
        (status, &refused["error"], &refused["suberror"]),
        (400, &json!("invalid_grant"), &json!("bad_token"))
    );
    assert_eq!(aadsts(&refused), 50_173);
    assert!(refused["error_description"].as_str().unwrap().starts_with("AADSTS50173: "));
    for member in ["timestamp", "trace_id", "correlation_id"] {
        assert!(refused[member].is_string(), "{member}");
    }
    assert_eq!(graph(&tenant, "/me", &alice["access_token"]).await.status(), 200, "access tokens live on");
    assert_eq!(
        refresh(&tenant, ANA.tid, &ana["refresh_token"], SCOPES).await.0,
        200,
        "nobody else is touched"
    );
    assert_eq!(
        refresh(
            &tenant,
            ALICE.tid,
            &sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await["refresh_token"],
            SCOPES
        )
        .await
        .0,
        200
    );
}

#[tokio::test]
async fn tokens_expire_when_the_test_says() {
    let tenant = Tenant::start().await.unwrap();
    tenant
        .lifetimes(Lifetimes {
            access: Some(1),
            refresh: Some(1),
            refresh_in: Some(1),
            ..Lifetimes::default()
        })
        .await
        .unwrap();
    let body = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await;
    assert_eq!((&body["expires_in"], &body["refresh_in"]), (&json!(1), &json!(1)));
    let expired = async || graph(&tenant, "/me", &body["access_token"]).await.status() == 401;
    while !expired().await {
        tokio::task::yield_now().await;
    }
    let (_, refused) = refresh(&tenant, ALICE.tid, &body["refresh_token"], SCOPES).await;
    assert_eq!(aadsts(&refused), 700_082);
}

#[tokio::test]
async fn stepping_up_needs_a_sign_in_with_the_claims_of_the_challenge() {
    let tenant = Tenant::start().await.unwrap();
    let before = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await;
    tenant.step_up(ALICE, true).await.unwrap();
    let (_, refused) = refresh(&tenant, ALICE.tid, &before["refresh_token"], SCOPES).await;
    assert_eq!((aadsts(&refused), &refused["suberror"]), (50_076, &json!("basic_action")));

    let plain = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await;
    assert_eq!(refresh(&tenant, ALICE.tid, &plain["refresh_token"], SCOPES).await.0, 400);
    let claims = refused["claims"].as_str().unwrap();
    let stepped = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[("claims", claims)]).await;
    assert_eq!(refresh(&tenant, ALICE.tid, &stepped["refresh_token"], SCOPES).await.0, 200);
    assert_eq!(
        tenant
            .log()
            .await
            .unwrap()
            .iter()
            .rfind(|line| line.endpoint == "authorize")
            .unwrap()
            .claims
            .as_deref(),
        Some(claims)
    );
}

#[tokio::test]
async fn a_person_may_cancel_and_an_organisation_may_decline() {
    let tenant = Tenant::start().await.unwrap();
    let url = authorize_url(&tenant, ALICE.tid, SCOPES, &[]);
    let cancelled = http_cancel_up_to_redirect(&url).await.unwrap();
    tenant.consent(ALICE, false).await.unwrap();
    let declined = http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap();
    for landing in [cancelled, declined] {
        assert_eq!(query(&landing, "error").as_deref(), Some("access_denied"));
        assert!(query(&landing, "error_description").unwrap().starts_with("AADSTS65004"));
        assert_eq!(query(&landing, "state").as_deref(), Some("a-state"));
    }
}

#[tokio::test]
async fn hooks_withhold_a_refresh_token_fail_requests_and_rotate_keys() {
    let tenant = Tenant::start().await.unwrap();
    tenant.no_refresh_token(true).await.unwrap();
    assert_eq!(sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await.get("refresh_token"), None);
    tenant.no_refresh_token(false).await.unwrap();

    let body = sign_in(&tenant, ALICE.tid, ALICE, SCOPES, &[]).await;
    let busy = NextError {
        endpoint: "token",
        status: Some(503),
        error: Some("temporarily_unavailable"),
        code: Some(90_033),
        ..NextError::default()
    };
    tenant.next_error(&busy).await.unwrap();
    assert_eq!(refresh(&tenant, ALICE.tid, &body["refresh_token"], SCOPES).await.0, 503);
    assert_eq!(refresh(&tenant, ALICE.tid, &body["refresh_token"], SCOPES).await.0, 200, "once only");
    assert_eq!(tenant.count("token:refresh_token").await.unwrap(), 2);

    tenant.graph(ALICE, GraphMode::Throttle, Some(1)).await.unwrap();
    let throttled = graph(&tenant, "/me", &body["access_token"]).await;
    assert_eq!((throttled.status().as_u16(), throttled.headers().contains_key("retry-after")), (429, true));
    tenant.graph(ALICE, GraphMode::Claims, Some(1)).await.unwrap();
    let challenged = graph(&tenant, "/me", &body["access_token"]).await;
    assert!(challenged.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_claims"));
    tenant.graph(ALICE, GraphMode::NoLicence, None).await.unwrap();
    assert_eq!(graph(&tenant, "/me", &body["access_token"]).await.status(), 403);
    tenant.graph(ALICE, GraphMode::Ok, None).await.unwrap();
    assert_eq!(graph(&tenant, "/me", &body["access_token"]).await.status(), 200);

    tenant.rotate_keys(true).await.unwrap();
    assert_eq!(
        graph(&tenant, "/me", &body["access_token"]).await.status(),
        401,
        "signed with a key that is gone"
    );
    let (_, fresh) = refresh(&tenant, ALICE.tid, &body["refresh_token"], SCOPES).await;
    assert_eq!(graph(&tenant, "/me", &fresh["access_token"]).await.status(), 200);
}

#[tokio::test]
async fn metadata_is_entras() {
    let tenant = Tenant::start().await.unwrap();
    for (alias, issuer) in [
        ("common", "{tenantid}"),
        ("organizations", "{tenantid}"),
        ("consumers", CAROL.tid),
        (ALICE.tid, ALICE.tid),
    ] {
        let url = format!("{}/v2.0/.well-known/openid-configuration", tenant.authority(alias));
        let metadata: Value = http().get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(metadata["issuer"], format!("{}/{issuer}/v2.0", tenant.origin));
        assert_eq!(metadata.get("code_challenge_methods_supported"), None, "Entra does not advertise PKCE");
        let keys: Value =
            http().get(metadata["jwks_uri"].as_str().unwrap()).send().await.unwrap().json().await.unwrap();
        assert_eq!(
            (&keys["keys"][0]["kty"], keys["keys"][0].get("alg"), keys["keys"][0].get("d")),
            (&json!("RSA"), None, None)
        );
    }
    let unknown = format!(
        "{}/v2.0/.well-known/openid-configuration",
        tenant.authority("dddddddd-0000-4000-8000-000000000000")
    );
    let refused: Value = http().get(unknown).send().await.unwrap().json().await.unwrap();
    assert_eq!(aadsts(&refused), 90_002);
}

#[tokio::test]
async fn a_real_browser_signs_in_at_the_form_and_reaches_the_loopback_address() {
    let tenant = Tenant::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirect = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let program = tokio::spawn(answer_one(listener));
    let url = authorize_url(&tenant, ALICE.tid, SCOPES, &[("login_hint", ALICE.username)])
        .replace(&url::form_urlencoded::byte_serialize(REDIRECT.as_bytes()).collect::<String>(), &redirect);

    browser.goto(&url).await.unwrap();
    assert_eq!(browser.value("#username").await.unwrap(), ALICE.username, "the hint is filled in");
    let text = browser.text().await.unwrap();
    assert!(
        text.contains("Practice sign-in · not Microsoft") && text.contains("User.Read, Mail.Read"),
        "{text}"
    );
    let screens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screens");
    browser.screenshot(&screens.join("practice-sign-in.png")).await.unwrap();

    let page = browser.sign_in(&url, ALICE.username).await.unwrap();
    assert_eq!((page.title.as_str(), page.text.as_str()), ("Done", "Here it is."));
    assert!(query(&page.url, "code").is_some());
    assert!(program.await.unwrap().contains("code="));

    browser.goto(&url).await.unwrap();
    browser.fill("#password", "wrong").await.unwrap();
    browser.click("#submit").await.unwrap();
    let refused = browser.page_away_from(&url).await.unwrap_err();
    assert!(refused.to_string().contains("incorrect"), "{refused}");
}

/// A program's redirect listener, as small as can be: one request, one page. Returns the request's first line.
async fn answer_one(listener: tokio::net::TcpListener) -> String {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        // Chromium opens connections ahead of need and closes them unused.
        if stream.read_line(&mut line).await.unwrap() == 0 {
            continue;
        }
        let page = "<title>Done</title><p>Here it is.";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        return line;
    }
}

#[tokio::test]
async fn a_known_hint_signs_in_at_once_when_the_hook_says_so() {
    let tenant = Tenant::start().await.unwrap();
    tenant.auto_sign_in(true).await.unwrap();
    let go = async |prompt: &[(&str, &str)]| {
        let url =
            authorize_url(&tenant, ALICE.tid, SCOPES, &[&[("login_hint", ALICE.username)], prompt].concat());
        // Bob does not belong here: the form, where it is shown, refuses him.
        http_sign_in_up_to_redirect(&url, BOB.username).await
    };
    assert!(query(&go(&[]).await.unwrap(), "code").is_some());
    for prompt in ["login", "select_account"] {
        assert!(go(&[("prompt", prompt)]).await.unwrap_err().to_string().contains("AADSTS50020"));
    }
}
