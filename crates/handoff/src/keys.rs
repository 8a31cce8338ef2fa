//! Who somebody is: an Ed25519 key that signs what they send and an age X25519 identity that opens what they
//! get. Agents and devices have the same kind.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding;
use crate::sensitive::Sensitive;
use crate::words;

/// The secret half.
#[derive(Clone)]
pub struct Keys {
    pub(crate) signing: SigningKey,
    pub(crate) identity: Identity,
}

/// The public half. As JSON: `{"sign": {"kty":"OKP","crv":"Ed25519","x":…}, "age": "age1…"}` (RFC 8037 JWK,
/// age recipient).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PublicJson", into = "PublicJson")]
pub struct PublicKeys {
    pub(crate) signing: VerifyingKey,
    pub(crate) recipient: Recipient,
}

/// The name of a signing key: the RFC 7638 SHA-256 thumbprint of its JWK in base64url, 43 characters, safe in
/// a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error("the keys are not JSON of the expected shape")]
    Malformed,
    #[error("the signing key is not a usable Ed25519 key")]
    Signing,
    #[error("the age key is not an X25519 key")]
    Age,
    #[error("the secret signing key does not belong to its public key")]
    Mismatch,
    #[error("a thumbprint is 43 characters of base64url")]
    Thumbprint,
}

impl Keys {
    /// New keys from the operating system's random numbers.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(&mut *seed);
        Self { signing: SigningKey::from_bytes(&seed), identity: Identity::generate() }
    }

    /// For a key store or a file of mode 0600, about 250 bytes: `{"sign": private JWK, "age":
    /// "AGE-SECRET-KEY-1…"}`.
    pub fn to_secret_json(&self) -> Sensitive<String> {
        let d = Zeroizing::new(encoding::encode(Zeroizing::new(self.signing.to_bytes())));
        let x = encoding::encode(self.signing.verifying_key());
        let identity = self.identity.to_string();
        // Every part is base64url or Bech32: nothing to escape. Joined in one piece, so that no copy is left
        // behind.
        let parts = [
            r#"{"sign":{"kty":"OKP","crv":"Ed25519","d":""#,
            &d,
            r#"","x":""#,
            &x,
            r#""},"age":""#,
            identity.expose_secret(),
            r#""}"#,
        ];
        Sensitive::new(parts.concat())
    }

    /// Reads what [`Keys::to_secret_json`] wrote. Errors quote nothing of it.
    pub fn from_secret_json(json: &str) -> Result<Self, KeyError> {
        let keys: SecretJson = serde_json::from_str(json).map_err(|_| KeyError::Malformed)?;
        let seed = encoding::decode_array::<32>(keys.sign.d.expose())
            .map(Zeroizing::new)
            .ok_or(KeyError::Signing)?;
        let signing = SigningKey::from_bytes(&seed);
        if keys.sign.public().verifying_key()? != signing.verifying_key() {
            return Err(KeyError::Mismatch);
        }
        let identity = keys.age.expose().parse().map_err(|_| KeyError::Age)?;
        Ok(Self { signing, identity })
    }

    /// The age identity as the `age` command reads it (`age -d -i`).
    pub fn age_identity(&self) -> Sensitive<String> {
        Sensitive::new(self.identity.to_string().expose_secret().to_owned())
    }

    pub fn public(&self) -> PublicKeys {
        PublicKeys { signing: self.signing.verifying_key(), recipient: self.identity.to_public() }
    }

    pub fn thumbprint(&self) -> Thumbprint {
        self.public().thumbprint()
    }
}

impl PublicKeys {
    pub fn thumbprint(&self) -> Thumbprint {
        let x = encoding::encode(self.signing);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Thumbprint(encoding::encode(Sha256::digest(jwk)))
    }

    /// The age recipient, `age1…`.
    pub fn recipient(&self) -> String {
        self.recipient.to_string()
    }

    /// Four words that stand for both keys, to be compared by eye. Slow on purpose (about 0.2 s and 64 MiB):
    /// keep it off the window's thread and remember the answer.
    pub fn words(&self) -> [&'static str; 4] {
        words::of(&self.thumbprint(), &self.recipient())
    }
}

