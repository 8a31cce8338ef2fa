//! Bytes of strangers: nothing panics, nothing takes long, and what is taken is whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use proptest::strategy::{Strategy as _, ValueTree as _};
use serde_json::json;
use support::{CLIENT, KEYS, NONCE, TENANT, claims, header, jwk, now, sign};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::Resource;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::id_token::{Expect, check};
use valetkey_entra::jwks::KeySet;
use valetkey_entra::loopback::{Loopback, Outcome, Page};
use valetkey_entra::refusal::{ErrorBody, Reason, claims_challenge, classify, parse_retry_after};
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenResponse;
use valetkey_tests::strangers::{INPUTS, cases, feed, inputs_like, runner};

const CACHES: [&str; 5] = [
    include_str!("../../../tests/vectors/msal/dotnet-reserialized-gen-python-tenant.json"),
    include_str!("../../../tests/vectors/msal/gen-node-tenant.json"),
    include_str!("../../../tests/vectors/msal/gen-python-common.json"),
    include_str!("../../../tests/vectors/msal/gen-python-tenant.json"),
    include_str!("../../../tests/vectors/msal/handoff-example.json"),
];

/// Nothing but the very token is believed of somebody without the provider's key.
#[test]
fn id_tokens_of_strangers() {
    let authority = Authority { cloud: Cloud::Global, tenant: TENANT.parse().unwrap() };
    let keys = KeySet::parse(json!({"keys": [jwk(&KEYS[0], Some("k0"))]}).to_string().as_bytes()).unwrap();
    let expect = Expect {
        authority: &authority,
        client_id: CLIENT,
        nonce: Some(&Secret::new(NONCE)),
        access_token: None,
        code: None,
        account: None,
    };
    let mut payload = claims(&authority);
    payload.as_object_mut().unwrap().remove("at_hash");
    let token = sign(&KEYS[0], &header(), &payload.to_string());
    let unnamed = sign(&KEYS[0], &json!({"alg": "RS256"}), &payload.to_string());
    feed("ID tokens", &[token.as_bytes(), unnamed.as_bytes()], |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        let believed = check(&Secret::new(text), &keys, &expect, now()).is_ok();
        assert!(
            !believed || [&token, &unnamed].iter().any(|made| *made == text),
            "a changed token was believed"
        );
        believed
    });
}

#[test]
fn key_sets_of_strangers() {
    let sets = [
        json!({"keys": [jwk(&KEYS[0], Some("a")), jwk(&KEYS[1], None)]}).to_string(),
        json!({"keys": [{"kty": "RSA", "n": "wQ", "e": "AQAB", "x5c": ["MII"], "issuer": "https://x/{tenantid}"}]})
            .to_string(),
    ];
    feed("key sets", &sets.each_ref().map(String::as_bytes), |bytes| KeySet::parse(bytes).is_some());
}

/// A cache that is read can be asked everything, refreshed, and written, and is then the same.
#[test]
fn token_caches_of_strangers() {
    let refreshed = TokenResponse {
        access_token: Secret::new("new"),
        refresh_token: Some(Secret::new("newer")),
        id_token: None,
        scope: "https://graph.microsoft.com/Mail.Read".into(),
        expires_in: SignedDuration::from_hours(1),
        ext_expires_in: None,
        refresh_in: None,
        client_info: None,
    };
    feed("token caches", &CACHES.map(str::as_bytes), |bytes| {
        let Ok(mut cache) = MsalCache::parse(bytes) else { return false };
        let written = cache.to_json().unwrap();
        assert_eq!(MsalCache::parse(&written).unwrap().to_json().unwrap(), written);
        cache.access_token(Resource::Graph, &Cloud::Global);
        cache.id_token();
        if cache.account_info().is_ok() && cache.apply(&refreshed, now()).is_ok() {
            assert_eq!(cache.refresh_token(), Some(&Secret::new("newer")));
        }
        true
    });
}

