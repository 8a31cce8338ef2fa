//! A provider that does each wrong thing there is a name for, and one that does it right.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod list;
#[path = "../support/mod.rs"]
mod support;

use cases::{cases, changed, jwk_with};
use jiff::SignedDuration;
use serde_json::json;
use support::{
    ACCESS_TOKEN, CLIENT, HTTP, KEYS, NONCE, OID, OTHER_TENANT, Provider, TENANT, claims, header, jwk, now,
    sign,
};
use valetkey_entra::account::{AccountId, PERSONAL_TENANT};
use valetkey_entra::cloud::Authority;
use valetkey_entra::id_token::{Claims, Expect, IdTokenError, verify};
use valetkey_entra::jwks::Keys;
use valetkey_entra::person::{self, Expected, Verdict};
use valetkey_entra::secret::Secret;

async fn verify_there(
    provider: &Provider,
    authority: &Authority,
    token: &str,
) -> Result<Claims, IdTokenError> {
    let keys = Keys::new(HTTP.clone(), provider.url("/keys"));
    let [nonce, access_token, code] = [NONCE, ACCESS_TOKEN, "the code"].map(Secret::new);
    let expect = Expect {
        authority,
        client_id: CLIENT,
        nonce: Some(&nonce),
        access_token: Some(&access_token),
        code: Some(&code),
        account: None,
    };
    verify(&Secret::new(token), &keys, &expect, now()).await
}

fn name(result: &Result<Claims, IdTokenError>) -> String {
    match result {
        Ok(_) => "Right".to_owned(),
        Err(error) => format!("{error:?}").split([' ', '(']).next().unwrap().to_owned(),
    }
}

/// Shows M2, and J3 for the ID token.
#[tokio::test]
async fn every_wrong_token_of_the_list_is_refused_and_every_right_one_is_taken() {
    let provider = Provider::start().await;
    let attacker = Provider::start().await;
    attacker.publish(&json!([jwk(&KEYS[1], Some("k9"))]));
    let authority = provider.authority(TENANT);

    for (id, cases) in cases(&authority, &attacker) {
        for (number, case) in cases.iter().enumerate() {
            provider.publish(&json!(case.keys));
            let result = verify_there(&provider, &authority, &case.token).await;
            assert_eq!(name(&result), case.expect, "{id} #{number}: {result:?}");
        }
    }
    assert_eq!(attacker.requests(), 0, "keys that a token offers are never fetched");
}

#[tokio::test]
async fn a_key_that_says_ps256_is_used_with_ps256_and_not_with_rs256() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    provider.publish(&json!([jwk_with("alg", json!("PS256"))]));
    let payload = claims(&authority).to_string();
    let pss = sign(&KEYS[0], &json!({"alg": "PS256", "kid": "k0"}), &payload);
    assert_eq!(name(&verify_there(&provider, &authority, &pss).await), "Right");
    let pkcs1 = sign(&KEYS[0], &header(), &payload);
    assert_eq!(name(&verify_there(&provider, &authority, &pkcs1).await), "Algorithm");
}

/// Shows M2 for keys that change: one refetch, and not more than one a minute.
#[tokio::test]
async fn a_new_signing_key_is_fetched_once_and_made_up_ones_do_not_flood_the_provider() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    let expect = Expect {
        authority: &authority,
        client_id: CLIENT,
        nonce: None,
        access_token: Some(&Secret::new(ACCESS_TOKEN)),
        code: None,
        account: None,
    };
    let keys = Keys::new(HTTP.clone(), provider.url("/keys"));
    let payload = claims(&authority).to_string();
    let signed = |kid: &str, key| Secret::new(sign(key, &json!({"alg": "RS256", "kid": kid}), &payload));
    let fetches = || provider.received("/keys").len();
    let after = |seconds| now() + SignedDuration::from_secs(seconds);

    provider.publish(&json!([jwk(&KEYS[0], Some("k0"))]));
    verify(&signed("k0", &KEYS[0]), &keys, &expect, now()).await.unwrap();
    verify(&signed("k0", &KEYS[0]), &keys, &expect, after(1)).await.unwrap();
    assert_eq!(fetches(), 1);

    provider.publish(&json!([jwk(&KEYS[1], Some("k1"))]));
    verify(&signed("k1", &KEYS[1]), &keys, &expect, after(2)).await.unwrap();
    assert_eq!(fetches(), 2);

    for kid in ["a", "b", "c"] {
        let refused = verify(&signed(kid, &KEYS[0]), &keys, &expect, after(61)).await;
        assert_eq!(name(&refused), "UnknownKey");
    }
    assert_eq!(fetches(), 2, "59 s after the last refetch");
    let refused = verify(&signed("d", &KEYS[0]), &keys, &expect, after(62)).await;
    assert_eq!((name(&refused).as_str(), fetches()), ("UnknownKey", 3));

    verify(&signed("k1", &KEYS[1]), &keys, &expect, after(2)).await.unwrap();
    let tomorrow = after(2) + SignedDuration::from_hours(25);
    let expired = verify(&signed("k1", &KEYS[1]), &keys, &expect, tomorrow).await;
    assert_eq!((name(&expired).as_str(), fetches()), ("Expired", 4), "old keys are fetched anew");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_an_error_of_their_own() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    let token = sign(&KEYS[0], &header(), &claims(&authority).to_string());
    assert_eq!(name(&verify_there(&provider, &authority, &token).await), "Keys");
    provider.answer("/keys", [support::Answer::json(200, &json!({"keys": "none"}))]);
    assert_eq!(name(&verify_there(&provider, &authority, &token).await), "Keys");
    provider.publish(&json!([]));
    assert_eq!(name(&verify_there(&provider, &authority, &token).await), "UnknownKey");
}

