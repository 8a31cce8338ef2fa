//! SIGKILL at random moments: while it opens its directory, and while it refreshes without a pause.

use std::time::Duration;

use anyhow::Result;
use valetkey_tests::tenant::{ALICE, Reuse};

use crate::handle::Victim;
use crate::kills::{self, KILLS};
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk};

/// Longer than a start and a few refreshes.
const LIFE: Duration = Duration::from_millis(120);
/// A generation of the provider: its log and its tokens grow with every refresh.
const PER_SCENE: usize = 500;

/// splitmix64: a run can be repeated from its seed.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }
}

/// `count` kills, half with a provider that tolerates reuse and half with one that does for a minute.
pub async fn kills(count: usize, seed: u64) -> Result<Row> {
    let mut row = kills::row(format!("SIGKILL at random moments (seed {seed})"));
    let mut chance = Chance(seed);
    let mut left = count;
    for reuse in [Reuse::Tolerant, Reuse::Grace].into_iter().cycle() {
        if left == 0 {
            break;
        }
        let now = left.min(PER_SCENE).min(count.div_ceil(2));
        left -= now;
        let scene = Scene::new(reuse, true).await?;
        let mut ledger = Ledger::of(&scene.dir())?;
        for _ in 0..now {
            one(&mut row, &scene, &mut ledger, &mut chance).await?;
        }
        // The last restart.
        let mut victim = Victim::on(&scene.dir(), None).await?;
        let answer = victim.token().await?;
        if answer.is_none_or(|answer| answer["event"] != "token") {
            row.fail(kills::LOST, "at the end");
        }
        victim.kill().await?;
    }
    control(&mut row, &mut chance).await?;
    Ok(row)
}

/// The same on a writer that truncates in place.
async fn control(row: &mut Row, chance: &mut Chance) -> Result<()> {
    let scene = Scene::new(Reuse::Tolerant, false).await?;
    let file = scene.world.file(ALICE);
    let good = std::fs::read(&file)?;
    let mut torn = 0;
    for _ in 0..CONTROLS {
        let mut victim =
            Victim::start(&mut Victim::command(&["in-place", &file.display().to_string()])?).await?;
        victim.tell(&"write\n".repeat(WRITES)).await?;
        tokio::time::sleep(chance.up_to(LIFE / 10)).await;
        victim.kill().await?;
        torn += u64::from(tokens_on_disk(&scene.dir()).is_err());
        std::io::Write::write_all(&mut std::fs::File::create(&file)?, &good)?;
    }
    row.caught(torn, CONTROLS, "a writer that truncates in place");
    Ok(())
}

const CONTROLS: u64 = 40;
/// More than it comes to.
const WRITES: usize = 1000;

async fn one(row: &mut Row, scene: &Scene, ledger: &mut Ledger, chance: &mut Chance) -> Result<()> {
    let life = chance.up_to(LIFE);
    let mut victim = Victim::unready(&scene.dir())?;
    victim.tell("tokens-for-ever").await?;
    tokio::time::sleep(life).await;
    victim.kill().await?;
    row.add(KILLS, 1);
    let ready = victim.said.iter().any(|line| line["event"] == "ready");
    row.add(if ready { "of them at work" } else { "of them while it started" }, 1);
    for line in &victim.said {
        if line["event"] == "failed" {
            row.fail("restarts that failed", line["problem"].to_string());
        } else if line["event"] == "failure" {
            row.fail(kills::LOST, line["problem"].to_string());
        }
    }
    let tokens = victim.handed_out();
    row.add("tokens handed out", tokens.len() as u64);
    ledger.handed_out(tokens);
    kills::judge_disk(row, scene, ledger, &format!("{life:?} after the start"));
    Ok(())
}
