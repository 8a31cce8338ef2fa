//! Fixed keys, a fixed time, one message of each kind, and a hand that makes envelopes which our own code would not.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;
use valetkey_handoff::message::{
    AccessSet, AccountDetails, AccountDisconnect, AccountRef, AccountState, AuthExpired, CacheUpdated,
    Enroll, Enrolled, Health, Hello, Outcome, Receipt, State,
};
use valetkey_handoff::{
    BrokerAccess, Code, Facts, Invite, InviteSecret, Keys, Label, Sensitive, Terms, ToAgent, ToDevice,
};

/// Stands wherever a secret may stand; must never be printed.
pub const CANARY: &str = "CANARY-4f1d";

const AGENT_SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const AGENT: &str = r#"{"sign":{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},"age":"AGE-SECRET-KEY-14GJFY7DFNT5453X7USJ9N3NYE9R5TLNMWG4LNXWAEZQ94SCGD52QT4Q2GP"}"#;
const DEVICE_AGE: &str = "AGE-SECRET-KEY-1QE9S0UZ6QRSF99M63KJM9HPL9SJAP9CSKM6TD7JXWPQS3ALEQFMQNKZWPX";

pub fn agent() -> Keys {
    Keys::from_secret_json(AGENT).unwrap()
}

/// The agent's signing key as another library holds it.
pub fn agent_signing() -> SigningKey {
    SigningKey::from_bytes(&BASE64_URL_SAFE_NO_PAD.decode(AGENT_SEED).unwrap().try_into().unwrap())
}

pub fn device() -> Keys {
    keys_of(&device_signing(), DEVICE_AGE)
}

pub fn device_signing() -> SigningKey {
    SigningKey::from_bytes(&[0x44; 32])
}

/// Keys around a signing key that the test holds too.
pub fn keys_of(signing: &SigningKey, age: &str) -> Keys {
    let sign = json!({
        "kty": "OKP", "crv": "Ed25519", "d": b64(signing.to_bytes()), "x": b64(signing.verifying_key()),
    });
    Keys::from_secret_json(&json!({"sign": sign, "age": age}).to_string()).unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_230_000).unwrap()
}

pub fn facts() -> Facts {
    Facts { jti: Uuid::from_u128(0x0f0e_0d0c_0b0a_4908_8706_0504_0302_0100), generation: 7, issued_at: now() }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unb64(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The three parts of a compact JWS, decoded.
pub fn parts(jws: &str) -> (Value, Vec<u8>, Vec<u8>) {
    let [header, payload, signature] = jws.split('.').collect::<Vec<_>>().try_into().unwrap();
    (serde_json::from_slice(&unb64(header)).unwrap(), unb64(payload), unb64(signature))
}

/// A compact JWS of any header text, correctly signed.
pub fn jws(header: &str, payload: &[u8], signing: &SigningKey) -> Vec<u8> {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = signing.sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", b64(signature)).into_bytes()
}

/// An age file of any text to a receiver, by the age crate itself.
pub fn age_file(text: &str, to: &Keys) -> Vec<u8> {
    let recipient: age::x25519::Recipient = to.public().recipient().parse().unwrap();
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
    let mut file = Vec::new();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
    file
}

/// The header of a message from the device to the agent with [`facts`].
pub fn header() -> Value {
    json!({
        "alg": "EdDSA", "typ": "valetkey+age",
        "kid": device().thumbprint(), "iss": device().thumbprint(), "aud": agent().thumbprint(),
        "jti": facts().jti, "gen": 7, "iat": now().as_second(),
    })
}

/// The sealed JSON of a hello from the device with [`facts`].
pub fn inner() -> Value {
    json!({"v": 1, "iss": device().thumbprint(), "jti": facts().jti, "kind": "hello", "body": {}})
}

pub fn account() -> AccountRef {
    AccountRef {
        tid: Uuid::from_u128(0xaaaa_aaaa_0000_4000_8000_0000_0000_c070),
        oid: Uuid::from_u128(0xbbbb_bbbb_0000_4000_8000_0000_0000_0001),
    }
}

pub fn terms() -> Terms {
    Terms {
        email: Some("ana@contoso.example".into()),
        authority: "https://login.microsoftonline.com".into(),
        graph: None,
        tenant: "aaaaaaaa-0000-4000-8000-00000000c070".into(),
        client_id: "11111111-1111-4111-8111-111111111111".into(),
        capabilities: vec!["mail".into(), "calendar".into()],
    }
}

pub fn invite() -> Invite {
    Invite {
        name: "Contoso assistant".parse().unwrap(),
        agent: agent().public(),
        broker: BrokerAccess {
            url: "mqtts://broker.contoso.example:8883".parse().unwrap(),
            username: Some("device-1".into()),
            password: Some(CANARY.into()),
        },
        secret: InviteSecret::from_bytes(*b"CANARY-4f1d-0123"),
        expires_at: Timestamp::from_second(now().as_second() + 600).unwrap(),
        terms: terms(),
    }
}

pub fn enroll() -> Enroll {
    Enroll { device_name: Label::tidy("Ana's laptop") }
}

pub fn cache_updated() -> CacheUpdated {
    CacheUpdated {
        account: AccountDetails {
            id: account(),
            username: "ana@contoso.example".into(),
            name: Some("Ana".into()),
        },
        authority: "https://login.microsoftonline.com".into(),
        tenant: terms().tenant,
        client_id: terms().client_id,
        scopes: vec!["User.Read".into(), "Mail.Read".into()],
        capabilities: vec!["mail".into()],
        expires_at: Timestamp::from_second(now().as_second() + 3600).unwrap(),
        // Spaces and order must survive: the agent stores what the device made.
        cache: Sensitive::new(format!(r#"{{"RefreshToken": {{"k" : {{"secret":"{CANARY}"}}}},"A":1.0}}"#)),
    }
}

pub fn to_agent() -> Vec<ToAgent> {
    vec![
        Hello {}.into(),
        cache_updated().into(),
        AccessSet {
            account: account(),
            client: Some(Label::tidy("calendar-bot")),
            capabilities: vec!["calendar".into()],
        }
        .into(),
        AccountDisconnect { account: account() }.into(),
    ]
}

pub fn to_device() -> Vec<ToDevice> {
    let code = |text: &str| -> Code { text.parse().unwrap() };
    let receipt = |account, outcome| Receipt { of: facts().jti, generation: 7, account, outcome };
    let account_state = |health, reason, checked_at| AccountState {
        account: account(),
        username: "ana@contoso.example".into(),
        health,
        reason,
        claims: None,
        generation: 7,
        checked_at,
        capabilities: vec!["mail".into()],
    };
    vec![
        Enrolled { agent_name: invite().name, terms: terms() }.into(),
        receipt(Some(account()), Outcome::Stored { refreshed_at: now() }).into(),
        receipt(Some(account()), Outcome::Done).into(),
        receipt(None, Outcome::Refused { reason: code("older") }).into(),
        State {
            accounts: vec![
                account_state(Health::Connected, None, Some(now())),
                account_state(Health::ReconnectNeeded, Some(code("revoked")), None),
            ],
            at: now(),
            answers: None,
        }
        .into(),
        AuthExpired {
            account: account(),
            reason: code("conditional-access"),
            claims: Some(r#"{"access_token":{"nbf":{"essential":true}}}"#.into()),
        }
        .into(),
    ]
}
