//! How many sign-ins of a device are tried. Each has Microsoft asked and, until that is answered, stands where one that works
//! has stood; and any paired device can name any account that its invite admits.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use valetkey_handoff::Thumbprint;

/// Sign-ins of one device in a row of which none has worked: as many as a broker that was away brings at once, before the first
/// of them has been tried. Fewer would make a genuine one wait until it is sent again, and come after a newer one of another
/// account.
const BURST: u32 = 32;
/// After those, one in this time. A companion sends again what it gets no answer to, so a genuine one comes in its turn.
const ONE_IN: SignedDuration = SignedDuration::from_mins(1);

/// The sign-ins of each paired device that were taken in and have not worked.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(HashMap<Thumbprint, Untried>);

#[derive(Debug)]
struct Untried {
    count: u32,
    /// When `count` last went down, or began.
    since: Timestamp,
}

impl Arrivals {
    /// Whether one more of this device may be tried now.
    pub(crate) fn may_come(&mut self, device: &Thumbprint, now: Timestamp) -> bool {
        let Some(untried) = self.0.get_mut(device) else { return true };
        let waited = now.duration_since(untried.since);
        // A clock that was put back must not keep anybody waiting for long.
        if waited < SignedDuration::ZERO {
            untried.since = now;
        }
        let earned = u32::try_from((waited.as_secs() / ONE_IN.as_secs()).max(0)).unwrap_or(u32::MAX);
        if earned > 0 {
            untried.count = untried.count.saturating_sub(earned);
            untried.since = now;
        }
        untried.count < BURST
    }

    pub(crate) fn came(&mut self, device: &Thumbprint, now: Timestamp) {
        let untried = self.0.entry(device.clone()).or_insert(Untried { count: 0, since: now });
        if untried.count == 0 {
            untried.since = now;
        }
        untried.count += 1;
    }

    /// One of this device has worked.
    pub(crate) fn worked(&mut self, device: &Thumbprint) {
        self.0.remove(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_262_400 + second).unwrap()
    }

    fn device(letter: char) -> Thumbprint {
        format!("{letter}{}", "A".repeat(42)).parse().unwrap()
    }

    fn tried(arrivals: &mut Arrivals, device: &Thumbprint, seconds: impl Iterator<Item = i64>) -> usize {
        seconds
            .filter(|second| {
                let may = arrivals.may_come(device, at(*second));
                if may {
                    arrivals.came(device, at(*second));
                }
                may
            })
            .count()
    }

    #[test]
    fn so_many_in_a_row_are_tried_and_then_one_a_minute() {
        let mut arrivals = Arrivals::default();
        let (loud, quiet) = (device('A'), device('B'));
        assert_eq!(tried(&mut arrivals, &loud, 0..50), BURST as usize);
        assert_eq!(tried(&mut arrivals, &loud, 50..650), 10);
        assert_eq!(tried(&mut arrivals, &quiet, 649..650), 1, "nobody waits for another");
    }

    #[test]
    fn one_that_works_makes_room_at_once_and_a_clock_put_back_keeps_nobody_out() {
        let mut arrivals = Arrivals::default();
        let one = device('A');
        assert_eq!(tried(&mut arrivals, &one, 1000..1050), BURST as usize);
        arrivals.worked(&one);
        assert_eq!(tried(&mut arrivals, &one, 1050..1100), BURST as usize);
        assert_eq!(tried(&mut arrivals, &one, 0..61), 1);
    }
}
