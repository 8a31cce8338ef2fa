//! When an account is refreshed without anybody asking. Pure: times in, a time out.

use jiff::{SignedDuration, Timestamp};

/// A token this close to its end is not handed out while a new one can be had. Microsoft's libraries use the same.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The latest refresh before the end, so that an answer has time to come before [`SKEW`] makes callers wait for it.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// Of a token's life: many accounts that signed in together are spread over this much of it.
const JITTER_SHARE: f64 = 0.2;
/// First wait after a retryable failure; it doubles.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// The longest wait after retryable failures: a token ends within the hour, and a person waits for the receipt.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(10);
/// A provider that asks for more than this is asked again anyway; it may only have a wrong clock.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// What an administrator changed is noticed within this time.
pub const BLOCKED_RETRY: SignedDuration = SignedDuration::from_hours(1);

/// When to refresh a token that was obtained at `obtained` and ends at `expires`. `refresh_at` is the provider's own wish
/// (`refresh_in`). `jitter` is drawn from 0..1 by the caller.
///
/// Always after `obtained`, and at least one [`SKEW`] before the end if the token lives long enough for that.
pub fn refresh_at(
    obtained: Timestamp,
    expires: Timestamp,
    refresh_at: Option<Timestamp>,
    jitter: f64,
) -> Timestamp {
    let life = expires.duration_since(obtained).max(SignedDuration::ZERO);
    let latest = if life > (SKEW + AHEAD) * 2 { life - SKEW - AHEAD } else { life / 2 };
    let wish =
        refresh_at.map_or(latest, |at| at.duration_since(obtained).clamp(SignedDuration::ZERO, latest));
    let earlier = life.as_secs_f64() * JITTER_SHARE * jitter.clamp(0.0, 1.0);
    // A token of seconds still has to be used once before it is replaced.
    let wait = (wish.as_secs_f64() - earlier).max(wish.as_secs_f64() / 2.0);
    obtained + SignedDuration::try_from_secs_f64(wait).unwrap_or(wish)
}

/// When to try again after the `failures`-th retryable failure in a row (from 1). A `Retry-After` is obeyed.
pub fn retry_at(
    now: Timestamp,
    failures: u32,
    retry_after: Option<SignedDuration>,
    jitter: f64,
) -> Timestamp {
    let doubled = FIRST_RETRY * 2_i32.pow(failures.saturating_sub(1).min(10));
    let base = doubled.min(LONGEST_RETRY);
    let spread = base.as_secs_f64() * (0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    let wait = SignedDuration::try_from_secs_f64(spread).unwrap_or(base);
    let asked = retry_after.unwrap_or(SignedDuration::ZERO).min(LONGEST_RETRY_AFTER);
    now + wait.max(asked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_262_400 + seconds).unwrap()
    }

    #[test]
    fn an_hour_long_token_is_refreshed_well_before_its_end_and_not_all_at_once() {
        assert_eq!(refresh_at(at(0), at(3600), None, 0.0), at(3000));
        assert_eq!(refresh_at(at(0), at(3600), None, 1.0), at(2280));
    }

    #[test]
    fn the_providers_wish_is_honoured_unless_it_is_too_late() {
        assert_eq!(refresh_at(at(0), at(86_400), Some(at(43_200)), 0.0), at(43_200));
        assert_eq!(refresh_at(at(0), at(3600), Some(at(3590)), 0.0), at(3000));
    }

    #[test]
    fn retry_after_is_obeyed_and_the_waits_grow_to_a_limit() {
        assert_eq!(retry_at(at(0), 1, Some(SignedDuration::from_secs(120)), 1.0), at(120));
        assert_eq!(retry_at(at(0), 1, None, 1.0), at(5));
        assert_eq!(retry_at(at(0), 4, None, 1.0), at(40));
        assert_eq!(retry_at(at(0), 400, None, 1.0), at(600));
    }

    proptest! {
        #[test]
        fn a_refresh_lies_within_the_tokens_life(
            life in 0_i64..200_000, wish in proptest::option::of(-10_i64..300_000), jitter in 0.0..1.0_f64,
        ) {
            let next = refresh_at(at(0), at(life), wish.map(at), jitter);
            prop_assert!(next >= at(0) && next <= at(life));
            if life > 1200 {
                prop_assert!(next <= at(life) - SKEW);
            }
        }

        #[test]
        fn a_retry_is_never_before_it_was_asked_for(
            failures in 0_u32..100, asked in proptest::option::of(0_i64..10_000), jitter in 0.0..1.0_f64,
        ) {
            let next = retry_at(at(0), failures, asked.map(SignedDuration::from_secs), jitter);
            prop_assert!(next >= at(asked.unwrap_or(0)) && next > at(1));
        }
    }
}
