//! `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

/// The longest wait taken from a server. Microsoft asks for seconds, rarely minutes; a typing error there must not put
/// an account to sleep for a year.
pub const MAX_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How long to wait, between zero and [`MAX_RETRY_AFTER`]; `None` for what is neither seconds nor a date.
///
/// Of the three forms of HTTP dates only the one that servers may still send is read.
pub fn parse(value: &str, now: Timestamp) -> Option<SignedDuration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that do not fit are a very long time, not nonsense.
        SignedDuration::from_secs(value.parse().unwrap_or(i64::MAX))
    } else {
        DateTimeParser::new().parse_timestamp(value).ok()?.duration_since(now)
    };
    Some(wait.clamp(SignedDuration::ZERO, MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_http_dates_are_read_and_kept_within_reason() {
        let now: Timestamp = "2026-11-21T04:00:00Z".parse().unwrap();
        let seconds = |value: &str| parse(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Sat, 21 Nov 2026 04:01:30 GMT"), Some(90));
        assert_eq!(seconds("Sat, 21 Nov 2026 03:00:00 GMT"), Some(0), "a date gone by");
        assert_eq!(seconds("86400"), Some(3600));
        assert_eq!(seconds("99999999999999999999999"), Some(3600));
        for nonsense in ["", "-5", "1.5", "soon", "21 Nov", "Sat, 99 Nov 2026 04:01:30 GMT"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }
}