/// Shows M5 for the ID token, and of M8 which tenant is the account's own.
#[tokio::test]
async fn whoever_may_sign_in_at_a_shared_authority_is_told_by_the_tenant_alone() {
    let provider = Provider::start().await;
    provider.publish(&json!([jwk(&KEYS[0], Some("k0"))]));
    let personal = PERSONAL_TENANT.to_string();
    for (authority, tid, expect) in [
        ("common", TENANT, "Right"),
        ("common", personal.as_str(), "Right"),
        ("organizations", TENANT, "Right"),
        ("organizations", &personal, "TenantNotPermitted"),
        ("consumers", &personal, "Right"),
        ("consumers", TENANT, "TenantNotPermitted"),
        (OTHER_TENANT, TENANT, "TenantNotPermitted"),
    ] {
        let authority = provider.authority(authority);
        let issuer = authority.issuer(tid.parse().unwrap());
        let payload = changed(claims(&authority), &json!({"tid": tid, "iss": issuer}));
        let result = verify_there(&provider, &authority, &sign(&KEYS[0], &header(), &payload)).await;
        assert_eq!(name(&result), expect, "{tid} at {}", authority.tenant);
        if let Ok(claims) = result {
            let own = authority.for_account(&claims.account);
            let expected = if tid == personal { "consumers" } else { tid };
            assert_eq!(own.tenant.to_string(), expected);
        }
    }
}

/// Shows of M3 that an address which anybody could write proves nobody, for the decision.
#[tokio::test]
async fn an_address_in_a_right_token_proves_a_person_only_where_the_provider_vouches_for_it() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    provider.publish(&json!([jwk(&KEYS[0], Some("k0"))]));
    let expected = Expected { email: Some("ana@contoso.example".to_owned()), account: None };
    let ask = Verdict::AskGraph;
    for (changes, verdict) in [
        (json!({"preferred_username": "Ana@Contoso.example"}), Verdict::Right),
        (json!({"preferred_username": "ana@contoso.example."}), ask.clone()),
        (json!({"preferred_username": "ana+x@contoso.example"}), ask.clone()),
        (json!({"preferred_username": "\u{430}na@contoso.example"}), ask.clone()),
        (json!({"preferred_username": "ana@contoso.example", "idp": "live.com"}), ask.clone()),
        (json!({"email": "ana@contoso.example"}), ask.clone()),
        (json!({"email": "ana@contoso.example", "xms_edov": false}), ask.clone()),
        (json!({"email": "ana@contoso.example", "email_verified": true}), ask.clone()),
        (json!({"email": "ana@contoso.example", "xms_edov": true, "email_verified": false}), ask),
        (json!({"email": "ana@contoso.example", "xms_edov": true}), Verdict::Right),
        (json!({"email": "ana@contoso.example", "xms_edov": "1"}), Verdict::Right),
    ] {
        let payload = changed(claims(&authority), &changes);
        let token = sign(&KEYS[0], &header(), &payload);
        let claims = verify_there(&provider, &authority, &token).await.unwrap();
        assert_eq!(person::check(&expected, &claims, None), verdict, "{changes}");
    }
    let pinned = AccountId { tid: TENANT.parse().unwrap(), oid: OID.parse().unwrap() };
    let unverified = changed(claims(&authority), &json!({"email": "ana@contoso.example"}));
    let claims = verify_there(&provider, &authority, &sign(&KEYS[0], &header(), &unverified)).await.unwrap();
    let expected = Expected { account: Some(pinned), ..expected };
    assert_eq!(person::check(&expected, &claims, None), Verdict::Right);
}

#[tokio::test]
async fn no_error_prints_the_token_or_what_is_in_it() {
    let provider = Provider::start().await;
    let authority = provider.authority(TENANT);
    for (id, cases) in cases(&authority, &provider) {
        for case in cases {
            provider.publish(&json!(case.keys));
            if let Err(error) = verify_there(&provider, &authority, &case.token).await {
                let printed = format!("{error} {error:?} {error:#?}");
                let longest = case.token.split('.').max_by_key(|part| part.len()).unwrap();
                assert!(longest.is_empty() || !printed.contains(longest), "{id}: {printed}");
                assert!(!printed.contains(NONCE) && !printed.contains("alice"), "{id}: {printed}");
            }
        }
    }
}
