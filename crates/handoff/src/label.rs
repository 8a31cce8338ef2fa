//! Short texts from the other side that a person will see or a program will match on.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name shown to a person: of an agent, of a computer. One line of at most [`Label::MAX_CHARS`] characters,
/// without control, invisible or direction-changing characters, because whoever writes it may want to look
/// like somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// A machine-readable code such as `sign-in-frequency`: 1 to [`Code::MAX_CHARS`] of `a-z`, `0-9`, `-`, `_`
/// and `.`. Codes travel instead of texts, so no error text (and no secret quoted in one) can cross.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the text is empty, too long, or has characters that are not allowed")]
pub struct BadLabel;

impl Label {
    /// Fits one line of a small window.
    pub const MAX_CHARS: usize = 64;

    /// Makes a label of any text (a host name, say): forbidden characters become spaces, the rest is cut off.
    /// Nothing left becomes `unnamed`.
    pub fn tidy(text: &str) -> Self {
        let tidied = one_line(text, Self::MAX_CHARS);
        Self(if tidied.is_empty() { "unnamed".to_owned() } else { tidied })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Code {
    pub const MAX_CHARS: usize = 48;

    /// The code, or `unknown` if the text is not one.
    pub fn or_unknown(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Self("unknown".to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any text as it may be shown: forbidden characters become spaces, and what is beyond `max_chars` is cut off.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let spaced: String =
        text.chars().map(|c| if is_deceptive(c) { ' ' } else { c }).take(max_chars).collect();
    spaced.trim().to_owned()
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let fits = !text.is_empty()
            && text.chars().count() <= Self::MAX_CHARS
            && text.trim() == text
            && !text.chars().any(is_deceptive);
        fits.then(|| Self(text.to_owned())).ok_or(BadLabel)
    }
}

impl FromStr for Code {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
        fits.then(|| Self(text.to_owned())).ok_or(BadLabel)
    }
}

/// Soft hyphen, joiners, fillers, variation selectors, marks and overrides of direction, line separators, blank
/// Braille, tags.
const DECEPTIVE: [RangeInclusive<char>; 19] = [
    '\u{00AD}'..='\u{00AD}',
    '\u{034F}'..='\u{034F}',
    '\u{061C}'..='\u{061C}',
    '\u{115F}'..='\u{1160}',
    '\u{17B4}'..='\u{17B5}',
    '\u{180B}'..='\u{180F}',
    '\u{200B}'..='\u{200F}',
    '\u{2028}'..='\u{202E}',
    '\u{2060}'..='\u{206F}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{FE00}'..='\u{FE0F}',
    '\u{FEFF}'..='\u{FEFF}',
    '\u{FFA0}'..='\u{FFA0}',
    '\u{FFF0}'..='\u{FFFB}',
    '\u{13430}'..='\u{1343F}',
    '\u{1BCA0}'..='\u{1BCA3}',
    '\u{1D173}'..='\u{1D17A}',
    '\u{E0000}'..='\u{E0FFF}',
];

/// Whether a character moves, hides or reorders what stands around it (Unicode `Cc`, `Cf`, `Zl`, `Zp` and
/// look-alike blanks).
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control() || DECEPTIVE.iter().any(|range| range.contains(&c))
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadLabel;

            fn try_from(text: String) -> Result<Self, BadLabel> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

text_type!(Label);
text_type!(Code);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_labels() {
        for name in ["Ana's assistant", "Zoë & Søn", "助手", "بيت", "x", &"n".repeat(Label::MAX_CHARS)]
        {
            assert_eq!(name.parse::<Label>().map(String::from), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_could_deceive_are_refused_and_can_be_tidied() {
        for name in [
            "",
            " ",
            " Contoso",
            "Contoso\n",
            "Contoso\u{202E}osotnoC",
            "Con\u{200B}toso",
            "Contoso\u{2028}IT",
            "\u{1B}[2JContoso",
            "Contoso\u{E0041}",
            &"n".repeat(Label::MAX_CHARS + 1),
        ] {
            assert_eq!(name.parse::<Label>(), Err(BadLabel), "{name:?}");
            let tidied = Label::tidy(name);
            assert_eq!(tidied.as_str().parse::<Label>(), Ok(tidied.clone()), "{name:?}");
        }
        assert_eq!(Label::tidy("ana's\tlaptop\n").as_str(), "ana's laptop");
        assert_eq!(Label::tidy("\u{200B}").as_str(), "unnamed");
    }

    #[test]
    fn an_error_text_is_not_a_code() {
        assert_eq!(Code::or_unknown("sign-in-frequency").as_str(), "sign-in-frequency");
        for text in [
            "",
            "AADSTS50173: The provided grant has expired",
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9",
            &"c".repeat(Code::MAX_CHARS + 1),
        ] {
            assert_eq!(Code::or_unknown(text).as_str(), "unknown", "{text}");
        }
    }
}
