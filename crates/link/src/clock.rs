//! Wall-clock time as a value that can be handed in, so that a test can make a day pass in a moment.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A sleep on the wall clock looks at it this often: timers stand still while a computer sleeps, and a person or
/// NTP may set the clock meanwhile.
const RECHECK: Duration = Duration::from_secs(30);

/// Tells the time and waits for a time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Tokio { base: Timestamp, started: Instant },
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `base` now and goes on with tokio's time, which a test can pause and advance.
    pub fn tokio_from(base: Timestamp) -> Self {
        Self(Source::Tokio { base, started: Instant::now() })
    }

    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => Timestamp::now(),
            Source::Tokio { base, started } => {
                let elapsed = SignedDuration::try_from(started.elapsed()).unwrap_or(SignedDuration::MAX);
                base.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
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
            tokio::time::sleep(match self.0 {
                Source::System => left.min(RECHECK),
                Source::Tokio { .. } => left,
            })
            .await;
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
