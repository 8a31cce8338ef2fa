//! The provider's signing keys (RFC 7517): fetched once, fetched again when a token names one that is not among them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use crate::http::{self, HttpError};

/// Between two refetches. Anybody can make up tokens with unknown key ids; that must not become a flood at the provider.
pub const REFETCH_COOLDOWN: SignedDuration = SignedDuration::from_secs(60);
/// A key withdrawn by the provider is forgotten after this long. Entra's own advice is to look once a day.
pub const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Entra publishes about ten keys; a token without a key id is tried with each.
const MAX_KEYS: usize = 32;
/// NIST SP 800-131A; shorter ones can be broken.
const MIN_RSA_BITS: usize = 2048;
/// What the cryptographic library takes; checking longer ones costs more than it brings.
const MAX_RSA_BITS: usize = 4096;

/// The usable keys of one key set.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

/// One RSA key that is for signatures, and for one algorithm only.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    /// Entra's `common` keys say for which issuer they sign; `{tenantid}` stands for the token's tenant.
    pub(crate) issuer: Option<String>,
    pub(crate) public: DecodingKey,
}

impl KeySet {
    /// Reads a key set. Keys that are not for us (other types, for encryption, too weak) are left out, as RFC 7517 §5
    /// asks; `None` if it is no key set at all.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(|wire: Wire| wire.usable())
    }

    /// The keys that `kid` names, or all when the token names none. Several may share an id: each is tried.
    pub(crate) fn named<'k, 'id>(
        &'k self,
        kid: Option<&'id str>,
    ) -> impl Iterator<Item = &'k Key> + use<'k, 'id> {
        self.0.iter().filter(move |key| kid.is_none() || key.kid.as_deref() == kid)
    }
}

/// A key set that looks after itself. Share one for each `jwks_uri`.
#[derive(Debug)]
pub struct Keys {
    http: Client,
    url: Url,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<(Arc<KeySet>, Timestamp)>,
    refetched_at: Option<Timestamp>,
}

impl Keys {
    pub fn new(http: Client, jwks_uri: Url) -> Self {
        Self { http, url: jwks_uri, state: Mutex::default() }
    }

    /// The keys, fetched if there are none yet or they have become old.
    pub async fn current(&self, now: Timestamp) -> Result<Arc<KeySet>, HttpError> {
        let mut state = self.state.lock().await;
        match &state.current {
            Some((keys, fetched_at)) if within(MAX_AGE, *fetched_at, now) => Ok(keys.clone()),
            _ => self.fetch(&mut state, now).await,
        }
    }

    /// Fetches the keys once more, because a token names one that is unknown; `None` while the last such fetch is too
    /// recent. The first fetch does not count, since the provider may have changed keys right after it.
    pub async fn newer(&self, now: Timestamp) -> Result<Option<Arc<KeySet>>, HttpError> {
        let mut state = self.state.lock().await;
        if state.refetched_at.is_some_and(|at| within(REFETCH_COOLDOWN, at, now)) {
            return Ok(None);
        }
        state.refetched_at = Some(now);
        self.fetch(&mut state, now).await.map(Some)
    }

    async fn fetch(&self, state: &mut State, now: Timestamp) -> Result<Arc<KeySet>, HttpError> {
        let wire: Wire = http::get_json(&self.http, &self.url).await?;
        let keys = Arc::new(wire.usable());
        state.current = Some((keys.clone(), now));
        Ok(keys)
    }
}

/// Also false when the clock has been set back by more than that: then nothing is known about the age.
fn within(limit: SignedDuration, earlier: Timestamp, now: Timestamp) -> bool {
    now.duration_since(earlier).abs() < limit
}

#[derive(Deserialize)]
struct Wire {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    issuer: Option<String>,
    n: String,
    e: String,
    /// The private exponent. A provider that publishes it has no secret left to sign with.
    d: Option<Value>,
}

impl Wire {
    fn usable(self) -> KeySet {
        let keys = self.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.usable());
        KeySet(keys.take(MAX_KEYS).collect())
    }
}

impl Jwk {
    fn usable(self) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if self.kty != "RSA" || !for_signatures || self.d.is_some() {
            return None;
        }
        let algorithm = match self.alg.as_deref() {
            None | Some("RS256") => Algorithm::RS256,
            Some("PS256") => Algorithm::PS256,
            Some(_) => return None,
        };
        let n = URL_SAFE_NO_PAD.decode(&self.n).ok()?;
        let e = URL_SAFE_NO_PAD.decode(&self.e).ok()?;
        let strong = (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits(&n)) && bits(&e) > 1 && e.last()? & 1 == 1;
        strong.then(|| Key {
            kid: self.kid,
            algorithm,
            issuer: self.issuer,
            public: DecodingKey::from_rsa_raw_components(&n, &e),
        })
    }
}

/// The length of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usable(changes: &Value) -> bool {
        let mut key = json!({"kty": "RSA", "use": "sig", "kid": "k",
            "n": URL_SAFE_NO_PAD.encode([0xc1; 256]), "e": "AQAB"});
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(key.as_object_mut().unwrap().remove(name)),
                value => key[name] = value.clone(),
            }
        }
        !KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap().0.is_empty()
    }

    #[test]
    fn only_strong_rsa_keys_for_signatures_are_used() {
        for fine in [
            json!({}),
            json!({"use": null}),
            json!({"kid": null}),
            json!({"alg": "RS256"}),
            json!({"alg": "PS256"}),
            json!({"use": null, "key_ops": ["verify"]}),
            json!({"x5c": ["MII"], "x5t": "x", "unknown": {}}),
        ] {
            assert!(usable(&fine), "{fine}");
        }
        for (why, unfit) in [
            ("for encryption", json!({"use": "enc"})),
            ("for encryption", json!({"key_ops": ["encrypt"]})),
            ("an exponent of one", json!({"e": "AQ"})),
            ("an exponent of zero", json!({"e": "AA"})),
            ("an even exponent", json!({"e": "AQAA"})),
            ("no exponent", json!({"e": ""})),
            ("1024 bits", json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 128])})),
            (
                "1024 bits, padded with zeros",
                json!({"n": URL_SAFE_NO_PAD.encode([&[0; 128][..], &[0xc1; 128]].concat())}),
            ),
            ("8192 bits", json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 1024])})),
            ("another algorithm", json!({"alg": "RS512"})),
            ("a symmetric algorithm", json!({"alg": "HS256"})),
            ("another type", json!({"kty": "EC"})),
            ("a shared secret", json!({"kty": "oct", "k": "AAAA"})),
            ("the private key is published", json!({"d": "AQAB"})),
            ("no modulus", json!({"n": null})),
            ("padded base64", json!({"e": "AQABAA=="})),
        ] {
            assert!(!usable(&unfit), "{why}: {unfit}");
        }
    }

    #[test]
    fn of_a_key_set_without_end_only_so_many_are_tried() {
        let key = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc1; 256]), "e": "AQAB" });
        let set = KeySet::parse(json!({ "keys": vec![key; 2 * MAX_KEYS] }).to_string().as_bytes()).unwrap();
        assert_eq!(set.named(None).count(), MAX_KEYS);
    }

    #[test]
    fn what_is_no_key_set_is_not_taken_for_an_empty_one() {
        assert!(KeySet::parse(b"{\"keys\":[]}").is_some_and(|set| set.0.is_empty()));
        for other in [&b""[..], b"[]", b"{}", b"{\"keys\":{}}", b"<html>"] {
            assert!(KeySet::parse(other).is_none());
        }
    }
}
