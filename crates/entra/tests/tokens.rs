//! The token endpoint and Graph, answering rightly and wrongly.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use jiff::SignedDuration;
use serde_json::{Value, json};
use support::{Answer, CLIENT, HTTP, OID, Provider, TENANT, now};
use valetkey_entra::account::AccountId;
use valetkey_entra::graph::{self, GraphError, Me};
use valetkey_entra::http::{HttpError, MAX_ANSWER};
use valetkey_entra::refusal::{Class, Reason, Refusal};
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::{
    CodeGrant, Malformed, Poll, TokenEndpoint, TokenError, TokenResponse, UNSTATED_LIFETIME,
};

const CANARY: &str = "CANARY-5b1f";

fn scopes() -> Vec<String> {
    ["User.Read", "Mail.Read", "offline_access"].map(str::to_owned).into()
}

fn tokens() -> Value {
    json!({
        "token_type": "Bearer", "access_token": "access-1", "refresh_token": "refresh-2", "id_token": "a.b.c",
        "scope": "User.Read Mail.Read", "expires_in": 3599, "ext_expires_in": 7199, "refresh_in": 1800,
        "client_info": "eyJ9"
    })
}

fn endpoint(provider: &Provider) -> TokenEndpoint {
    TokenEndpoint::new(HTTP.clone(), provider.url("/token"))
}

async fn refresh(provider: &Provider) -> Result<TokenResponse, TokenError> {
    endpoint(provider).refresh(CLIENT, &Secret::new("refresh-1"), &scopes(), None, now()).await
}

