//! The front door: metadata, the form, a real browser, device codes, and what a sign-in gives.

use std::path::Path;

use serde_json::{Value, json};
use valetkey_tests::browser::Browser;
use valetkey_tests::http_sign_in::{
    http_cancel_up_to_redirect, http_device_sign_in, http_sign_in, http_sign_in_up_to_redirect,
};
use valetkey_tests::tenant::{ALICE, ANA, BOB, CAROL, CLIENT_ID, NextError, Tenant};

use crate::{REDIRECT, SCOPES, aadsts, authorize_url, claims, graph, http, query, refresh, sign_in, token};

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
async fn a_device_code_waits_for_its_person_who_may_decline() {
    let tenant = Tenant::start().await.unwrap();
    let ask_for_code = async || -> Value {
        let url = format!("{}/oauth2/v2.0/devicecode", tenant.authority("organizations"));
        http()
            .post(url)
            .form(&[("client_id", CLIENT_ID), ("scope", SCOPES)])
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    };
    let poll = async |device: &Value| {
        let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
        token(&tenant, "organizations", &[grant, ("device_code", device["device_code"].as_str().unwrap())])
            .await
            .1
    };
    let finish = async |device: &Value| {
        let (page, code) =
            (device["verification_uri"].as_str().unwrap(), device["user_code"].as_str().unwrap());
        http_device_sign_in(page, code, ALICE.username).await.unwrap()
    };
    let device = ask_for_code().await;
    assert_eq!(poll(&device).await["error"], "authorization_pending");
    finish(&device).await;
    assert_eq!(claims(&poll(&device).await["id_token"])["oid"], ALICE.oid);

    tenant.consent(ALICE, false).await.unwrap();
    let device = ask_for_code().await;
    finish(&device).await;
    assert_eq!(poll(&device).await["error"], "authorization_declined");
}

#[tokio::test]
async fn the_answer_may_come_as_a_posted_form_and_an_order_may_refuse_it() {
    let tenant = Tenant::start().await.unwrap();
    let url = authorize_url(&tenant, ALICE.tid, SCOPES, &[("response_mode", "form_post")]);
    let refused = http_sign_in(&url, ALICE.username).await.unwrap_err();
    assert!(refused.to_string().contains("http://localhost:1/"), "posted where nobody listens: {refused}");

    let blocked = NextError {
        endpoint: "authorize",
        error: Some("access_denied"),
        code: Some(53_003),
        ..NextError::default()
    };
    tenant.next_error(&blocked).await.unwrap();
    let landing = http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap();
    assert!(query(&landing, "error_description").unwrap().starts_with("AADSTS53003"));

    tenant.next_error(&NextError { endpoint: "jwks", drop: true, ..NextError::default() }).await.unwrap();
    let keys = format!("{}/discovery/v2.0/keys", tenant.authority(ALICE.tid));
    http().get(&keys).send().await.unwrap_err();
    assert_eq!(http().get(&keys).send().await.unwrap().status(), 200);
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
