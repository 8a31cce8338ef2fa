//! Clocks that are set while agent and companion run, and computers that sleep: no hot loop, no false "expired", and every
//! journey ends in "Connected" or in a true sentence with a way on.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use crate::handle::Victim;
use crate::report::Row;

mod faked;
mod journey;

use faked::FakeClock;
pub use faked::library;
use journey::{Found, Ground};

/// How far the journey was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeSignIn,
    Waiting,
    HandingOver,
    Connected,
    ReconnectPending,
}

/// Whose clock it is. `Both`: a companion on the agent's own computer, or a whole network by one wrong time server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Agent,
    Companion,
    Both,
}

/// Seconds ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Set(i64),
    /// Sixty times as fast as the real one.
    Races,
    /// Stopped, and when it goes on its clock shows this.
    Sleeps(i64),
}

#[derive(Debug, Clone, Copy)]
struct Scenario {
    phase: Phase,
    side: Side,
    how: How,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}, {:?}", self.phase, self.side, self.how)
    }
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const DECADE: i64 = 3652 * DAY;
const PHASES: [Phase; 5] =
    [Phase::BeforeSignIn, Phase::Waiting, Phase::HandingOver, Phase::Connected, Phase::ReconnectPending];
const SIDES: [Side; 3] = [Side::Agent, Side::Companion, Side::Both];
const JUMPS: [How; 7] = [
    How::Set(HOUR),
    How::Set(-HOUR),
    How::Set(DAY),
    How::Set(-DAY),
    How::Set(DECADE),
    How::Set(-DECADE),
    How::Races,
];
/// The last two: a clock without a battery, and one whose battery is wrong.
const SLEEPS: [i64; 5] = [HOUR, DAY, 14 * DAY, -DECADE, DECADE];
/// Most of a journey is waiting; each also has two programs at work, and shares a provider.
const AT_ONCE: usize = 4;

/// Every jump at every stage, and every side asleep at every stage: 50.
fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (p, phase) in PHASES.into_iter().enumerate() {
        for (j, how) in JUMPS.into_iter().enumerate() {
            all.push(Scenario { phase, side: SIDES[(p + j) % SIDES.len()], how });
        }
        for (s, side) in SIDES.into_iter().enumerate() {
            all.push(Scenario { phase, side, how: How::Sleeps(SLEEPS[(p + s) % SLEEPS.len()]) });
        }
    }
    all
}

const HOT: &str = "processes that ran hot";
const FALSE_EXPIRED: &str = "false \"expired\"";
const UNTRUE: &str = "sentences that were not true";
const NO_END: &str = "journeys without an end in \"Connected\"";

/// Every `stride`th scenario.
pub async fn jumps(stride: usize) -> Result<Row> {
    let mut row = Row::new("Clocks set by ±1 h, ±1 day, ±10 years and × 60, and sleep, on either side");
    for what in ["scenarios", "that went on to Connected", HOT, FALSE_EXPIRED, UNTRUE, NO_END] {
        row.add(what, 0);
    }
    let left = Arc::new(Mutex::new(all().into_iter().step_by(stride).collect::<Vec<_>>()));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let left = Arc::clone(&left);
            tokio::spawn(async move {
                let mut done = Vec::new();
                let mut ground = None;
                loop {
                    let Some(scenario) = left.lock().await.pop() else { return anyhow::Ok(done) };
                    if ground.is_none() {
                        ground = Some(Ground::new().await?);
                    }
                    if let Some(ground) = &ground {
                        done.push((scenario, journey::run(ground, &scenario, false).await));
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        for (scenario, found) in worker.await?? {
            count(&mut row, &scenario, found);
        }
    }
    if let Err(error) = controls(&mut row).await {
        row.fail("controls that failed", format!("{error:#}"));
    }
    Ok(row)
}

fn count(row: &mut Row, scenario: &Scenario, found: Result<Found>) {
    row.add("scenarios", 1);
    let found = match found {
        Ok(found) => found,
        Err(error) => return row.fail(NO_END, format!("{scenario}: {error:#}")),
    };
    if found.told.is_empty() {
        row.add("that went on to Connected", 1);
    }
    for code in &found.told {
        row.add(
            &format!("times the person was told \"{code}\", and was Connected once the clock was right"),
            1,
        );
    }
    for (what, all) in [(HOT, &found.hot), (FALSE_EXPIRED, &found.false_expired), (UNTRUE, &found.untrue)] {
        for one in all {
            row.fail(what, format!("{scenario}: {one}"));
        }
    }
}

/// A sign-in that ends and nobody may know why, and a timer that trusts the clock. Both must be caught.
async fn controls(row: &mut Row) -> Result<()> {
    let ground = Ground::new().await?;
    let scenario = Scenario { phase: Phase::Connected, side: Side::Agent, how: How::Set(DAY) };
    let found = journey::run(&ground, &scenario, true).await?;
    row.caught(
        u64::from(!found.false_expired.is_empty()),
        1,
        "an \"expired\" for which the check knows no reason",
    );

    let folder = tempfile::tempdir()?;
    let clock = FakeClock::new(folder.path().join("clock"))?;
    let mut command = Victim::command(&["tick"])?;
    clock.rules(&mut command)?;
    let mut victim = Victim::start(&mut command).await?;
    // A thousand years have more seconds than it can make up for while it is watched; ten thousand no calendar has.
    clock.set(DECADE * 100)?;
    // It is asleep for its second at first.
    let share = journey::share_of(victim.pid).await?.max(journey::share_of(victim.pid).await?);
    victim.kill().await.context("the control")?;
    row.caught(
        u64::from(share > journey::MOST_WORK),
        1,
        "a timer that makes up for every second that a jump left out",
    );
    Ok(())
}
