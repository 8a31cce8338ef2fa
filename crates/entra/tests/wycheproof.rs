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

/// Of its signatures: those that hold and are refused, and those that must not hold and are taken.
const DIFFERENCES: &[(&str, &[u64])] = &[
    ("a key is shared with nobody here: no HMAC", &[1, 348, 352, 357, 358, 359, 372, 373, 376, 377]),
    ("Entra signs with RSA: no elliptic curves", &[18, 347, 351, 378]),
    (
        "with SHA-256 alone: no RS384, RS512, PS384, PS512",
        &[264, 265, 266, 267, 268, 269, 270, 271, 320, 321, 322, 323, 325, 326, 327, 328],
    ),
    (
        "of RFC 7520, with a header of another algorithm (PS384) than its key is for; here a key has one",
        &[346, 350],
    ),
];
/// The same, of its key sets.
const DIFFERENCES_OF_KEY_SETS: &[(&str, &[u64])] = &[
    ("a key is shared with nobody here: no HMAC", &[2, 13, 14, 15]),
    (
        "a key with the weakness of CVE-2017-15361 makes signatures that are right; a provider with such a key has lost it",
        &[7],
    ),
];

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

/// How many there are, and which of them come to something else than they should.
#[expect(clippy::print_stdout, reason = "counts belong to the outcome")]
fn run(file: &str, keys_of: fn(&Value) -> Value) -> (usize, Vec<u64>) {
    let file: Value = serde_json::from_str(file).unwrap();
    let (mut held, mut refused, mut different) = (0, 0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let keys = keys_of(group);
        for test in group["tests"].as_array().unwrap() {
            let holds = holds(&keys, test["jws"].as_str().unwrap());
            *if holds { &mut held } else { &mut refused } += 1;
            if holds != (test["result"] == "valid") {
                different.push(test["tcId"].as_u64().unwrap());
            }
        }
    }
    println!(
        "{} of Wycheproof: {held} held, {refused} refused, {} differ as listed",
        held + refused,
        different.len()
    );
    (held + refused, different)
}

fn listed(differences: &[(&str, &[u64])]) -> Vec<u64> {
    let mut ids: Vec<u64> = differences.iter().flat_map(|(_, ids)| *ids).copied().collect();
    ids.sort_unstable();
    ids
}

#[test]
fn signatures_are_taken_or_refused_as_wycheproof_says() {
    let found = run(
        SIGNATURES,
        |group| json!({"keys": [if group["public"].is_null() { &group["private"] } else { &group["public"] }]}),
    );
    assert_eq!(found, (401, listed(DIFFERENCES)));
}

#[test]
fn key_sets_are_read_as_wycheproof_says() {
    let found = run(KEY_SETS, |group| {
        if group["public"].is_null() { group["private"].clone() } else { group["public"].clone() }
    });
    assert_eq!(found, (26, listed(DIFFERENCES_OF_KEY_SETS)));
}
