//! Fixed people, keys and times, and the honest messages and tokens made with them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_handoff::{BrokerAccess, Facts, Invite, InviteSecret, Keys, Terms};

pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000c070";
pub const ACCOUNT: &str = "0a11ce00-0000-4000-8000-000000000001.aaaaaaaa-0000-4000-8000-00000000c070";
pub const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
pub const NONCE: &str = "the-nonce-of-this-sign-in";
/// What the listener for the callback waits for, and where.
pub const STATE: &str = "the-state-of-this-sign-in";
pub const PORT: u16 = 4000;

/// The provider's keys. Its private half was thrown away, so nobody can make a third token.
pub const KEY_SET: &[u8] = include_bytes!("../honest/key-set.json");

/// What that provider has signed: nothing else may ever be believed.
pub const HONEST_TOKENS: [&str; 2] =
    [include_str!("../honest/token.jwt"), include_str!("../honest/token-of-an-unnamed-key.jwt")];

/// What device and agent have sealed: nothing else may ever be opened by who does not hold their keys.
pub const HONEST_MESSAGES: [(&str, &[u8]); 9] = [
    ("hello", include_bytes!("../honest/hello.jws")),
    ("cache-updated", include_bytes!("../honest/cache-updated.jws")),
    ("access-set", include_bytes!("../honest/access-set.jws")),
    ("account-disconnect", include_bytes!("../honest/account-disconnect.jws")),
    ("enrolled", include_bytes!("../honest/enrolled.jws")),
    ("receipt", include_bytes!("../honest/receipt.jws")),
    ("state", include_bytes!("../honest/state.jws")),
    ("auth-expired", include_bytes!("../honest/auth-expired.jws")),
    ("enrolment", include_bytes!("../honest/enrolment.jws")),
];

/// An account's file, sealed at rest with [`VAULT_KEY`].
pub const HONEST_VAULT_FILE: &[u8] = include_bytes!("../honest/vault-file.age");
pub const VAULT_KEY: &str = DEVICE_AGE;

/// RFC 8037 A.1, with an age identity beside it.
const AGENT: &str = r#"{"sign":{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},"age":"AGE-SECRET-KEY-14GJFY7DFNT5453X7USJ9N3NYE9R5TLNMWG4LNXWAEZQ94SCGD52QT4Q2GP"}"#;
const DEVICE_AGE: &str = "AGE-SECRET-KEY-1QE9S0UZ6QRSF99M63KJM9HPL9SJAP9CSKM6TD7JXWPQS3ALEQFMQNKZWPX";

pub fn agent() -> Keys {
    Keys::from_secret_json(AGENT).unwrap()
}

pub fn device() -> Keys {
    let signing = device_signing();
    let encode = |bytes: [u8; 32]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (d, x) = (encode(signing.to_bytes()), encode(signing.verifying_key().to_bytes()));
    let sign = json!({"kty": "OKP", "crv": "Ed25519", "d": d, "x": x});
    Keys::from_secret_json(&json!({"sign": sign, "age": DEVICE_AGE}).to_string()).unwrap()
}

/// For a device that signs what it should not.
pub fn device_signing() -> SigningKey {
    SigningKey::from_bytes(&[0x44; 32])
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_230_000).unwrap()
}

pub fn facts() -> Facts {
    Facts { jti: Uuid::from_u128(0x0f0e_0d0c_0b0a_4908_8706_0504_0302_0100), generation: 7, issued_at: now() }
}

pub fn agents_authority() -> Authority {
    Authority { cloud: Cloud::Global, tenant: TENANT.parse().unwrap() }
}

pub fn invite() -> Invite {
    Invite {
        name: "Contoso assistant".parse().unwrap(),
        agent: agent().public(),
        broker: BrokerAccess {
            url: "mqtts://broker.contoso.example:8883".parse().unwrap(),
            username: Some("device-1".into()),
            password: Some("its password".into()),
        },
        secret: InviteSecret::from_bytes(*b"sixteen bytes..."),
        expires_at: Timestamp::from_second(now().as_second() + 600).unwrap(),
        terms: Terms {
            email: Some("ana@contoso.example".into()),
            authority: "https://login.microsoftonline.com".into(),
            graph: None,
            tenant: TENANT.into(),
            client_id: CLIENT.into(),
            capabilities: vec!["mail".into(), "calendar".into()],
        },
    }
}
