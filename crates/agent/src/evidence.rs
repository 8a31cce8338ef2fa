//! How many refused messages are kept, logged and told: each costs the disk, and anybody at the broker can send them.

use jiff::{SignedDuration, Timestamp};

/// A first burst is told in full: as many as the state directory keeps.
const BURST: u32 = 32;
/// After it, one in this time; the others are only counted.
const ONE_IN: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Evidence {
    left: u32,
    /// When `left` last grew, or was full.
    since: Timestamp,
    untold: u64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { left: BURST, since: Timestamp::MIN, untold: 0 }
    }
}

impl Evidence {
    /// Whether this one is to be told, and if so, how many before it were not.
    pub(crate) fn tell(&mut self, now: Timestamp) -> Option<u64> {
        let waited = now.duration_since(self.since);
        // A clock that was put back must not silence it for long.
        if waited < SignedDuration::ZERO {
            self.since = now;
        }
        let earned = u32::try_from((waited.as_secs() / ONE_IN.as_secs()).max(0)).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            self.untold += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_burst_is_told_in_full_and_a_flood_by_the_second() {
        let mut evidence = Evidence::default();
        let told = |evidence: &mut Evidence, second| {
            (0..1000).filter_map(|_| evidence.tell(at(second))).collect::<Vec<_>>()
        };
        assert_eq!(told(&mut evidence, 1000), vec![0; 32]);
        assert_eq!(told(&mut evidence, 1001), [968]);
        assert_eq!(told(&mut evidence, 1003), [999, 0]);
        assert_eq!(told(&mut evidence, 9999).len(), 32, "a quiet time earns a burst again, and no more");
    }

    #[test]
    fn a_clock_that_is_put_back_or_forward_silences_nothing() {
        let mut evidence = Evidence::default();
        while evidence.tell(at(1_000_000_000)).is_some() {}
        assert_eq!(evidence.tell(at(1000)), None);
        assert!(evidence.tell(at(1001)).is_some());
        assert!(evidence.tell(Timestamp::MAX).is_some());
        assert!(evidence.tell(at(1000)).is_some());
    }
}
