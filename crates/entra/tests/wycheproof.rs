//! Wycheproof's signatures and key sets. Their payloads are no claims, so a signature that holds ends in
//! [`IdTokenError::Claims`], and one that does not ends in anything else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use support::{CLIENT, now};
use valetkey_entra::cloud::{Authority, Cloud, Tenant};
use valetkey_entra::id_token::{Expect, IdTokenError, check};
use valetkey_entra::jwks::KeySet;
use valetkey_entra::secret::Secret;

const SIGNATURES: &str = include_str!("../../../tests/vectors/wycheproof/json_web_signature_test.json");
const KEY_SETS: &str = include_str!("../../../tests/vectors/wycheproof/json_web_key_test.json");

/// A key with the weakness of CVE-2017-15361 makes signatures that are right; a provider with such a key has lost it.
const WEAK_BUT_RIGHT: &str = "rejectsKeyWithRocaVulnerability";
/// From RFC 7520, with a header of another algorithm (PS384) than its key is for. Here a key has one algorithm.
const ANOTHER_ALGORITHM: &str = "Figure20";

fn holds(keys: &Value, jws: &str) -> bool {
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let authority = Authority { cloud: Cloud::Global, tenant: Tenant::Common };
    let expect = Expect {
        authority: &authority,
        client_id: CLIENT,
        nonce: None,
        access_token: None,
        code: None,
        account: None,
    };
    let result = check(&Secret::new(jws), &keys, &expect, now());
    matches!(result, Err(IdTokenError::Claims))
}

fn run(file: &str, keys_of: fn(&Value) -> Value) -> (usize, usize) {
    let file: Value = serde_json::from_str(file).unwrap();
    let (mut held, mut refused) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let keys = keys_of(group);
        for test in group["tests"].as_array().unwrap() {
            let (id, comment) = (&test["tcId"], test["comment"].as_str().unwrap());
            let Some(jws) = test["jws"].as_str() else { continue };
            let holds = holds(&keys, jws);
            if test["result"] == "invalid" && comment != WEAK_BUT_RIGHT {
                assert!(!holds, "#{id} {comment} was taken");
                refused += 1;
            }
            let ours = keys["keys"]
                .as_array()
                .unwrap()
                .iter()
                .any(|key| key["kty"] == "RSA" && matches!(key["alg"].as_str(), Some("RS256" | "PS256")));
            if test["result"] == "valid" && ours && comment != ANOTHER_ALGORITHM {
                assert!(holds, "#{id} {comment} was refused");
                held += 1;
            }
        }
    }
    (held, refused)
}

#[test]
fn signatures_are_taken_or_refused_as_wycheproof_says() {
    let (held, refused) = run(
        SIGNATURES,
        |group| json!({"keys": [if group["public"].is_null() { &group["private"] } else { &group["public"] }]}),
    );
    println!("{held} held, {refused} refused");
    assert!(held > 10 && refused > 200, "{held} {refused}");
}

#[test]
fn key_sets_are_read_as_wycheproof_says() {
    let (held, refused) = run(KEY_SETS, |group| {
        if group["public"].is_null() { group["private"].clone() } else { group["public"].clone() }
    });
    println!("{held} held, {refused} refused");
    assert!(held >= 1 && refused > 15, "{held} {refused}");
}
