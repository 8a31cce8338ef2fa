//! The chain: a line's form, and how one line holds on to the line before it. Pure.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::event::Event;

/// The SHA-256 of a line with its newline, in hexadecimal as `sha256sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash([u8; 32]);

/// The last line: what the next one holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    /// 0 before the first line.
    pub seq: u64,
    pub hash: LineHash,
}

/// Of a line, what the chain needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub seq: u64,
    pub at: Timestamp,
    pub prev: LineHash,
    pub event: String,
    /// Of `trimmed`.
    #[serde(default)]
    pub first: Option<u64>,
    /// Of `line_altered`.
    #[serde(default)]
    pub altered: Option<u64>,
}

/// What a text that is no hash gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct NotAHash;

impl LineHash {
    pub(crate) fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }
}

impl Tip {
    /// Before the first line.
    pub(crate) const NOTHING: Self = Self { seq: 0, hash: LineHash([0; 32]) };

    /// The next line with its newline, and the tip it makes.
    pub(crate) fn next(&self, at: Timestamp, event: &Event) -> Result<(Vec<u8>, Self), serde_json::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            seq: u64,
            at: Timestamp,
            prev: LineHash,
            #[serde(flatten)]
            event: &'a Event,
        }
        let seq = self.seq.saturating_add(1);
        let mut line = serde_json::to_vec(&Line { seq, at, prev: self.hash, event })?;
        line.push(b'\n');
        let hash = LineHash::of(&line);
        Ok((line, Self { seq, hash }))
    }
}

impl Link {
    /// `line` with or without its newline.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// The lines with their newlines; the last one may have none.
pub(crate) fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LineHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(0_usize..) {
            *byte = u8::from_str_radix(&text[digits * 2..digits * 2 + 2], 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for LineHash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        text.parse()
    }
}

impl From<LineHash> for String {
    fn from(hash: LineHash) -> Self {
        hash.to_string()
    }
}