/// Whatever a token endpoint answers, there is one reason, and no word of the answer in it.
#[test]
fn refusals_of_strangers() {
    let seeds = [
        r#"{"error":"invalid_grant","error_description":"AADSTS50076: so it is","error_codes":[50076],"suberror":"basic_action","claims":"{\"access_token\":{}}","trace_id":"3fa85f64-5717-4562-b3fc-2c963f66afa6"}"#,
        r#"{"error":{"code":"MailboxNotEnabledForRESTAPI","message":"x"}}"#,
    ];
    feed("refusals", &seeds.map(str::as_bytes), |bytes| {
        let refusal = classify(400, &ErrorBody::parse(bytes), None);
        assert!(Reason::ALL.contains(&refusal.reason) && refusal.class == refusal.reason.class());
        refusal.reason != Reason::Unavailable
    });
    let challenge = r#"Bearer realm="", error="insufficient_claims", claims="eyJhIjp7fX0=""#;
    feed("challenges", &[challenge.as_bytes()], |bytes| {
        claims_challenge([&*String::from_utf8_lossy(bytes)]).is_some()
    });
    feed("Retry-After", &[b"120", b"Sat, 21 Nov 2026 04:10:00 GMT"], |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| parse_retry_after(text, now()).is_some())
    });
}

/// Whatever else comes to the port, the real callback is taken afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn callback_requests_of_strangers() {
    const STATE: &str = "the-state";
    /// Beyond the browser's six, and far below what the listener admits.
    const AT_ONCE: usize = 16;
    const BOUND: Duration = Duration::from_secs(10);
    let mut loopback = Loopback::bind().unwrap();
    let address = ("localhost", loopback.port());
    let host = format!("Host: localhost:{}\r\n", loopback.port());
    let form = "code=c&state=no&iss=https%3A%2F%2Flogin.example";
    let seeds = [
        format!("GET /?code=c&state=no HTTP/1.1\r\n{host}Connection: close\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\n{host}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
        "GET /done HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncode\r\n0\r\n\r\n"
            .to_owned(),
    ];
    let inputs = inputs_like(&seeds.each_ref().map(String::as_bytes));
    let mut random = runner(1);
    let requests: Arc<Vec<Vec<u8>>> =
        Arc::new((0..cases(INPUTS)).map(|_| inputs.new_tree(&mut random).unwrap().current()).collect());

    let next = Arc::new(AtomicUsize::new(0));
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        strangers.spawn(async move {
            let (mut answered, mut slowest) = (0, Duration::ZERO);
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                let answer = timeout(BOUND, ask(address, request, true)).await.expect("no end");
                answered += usize::from(answer.starts_with(b"HTTP/1.1 "));
                slowest = slowest.max(began.elapsed());
            }
            (answered, slowest)
        });
    }
    let state = Secret::new(STATE);
    let all = async {
        let mut outcome = (0, Duration::ZERO);
        while let Some(one) = strangers.join_next().await {
            let (answered, slowest) = one.unwrap();
            outcome = (outcome.0 + answered, outcome.1.max(slowest));
        }
        outcome
    };
    let (answered, slowest) = tokio::select! {
        biased;
        callback = loopback.next(&state) => panic!("taken for the callback: {callback:?}"),
        outcome = all => outcome,
    };
    println!("callback requests: {} inputs, {answered} answered, slowest {slowest:?}", requests.len());

    let real = format!("GET /?code=real&state={STATE} HTTP/1.1\r\n{host}\r\n").into_bytes();
    let browser = tokio::spawn(async move { ask(address, &real, false).await });
    let callback = timeout(BOUND, loopback.next(&state)).await.unwrap().unwrap();
    assert_eq!(callback.outcome, Outcome::Code(Secret::new("real")));
    callback.answer(Page { status: 200, html: "done".into() });
    assert!(browser.await.unwrap().starts_with(b"HTTP/1.1 303"));
    loopback.stop().await;
}

/// Says it all, ends its half where nothing else would end the waiting, and reads what comes. A listener may hang up in
/// the middle.
async fn ask(address: (&str, u16), request: &[u8], end: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    if stream.write_all(request).await.is_ok() && (!end || stream.shutdown().await.is_ok()) {
        let _ = stream.read_to_end(&mut answer).await;
    }
    answer
}
