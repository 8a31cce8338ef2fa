//! The table: what a provider may send, and what is to come of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use valetkey_entra::cloud::Authority;

use crate::support::{
    CLIENT, KEYS, NONCE, OTHER_TENANT, Provider, TENANT, claims, header, jwk, now, sign, unsigned,
};

/// One thing a provider may send: the published keys, the token, and the answer expected.
pub struct Case {
    pub keys: Vec<Value>,
    pub token: String,
    pub expect: &'static str,
}

struct Sign<'a> {
    authority: &'a Authority,
}

impl Sign<'_> {
    fn case(header: &Value, payload: &str, expect: &'static str) -> Case {
        Case { keys: vec![jwk(&KEYS[0], Some("k0"))], token: sign(&KEYS[0], header, payload), expect }
    }

    /// A token with these claims changed; `null` takes one away.
    fn claims(&self, changes: &Value, expect: &'static str) -> Case {
        Self::case(&header(), &changed(claims(self.authority), changes), expect)
    }

    fn header(&self, changes: &Value, expect: &'static str) -> Case {
        let header = serde_json::from_str(&changed(header(), changes)).unwrap();
        Self::case(&header, &claims(self.authority).to_string(), expect)
    }

    fn right(&self) -> Case {
        self.claims(&json!({}), "Right")
    }

    fn keys(&self, keys: Vec<Value>, expect: &'static str) -> Case {
        Case { keys, expect, ..self.right() }
    }

    fn token(&self, token: String, expect: &'static str) -> Case {
        Case { token, expect, ..self.right() }
    }
}

pub fn changed(mut object: Value, changes: &Value) -> String {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value.clone(),
        }
    }
    object.to_string()
}

