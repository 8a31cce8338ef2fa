//! Payloads of a provider that has gone mad: it holds the key, so that everything behind the signature is reached.

use serde_json::json;
use valetkey_tests::strangers::feed;

use super::*;

#[test]
fn payloads_of_a_provider_that_has_gone_mad() {
    let now = Timestamp::from_second(1_795_230_000).unwrap();
    let (tid, oid) = ("aaaaaaaa-0000-4000-8000-00000000c070", "0a11ce00-0000-4000-8000-000000000001");
    let payload = |aud: Value| {
        json!({
            "iss": format!("https://login.microsoftonline.com/{tid}/v2.0"), "aud": aud, "azp": "me", "sub": "s",
            "exp": now.as_second() + 3600, "iat": now.as_second(), "nbf": now.as_second(), "nonce": "n",
            "at_hash": "x", "c_hash": "y", "tid": tid, "oid": oid, "idp": "https://sts.windows.net/other/",
            "name": "Ana", "preferred_username": "ana@contoso.example", "email": "ana@contoso.example",
            "email_verified": "true", "xms_edov": 1,
        })
        .to_string()
    };
    let seeds = [payload(json!("me")), payload(json!(["me"]))];
    feed("ID token payloads", &seeds.each_ref().map(String::as_bytes), |payload| {
        let Some(claims) = unique::parse::<Unverified>(payload) else { return false };
        claims.is_only_for("me");
        hash_matches(claims.at_hash.as_deref(), Some(&Secret::new("token")));
        let (Some(account), Ok((issued_at, expires_at))) = (claims.account(), timely(&claims, now)) else {
            return false;
        };
        assert!(expires_at > now - LEEWAY && issued_at <= now + LEEWAY);
        claims.verified(account, issued_at, expires_at).display_name();
        true
    });
}
