//! What was sealed and has no receipt yet. On the disk before it is first sent, sent again as the very same bytes until
//! the agent answers. Only sealed bytes are in here: nobody but the agent can open them.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use valetkey_entra::account::AccountId;

use crate::durable;

const DIR: &str = "outbox";
const SUFFIX: &str = "sealed.json";

/// The first wait for a receipt: a round trip with a refresh at Microsoft takes two or three seconds.
pub const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(10);
/// The longest: an agent that comes back announces itself, so this is only for a message that got lost. Copies for an agent
/// that is away for weeks must not fill the broker's queue either, which holds a thousand.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(6);

/// One sealed message that waits for its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub jti: Uuid,
    pub topic: String,
    pub what: What,
    pub sealed_at: Timestamp,
    /// The compact JWS, byte for byte.
    pub sealed: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Enroll { expires_at: Timestamp },
    SignIn { account: AccountId, address: String, generation: u64 },
    Disconnect { account: AccountId, generation: u64 },
}

impl What {
    fn account(&self) -> Option<(AccountId, u64)> {
        match self {
            Self::Enroll { .. } => None,
            Self::SignIn { account, generation, .. } | Self::Disconnect { account, generation } => {
                Some((*account, *generation))
            }
        }
    }

    fn generation(&self) -> Option<u64> {
        self.account().map(|(_, generation)| generation)
    }

    /// Whether `newer` makes this one pointless: the agent would refuse it.
    fn is_overtaken_by(&self, newer: &Self) -> bool {
        match (self.account(), newer.account()) {
            (Some((account, old)), Some((same, new))) => account == same && old < new,
            (None, None) => true,
            _ => false,
        }
    }
}

/// How long to wait for the receipt after the `attempt`-th publish (from 1) before the bytes are sent again.
pub fn wait_after(attempt: u32) -> SignedDuration {
    let factor = 3i32.saturating_pow(attempt.saturating_sub(1).min(16));
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

/// The messages and the directory they are kept in.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    pending: Pending,
    attempts: u32,
    /// When it was sent last, or when the broker had it, if that was later.
    sent: Option<Timestamp>,
    /// Kept, and not to be sent yet.
    on_hold: bool,
}

impl Waiting {
    fn new(pending: Pending) -> Self {
        Self { pending, attempts: 0, sent: None, on_hold: false }
    }

    fn due_at(&self) -> Timestamp {
        let after =
            |sent: Timestamp| sent.saturating_add(wait_after(self.attempts)).unwrap_or(Timestamp::MAX);
        self.sent.map_or(Timestamp::MIN, after)
    }

    /// A clock that was put back tells nothing of how long it has waited.
    fn is_due(&self, now: Timestamp) -> bool {
        self.due_at() <= now || self.sent.is_some_and(|sent| now < sent)
    }
}

