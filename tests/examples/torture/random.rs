//! SIGKILL at random moments: while it opens its directory, while it refreshes without a pause, and while handoffs arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Mutex;
use valetkey_tests::tenant::{ALICE, Reuse};

use crate::handle::Victim;
use crate::kills::{self, KILLS, Kill, RECEIPTS};
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk};

/// Longer than a start and a few refreshes.
const LIFE: Duration = Duration::from_millis(120);
/// The same with a broker to connect to, and a handoff to open, store, prove and confirm.
const STORING_LIFE: Duration = Duration::from_millis(250);
const STORING: &str = "of them while handoffs arrived";
const STRICT: &str = "of them at the strict provider";
/// Lives after which what was handed over has to be there.
const SETTLED_AFTER: usize = 10;
/// Scenes at a time: the two processors of a small machine, and one that waits.
const AT_ONCE: usize = 3;
const HANDED_OUT: &str = "tokens handed out, each held against the disk";
const NEWER: &str = "lives in which one was handed out after a handoff was proven";

/// What a run of lives is like: at which provider, and whether handoffs arrive.
const RUNS: [(Reuse, bool); 6] = [
    (Reuse::Tolerant, false),
    (Reuse::Tolerant, true),
    (Reuse::Grace, false),
    (Reuse::Grace, true),
    (Reuse::Strict, false),
    (Reuse::Strict, true),
];

/// Kills in which at least one token is handed out, also on a busy machine; mostly it is more than one a kill.
const PER_TOKEN: usize = 20;
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

/// `count` kills, half of them while handoffs arrive.
pub async fn kills(count: usize, seed: u64) -> Result<Row> {
    let mut row = kills::row(format!("SIGKILL at random moments (seed {seed})"));
    row.add(RECEIPTS, 0);
    let mut chance = Chance(seed);
    let mut runs = VecDeque::new();
    let mut left = count;
    for (reuse, storing) in RUNS.into_iter().cycle() {
        if left == 0 {
            break;
        }
        let now = left.min(PER_SCENE).min(count.div_ceil(RUNS.len()));
        left -= now;
        runs.push_back((reuse, storing, now, chance.next()));
    }
    let runs = Arc::new(Mutex::new(runs));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let runs = Arc::clone(&runs);
            tokio::spawn(async move {
                let mut found = Vec::new();
                loop {
                    let Some((reuse, storing, lives, seed)) = runs.lock().await.pop_front() else {
                        return anyhow::Ok(found);
                    };
                    let run = match (storing, reuse) {
                        (false, _) => refresh(reuse, lives, seed).await,
                        (true, Reuse::Strict) => hand_over_strictly(lives, seed).await,
                        (true, _) => hand_over(reuse, lives, seed).await,
                    };
                    found.push(run?);
                }
            })
        })
        .collect();
    for worker in workers {
        for part in worker.await?? {
            part.counts.iter().for_each(|(what, more)| row.add(what, *more));
            row.failures.extend(part.failures);
        }
    }
    if row.count(HANDED_OUT) < (count / PER_TOKEN) as u64 {
        row.too_little("few tokens were handed out, so there was next to nothing to lose");
    }
    control(&mut row, &mut chance).await?;
    Ok(row)
}

/// Lives full of refreshes, without a broker.
async fn refresh(reuse: Reuse, lives: usize, seed: u64) -> Result<Row> {
    let (mut row, mut chance) = (Row::default(), Chance(seed));
    let mut scene = Scene::new(reuse, true).await?;
    let mut ledger = Ledger::of(&scene.dir())?;
    for life in 0..lives {
        // Every other one is killed at work, and not while it starts.
        let ready = life % 2 == 1;
        let Some(place) = one(&mut row, &scene, &mut ledger, &mut chance, ready).await? else {
            return Ok(row);
        };
        if matches!(reuse, Reuse::Strict) {
            row.add(STRICT, 1);
            if !scene.newest_is_on_disk().await? {
                let kill = Kill { place, in_window: true, sealed: None };
                kills::made_good(&mut row, &mut scene, &kill).await?;
                ledger = Ledger::of(&scene.dir())?;
            }
        }
    }
    kills::judge_audit(&mut row, &scene)?;
    // The last restart.
    let mut victim = Victim::on(&scene.dir(), None).await?;
    let answer = victim.token().await?;
    if answer.is_none_or(|answer| answer["event"] != "token") {
        row.fail(kills::LOST, "at the end");
    }
    victim.kill().await?;
    Ok(row)
}

