//! What comes from the login service, or from whoever claims to be it: ID tokens, key sets, the callback, token caches.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::Resource;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::id_token::{Expect, LEEWAY, check, check_behind_signature, from_token_endpoint};
use valetkey_entra::jwks::KeySet;
use valetkey_entra::loopback::{self, Outcome};
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenResponse;

use crate::people::{ACCOUNT, CLIENT, HONEST_TOKENS, KEY_SET, NONCE, PORT, STATE, agents_authority, now};

struct SignIn {
    authority: Authority,
    nonce: Secret,
    keys: KeySet,
}

static SIGN_IN: LazyLock<SignIn> = LazyLock::new(|| SignIn {
    authority: agents_authority(),
    nonce: Secret::new(NONCE),
    keys: KeySet::parse(KEY_SET).unwrap(),
});

impl SignIn {
    fn expect(&self) -> Expect<'_> {
        Expect {
            authority: &self.authority,
            client_id: CLIENT,
            nonce: Some(&self.nonce),
            access_token: None,
            code: None,
            account: None,
        }
    }
}

/// A token; or, beginning with `{`, a payload that the provider has signed, so that what is behind the signature is reached
/// and no time goes into arithmetic.
pub fn id_token(bytes: &[u8]) -> bool {
    let sign_in = &*SIGN_IN;
    if bytes.starts_with(b"{") {
        return payload(bytes, sign_in);
    }
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let token = Secret::new(text);
    // Unsigned, it may be read, and never panics either.
    let _ = from_token_endpoint(&token, &sign_in.expect());
    let believed = check(&token, &sign_in.keys, &sign_in.expect(), now()).is_ok();
    assert!(!believed || HONEST_TOKENS.contains(&text), "a token was believed that nobody signed");
    believed
}

fn payload(bytes: &[u8], sign_in: &SignIn) -> bool {
    let Ok(claims) = check_behind_signature(bytes, &sign_in.keys, &sign_in.expect(), now()) else {
        return false;
    };
    let said: Value = serde_json::from_slice(bytes).expect("what was believed is JSON");
    assert_eq!(said["iss"], sign_in.authority.issuer(claims.account.tid).as_str(), "another issuer");
    assert!(sign_in.authority.permits(claims.account.tid), "another tenant");
    let audience = said["aud"].as_array().map_or_else(|| vec![said["aud"].clone()], Clone::clone);
    assert_eq!(audience, [Value::from(CLIENT)], "another audience");
    assert_eq!(said["nonce"], NONCE, "another sign-in");
    assert!(claims.expires_at > now() - LEEWAY && claims.issued_at <= now() + LEEWAY, "out of time");
    assert!(said.get("at_hash").is_none_or(Value::is_null), "for an access token that did not come");
    assert!(!claims.display_name().is_empty());
    true
}

/// A key set: whatever is in it, an honest token is believed only if it holds the provider's key.
pub fn jwks(bytes: &[u8]) -> bool {
    let Some(keys) = KeySet::parse(bytes) else { return false };
    // Names its key, so that only a key of that name costs a check.
    let believed = check(&Secret::new(HONEST_TOKENS[0]), &keys, &SIGN_IN.expect(), now()).is_ok();
    // A member that nobody reads may have escapes that are no characters, and then this reader is stricter.
    if believed && let Ok(set) = serde_json::from_slice::<Value>(bytes) {
        let honest: Value = serde_json::from_slice(KEY_SET).unwrap();
        let ours = (number(&honest["keys"][0], "n"), number(&honest["keys"][0], "e"));
        let among = |key: &Value| (number(key, "n"), number(key, "e")) == ours;
        assert!(set["keys"].as_array().unwrap().iter().any(among), "believed by another key");
    }
    true
}

/// Without leading zeros: the same number.
fn number(key: &Value, member: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(key[member].as_str()?).ok()?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// All that a connection to the sign-in's listener says.
pub fn callback(bytes: &[u8]) -> bool {
    /// More than the longest request and any answer.
    const BUFFER: usize = 64 * 1024;
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    }
    let (brought, answer) = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut browser, stream) = tokio::io::duplex(BUFFER);
            browser.write_all(&bytes[..bytes.len().min(BUFFER)]).await.unwrap();
            let expected = Secret::new(STATE);
            // The end comes when the listener has done all that it can without it: an early one cancels the answer.
            let listen = loopback::converse(stream, PORT, &expected);
            let browse = async {
                tokio::task::yield_now().await;
                browser.shutdown().await.unwrap();
                let mut answer = Vec::new();
                browser.read_to_end(&mut answer).await.unwrap();
                answer
            };
            tokio::join!(listen, browse)
        })
    });
    // Says so to who asks before he sends his form; the answer still comes.
    let answer = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    assert_eq!(status.is_none(), answer.is_empty(), "{answer:?}");
    assert_eq!(brought.is_some(), status == Some(b"303"), "sent on without a callback");
    assert_eq!(count(answer, b"HTTP/1."), usize::from(status.is_some()), "two answers");
    let Some(callback) = brought else { return false };
    match &callback.outcome {
        Outcome::Code(code) => assert!(!code.is_empty()),
        Outcome::Refused { error, .. } => assert!(!error.is_empty()),
    }
    let lower = bytes.to_ascii_lowercase();
    // A state can come in several chunks, and then stands nowhere whole.
    if count(&lower, b"chunked") == 0 {
        let decoded: Vec<u8> = percent_encoding::percent_decode(bytes).collect();
        assert!(count(&decoded, STATE.as_bytes()) > 0, "taken without its state");
    }
    let name = |host: &str| count(&lower, format!("{host}:{PORT}").as_bytes()) > 0;
    assert!(name("localhost") || name("127.0.0.1"), "asked for by another name");
    true
}

fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).filter(|window| *window == part).count()
}

/// A cache that is read can be asked everything, refreshed, and written, and is then the same.
pub fn msal_cache(bytes: &[u8]) -> bool {
    let Ok(mut cache) = MsalCache::parse(bytes) else { return false };
    same_again(&cache);
    if let Some(token) = cache.access_token(Resource::Graph, &Cloud::Global) {
        assert!(cache.access_tokens.values().any(|entry| entry.secret == *token.secret));
    }
    let known = cache.account_info();
    let applied = cache.apply(&REFRESHED, now()).is_ok();
    if let (Ok(before), true) = (&known, applied) {
        assert_eq!(cache.refresh_token(), REFRESHED.refresh_token.as_ref());
        let after = cache.account_info().expect("a refresh loses no account");
        assert_eq!(after.account, before.account, "another account after a refresh");
        same_again(&cache);
    }
    assert!(!format!("{cache:?}").contains(ACCOUNT));
    true
}

fn same_again(cache: &MsalCache) {
    let written = cache.to_json().unwrap();
    let again = MsalCache::parse(&written).expect("what was written can be read");
    assert!(again.to_json().unwrap() == written, "another cache after writing");
}

static REFRESHED: LazyLock<TokenResponse> = LazyLock::new(|| TokenResponse {
    access_token: Secret::new("new"),
    refresh_token: Some(Secret::new("newer")),
    id_token: None,
    scope: "https://graph.microsoft.com/Mail.Read".into(),
    expires_in: SignedDuration::from_hours(1),
    ext_expires_in: None,
    refresh_in: None,
    client_info: None,
});