impl Outbox {
    /// Reads what an earlier run left. A file that is not ours is left where it is.
    pub fn open(data_dir: &Path) -> std::io::Result<Self> {
        let dir = data_dir.join(DIR);
        durable::private_dir(&dir)?;
        let mut waiting = Vec::new();
        for file in fs::read_dir(&dir)? {
            let path = file?.path();
            if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
                continue;
            }
            let text = durable::read_private(&path).ok().flatten();
            match text.and_then(|text| serde_json::from_str::<Pending>(&text).ok()) {
                Some(pending) => waiting.push(Waiting::new(pending)),
                None => tracing::warn!("a message in the outbox cannot be read and stays unsent"),
            }
        }
        waiting.sort_by_key(|waiting| waiting.pending.sealed_at);
        Ok(Self { dir, waiting })
    }

    /// The same for somebody who only looks: where nothing was ever kept, nothing is made.
    pub(crate) fn open_if_there(data_dir: &Path) -> std::io::Result<Self> {
        let dir = data_dir.join(DIR);
        if dir.exists() { Self::open(data_dir) } else { Ok(Self { dir, waiting: Vec::new() }) }
    }

    /// Keeps a message, on the disk when this returns, and drops those that it overtakes.
    pub fn add(&mut self, pending: Pending) -> std::io::Result<()> {
        let json = serde_json::to_vec(&pending).map_err(std::io::Error::other)?;
        durable::replace(&self.path(pending.jti), &json)?;
        let (overtaken, kept) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| w.pending.what.is_overtaken_by(&pending.what));
        self.waiting = kept;
        self.waiting.push(Waiting::new(pending));
        for old in overtaken {
            // The new one is safe, and will be sent; an old file only costs a refusal.
            if let Err(error) = durable::remove(&self.path(old.pending.jti)) {
                tracing::warn!(%error, "a message that a newer one has overtaken could not be removed");
            }
        }
        Ok(())
    }

    /// Keeps it as [`Self::add`] does, but sends it only when it is [released](Self::release), or after a restart.
    pub fn add_on_hold(&mut self, pending: Pending) -> std::io::Result<()> {
        self.add(pending)?;
        if let Some(added) = self.waiting.last_mut() {
            added.on_hold = true;
        }
        Ok(())
    }

    pub fn release(&mut self, generation: u64) {
        let released = |waiting: &&mut Waiting| waiting.pending.what.generation() == Some(generation);
        if let Some(waiting) = self.waiting.iter_mut().find(released) {
            waiting.on_hold = false;
        }
    }

    /// The answer to `jti` has come. What it was, or `None` if it was not waited for.
    pub fn remove(&mut self, jti: Uuid) -> std::io::Result<Option<What>> {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.pending.jti == jti) else {
            return Ok(None);
        };
        durable::remove(&self.path(jti))?;
        Ok(Some(self.waiting.remove(index).pending.what))
    }

    pub fn clear(&mut self) -> std::io::Result<()> {
        self.all()
            .map(|pending| pending.jti)
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|jti| self.remove(jti).map(drop))
    }

    pub fn all(&self) -> impl Iterator<Item = &Pending> {
        self.waiting.iter().map(|waiting| &waiting.pending)
    }

    /// Those that were sent, or will be, whatever anybody does.
    pub fn under_way(&self) -> impl Iterator<Item = &Pending> {
        self.waiting.iter().filter(|waiting| !waiting.on_hold).map(|waiting| &waiting.pending)
    }

    pub fn on_hold(&self) -> Vec<Uuid> {
        self.waiting.iter().filter(|waiting| waiting.on_hold).map(|waiting| waiting.pending.jti).collect()
    }

    pub fn find(&self, generation: u64) -> Option<&Pending> {
        self.all().find(|pending| pending.what.generation() == Some(generation))
    }

    /// The `enroll` that has no answer yet. There is never a second one.
    pub fn enrolment(&self) -> Option<Uuid> {
        self.all().find(|pending| matches!(pending.what, What::Enroll { .. })).map(|pending| pending.jti)
    }

    /// Somebody is back who may have missed some of it: nothing waits longer than after its first try. What the broker has had
    /// for less than that is let be: an answer may be on a slow line, and a copy would go before it.
    pub fn wake(&mut self) {
        for waiting in &mut self.waiting {
            waiting.attempts = waiting.attempts.min(1);
        }
    }

    /// The broker knows nothing of us any more: everything is due now.
    pub fn begin_anew(&mut self) {
        for waiting in &mut self.waiting {
            (waiting.attempts, waiting.sent) = (0, None);
        }
    }

    /// What is to be sent now, oldest first; each is then due again after its wait. What is `held` is let be.
    pub fn due(&mut self, now: Timestamp, held: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let due = self.waiting.iter_mut().filter(|w| !w.on_hold && w.is_due(now) && !held(&w.pending));
        due.map(|waiting| {
            waiting.attempts += 1;
            waiting.sent = Some(now);
            waiting.pending.clone()
        })
        .collect()
    }

    /// The broker has it: from now on the receipt may be waited for.
    pub fn delivered(&mut self, jti: Uuid, now: Timestamp) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.pending.jti == jti) {
            waiting.sent = Some(now);
        }
    }

    /// When something that is not `held` is due next.
    pub fn next_due(&self, held: impl Fn(&Pending) -> bool) -> Option<Timestamp> {
        self.waiting.iter().filter(|w| !w.on_hold && !held(&w.pending)).map(Waiting::due_at).min()
    }

    fn path(&self, jti: Uuid) -> PathBuf {
        self.dir.join(format!("{jti}.{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{ANA, now};

    fn sign_in(generation: u64) -> Pending {
        let what = What::SignIn { account: ANA, address: "ana@contoso.example".into(), generation };
        let sealed = format!("sealed-{generation}");
        Pending { jti: Uuid::from_u128(generation.into()), topic: "t".into(), what, sealed_at: now(), sealed }
    }

    fn nothing(_: &Pending) -> bool {
        false
    }

    #[test]
    fn what_was_added_is_there_after_a_restart_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        let mut again = Outbox::open(dir.path()).unwrap();
        assert_eq!(again.due(now(), nothing), [sign_in(1)]);
        assert_eq!(again.remove(sign_in(1).jti).unwrap(), Some(sign_in(1).what));
        assert_eq!(again.remove(sign_in(1).jti).unwrap(), None);
        assert_eq!(Outbox::open(dir.path()).unwrap().all().count(), 0);
    }

    #[test]
    fn a_newer_sign_in_of_the_same_account_overtakes_an_older_one_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        let mut other = sign_in(2);
        other.what = What::SignIn { account: crate::samples::BOB, address: "bob".into(), generation: 2 };
        for pending in [sign_in(1), other.clone(), sign_in(3)] {
            outbox.add(pending).unwrap();
        }
        let left: Vec<_> = Outbox::open(dir.path()).unwrap().all().map(|pending| pending.jti).collect();
        assert_eq!(left.len(), 2);
        assert!(left.contains(&other.jti) && left.contains(&sign_in(3).jti));
    }

    #[test]
    fn what_is_on_hold_is_kept_and_not_sent_before_it_is_released_or_the_program_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add_on_hold(sign_in(1)).unwrap();
        outbox.begin_anew();
        outbox.wake();
        assert_eq!((outbox.due(now(), nothing), outbox.next_due(nothing)), (vec![], None));
        assert_eq!((outbox.under_way().count(), outbox.on_hold()), (0, vec![sign_in(1).jti]));
        assert_eq!(Outbox::open(dir.path()).unwrap().due(now(), nothing).len(), 1);
        outbox.release(2);
        assert_eq!(outbox.due(now(), nothing), [], "another one");
        outbox.release(1);
        assert_eq!(outbox.due(now(), nothing), [sign_in(1)]);
    }

    #[test]
    fn an_overtaken_file_that_cannot_be_removed_does_not_make_the_new_one_unkept() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        let old = outbox.path(sign_in(1).jti);
        fs::remove_file(&old).unwrap();
        fs::create_dir(&old).unwrap();
        outbox.add(sign_in(2)).unwrap();
        assert_eq!(outbox.due(now(), nothing), [sign_in(2)]);
    }

    #[test]
    fn it_is_sent_again_with_growing_waits_and_the_first_one_when_woken() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        assert_eq!(outbox.due(now(), nothing).len(), 1);
        assert_eq!(outbox.due(now(), nothing), []);
        let next = outbox.next_due(nothing).unwrap();
        assert_eq!(next, now() + FIRST_WAIT);
        assert_eq!(outbox.due(next, nothing).len(), 1);
        assert_eq!(outbox.next_due(nothing).unwrap(), next + FIRST_WAIT * 3);
        outbox.wake();
        assert_eq!(outbox.due(next, nothing), [], "what was sent just now may be answered yet");
        assert_eq!(outbox.next_due(nothing).unwrap(), next + FIRST_WAIT);
        assert_eq!(outbox.due(next + FIRST_WAIT, nothing).len(), 1);
        outbox.wake();
        assert_eq!(outbox.next_due(nothing).unwrap(), next + FIRST_WAIT * 2, "woken again, and not at once");
    }

    #[test]
    fn a_broker_that_has_forgotten_us_gets_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        assert_eq!(outbox.due(now(), nothing).len(), 1);
        outbox.begin_anew();
        assert_eq!(outbox.due(now(), nothing).len(), 1);
    }

    #[test]
    fn what_a_slow_line_still_carries_is_not_sent_again_and_its_wait_begins_when_it_has_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        let jti = outbox.due(now(), nothing)[0].jti;
        let on_its_way = |pending: &Pending| pending.jti == jti;
        let later = now() + FIRST_WAIT * 5;
        assert_eq!((outbox.next_due(on_its_way), outbox.due(later, on_its_way)), (None, vec![]));
        outbox.delivered(jti, later);
        assert_eq!(outbox.next_due(nothing), Some(later + FIRST_WAIT), "the first wait, not a later one");
        assert_eq!(outbox.due(later, nothing), []);
    }

    #[test]
    fn a_clock_that_was_put_back_keeps_nothing_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(sign_in(1)).unwrap();
        assert_eq!(outbox.due(now(), nothing).len(), 1);
        let earlier = now() - SignedDuration::from_hours(24);
        assert_eq!(outbox.due(earlier, nothing).len(), 1);
        assert_eq!(outbox.due(earlier, nothing), [], "and from then on as always");
        assert_eq!(outbox.due(outbox.next_due(nothing).unwrap(), nothing).len(), 1);
    }

    #[test]
    fn waits_grow_to_a_limit_and_never_shrink() {
        let waits: Vec<_> = (1..200).map(wait_after).collect();
        assert_eq!(waits[0], FIRST_WAIT);
        assert!(waits.is_sorted());
        assert_eq!(*waits.last().unwrap(), LONGEST_WAIT);
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let stray = dir.path().join("outbox").join(format!("x.{SUFFIX}"));
        durable::replace(&stray, b"{").unwrap();
        assert_eq!(Outbox::open(dir.path()).unwrap().all().count(), 0);
        assert!(stray.exists());
    }
}