impl Thumbprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({}, [sensitive])", self.thumbprint())
    }
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKeys({}, {})", self.thumbprint(), self.recipient)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Thumbprint {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match encoding::decode_array::<32>(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(KeyError::Thumbprint),
        }
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> String {
        thumbprint.0
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicJson {
    sign: PublicJwk,
    age: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicJwk {
    kty: String,
    crv: String,
    x: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretJson {
    sign: SecretJwk,
    age: Sensitive<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretJwk {
    kty: String,
    crv: String,
    d: Sensitive<String>,
    x: String,
}

impl PublicJwk {
    fn verifying_key(&self) -> Result<VerifyingKey, KeyError> {
        if self.kty != "OKP" || self.crv != "Ed25519" {
            return Err(KeyError::Signing);
        }
        let bytes = encoding::decode_array(&self.x).ok_or(KeyError::Signing)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Signing)?;
        // A key of small order verifies signatures that nobody made.
        if key.is_weak() {
            return Err(KeyError::Signing);
        }
        Ok(key)
    }
}

impl SecretJwk {
    fn public(&self) -> PublicJwk {
        PublicJwk { kty: self.kty.clone(), crv: self.crv.clone(), x: self.x.clone() }
    }
}

impl TryFrom<PublicJson> for PublicKeys {
    type Error = KeyError;

    fn try_from(json: PublicJson) -> Result<Self, KeyError> {
        Ok(Self {
            signing: json.sign.verifying_key()?,
            recipient: json.age.parse().map_err(|_| KeyError::Age)?,
        })
    }
}

impl From<PublicKeys> for PublicJson {
    fn from(keys: PublicKeys) -> Self {
        Self {
            sign: PublicJwk {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                x: encoding::encode(keys.signing),
            },
            age: keys.recipient.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 A.1 to A.3, with an age identity beside it.
    const SECRET: &str = r#"{"sign":{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},"age":"AGE-SECRET-KEY-14GJFY7DFNT5453X7USJ9N3NYE9R5TLNMWG4LNXWAEZQ94SCGD52QT4Q2GP"}"#;

    fn rfc_8037() -> Keys {
        Keys::from_secret_json(SECRET).unwrap()
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        assert_eq!(rfc_8037().thumbprint().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_public_half_is_a_jwk_and_an_age_recipient() {
        let public = rfc_8037().public();
        let json = serde_json::to_string(&public).unwrap();
        assert_eq!(
            json,
            r#"{"sign":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},"age":"age1yq80ym8req8rkdvkqclwnkk77tcchzzkuwknc36w6l0lgaerkpyqc7emse"}"#
        );
        assert_eq!(serde_json::from_str::<PublicKeys>(&json).unwrap(), public);
    }

    #[test]
    fn the_secret_half_survives_a_key_store() {
        assert_eq!(rfc_8037().to_secret_json().expose(), SECRET);
        let keys = Keys::generate();
        let read = Keys::from_secret_json(keys.to_secret_json().expose()).unwrap();
        assert_eq!(read.public(), keys.public());
        assert_eq!(read.age_identity(), keys.age_identity());
        assert!(keys.to_secret_json().expose().len() < 300, "small enough for any keyring");
    }

    #[test]
    fn damaged_secrets_are_refused_by_what_is_wrong_and_quoted_nowhere() {
        let other_d = SECRET.replace("nWGxne", "nWGxnf");
        for (json, error) in [
            ("", KeyError::Malformed),
            (&SECRET[..200], KeyError::Malformed),
            (&SECRET.replace("OKP", "EC"), KeyError::Signing),
            (&SECRET.replace("f2A\"", "f2\""), KeyError::Signing),
            (&other_d, KeyError::Mismatch),
            (&SECRET.replace("T4Q2GP", "T4Q2GQ"), KeyError::Age),
        ] {
            assert_eq!(Keys::from_secret_json(json).err(), Some(error));
        }
    }

    #[test]
    fn weak_foreign_and_doubled_public_keys_are_refused() {
        let json = serde_json::to_string(&rfc_8037().public()).unwrap();
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        // The neutral element verifies signatures that nobody made.
        let neutral = encoding::encode([&[1][..], &[0; 31]].concat());
        for changed in [
            json.replace(x, &neutral),
            json.replace(x, &encoding::encode([0; 32])),
            json.replace(x, &x[..42]),
            json.replace("Ed25519", "X25519"),
            json.replace("\"age1yq80", "\"age1yq81"),
            json.replace(r#""kty":"OKP","#, r#""kty":"OKP","kty":"OKP","#),
            json.replace(r#""kty":"OKP","#, r#""kty":"OKP","kid":"me","#),
        ] {
            assert_ne!(changed, json);
            assert!(serde_json::from_str::<PublicKeys>(&changed).is_err(), "{changed}");
        }
    }

    /// The words come from Python's `hashlib.scrypt` over the same input.
    #[test]
    fn the_four_words_of_a_key_never_change() {
        assert_eq!(rfc_8037().public().words(), ["glide", "pluck", "poem", "truck"]);
    }

    #[test]
    fn the_words_stand_for_both_keys() {
        let words = rfc_8037().public().words();
        let mut other = rfc_8037().public();
        other.recipient = Keys::generate().public().recipient;
        assert_ne!(other.words(), words);
        let mut other = rfc_8037().public();
        other.signing = Keys::generate().public().signing;
        assert_ne!(other.words(), words);
    }

    #[test]
    fn thumbprints_are_43_characters_that_fit_a_topic() {
        let text = rfc_8037().thumbprint().to_string();
        assert_eq!(text.parse::<Thumbprint>(), Ok(rfc_8037().thumbprint()));
        for wrong in
            ["", "+", &text[..42], &text.replace('k', "/"), &format!("{text}A"), &format!("{}l", &text[..42])]
        {
            assert_eq!(wrong.parse::<Thumbprint>(), Err(KeyError::Thumbprint), "{wrong}");
        }
    }
}
