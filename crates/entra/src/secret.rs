//! Text that must not be printed: tokens, codes, verifiers.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::ZeroizeOnDrop;

/// A piece of text whose `Debug` says nothing and whose memory is wiped when it goes.
///
/// Serde writes and reads it as the plain string. That is for the sealed message and the vault, the two places where a
/// token may be written down; nothing else may serialize a type that holds one.
#[derive(Clone, Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call of this is a place to look at when asking where a secret goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` is the same text. The time taken tells nothing of where the two differ: what is compared is
    /// their hashes.
    pub fn matches(&self, other: &str) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.as_bytes())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_neither_the_text_nor_its_length() {
        let short = format!("{:?}", Secret::new("x"));
        let long = format!("{:#?}", Some(Secret::new("CANARY-refresh-token")));
        assert_eq!(short, "[secret]");
        assert!(!long.contains("CANARY"), "{long}");
    }

    #[test]
    fn equality_is_of_the_whole_text() {
        assert_eq!(Secret::new("abc"), Secret::new("abc"));
        assert_ne!(Secret::new("abc"), Secret::new("abcd"));
        assert!(Secret::new("abc").matches("abc"));
        assert!(!Secret::new("abc").matches(""));
    }

    #[test]
    fn serde_writes_the_plain_string_and_reads_it_back() {
        let json = serde_json::to_string(&Secret::new("s3")).unwrap();
        assert_eq!(json, "\"s3\"");
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), Secret::new("s3"));
    }
}
