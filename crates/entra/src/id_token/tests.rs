//! What is held against a token whose signature is not looked at: one from the token endpoint, and one whose signature
//! has been verified already.

use serde_json::json;

use super::*;
use crate::cloud::{Cloud, Tenant};

const HERE: Uuid = Uuid::from_u128(0xaaaa_aaaa_0000_4000_8000_0000_0000_c070);
const ELSEWHERE: Uuid = Uuid::from_u128(0xbbbb_bbbb_0000_4000_8000_0000_0000_c070);
const PERSON: Uuid = Uuid::from_u128(0x0a11_ce00_0000_4000_8000_0000_0000_0001);
const SOMEBODY: Uuid = Uuid::from_u128(0x0a11_ce00_0000_4000_8000_0000_0000_0002);

fn now() -> Timestamp {
    Timestamp::from_second(1_795_230_000).unwrap()
}

/// Of the person, here and for `me`, but for what is changed.
fn payload(changes: &Value) -> String {
    let mut claims = json!({
        "iss": format!("https://login.microsoftonline.com/{HERE}/v2.0"), "aud": "me", "sub": "s", "tid": HERE, "oid": PERSON,
        "exp": now().as_second() + 3600, "iat": now().as_second(),
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.to_string()
}

#[test]
fn a_token_from_the_token_endpoint_is_of_this_issuer_tenant_program_and_account_or_refused() {
    let authority = Authority { cloud: Cloud::Global, tenant: Tenant::Id(HERE) };
    let account = AccountId { tid: HERE, oid: PERSON };
    let expect = Expect {
        authority: &authority,
        client_id: "me",
        nonce: None,
        access_token: None,
        code: None,
        account: Some(account),
    };
    let read = |changes: &Value| {
        let token = Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload(changes))));
        from_token_endpoint(&token, &expect)
    };
    let theirs = format!("https://login.microsoftonline.com/{ELSEWHERE}/v2.0");
    assert_eq!(read(&json!({})).unwrap().account, account);
    assert!(read(&json!({ "exp": 1, "iat": 0 })).is_ok(), "it was issued just now, whatever it says");
    assert!(matches!(read(&json!({ "iss": theirs })), Err(IdTokenError::Issuer)));
    let foreign = read(&json!({ "iss": theirs, "tid": ELSEWHERE }));
    assert!(matches!(foreign, Err(IdTokenError::TenantNotPermitted { tid: ELSEWHERE })), "{foreign:?}");
    for changes in [json!({ "aud": "other" }), json!({ "aud": ["me", "other"] }), json!({ "azp": "other" })] {
        assert!(matches!(read(&changes), Err(IdTokenError::Audience)), "{changes}");
    }
    assert!(matches!(read(&json!({ "oid": SOMEBODY })), Err(IdTokenError::OtherAccount)));
    let long = read(&json!({ "name": "x".repeat(MAX_TOKEN) }));
    assert!(matches!(long, Err(IdTokenError::TooLong)), "{long:?}");
}

#[test]
fn a_verified_token_of_another_account_than_before_is_refused() {
    let key = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc1; 256]), "e": "AQAB" });
    let keys = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
    let authority = Authority { cloud: Cloud::Global, tenant: Tenant::Common };
    let account = Some(AccountId { tid: HERE, oid: PERSON });
    let expect = Expect {
        authority: &authority,
        client_id: "me",
        nonce: None,
        access_token: None,
        code: None,
        account,
    };
    let check = |changes: &Value| check_behind_signature(payload(changes).as_bytes(), &keys, &expect, now());
    assert!(check(&json!({})).is_ok());
    assert!(matches!(check(&json!({ "oid": SOMEBODY })), Err(IdTokenError::OtherAccount)));
}
