//! Which of two handoffs is the newer one. Clocks are hints; this decides.
//!
//! A device counts up, durably, before it seals anything that changes an account (`auth.cache.updated`, `access.set`,
//! `account.disconnect`). The agent keeps the highest accepted number with the digest of its bytes beside what they changed, so
//! that both change in one atomic write, and a removed account leaves them as a tombstone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::encoding;

/// SHA-256 of the bytes of a sealed message, as they travelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Higher than anything accepted: store it.
    Accept,
    /// The very message that was accepted last, sent again: answer with its receipt again, change nothing.
    SameAgain,
    /// The same number on other bytes: refuse it and raise an alarm, because an honest device never does this.
    Conflict,
    /// Replayed or overtaken: refuse it.
    Older,
}

/// Judges a message by the number and digest accepted last, if any.
pub fn judge(stored: Option<(u64, Digest)>, incoming: (u64, Digest)) -> Judgement {
    let Some((highest, digest)) = stored else {
        return Judgement::Accept;
    };
    match incoming.0.cmp(&highest) {
        std::cmp::Ordering::Greater => Judgement::Accept,
        std::cmp::Ordering::Less => Judgement::Older,
        std::cmp::Ordering::Equal if incoming.1 == digest => Judgement::SameAgain,
        std::cmp::Ordering::Equal => Judgement::Conflict,
    }
}

impl Digest {
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        encoding::decode_array(text).map(Self).ok_or("not a SHA-256 digest in base64url")
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}
