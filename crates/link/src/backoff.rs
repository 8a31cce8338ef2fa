//! How long to wait before connecting again: exponential back-off with full jitter, so that a thousand clients
//! of one restarted broker do not come back in the same second.
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter".

use std::time::Duration;

/// The first retry comes within this.
pub const FIRST_CEILING: Duration = Duration::from_millis(500);

/// No retry comes later than this: a person who plugs the cable in waits a minute at most.
pub const LONGEST_CEILING: Duration = Duration::from_secs(60);

/// A connection that lived this long was a good one: the next failure starts from the first ceiling again.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The wait before retry number `attempt` (from 0). `random` is uniform in `0.0..1.0`.
pub fn retry_delay(attempt: u32, random: f64) -> Duration {
    let factor = 2u32.saturating_pow(attempt);
    FIRST_CEILING.saturating_mul(factor).min(LONGEST_CEILING).mul_f64(random.clamp(0.0, 1.0))
}

/// The number of the retry after this one, when the connection in between was up for so long, or never.
pub(crate) fn next_attempt(previous: Option<u32>, up_for: Option<Duration>) -> u32 {
    match previous {
        Some(previous) if up_for.is_none_or(|up_for| up_for < STABLE_AFTER) => previous.saturating_add(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_a_minute() {
        let ceilings: Vec<_> = (0..9).map(|attempt| retry_delay(attempt, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(retry_delay(u32::MAX, 1.0), LONGEST_CEILING);
    }

    #[test]
    fn jitter_spreads_over_the_whole_time_below_the_ceiling() {
        assert_eq!(retry_delay(5, 0.0), Duration::ZERO);
        assert_eq!(retry_delay(5, 0.25), Duration::from_secs(4));
    }

    #[test]
    fn only_a_connection_that_lasted_starts_the_count_again() {
        assert_eq!(next_attempt(None, None), 0);
        assert_eq!(next_attempt(Some(6), None), 7);
        assert_eq!(next_attempt(Some(6), Some(Duration::from_secs(2))), 7);
        assert_eq!(next_attempt(Some(6), Some(STABLE_AFTER)), 0);
        assert_eq!(next_attempt(Some(u32::MAX), None), u32::MAX);
    }
}
