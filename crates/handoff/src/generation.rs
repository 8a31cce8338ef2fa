//! Which of two handoffs is the newer one. Clocks are hints; this decides.
//!
//! A device counts up, durably, before it seals anything that changes an account (`auth.cache.updated`,
//! `access.set`, `account.disconnect`). The agent keeps the highest accepted number with the digest of its
//! bytes beside what they changed, so that both change in one atomic write, and a removed account leaves them
//! as a tombstone.

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
    /// The same number on other bytes: refuse it and raise an alarm, because an honest device never does
    /// this.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use valetkey_tests::strangers::{explore, is_found_out};

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text)
    }

    #[test]
    fn the_first_message_is_accepted_whatever_its_number() {
        assert_eq!(judge(None, (0, digest("a"))), Judgement::Accept);
        assert_eq!(judge(None, (u64::MAX, digest("a"))), Judgement::Accept);
    }

    #[test]
    fn only_a_higher_number_replaces_what_is_stored() {
        let stored = Some((7, digest("seven")));
        assert_eq!(judge(stored, (8, digest("eight"))), Judgement::Accept);
        assert_eq!(judge(stored, (7, digest("seven"))), Judgement::SameAgain);
        assert_eq!(judge(stored, (7, digest("other"))), Judgement::Conflict);
        assert_eq!(judge(stored, (6, digest("seven"))), Judgement::Older);
    }

    #[test]
    fn a_digest_is_read_back_from_its_text_and_nothing_else_is() {
        let one = digest("a");
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one.to_string(), "ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs");
        assert!("ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSL".parse::<Digest>().is_err());
        assert!("".parse::<Digest>().is_err());
    }

    type Rule = fn(Option<(u64, Digest)>, (u64, Digest)) -> Judgement;

    /// Under this rule, for messages in any order and number. Accepted or not, the same bytes a second time never change anything.
    fn only_moves_up(rule: Rule, deliveries: &[(u64, u8)]) -> Result<usize, TestCaseError> {
        let mut stored: Option<(u64, Digest)> = None;
        for (number, content) in deliveries {
            let incoming = (*number, Digest::of([*content]));
            let before = stored;
            let judgement = rule(stored, incoming);
            if judgement == Judgement::Accept {
                stored = Some(incoming);
            }
            prop_assert!(before.is_none_or(|b| stored.is_some_and(|s| s.0 > b.0 || s == b)));
            prop_assert_eq!(judgement == Judgement::SameAgain, before == Some(incoming));
            prop_assert_ne!(rule(stored, incoming), Judgement::Accept);
        }
        let highest = deliveries.iter().map(|(number, _)| *number).max();
        prop_assert_eq!(stored.map(|(number, _)| number), highest);
        Ok(deliveries.len())
    }

    fn deliveries() -> impl Strategy<Value = Vec<(u64, u8)>> {
        prop::collection::vec((0_u64..12, 0_u8..3), 1..60)
    }

    #[test]
    fn however_messages_are_repeated_and_reordered_the_stored_one_only_moves_up() {
        explore("the generation rule", 1000, &deliveries(), |deliveries| only_moves_up(judge, &deliveries));
    }

    /// The control of the model.
    #[test]
    fn a_rule_that_takes_an_older_message_or_the_same_number_again_is_found_out() {
        let takes_older: Rule = |stored, incoming| match judge(stored, incoming) {
            Judgement::Older => Judgement::Accept,
            other => other,
        };
        let takes_conflicts: Rule = |stored, incoming| match judge(stored, incoming) {
            Judgement::Conflict => Judgement::Accept,
            other => other,
        };
        for broken in [takes_older, takes_conflicts] {
            assert!(is_found_out(1000, &deliveries(), |deliveries| only_moves_up(broken, &deliveries)));
        }
    }
}