/// Lives in which a handoff arrives while tokens are asked for. The provider forgives what a kill leaves behind.
async fn hand_over(reuse: Reuse, lives: usize, seed: u64) -> Result<Row> {
    let (mut row, mut chance) = (Row::default(), Chance(seed));
    let mut scene = Scene::new(reuse, true).await?;
    let broker = scene.world.broker.url();
    let mut ledger = Ledger::of(&scene.dir())?;
    for life in 1..=lives {
        let mut victim = born(&scene, life, &broker).await?;
        victim.tell("tokens-for-ever").await?;
        let sealed = scene.hand_over().await;
        tokio::time::sleep(chance.up_to(STORING_LIFE)).await;
        victim.kill().await?;
        row.add(KILLS, 1);
        row.add(STORING, 1);
        for line in &victim.said {
            if line["event"] == "failed" {
                row.fail(kills::NO_START, line["problem"].to_string());
            } else if line["event"] == "failure" && line["code"] == "auth_required" {
                row.fail(kills::LOST, line["problem"].to_string());
            }
        }
        // A token that comes after the handoff is proven is one of its own.
        let proven = victim.said.iter().position(|line| kills::is_settled(line, scene.device.generation));
        let newer = proven.is_some_and(|at| victim.said[at..].iter().any(|line| line["event"] == "token"));
        ledger.unproven = !newer;
        let tokens = victim.handed_out();
        row.add(HANDED_OUT, tokens.len() as u64);
        row.add(NEWER, u64::from(newer));
        ledger.handed_out(tokens);
        kills::judge_disk(&mut row, &scene, &ledger, "while a handoff arrived");
        if life % SETTLED_AFTER == 0 || life == lives {
            let place = format!("life {life}");
            settle(&mut row, &mut scene, Kill { place, in_window: false, sealed: Some(sealed) }).await?;
        }
    }
    kills::judge_audit(&mut row, &scene)?;
    Ok(row)
}

/// Lives in which a handoff arrives and nothing else goes on: so it is known whose refresh token was rotated. Only a handoff
/// that was being proven just then may be refused.
async fn hand_over_strictly(lives: usize, seed: u64) -> Result<Row> {
    let (mut row, mut chance) = (Row::default(), Chance(seed));
    let mut scene = Scene::new(Reuse::Strict, false).await?;
    let broker = scene.world.broker.url();
    // The broker knows it from now on.
    kills::online(&scene, &broker).await?.kill().await?;
    for number in 0..lives {
        let so_far = scene.rotations().await?;
        let life = chance.up_to(STORING_LIFE);
        let mut victim = born(&scene, number, &broker).await?;
        let sealed = scene.hand_over().await;
        tokio::time::sleep(life).await;
        victim.kill().await?;
        for what in [KILLS, STORING, STRICT] {
            row.add(what, 1);
        }
        let place = format!("{life:?} after the handoff");
        if let Err(torn) = tokens_on_disk(&scene.dir()) {
            row.fail(kills::TORN, format!("{place}: {torn}"));
        }
        // The sign-in that was handed over has given out one itself.
        let in_window = scene.rotations().await? > so_far + 1 && !scene.newest_is_on_disk().await?;
        settle(&mut row, &mut scene, Kill { place, in_window, sealed: Some(sealed) }).await?;
    }
    kills::judge_audit(&mut row, &scene)?;
    Ok(row)
}

/// Every other one is there before the handoff comes.
async fn born(scene: &Scene, number: usize, broker: &str) -> Result<Victim> {
    if number % 2 == 1 {
        return kills::online(scene, broker).await;
    }
    Victim::unready(&scene.dir(), Some(broker))
}

/// The restart after a kill.
async fn settle(row: &mut Row, scene: &mut Scene, kill: Kill) -> Result<()> {
    let broker = scene.world.broker.url();
    let Some(mut victim) = kills::restarted(row, scene, Some(&kill), Some(&broker)).await? else {
        return Ok(());
    };
    kills::arrived(row, scene, &mut victim, &kill).await?;
    victim.kill().await
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

/// What is killed where; `None`: it did not start.
async fn one(
    row: &mut Row,
    scene: &Scene,
    ledger: &mut Ledger,
    chance: &mut Chance,
    ready: bool,
) -> Result<Option<String>> {
    let life = chance.up_to(LIFE);
    let mut victim = if ready {
        let Some(victim) = kills::restarted(row, scene, None, None).await? else { return Ok(None) };
        victim
    } else {
        Victim::unready(&scene.dir(), None)?
    };
    victim.tell("tokens-for-ever").await?;
    tokio::time::sleep(life).await;
    victim.kill().await?;
    row.add(KILLS, 1);
    let at_work = victim.said.iter().any(|line| line["event"] == "ready");
    row.add(if at_work { "of them at work" } else { "of them while it started" }, 1);
    for line in &victim.said {
        if line["event"] == "failed" {
            row.fail("restarts that failed", line["problem"].to_string());
        } else if line["event"] == "failure" {
            row.fail(kills::LOST, line["problem"].to_string());
        }
    }
    let tokens = victim.handed_out();
    row.add(HANDED_OUT, tokens.len() as u64);
    ledger.handed_out(tokens);
    let place = format!("{life:?} after {}", if ready { "it was ready" } else { "the start" });
    kills::judge_disk(row, scene, ledger, &place);
    Ok(Some(place))
}
