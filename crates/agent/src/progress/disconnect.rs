//! A device wants an account gone: what it may take away, and what keeps its older messages from bringing it back.

use jiff::Timestamp;
use valetkey_handoff::{Judgement, Thumbprint};

use super::{CONFLICT, Mark, NOT_YOURS, News, OLDER, abandon, fall_back, judge_mark, note, remove};
use crate::account_file::{AccountFile, Facts, Seen, Verdict};

/// Accounts that a device may say are gone without ever having brought them: each is a file. A person has one or two.
pub(crate) const MAX_UNKNOWN: usize = 16;

/// What a disconnect comes to.
#[derive(Debug)]
pub(crate) enum Disconnect {
    /// Nothing is left of the account.
    Removed(Box<AccountFile>),
    /// The device's own sign-in is gone before it was known whether it works. The one before it goes on.
    Withdrawn(Box<AccountFile>, Box<News>),
    /// There is nothing of this device's, and its older sign-in that may still be on its way will not be taken.
    Noted(Box<AccountFile>),
    /// The same, and the account is others'.
    NotYours(Box<AccountFile>),
    Again,
    Refused(&'static str),
}

/// Only a device that brought an account may take it away; one whose sign-in has no verdict yet takes back that. `file` is
/// an empty one where the account is not known.
pub(crate) fn disconnect(mut file: AccountFile, mark: &Mark, now: Timestamp) -> Disconnect {
    let not_yours = || Verdict::Refused { reason: NOT_YOURS.to_owned() };
    let verdict = file.facts.seen.get(&mark.device).map(|seen| seen.verdict.clone());
    match judge_mark(Some(&file), mark) {
        Judgement::SameAgain if verdict == Some(not_yours()) => {
            return Disconnect::Refused(NOT_YOURS);
        }
        Judgement::SameAgain => return Disconnect::Again,
        Judgement::Conflict => return Disconnect::Refused(CONFLICT),
        Judgement::Older => return Disconnect::Refused(OLDER),
        Judgement::Accept => {}
    }
    let is_there = file.facts.removed_at.is_none();
    let is_pending = verdict == Some(Verdict::Pending);
    let in_use = file.facts.is_trying(&mark.device);
    if is_there && file.facts.brought_by(&mark.device) {
        return Disconnect::Removed(Box::new(remove(file, Some(mark), now)));
    }
    if in_use && file.facts.replaced.is_none() {
        return Disconnect::Removed(Box::new(abandon(file, Some(mark), now)));
    }
    if in_use && let Some(before) = file.facts.replaced.take() {
        note(&mut file.facts, mark, Verdict::Done);
        let (file, news) = fall_back(file, *before, None);
        return Disconnect::Withdrawn(Box::new(file), Box::new(news));
    }
    if is_there && !is_pending {
        note(&mut file.facts, mark, not_yours());
        return Disconnect::NotYours(Box::new(file));
    }
    note(&mut file.facts, mark, Verdict::Done);
    Disconnect::Noted(Box::new(file))
}

/// Whether the account is here only because this device has said that it is gone.
pub(crate) fn is_only_noted(facts: &Facts, device: &Thumbprint) -> bool {
    let noted = |seen: &Seen| seen.verdict == Verdict::Done;
    facts.removed_at.is_some()
        && facts.device == *device
        && !facts.brought_by(device)
        && facts.seen.get(device).is_some_and(noted)
}