async fn exchange(provider: &Provider) -> Result<TokenResponse, TokenError> {
    let [code, verifier] = ["the-code", "the-verifier"].map(Secret::new);
    let grant = CodeGrant {
        client_id: CLIENT,
        code: &code,
        verifier: &verifier,
        redirect_uri: "http://localhost:4711/",
        scopes: &scopes(),
        claims: Some(r#"{"a":{}}"#),
    };
    endpoint(provider).exchange(&grant, now()).await
}

fn refusal<T: std::fmt::Debug>(result: Result<T, TokenError>) -> Refusal {
    match result {
        Err(TokenError::Refused(refusal)) => *refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_code_is_exchanged_with_what_the_authorize_request_had() {
    let provider = Provider::start().await;
    provider.answer("/token", [Answer::json(200, &tokens())]);
    let got = exchange(&provider).await.unwrap();
    assert_eq!(got.access_token.expose(), "access-1");
    assert_eq!(got.refresh_token.unwrap().expose(), "refresh-2");
    assert_eq!(got.id_token.unwrap().expose(), "a.b.c");
    assert_eq!(got.scope, "User.Read Mail.Read");
    let seconds = [Some(got.expires_in), got.ext_expires_in, got.refresh_in].map(|d| d.unwrap().as_secs());
    assert_eq!(seconds, [3599, 7199, 1800]);

    let sent = &provider.received("/token")[0];
    let mut form: Vec<_> = sent.form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    form.sort();
    assert_eq!(
        form,
        [
            r#"claims={"a":{}}"#,
            &format!("client_id={CLIENT}"),
            "client_info=1",
            "code=the-code",
            "code_verifier=the-verifier",
            "grant_type=authorization_code",
            "redirect_uri=http://localhost:4711/",
            "scope=User.Read Mail.Read offline_access",
        ]
    );
    assert!(!sent.headers.contains_key("authorization"), "a public client has no secret");
}

#[tokio::test]
async fn a_refresh_always_sends_its_scopes() {
    let provider = Provider::start().await;
    provider.answer("/token", [Answer::json(200, &tokens())]);
    refresh(&provider).await.unwrap();
    let form = &provider.received("/token")[0].form;
    assert_eq!(form["grant_type"], "refresh_token");
    assert_eq!(form["refresh_token"], "refresh-1");
    assert_eq!(form["scope"], "User.Read Mail.Read offline_access");
    assert!(!form.contains_key("claims"));
}

#[tokio::test]
async fn the_token_type_may_be_written_in_any_case_and_the_lifetime_be_missing() {
    let provider = Provider::start().await;
    provider.answer("/token", [Answer::json(200, &json!({"token_type": "bEARER", "access_token": "a"}))]);
    let got = refresh(&provider).await.unwrap();
    assert_eq!(got.expires_in, UNSTATED_LIFETIME);
    assert_eq!(got.scope, scopes().join(" "), "what was asked for was granted");
    assert!(got.refresh_token.is_none() && got.id_token.is_none());
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_is_not_followed() {
    let provider = Provider::start().await;
    let elsewhere = Provider::start().await;
    elsewhere.answer("/token", [Answer::json(200, &tokens())]);
    for status in [301, 302, 303, 307, 308] {
        let answer =
            Answer::json(status, &json!({})).with_header("location", elsewhere.url("/token").as_str());
        provider.answer("/token", [answer]);
        let refused = exchange(&provider).await;
        assert!(matches!(refused, Err(TokenError::Malformed(Malformed::Redirect))), "{refused:?}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn answers_that_are_none_are_transient_and_never_a_sign_out() {
    let provider = Provider::start().await;
    let html = "<html>Please sign in to the hotel's network</html>";
    let page = |status| Answer { status, headers: vec![], body: html.to_owned() };
    for answer in [
        page(200),
        page(204),
        page(403),
        page(407),
        page(502),
        Answer::json(200, &json!({"access_token": "a"})),
        Answer::json(200, &json!({"token_type": "pop", "access_token": "a"})),
        Answer::json(200, &json!({"token_type": "Bearer", "access_token": ""})),
        Answer::json(200, &json!([])),
    ] {
        provider.answer("/token", [answer.clone()]);
        let error = refresh(&provider).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{answer:?}");
    }
    let nobody = TokenEndpoint::new(HTTP.clone(), "http://127.0.0.1:1/token".parse().unwrap());
    let error = nobody.refresh(CLIENT, &Secret::new("r"), &scopes(), None, now()).await.unwrap_err();
    assert!(matches!(error, TokenError::Unreachable(HttpError::Unreachable { .. })), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let provider = Provider::start().await;
    let huge = Answer { status: 200, headers: vec![], body: "x".repeat(MAX_ANSWER + 1) };
    provider.answer("/token", [huge]);
    let error = refresh(&provider).await.unwrap_err();
    assert!(matches!(error, TokenError::Unreachable(HttpError::TooLong { .. })), "{error:?}");
}

#[tokio::test]
async fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    let provider = Provider::start().await;
    for (status, value, seconds) in
        [(429, "17", 17), (503, "Sat, 21 Nov 2026 04:02:00 GMT", 120), (400, "5", 5)]
    {
        let body = json!({"error": "temporarily_unavailable", "error_codes": [90033]});
        provider.answer("/token", [Answer::json(status, &body).with_header("Retry-After", value)]);
        let refusal = refusal(refresh(&provider).await);
        assert_eq!(refusal.class, Class::Transient);
        assert_eq!(refusal.retry_after, Some(SignedDuration::from_secs(seconds)));
    }
}

#[tokio::test]
async fn a_refusal_is_classified_and_carries_its_claims_challenge() {
    let provider = Provider::start().await;
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let body = json!({
        "error": "interaction_required", "suberror": "basic_action", "error_codes": [50076], "claims": claims,
        "error_description": "AADSTS50076: Due to a configuration change made by your administrator …",
        "correlation_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "trace_id": "x"
    });
    provider.answer("/token", [Answer::json(400, &body)]);
    let refusal = refusal(refresh(&provider).await);
    assert_eq!((refusal.class, refusal.reason), (Class::Reconnect, Reason::Mfa));
    assert_eq!(refusal.claims.as_deref(), Some(claims));
    assert!(refusal.correlation_id.is_some());
}

#[tokio::test]
async fn a_device_code_is_polled_by_the_callers_clock_until_it_is_granted() {
    let provider = Provider::start().await;
    let begun = json!({
        "device_code": "device-secret", "user_code": "ABCD-EFGH", "verification_uri": "https://login.example/device",
        "expires_in": "900", "interval": 3, "message": "To sign in, …"
    });
    provider.answer("/devicecode", [Answer::json(200, &begun)]);
    let error = |code: &str| Answer::json(400, &json!({"error": code, "error_codes": [70016]}));
    let waiting = ["authorization_pending", "slow_down", "authorization_pending", "slow_down"].map(error);
    provider.answer("/token", waiting.into_iter().chain([Answer::json(200, &tokens())]));

    let endpoint = endpoint(&provider);
    let url = provider.url("/devicecode");
    let mut device = endpoint.begin_device_code(&url, CLIENT, &scopes(), now()).await.unwrap();
    assert_eq!(provider.received("/devicecode")[0].form["scope"], scopes().join(" "));
    assert_eq!((device.user_code.as_str(), device.interval.as_secs()), ("ABCD-EFGH", 3));
    assert_eq!(device.expires_at.duration_since(now()).as_mins(), 15);

    let mut clock = now();
    for interval in [3, 8, 8, 13] {
        clock += device.interval;
        let poll = endpoint.poll_device_code(CLIENT, &mut device, clock).await.unwrap();
        assert!(matches!(poll, Poll::Pending));
        assert_eq!(device.interval.as_secs(), interval);
    }
    let granted = endpoint.poll_device_code(CLIENT, &mut device, clock).await.unwrap();
    assert!(matches!(granted, Poll::Granted(tokens) if tokens.access_token.expose() == "access-1"));
    let form = &provider.received("/token")[0].form;
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(form["device_code"], "device-secret");
}

#[tokio::test]
async fn a_device_code_ends_by_no_by_time_and_never_by_a_bad_network() {
    let provider = Provider::start().await;
    let begun = json!({"device_code": "d", "user_code": "u", "verification_uri": "https://login.example/device",
        "expires_in": 60, "interval": 0});
    provider.answer("/devicecode", [Answer::json(200, &begun)]);
    let endpoint = endpoint(&provider);
    let url = provider.url("/devicecode");
    let mut device = endpoint.begin_device_code(&url, CLIENT, &scopes(), now()).await.unwrap();
    assert_eq!(device.interval.as_secs(), 1, "zero is no interval");

    for (status, code, reason) in [
        (400, "access_denied", Reason::Declined),
        (400, "authorization_declined", Reason::Declined),
        (400, "expired_token", Reason::TimedOut),
        (503, "authorization_pending", Reason::Unavailable),
    ] {
        provider.answer("/token", [Answer::json(status, &json!({ "error": code }))]);
        let refusal = refusal(endpoint.poll_device_code(CLIENT, &mut device, now()).await);
        assert_eq!(refusal.reason, reason, "{code}");
    }
    let polls = provider.received("/token").len();
    let late = now() + SignedDuration::from_secs(60);
    let refusal = refusal(endpoint.poll_device_code(CLIENT, &mut device, late).await);
    assert_eq!(
        (refusal.reason, provider.received("/token").len()),
        (Reason::TimedOut, polls),
        "not sent any more"
    );
}

#[tokio::test]
async fn a_device_page_that_is_not_https_and_a_code_nobody_can_type_are_not_shown_to_anybody() {
    const PAGE: &str = "https://login.example/device";
    let provider = Provider::start().await;
    let begun = async |page: &str, code: &str| {
        let begun = json!({"device_code": "d", "user_code": code, "verification_uri": page});
        provider.answer("/devicecode", [Answer::json(200, &begun)]);
        let url = provider.url("/devicecode");
        endpoint(&provider).begin_device_code(&url, CLIENT, &scopes(), now()).await
    };
    assert!(begun(PAGE, "ABCD-EFGH").await.is_ok());
    for page in ["http://login.example/device", "javascript:alert(1)", "file:///etc/passwd", "nonsense"] {
        let refused = begun(page, "u").await;
        assert!(matches!(refused, Err(TokenError::Malformed(Malformed::Body))), "{page}");
    }
    let long = "A".repeat(33);
    for code in ["", "\u{1b}]52;c;Zm9v\u{7}", "ABC\nPassword:", "ABC\u{202e}", "A B", &long] {
        let refused = begun(PAGE, code).await;
        assert!(matches!(refused, Err(TokenError::Malformed(Malformed::Body))), "{code:?}");
    }
}

async fn me(provider: &Provider) -> Result<Me, GraphError> {
    graph::me(&HTTP, &provider.authority("common"), &Secret::new("access-1"), now()).await
}

/// Shows M4 for the question that is asked.
#[tokio::test]
async fn graph_says_whose_token_it_is() {
    let provider = Provider::start().await;
    let body = json!({"@odata.context": "…", "id": OID, "mail": "ana@contoso.example",
        "userPrincipalName": "ana.upn@contoso.example", "displayName": null});
    provider.answer("/v1.0/me", [Answer::json(200, &body)]);
    let me = me(&provider).await.unwrap();
    assert_eq!(me.mail.as_deref(), Some("ana@contoso.example"));
    assert_eq!(me.user_principal_name.as_deref(), Some("ana.upn@contoso.example"));
    let account = AccountId { tid: TENANT.parse().unwrap(), oid: OID.parse().unwrap() };
    assert!(me.is(&account));
    assert!(!me.is(&AccountId { oid: account.tid, ..account }), "somebody else's answer");
    assert_eq!(provider.received("/v1.0/me")[0].headers["authorization"], "Bearer access-1");
}

/// Shows H17 for Graph's answer.
#[tokio::test]
async fn graphs_refusals_are_told_apart() {
    let provider = Provider::start().await;
    let body = |code: &str| json!({"error": {"code": code, "message": ""}});
    let challenge = r#"Bearer realm="", error="insufficient_claims", claims="eyJhIjp7fX0=""#;
    let asked = Answer::json(401, &body("InvalidAuthenticationToken"))
        .with_header("WWW-Authenticate", "Negotiate")
        .with_header("WWW-Authenticate", challenge);
    for (answer, class, reason) in [
        (asked, Class::Reconnect, Reason::ClaimsChallenge),
        (Answer::json(401, &body("x")), Class::Reconnect, Reason::Unauthorized),
        (Answer::json(403, &body("MailboxNotEnabledForRESTAPI")), Class::Licence, Reason::NoLicence),
        (Answer::json(403, &body("accessDenied")), Class::Administrator, Reason::Forbidden),
        (Answer::json(429, &body("x")).with_header("Retry-After", "9"), Class::Transient, Reason::Throttled),
        (Answer::json(504, &body("x")), Class::Transient, Reason::Unavailable),
    ] {
        provider.answer("/v1.0/me", [answer]);
        let Err(GraphError::Refused(refusal)) = me(&provider).await else { panic!("{reason}") };
        assert_eq!((refusal.class, refusal.reason), (class, reason));
        assert_eq!(refusal.claims.is_some(), reason == Reason::ClaimsChallenge);
        assert_eq!(refusal.retry_after.is_some(), reason == Reason::Throttled);
    }
    for wrong in [Answer::json(200, &json!({"mail": "x"})), Answer::json(302, &json!({}))] {
        provider.answer("/v1.0/me", [wrong]);
        assert!(matches!(me(&provider).await, Err(GraphError::Malformed)));
    }
}

#[tokio::test]
async fn no_answer_or_error_prints_a_token_a_code_or_the_providers_text() {
    let provider = Provider::start().await;
    let canary = Secret::new(CANARY);
    let mut printed = Vec::new();
    let mut print =
        |thing: &dyn std::fmt::Debug, said: String| printed.push(format!("{said} {thing:?} {thing:#?}"));

    let grant = CodeGrant {
        client_id: CLIENT,
        code: &canary,
        verifier: &canary,
        redirect_uri: "http://localhost:4711/",
        scopes: &scopes(),
        claims: None,
    };
    print(&grant, String::new());
    let text = format!("<script>\u{1b}[31m{CANARY}");
    let error = json!({"error": text, "suberror": text, "error_description": format!("AADSTS50076: {text}"),
        "claims": json!({ CANARY: 1 }).to_string(), "correlation_id": text, "trace_id": text});
    let success = json!({"token_type": "Bearer", "access_token": CANARY, "refresh_token": CANARY, "id_token": CANARY,
        "device_code": CANARY, "user_code": "u", "verification_uri": "https://login.example/device"});
    let broken = json!({"token_type": CANARY, "access_token": CANARY});
    let graph_error = json!({"error": {"code": CANARY, "message": CANARY}});
    for (status, body) in
        [(200, &success), (200, &broken), (400, &error), (302, &error), (503, &error), (403, &graph_error)]
    {
        let answer = Answer::json(status, body)
            .with_header("Location", &format!("https://evil.example/{CANARY}"))
            .with_header("WWW-Authenticate", &format!("Bearer error=\"{CANARY}\""))
            .with_header("Retry-After", CANARY);
        for path in ["/token", "/devicecode", "/v1.0/me"] {
            provider.answer(path, [answer.clone()]);
        }
        let endpoint = endpoint(&provider);
        for result in [
            endpoint.exchange(&grant, now()).await,
            endpoint.refresh(CLIENT, &canary, &scopes(), Some(CANARY), now()).await,
        ] {
            let said = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            print(&result, said);
        }
        match endpoint.begin_device_code(&provider.url("/devicecode"), CLIENT, &scopes(), now()).await {
            Ok(mut device) => {
                let poll = endpoint.poll_device_code(CLIENT, &mut device, now()).await;
                print(&(&device, &poll), String::new());
            }
            Err(error) => print(&error, error.to_string()),
        }
        if let Err(error) = graph::me(&HTTP, &provider.authority("common"), &canary, now()).await {
            print(&error, error.to_string());
        }
    }
    let gone = TokenEndpoint::new(HTTP.clone(), format!("http://127.0.0.1:1/{CANARY}").parse().unwrap());
    let error = gone.exchange(&grant, now()).await.unwrap_err();
    print(&error, error.to_string());

    let printed = printed.join("\n");
    assert!(printed.contains("AADSTS50076"), "the numbers are there");
    assert!(!printed.contains("CANARY") && !printed.contains("script"), "{printed}");
}