fn hs256(key: &[u8], payload: &str) -> String {
    let signed = unsigned(&json!({"alg": "HS256", "kid": "k0"}), payload);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn altered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[17] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub fn jwk_with(name: &str, value: Value) -> Value {
    let mut key = jwk(&KEYS[0], Some("k0"));
    key[name] = value;
    key
}

#[allow(clippy::too_many_lines, reason = "it is a table")]
pub fn cases(authority: &Authority, attacker: &Provider) -> BTreeMap<&'static str, Vec<Case>> {
    let sign_with = Sign { authority };
    let s = &sign_with;
    let good = s.right().token;
    let payload = claims(authority).to_string();
    let issuer = authority.issuer(TENANT.parse().unwrap());
    let seconds = now().as_second();
    let parts: Vec<&str> = good.split('.').collect();
    let [h, p, g] = parts[..] else { unreachable!() };

    [
        ("rp-id_token-sig-rs256", vec![s.right()]),
        (
            "rp-id_token-issuer-mismatch",
            vec![
                s.claims(&json!({"iss": format!("{issuer}1")}), "Issuer"),
                s.claims(&json!({"iss": authority.issuer(OTHER_TENANT.parse().unwrap())}), "Issuer"),
                s.claims(&json!({"iss": issuer.replace(TENANT, "{tenantid}")}), "Issuer"),
                s.claims(&json!({"iss": null}), "Claims"),
            ],
        ),
        ("rp-id_token-aud", vec![s.claims(&json!({"aud": format!("{CLIENT}1")}), "Audience")]),
        (
            "rp-id_token-aud-missing",
            vec![s.claims(&json!({"aud": null}), "Claims"), s.claims(&json!({"aud": []}), "Audience")],
        ),
        ("rp-id_token-iat", vec![s.claims(&json!({"iat": null}), "Claims")]),
        ("rp-nonce-invalid", vec![s.claims(&json!({"nonce": format!("{NONCE}1")}), "Nonce")]),
        ("nonce-missing", vec![s.claims(&json!({"nonce": null}), "Nonce")]),
        (
            "rp-id_token-bad-sig-rs256",
            vec![
                s.token(altered(&good), "Signature"),
                s.token(sign(&KEYS[1], &header(), &payload), "Signature"),
            ],
        ),
        (
            "rp-id_token-bad-sig-hs256",
            vec![s.token(altered(&hs256(b"client secret", &payload)), "Algorithm")],
        ),
        (
            "rp-id_token-sig-none",
            vec![
                s.header(&json!({"alg": "none"}), "Algorithm"),
                s.token(format!("{}.", unsigned(&json!({"alg": "none"}), &payload)), "Malformed"),
            ],
        ),
        (
            "alg-null",
            vec![
                s.header(&json!({"alg": "NONE"}), "Algorithm"),
                s.header(&json!({"alg": null}), "Malformed"),
                s.header(&json!({"alg": "rs256"}), "Algorithm"),
                s.header(&json!({"alg": "RS512"}), "Algorithm"),
                s.token(sign(&KEYS[0], &json!({"alg": "PS256", "kid": "k0"}), &payload), "Algorithm"),
            ],
        ),
        (
            "rp-id_token-kid-absent-multiple-jwks",
            vec![
                Case {
                    keys: vec![jwk(&KEYS[1], Some("k1")), jwk(&KEYS[0], Some("k0"))],
                    ..s.header(&json!({"kid": null}), "Right")
                },
                Case {
                    keys: vec![jwk(&KEYS[1], Some("k1")), jwk(&KEYS[1], None)],
                    ..s.header(&json!({"kid": null}), "Signature")
                },
            ],
        ),
        (
            "rp-id_token-bad-at_hash",
            vec![s.claims(&json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}), "AccessTokenHash")],
        ),
        ("rp-id_token-bad-c_hash", vec![s.claims(&json!({"c_hash": "AAAAAAAAAAAAAAAAAAAAAA"}), "CodeHash")]),
        ("rp-discovery-jwks_uri-keys", vec![s.right()]),
        (
            "exp-past",
            vec![
                s.claims(&json!({"exp": seconds - 360}), "Expired"),
                s.claims(&json!({"exp": seconds - 300}), "Expired"),
                s.claims(&json!({"exp": seconds - 299}), "Right"),
                s.claims(&json!({"exp": i64::MAX}), "Claims"),
            ],
        ),
        (
            "exp-missing",
            vec![s.claims(&json!({"exp": null}), "Claims"), s.claims(&json!({"exp": "never"}), "Claims")],
        ),
        (
            "nbf-future",
            vec![
                s.claims(&json!({"nbf": seconds + 3600}), "NotYetValid"),
                s.claims(&json!({"nbf": null, "iat": seconds + 3600}), "NotYetValid"),
                s.claims(&json!({"nbf": seconds + 300}), "Right"),
            ],
        ),
        (
            "aud-secondary",
            vec![
                s.claims(&json!({"aud": [CLIENT, "unknown"]}), "Audience"),
                s.claims(&json!({"aud": [CLIENT, "unknown"], "azp": CLIENT}), "Audience"),
                s.claims(&json!({"azp": "unknown"}), "Audience"),
            ],
        ),
        ("aud-array", vec![s.claims(&json!({"aud": [CLIENT]}), "Right")]),
        ("jose-hs-rs-confusion", {
            let key = jwk(&KEYS[0], Some("k0"));
            let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
            vec![
                s.token(hs256(&modulus, &payload), "Algorithm"),
                s.token(hs256(key.to_string().as_bytes(), &payload), "Algorithm"),
                Case {
                    keys: vec![json!({"kty": "oct", "kid": "k0", "alg": "HS256", "k": "c2VjcmV0"})],
                    ..s.token(hs256(b"secret", &payload), "Algorithm")
                },
            ]
        }),
        (
            "jose-embedded-jwk",
            vec![{
                let header = json!({"alg": "RS256", "kid": "k9", "jwk": jwk(&KEYS[1], Some("k9"))});
                s.token(sign(&KEYS[1], &header, &payload), "UnknownKey")
            }],
        ),
        (
            "jose-jku-x5u",
            vec![{
                let there = attacker.url("/keys");
                let header = json!({"alg": "RS256", "kid": "k9", "jku": there, "x5u": there});
                s.token(sign(&KEYS[1], &header, &payload), "UnknownKey")
            }],
        ),
        (
            "jose-crit-unknown",
            vec![
                s.header(&json!({"crit": ["x"], "x": 1}), "Critical"),
                s.header(&json!({"crit": ["b64"], "b64": false}), "Critical"),
                s.header(&json!({"crit": []}), "Critical"),
            ],
        ),
        (
            "jose-dup-kid",
            vec![
                s.keys(vec![jwk(&KEYS[1], Some("k0")), jwk(&KEYS[0], Some("k0"))], "Right"),
                s.keys(vec![jwk(&KEYS[1], Some("k0")), jwk(&KEYS[1], Some("k0"))], "Signature"),
            ],
        ),
        (
            "jose-wrong-use",
            vec![
                s.keys(vec![jwk_with("use", json!("enc"))], "UnknownKey"),
                s.keys(vec![jwk_with("alg", json!("PS256"))], "Algorithm"),
                s.keys(
                    vec![jwk_with("issuer", json!(authority.issuer(OTHER_TENANT.parse().unwrap())))],
                    "Issuer",
                ),
                s.keys(
                    vec![jwk_with(
                        "issuer",
                        json!(authority.issuer(TENANT.parse().unwrap()).replace(TENANT, "{tenantid}")),
                    )],
                    "Right",
                ),
            ],
        ),
        (
            "jose-e1",
            vec![{
                // With an exponent of one the padded hash is its own signature.
                let signed = unsigned(&header(), &payload);
                let digest = <Sha256 as sha2::Digest>::digest(&signed);
                let prefix =
                    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
                let mut forged = vec![0xff; 256];
                forged[..2].copy_from_slice(&[0, 1]);
                forged[204] = 0;
                forged[205..224].copy_from_slice(&prefix);
                forged[224..].copy_from_slice(&digest);
                Case {
                    keys: vec![jwk_with("e", json!("AQ"))],
                    ..s.token(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(forged)), "UnknownKey")
                }
            }],
        ),
        (
            "jose-parts",
            [
                String::new(),
                h.to_owned(),
                format!("{h}.{p}"),
                format!("{h}.{p}."),
                format!("{h}.{p}.{g}.{g}"),
                format!("{h}.{p}.{g}."),
                format!(".{h}.{p}.{g}"),
                format!(".{p}.{g}"),
                "..".to_owned(),
                format!("{h}..{g}.{g}"),
                format!("{h}.{p}.{g}="),
                format!(" {h}.{p}.{g}"),
                format!("{h}.{p}.{g}\n"),
                format!("!{h}.{p}.{g}"),
                json!({"payload": p, "protected": h, "signature": g}).to_string(),
                json!({"payload": p, "signatures": [{"protected": h, "signature": g}]}).to_string(),
            ]
            .into_iter()
            .map(|token| s.token(token, "Malformed"))
            .chain([
                s.token(format!("{h}..{g}"), "Signature"),
                s.token(format!("{h}.{p}.{}", "A".repeat(70_000)), "TooLong"),
                s.header(&json!({"typ": "at+jwt"}), "Type"),
            ])
            .collect(),
        ),
        (
            "jose-dup-claims",
            vec![
                Sign::case(
                    &header(),
                    &format!("{{\"iss\":\"https://evil.example\",{}", &payload[1..]),
                    "Claims",
                ),
                Sign::case(&header(), &format!("{{\"roles\":1,\"roles\":2,{}", &payload[1..]), "Claims"),
            ],
        ),
        // Ours, beyond the list: a right token of somebody who may not sign in here, or whose ids are missing.
        (
            "tenant",
            vec![
                s.claims(
                    &json!({"tid": OTHER_TENANT, "iss": authority.issuer(OTHER_TENANT.parse().unwrap())}),
                    "TenantNotPermitted",
                ),
                s.claims(&json!({"tid": null}), "Claims"),
                s.claims(&json!({"oid": null}), "Claims"),
                s.claims(&json!({"oid": "not-a-guid"}), "Claims"),
            ],
        ),
    ]
    .into()
}
