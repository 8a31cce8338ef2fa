//! A provider on loopback that answers exactly what a test tells it to, however wrong, and remembers what it was asked.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, pkcs1v15, pss};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use valetkey_entra::cloud::{Authority, Cloud, Tenant};

pub const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000c070";
pub const OTHER_TENANT: &str = "bbbbbbbb-0000-4000-8000-00000000fab0";
pub const OID: &str = "0a11ce00-0000-4000-8000-000000000001";
pub const NONCE: &str = "the-nonce-of-this-sign-in";
pub const ACCESS_TOKEN: &str = "the access token that came along";

/// Making RSA keys is slow, so the whole test program shares these.
pub static KEYS: LazyLock<[RsaPrivateKey; 2]> =
    LazyLock::new(|| [(); 2].map(|()| RsaPrivateKey::new(&mut OsRng, 2048).unwrap()));

/// Reading the system's certificates takes a while, too. Connections are not kept, so that each test's runtime may go.
pub static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| valetkey_entra::http::client().unwrap());

pub fn now() -> Timestamp {
    "2026-11-21T04:00:00Z".parse().unwrap()
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub form: HashMap<String, String>,
}

#[derive(Clone)]
pub struct Provider {
    pub origin: Url,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, VecDeque<Answer>>,
    received: Vec<Received>,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let provider = Self { origin, state: Arc::default() };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        provider
    }

    /// Answers requests for `path` with `answers` in turn; the last one serves for all that follow.
    pub fn answer(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), answers.into_iter().collect());
    }

    pub fn received(&self, path: &str) -> Vec<Received> {
        self.state.lock().unwrap().received.iter().filter(|request| request.path == path).cloned().collect()
    }

    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().received.len()
    }

    pub fn url(&self, path: &str) -> Url {
        self.origin.join(path).unwrap()
    }

    pub fn authority(&self, tenant: &str) -> Authority {
        let origin = self.origin.as_str();
        let tenant: Tenant = tenant.parse().unwrap();
        Authority { cloud: Cloud::from_addresses(origin, Some(origin)).unwrap(), tenant }
    }

    pub fn publish(&self, keys: &Value) {
        self.answer("/keys", [Answer::json(200, &json!({ "keys": keys }))]);
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let mut lines = head.lines();
        let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = target.split('?').next().unwrap().to_owned();
        let form = url::form_urlencoded::parse(&bytes).into_owned().collect();
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.received.push(Received { path: path.clone(), headers, form });
            match state.answers.get_mut(&path) {
                Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
                Some(queue) => queue[0].clone(),
                None => Answer { status: 404, headers: vec![], body: String::new() },
            }
        };
        let headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let headers = headers.concat();
        let Answer { status, body, .. } = answer;
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        // A client that has read enough hangs up; that is its right.
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }
}

/// A public key as the provider publishes it.
pub fn jwk(key: &RsaPrivateKey, kid: Option<&str>) -> Value {
    let number = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    let mut jwk = json!({"kty": "RSA", "use": "sig", "n": number(key.n()), "e": number(key.e())});
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}

/// The claims of a right token.
pub fn claims(authority: &Authority) -> Value {
    let at_hash = URL_SAFE_NO_PAD.encode(&<Sha256 as sha2::Digest>::digest(ACCESS_TOKEN)[..16]);
    json!({
        "iss": authority.issuer(TENANT.parse().unwrap()),
        "aud": CLIENT,
        "exp": now().as_second() + 3600,
        "iat": now().as_second(),
        "nbf": now().as_second(),
        "nonce": NONCE,
        "sub": "pairwise-subject",
        "tid": TENANT,
        "oid": OID,
        "name": "Alice Adams",
        "preferred_username": "alice@contoso.example",
        "at_hash": at_hash,
        "ver": "2.0",
    })
}

pub fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "k0"})
}

/// Signs with RS256, or with PS256 where the header says so.
pub fn sign(key: &RsaPrivateKey, header: &Value, payload: &str) -> String {
    let signed = unsigned(header, payload);
    let signature = if header["alg"] == "PS256" {
        let key = pss::SigningKey::<Sha256>::new(key.clone());
        key.sign_with_rng(&mut OsRng, signed.as_bytes()).to_vec()
    } else {
        let key = pkcs1v15::SigningKey::<Sha256>::new(key.clone());
        key.sign_with_rng(&mut OsRng, signed.as_bytes()).to_vec()
    };
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub fn unsigned(header: &Value, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload))
}
