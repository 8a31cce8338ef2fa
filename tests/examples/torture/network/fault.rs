//! What is done to a line, and for how long.

use std::time::Duration;

use anyhow::Result;
use valetkey_tests::fault_proxy::{Blow, FaultProxy};

use super::lane::Lane;
use super::private::Lossy;
use crate::random::Chance;

/// A modem's.
pub const SLOW: u32 = 32_000;
/// Shorter and longer than it takes to find a connection dead.
const PARTED_FOR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const LOSSY_FOR: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Stall,
    Partition,
    HalfClose,
    Loss,
    Slow,
    Reset,
}

/// Whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Device,
    Agent,
    Both,
}

impl Side {
    pub fn any(chance: &mut Chance) -> Self {
        [Self::Device, Self::Agent, Self::Both][usize::try_from(chance.next() % 3).unwrap_or_default()]
    }

    /// The line whose bytes say when, and what an exchange comes to on it.
    pub fn first(self, lane: &Lane) -> (&FaultProxy, u64) {
        match self {
            Self::Device | Self::Both => (&lane.device_line, lane.exchange.0),
            Self::Agent => (&lane.agent_line, lane.exchange.1),
        }
    }

    fn lines(self, lane: &Lane) -> Vec<&FaultProxy> {
        match self {
            Self::Device => vec![&lane.device_line],
            Self::Agent => vec![&lane.agent_line],
            Self::Both => vec![&lane.device_line, &lane.agent_line],
        }
    }
}

impl Fault {
    /// The longest first, so that many at once end together.
    pub const ALL: [Self; 6] =
        [Self::Stall, Self::Partition, Self::HalfClose, Self::Loss, Self::Slow, Self::Reset];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stall => "a connection that stalls",
            Self::Partition => "a partition of 1 to 30 s",
            Self::HalfClose => "a half-close",
            Self::Loss => "loss of 30 % for 2 s and more",
            Self::Slow => "a line of 32 kbit/s",
            Self::Reset => "a reset",
        }
    }

    /// How long it goes on; `None`: it is over at once, or goes on to the end.
    pub fn lasts(self, chance: &mut Chance) -> Option<Duration> {
        let (least, most) = match self {
            Self::Partition => PARTED_FOR,
            Self::Loss => LOSSY_FOR,
            Self::Stall | Self::HalfClose | Self::Slow | Self::Reset => return None,
        };
        Some(least + chance.up_to(most.saturating_sub(least)))
    }

    /// What falls on the connections that are open.
    fn blow(self, chance: &mut Chance) -> Option<Blow> {
        match self {
            Self::Stall => Some(Blow::Stall),
            Self::HalfClose if chance.next().is_multiple_of(2) => Some(Blow::EndToClient),
            Self::HalfClose => Some(Blow::EndToServer),
            Self::Reset => Some(Blow::Reset),
            Self::Partition | Self::Loss | Self::Slow => None,
        }
    }

    /// Returns once it has begun, as soon as the first line has passed so many bytes: `None` if it never did, because `over`
    /// came first.
    pub async fn begin(
        self,
        lane: &Lane,
        side: Side,
        at: u64,
        lossy: Option<&Lossy>,
        chance: &mut Chance,
        over: impl Future<Output = Result<()>>,
    ) -> Result<Option<()>> {
        let first = side.first(lane).0;
        let blow = self.blow(chance);
        if let Some(blow) = blow {
            first.strike_after(at, blow);
        }
        tokio::select! {
            biased;
            () = first.passed(at) => {}
            ended = over => {
                ended?;
                return Ok(None);
            }
        }
        for line in side.lines(lane) {
            match (self, blow) {
                (_, Some(blow)) if !std::ptr::eq(line, first) => line.strike(blow),
                (Self::Partition, _) => line.cut(),
                (Self::Slow, _) => line.slow_down(SLOW),
                (Self::Loss, _) => {
                    if let Some(lossy) = lossy {
                        lossy.begin(line.port()).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(Some(()))
    }

    pub async fn end(self, lane: &Lane, side: Side, lossy: Option<&Lossy>) -> Result<()> {
        for line in side.lines(lane) {
            line.mend();
            if let (Self::Loss, Some(lossy)) = (self, lossy) {
                lossy.end(line.port()).await?;
            }
        }
        Ok(())
    }

    /// How much longer an exchange may take while it goes on.
    pub fn slower_by(self, bytes: u64) -> Duration {
        match self {
            Self::Slow => Duration::from_millis(bytes * 8 * 1000 / u64::from(SLOW)),
            _ => Duration::ZERO,
        }
    }
}
