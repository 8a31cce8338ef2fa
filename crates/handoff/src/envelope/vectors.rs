//! Ed25519 signatures that others made, checked as a message's signature is checked: under a key that could be pinned, by
//! [`Unverified::is_signed_by`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

const EDGE_CASES: &str = include_str!("../../../../tests/vectors/cctv-ed25519/ed25519vectors.json");
const WYCHEPROOF: &str = include_str!("../../../../tests/vectors/wycheproof/ed25519_test.json");

/// RFC 8032 leaves room: implementations differ on these edges, and C2SP's file says no right or wrong. Here each of them
/// refuses a signature, so that one message has one signature and nobody but the key's owner made it.
const REFUSED: &[(&str, &str)] = &[
    ("low_order_A", "such a key verifies what nobody signed"),
    ("low_order_R", "a signature of an honest signer never has it"),
    ("low_order_residue", "the equation holds only when multiplied by eight"),
    ("non_canonical_A", "a key has one form (and those here are of low order, too)"),
    ("non_canonical_R", "a signature has one form"),
    ("reencoded_k", "the hash is over another form than the one that came"),
];

/// A part of low order beside one of full order is as good as any other: only the key's owner can have put it there, and
/// the equation holds without tricks.
const TAKEN: &[&str] = &["low_order_component_A", "low_order_component_R"];

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// `None`: the key is none that can be pinned.
fn pinned(key: &[u8]) -> Option<PublicKeys> {
    let other = Keys::generate().public();
    let mut json = serde_json::to_value(&other).unwrap();
    json["sign"]["x"] = encoding::encode(key).into();
    serde_json::from_value(json).ok()
}

fn holds(key: &PublicKeys, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = signature.try_into() else { return false };
    let me = key.thumbprint();
    let header = Header::new(&me, me.clone(), Uuid::nil(), 0, Timestamp::UNIX_EPOCH);
    let signature = Signature::from_bytes(signature);
    Unverified { header, payload: Vec::new(), signed: message, signature }.is_signed_by(&key.signing)
}

#[test]
fn signatures_on_the_edges_of_ed25519_are_taken_only_where_no_reader_could_disagree() {
    let vectors: Vec<Value> = serde_json::from_str(EDGE_CASES).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for vector in &vectors {
        let flags: Vec<&str> =
            vector["flags"].as_array().into_iter().flatten().map(|flag| flag.as_str().unwrap()).collect();
        let refused: Vec<&str> = flags.iter().copied().filter(|flag| !TAKEN.contains(flag)).collect();
        for flag in &refused {
            assert!(REFUSED.iter().any(|(known, _)| known == flag), "{flag} is in no list");
        }
        let key = pinned(&bytes(&vector["key"]));
        let taken = key.as_ref().is_some_and(|key| {
            holds(key, vector["msg"].as_str().unwrap().as_bytes(), &bytes(&vector["sig"]))
        });
        assert_eq!(taken, refused.is_empty(), "{} {flags:?}", vector["number"]);
        let outcome = if taken {
            "taken"
        } else if key.is_none() {
            "the key refused"
        } else {
            "the signature refused"
        };
        *counts.entry(outcome).or_default() += 1;
    }
    println!("{} edge cases of C2SP: {counts:?}", vectors.len());
    assert_eq!(vectors.len(), 914);
}

#[test]
fn wycheproofs_signatures_are_taken_or_refused_as_it_says() {
    let file: Value = serde_json::from_str(WYCHEPROOF).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let key = pinned(&bytes(&group["publicKey"]["pk"])).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let holds = holds(&key, &bytes(&test["msg"]), &bytes(&test["sig"]));
            assert_eq!(holds, test["result"] == "valid", "#{} {}", test["tcId"], test["comment"]);
            *if holds { &mut taken } else { &mut refused } += 1;
        }
    }
    println!("{} signatures of Wycheproof: {taken} taken, {refused} refused", taken + refused);
    assert_eq!(taken + refused, 151);
}
