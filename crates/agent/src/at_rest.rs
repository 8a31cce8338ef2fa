//! The state directory sealed at rest: `agent.json`, `registry.json` and every account's file as binary age files, each to
//! the one key that the operator keeps elsewhere. What is inside is byte for byte what stands there unsealed, so
//! `age -d -i key vault/….json` prints it.
//!
//! Nothing outside the key tells its public half, so nobody else can make a file that opens with it; and a file names
//! its account inside, so one cannot take another's place. `agent.json` is where a change takes effect: **a key that opens
//! `agent.json` opens everything**, at any moment of sealing and of a change of keys (see [`convert`]).
//!
//! Where the key comes from is not known here.

mod convert;

use std::fmt;
use std::path::PathBuf;

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use valetkey_handoff::Sensitive;
use valetkey_handoff::age_file::{self, OpenFailed};
use zeroize::Zeroizing;

pub use convert::{Changed, Look, look, rotate, seal, unseal};
pub(crate) use convert::{Files, begin};

/// A key file has some 200 bytes. A larger one is something else.
pub const MAX_KEY_TEXT: usize = 4096;

/// Begins every age file, and no JSON.
const MAGIC: &[u8] = b"age-encryption.org/";
/// Begins a recipient's stanza in an age file's header, and ends the header.
const STANZA: &[u8] = b"\n-> X25519 ";
const HEADER_END: &[u8] = b"\n--- ";

/// The key that the vault is sealed with: an age identity, wiped when it is dropped.
#[derive(Clone)]
pub struct VaultKey {
    identity: Identity,
    recipient: Recipient,
}

/// The text is no key. It is not quoted: it could be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a vault key: one line AGE-SECRET-KEY-1… is, with or without comments (#)")]
pub struct NotAKey;

/// Why sealed files cannot be used. Nothing was changed, moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtRestError {
    #[error("{path} is sealed, and no key was given")]
    KeyNeeded { path: PathBuf },
    #[error("{path} is sealed with another key than the one given")]
    OtherKey { path: PathBuf },
    /// The key opens some of the files: it is one of the two of a change of keys.
    #[error(
        "the change to or from this key was interrupted: it opens {opens}, and the other one of the two opens everything"
    )]
    HalfRotated { opens: PathBuf },
    /// Nobody who had the key made it. Of `agent.json`: some of the rest is sealed.
    #[error("{path} is not sealed, and the vault is")]
    NotSealed { path: PathBuf },
    /// It was made with this key, and cut or changed since.
    #[error("{path} is sealed and damaged")]
    Damaged { path: PathBuf },
    #[error("{path} could not be sealed")]
    Unsealable { path: PathBuf },
    /// A key was given, and this one is all in clear.
    #[error("the vault in {path} is not sealed")]
    VaultNotSealed { path: PathBuf },
    #[error("there is no agent in {path}")]
    NoAgent { path: PathBuf },
    #[error("the new key is the present one")]
    SameKey,
}

impl VaultKey {
    /// A new one from the operating system's random numbers.
    pub fn generate() -> Self {
        Identity::generate().into()
    }

    /// Reads a key file as [`VaultKey::to_text`] and `age-keygen` write it: one identity, and comments.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next(), lines.next()) {
            (Some(line), None) => Ok(line.parse::<Identity>().map_err(|_| NotAKey)?.into()),
            _ => Err(NotAKey),
        }
    }

    /// The key file's one line, as `age -d -i` reads it.
    pub fn to_text(&self) -> Sensitive<String> {
        Sensitive::new(self.identity.to_string().expose_secret().to_owned())
    }

    fn open(&self, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenFailed> {
        age_file::open(bytes, &self.identity)
    }
}

impl From<Identity> for VaultKey {
    fn from(identity: Identity) -> Self {
        Self { recipient: identity.to_public(), identity }
    }
}

impl PartialEq for VaultKey {
    fn eq(&self, other: &Self) -> bool {
        self.recipient == other.recipient
    }
}

impl Eq for VaultKey {}

/// Not even the public half: see the module.
impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey([sensitive])")
    }
}

