//! Wall-clock time as a value that can be handed in, so that a test can make a day pass in a moment, or set the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A sleep on the wall clock looks at it this often: timers stand still while a computer sleeps, and a person or
/// NTP may set the clock meanwhile.
pub const RECHECK: Duration = Duration::from_secs(30);

/// Tells the time and waits for a time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Tokio { base: Timestamp, started: Instant, set_ahead: Arc<AtomicI64> },
}

/// A time to wait for that comes when the clock shows it, or when the wait there was until then has passed, whichever is
/// first: a clock that is put back delays nothing, and neither does a computer that slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Timestamp,
    no_later_than: Option<Instant>,
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `base` now and goes on with tokio's time, which a test can pause and advance.
    pub fn tokio_from(base: Timestamp) -> Self {
        Self(Source::Tokio { base, started: Instant::now(), set_ahead: Arc::default() })
    }

    /// Sets a [`Clock::tokio_from`] and its clones, as a person or a time server does: timers do not move. Does nothing to
    /// the system's clock.
    pub fn set_ahead(&self, by: SignedDuration) {
        if let Source::Tokio { set_ahead, .. } = &self.0 {
            set_ahead.fetch_add(by.as_secs(), Ordering::Relaxed);
        }
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Tokio { base, started, set_ahead } => {
                let elapsed = SignedDuration::try_from(started.elapsed()).unwrap_or(SignedDuration::MAX);
                let ahead = SignedDuration::from_secs(set_ahead.load(Ordering::Relaxed));
                let shown = elapsed.saturating_add(ahead);
                base.saturating_add(shown).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// `time` as something to wait for.
    pub fn deadline(&self, time: Timestamp) -> Deadline {
        let wait = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        Deadline { at: time, no_later_than: Instant::now().checked_add(wait) }
    }

    /// How long until then; zero once it has come.
    pub fn left(&self, deadline: &Deadline) -> Duration {
        let by_clock = Duration::try_from(deadline.at.duration_since(self.now())).unwrap_or_default();
        let by_timer =
            deadline.no_later_than.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        by_clock.min(by_timer)
    }

    pub fn has_come(&self, deadline: &Deadline) -> bool {
        self.left(deadline).is_zero()
    }

    /// Returns once it has come.
    pub async fn comes(&self, deadline: &Deadline) {
        loop {
            let left = self.left(deadline);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(RECHECK)).await;
        }
    }

    /// Returns once the clock shows `time` or later; at once when it already does.
    pub async fn sleep_until(&self, time: Timestamp) {
        loop {
            // Negative, and so not a Duration, once the time has come.
            let Ok(left) = Duration::try_from(time.duration_since(self.now())) else { return };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(RECHECK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tokio_clock_follows_paused_time() {
        let clock = Clock::tokio_from(base());
        assert_eq!(clock.now(), base());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now(), "2026-11-21T13:00:00Z".parse().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn sleeping_until_a_time_ends_then_and_not_before() {
        let clock = Clock::tokio_from(base());
        let tomorrow = "2026-11-22T12:00:00Z".parse().unwrap();
        clock.sleep_until(tomorrow).await;
        assert!(clock.now() >= tomorrow);
        assert!(clock.now() < tomorrow + SignedDuration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_in_the_past_is_no_wait() {
        let clock = Clock::tokio_from(base());
        clock.sleep_until(base() - SignedDuration::from_secs(1)).await;
        assert_eq!(clock.now(), base());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_comes_by_the_clock_or_by_the_timer_whichever_is_first() {
        let clock = Clock::tokio_from(base());
        let (hour, day) = (SignedDuration::from_hours(1), SignedDuration::from_hours(24));
        let deadline = clock.deadline(base() + hour);
        clock.set_ahead(-day);
        let started = Instant::now();
        clock.comes(&deadline).await;
        assert!(started.elapsed() >= Duration::from_secs(3600), "and not before");
        assert!(started.elapsed() < Duration::from_secs(3601), "put back by a day");

        let deadline = clock.deadline(clock.now() + day);
        assert!(!clock.has_come(&deadline));
        clock.set_ahead(day);
        assert!(clock.has_come(&deadline), "set ahead, or asleep for a day");
        assert!(!clock.has_come(&clock.deadline(Timestamp::MAX)));
    }

    /// Tokio's paused time runs ahead of the wall clock here, as a wall clock that was set back would seem to.
    #[tokio::test(start_paused = true)]
    async fn the_system_clock_looks_again_instead_of_trusting_one_long_timer() {
        let clock = Clock::system();
        let started = Instant::now();
        let sleep = clock.sleep_until(Timestamp::now() + SignedDuration::from_secs(3600));
        let outcome = tokio::time::timeout(Duration::from_secs(7200), sleep).await;
        assert!(outcome.is_err(), "the wall clock has not moved, so an hour has not passed");
        assert!(started.elapsed() >= Duration::from_secs(7200));
        let soon = clock.sleep_until(Timestamp::now());
        assert!(tokio::time::timeout(Duration::from_secs(1), soon).await.is_ok());
    }
}
