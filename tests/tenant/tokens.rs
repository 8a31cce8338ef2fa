//! Behind it: refresh tokens and their ends, Graph, and the hooks.

use serde_json::json;
use valetkey_tests::http_sign_in::http_sign_in_up_to_redirect;
use valetkey_tests::tenant::{ALICE, ANA, CLIENT_ID, GraphMode, Lifetimes, NextError, Reuse, Tenant};

use crate::{
    REDIRECT, SCOPES, VERIFIER, aadsts, authorize_url, claims, graph, query, refresh, sign_in, token,
};

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
async fn what_the_provider_refuses_has_entras_numbers() {
    let tenant = Tenant::start().await.unwrap();
    let code = async || {
        let url = authorize_url(&tenant, ALICE.tid, SCOPES, &[("response_mode", "query")]);
        query(&http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap(), "code").unwrap()
    };
    let redeem = async |code: &str, redirect: &str, verifier: &str| {
        let grant = ("grant_type", "authorization_code");
        let form = [grant, ("code", code), ("redirect_uri", redirect), ("code_verifier", verifier)];
        let (status, body) = token(&tenant, ALICE.tid, &form).await;
        (status, body.get("error_codes").map(|_| aadsts(&body)))
    };
    let used = code().await;
    assert_eq!(redeem(&used, REDIRECT, VERIFIER).await, (200, None));
    assert_eq!(redeem(&used, REDIRECT, VERIFIER).await, (400, Some(54_005)));
    assert_eq!(redeem(&code().await, REDIRECT, &VERIFIER.replace('d', "e")).await, (400, Some(501_481)));
    assert_eq!(redeem(&code().await, "http://localhost:2/", VERIFIER).await, (400, Some(500_112)));
    assert_eq!(redeem("never-given", REDIRECT, VERIFIER).await, (400, Some(70_000)));

    let (_, refused) = token(&tenant, ALICE.tid, &[("grant_type", "password")]).await;
    assert_eq!(aadsts(&refused), 70_003);
    let (_, refused) = token(&tenant, ALICE.tid, &[("grant_type", "refresh_token")]).await;
    assert_eq!(aadsts(&refused), 900_144);
    let stranger = authorize_url(&tenant, ALICE.tid, SCOPES, &[]).replace(CLIENT_ID, ALICE.oid);
    assert!(
        http_sign_in_up_to_redirect(&stranger, ALICE.username).await.unwrap_err().to_string().contains("400")
    );
    let unknown = authorize_url(&tenant, ALICE.tid, "Mail.Reed", &[]);
    let landing = http_sign_in_up_to_redirect(&unknown, ALICE.username).await.unwrap();
    assert_eq!(query(&landing, "error").as_deref(), Some("invalid_scope"));
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