/// Whether it is an age file at all.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// What stands on disk for `bytes`.
pub(crate) fn to_disk(
    bytes: &[u8],
    keys: &[&VaultKey],
    path: impl FnOnce() -> PathBuf,
) -> Result<Vec<u8>, AtRestError> {
    let recipients: Vec<&Recipient> = keys.iter().map(|key| &key.recipient).collect();
    age_file::encrypt_to(bytes, &recipients).map_err(|_| AtRestError::Unsealable { path: path() })
}

/// What the bytes of a file hold, in a vault that is sealed with `key` or in one that is not.
pub(crate) fn from_disk(
    bytes: Zeroizing<Vec<u8>>,
    key: Option<&VaultKey>,
    path: impl FnOnce() -> PathBuf,
) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
    match (key, is_sealed(&bytes)) {
        (None, false) => Ok(bytes),
        (None, true) => Err(AtRestError::KeyNeeded { path: path() }),
        (Some(_), false) => Err(AtRestError::NotSealed { path: path() }),
        (Some(key), true) => key.open(&bytes).map_err(|failed| match failed {
            OpenFailed::OtherKey => AtRestError::OtherKey { path: path() },
            OpenFailed::Header | OpenFailed::Damaged => AtRestError::Damaged { path: path() },
        }),
    }
}

/// How many keys open an age file.
fn recipients(bytes: &[u8]) -> usize {
    let end = bytes.windows(HEADER_END.len()).position(|part| part == HEADER_END).unwrap_or(0);
    bytes[..end].windows(STANZA.len()).filter(|part| *part == STANZA).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> PathBuf {
        "vault/x.json".into()
    }

    #[test]
    fn a_key_is_read_as_it_and_age_keygen_write_it_and_nothing_else_is() {
        let key = VaultKey::generate();
        let line = key.to_text();
        let commented =
            format!("# created: 2026-11-21T07:00:00Z\r\n# public key: age1\r\n{}\r\n", line.expose());
        assert_eq!(VaultKey::parse(line.expose()), Ok(key.clone()));
        assert_eq!(VaultKey::parse(&commented), Ok(key.clone()));
        let twice = format!("{0}\n{0}\n", line.expose());
        for wrong in ["", "# only a comment\n", &line.expose()[1..], &twice, "age1qqqq"] {
            assert_eq!(VaultKey::parse(wrong), Err(NotAKey), "{} bytes", wrong.len());
        }
        assert_eq!(format!("{key:?}"), "VaultKey([sensitive])");
    }

    #[test]
    fn what_is_sealed_opens_with_its_keys_only_and_tells_how_many_there_are() {
        let (key, other) = (VaultKey::generate(), VaultKey::generate());
        for count in 1..=2 {
            let keys = [&key, &other];
            for _ in 0..100 {
                let sealed = to_disk(b"{}", &keys[..count], here).unwrap();
                assert!(is_sealed(&sealed));
                assert_eq!(recipients(&sealed), count);
                assert_eq!(from_disk(sealed.into(), Some(&key), here).unwrap().as_slice(), b"{}");
            }
        }
        let sealed = Zeroizing::new(to_disk(b"{}", &[&key], here).unwrap());
        let from = |bytes: &[u8], key| from_disk(bytes.to_vec().into(), key, here).unwrap_err();
        assert_eq!(from(&sealed, Some(&other)), AtRestError::OtherKey { path: here() });
        assert_eq!(from(&sealed, None), AtRestError::KeyNeeded { path: here() });
        assert_eq!(from(b"{}", Some(&key)), AtRestError::NotSealed { path: here() });
        assert_eq!(from_disk(b"{}".to_vec().into(), None, here).unwrap().as_slice(), b"{}");
    }

    /// A byte of the stanza that is for us makes it another key's; every other one is damage. Never a panic, never a file.
    #[test]
    fn a_changed_byte_anywhere_is_damage_or_another_key_and_never_a_file() {
        let key = VaultKey::generate();
        let sealed = to_disk(b"{\"a\":1}", &[&key], here).unwrap();
        for at in MAGIC.len()..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let error = from_disk(changed.into(), Some(&key), here).unwrap_err();
            assert!(
                matches!(error, AtRestError::OtherKey { .. } | AtRestError::Damaged { .. }),
                "{at}: {error}"
            );
        }
        for length in MAGIC.len()..sealed.len() {
            let cut = sealed[..length].to_vec();
            assert!(from_disk(cut.into(), Some(&key), here).is_err(), "{length} of {}", sealed.len());
        }
    }
}
