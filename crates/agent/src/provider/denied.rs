//! Requests of single callers that Microsoft has refused while it takes the sign-in: a resource, or a claims challenge. They
//! are remembered for a while, so that a program that asks in a loop is answered from here. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use valetkey_entra::capability::Resource;

use crate::token::TokenFailure;

/// As long as a refusal is believed. The person or an administrator may do something about it meanwhile; whoever asks then
/// waits for this at most, and for nothing after a new sign-in.
const BELIEVED_FOR: SignedDuration = SignedDuration::from_mins(5);
/// More refusals than that in this time are one program that makes up challenges.
const MOST: usize = 32;
/// A refusal may be the end of the whole sign-in, which the account's own refresh finds out. Asked no more often than this,
/// however many requests are refused.
const CHECK_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// What is asked for besides the account's own refresh.
type Asked = (Resource, Option<String>);

#[derive(Debug, Default)]
pub(crate) struct Denied {
    refusals: HashMap<Asked, (TokenFailure, Timestamp)>,
    checked_at: Option<Timestamp>,
}

impl Denied {
    /// The answer that needs no asking.
    pub(crate) fn answer(&mut self, asked: &Asked, now: Timestamp) -> Option<TokenFailure> {
        // A clock that was put back must not make one last.
        self.refusals.retain(|_, (_, since)| *since <= now && now.duration_since(*since) < BELIEVED_FOR);
        if let Some((failure, _)) = self.refusals.get(asked) {
            return Some(failure.clone());
        }
        if self.refusals.len() < MOST || asked.1.is_none() {
            return None;
        }
        let first = self.refusals.values().map(|(_, since)| *since).min()?;
        Some(TokenFailure::Unavailable {
            reason: "too-many-challenges".to_owned(),
            retry_at: Some(first + BELIEVED_FOR),
        })
    }

    pub(crate) fn note(&mut self, asked: Asked, failure: TokenFailure, now: Timestamp) {
        self.refusals.insert(asked, (failure, now));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.checked_at.is_none()
    }

    /// Whether the account's own refresh is to be tried because of a refusal. Once it was said, not again for a while.
    pub(crate) fn is_check_due(&mut self, now: Timestamp) -> bool {
        let recent = |at: Timestamp| at <= now && now.duration_since(at) < CHECK_EVERY;
        if self.checked_at.is_some_and(recent) {
            return false;
        }
        self.checked_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_262_400 + second).unwrap()
    }

    fn challenge(number: usize) -> Asked {
        (Resource::Graph, Some(format!("{{\"{number}\":1}}")))
    }

    #[test]
    fn a_refusal_is_repeated_for_five_minutes_to_whoever_asks_the_same() {
        let mut denied = Denied::default();
        let failure = TokenFailure::NoLicence;
        denied.note(challenge(1), failure.clone(), at(0));
        assert_eq!(denied.answer(&challenge(1), at(299)), Some(failure));
        assert_eq!(denied.answer(&challenge(2), at(299)), None);
        assert_eq!(denied.answer(&(Resource::Graph, None), at(299)), None);
        assert_eq!(denied.answer(&challenge(1), at(300)), None);
    }

    #[test]
    fn made_up_challenges_are_asked_for_thirty_two_times_and_other_callers_do_not_notice() {
        let mut denied = Denied::default();
        let mut asked = 0;
        for number in 0..1000 {
            if denied.answer(&challenge(number), at(7)).is_none() {
                asked += 1;
                denied.note(challenge(number), TokenFailure::NoLicence, at(7));
            }
        }
        assert_eq!(asked, 32);
        let later = denied.answer(&challenge(1000), at(8)).unwrap();
        assert!(later.is_retryable(), "{later:?}");
        assert_eq!(denied.answer(&(Resource::Outlook, None), at(8)), None);
        assert_eq!(denied.answer(&challenge(1000), at(307)), None);
    }

    #[test]
    fn the_accounts_own_refresh_is_checked_once_in_five_minutes_whatever_the_clock_does() {
        let mut denied = Denied::default();
        let due: Vec<_> =
            [0, 1, 299, 300, 301, 100, 101].map(|second| denied.is_check_due(at(second))).into();
        assert_eq!(due, [true, false, false, true, false, true, false]);
    }
}
