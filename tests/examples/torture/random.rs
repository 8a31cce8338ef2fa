//! SIGKILL at random moments: while it opens its directory, while it refreshes without a pause, and while handoffs arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Mutex;
use valetkey_handoff::Sealed;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, Reuse};

use crate::handle::Victim;
use crate::kills::{self, KILLS, Kill};
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk};

/// Longer than a start and a few refreshes.
const LIFE: Duration = Duration::from_millis(120);
/// The same with a broker to connect to, and a handoff to open, store, prove and confirm.
const STORING_LIFE: Duration = Duration::from_millis(250);
/// Lives after which what was handed over has to be there.
const SETTLED_AFTER: usize = 10;
/// Scenes at a time: the two processors of a small machine, and one that waits.
const AT_ONCE: usize = 3;
const HANDED_OUT: &str = "tokens handed out, each held against the disk";
const NEWER: &str = "lives in which one was handed out after a handoff was proven";
const STORED: &str = "times that what was handed over last was stored, and confirmed";

/// What a run of lives is like. Handing over is for the provider that lets one sign-in be handed over again and again.
const RUNS: [(Reuse, bool); 6] = [
    (Reuse::Tolerant, false),
    (Reuse::Tolerant, true),
    (Reuse::Grace, false),
    (Reuse::Tolerant, true),
    (Reuse::Strict, false),
    (Reuse::Tolerant, true),
];

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
    row.add(STORED, 0);
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
                    let run = if storing {
                        hand_over(reuse, lives, seed).await
                    } else {
                        refresh(reuse, lives, seed).await
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
    control(&mut row, &mut chance).await?;
    Ok(row)
}

/// Lives full of refreshes, without a broker.
async fn refresh(reuse: Reuse, lives: usize, seed: u64) -> Result<Row> {
    let (mut row, mut chance) = (Row::default(), Chance(seed));
    let mut scene = Scene::new(reuse, true).await?;
    let mut ledger = Ledger::of(&scene.dir())?;
    for _ in 0..lives {
        let place = one(&mut row, &scene, &mut ledger, &mut chance).await?;
        if matches!(reuse, Reuse::Strict) {
            row.add("of them at the strict provider", 1);
            if !scene.newest_is_on_disk().await? {
                let kill = Kill { place, in_window: true, sealed: None };
                kills::made_good(&mut row, &mut scene, &kill).await?;
                ledger = Ledger::of(&scene.dir())?;
            }
        }
    }
    // The last restart.
    let mut victim = Victim::on(&scene.dir(), None).await?;
    let answer = victim.token().await?;
    if answer.is_none_or(|answer| answer["event"] != "token") {
        row.fail(kills::LOST, "at the end");
    }
    victim.kill().await?;
    Ok(row)
}

/// Lives in which a handoff arrives while tokens are asked for.
async fn hand_over(reuse: Reuse, lives: usize, seed: u64) -> Result<Row> {
    let (mut row, mut chance) = (Row::default(), Chance(seed));
    let mut scene = Scene::new(reuse, true).await?;
    let broker = scene.world.broker.url();
    let mut ledger = Ledger::of(&scene.dir())?;
    for life in 1..=lives {
        let mut victim = Victim::unready(&scene.dir(), Some(&broker))?;
        victim.tell("tokens-for-ever").await?;
        let sealed = scene.hand_over().await;
        tokio::time::sleep(chance.up_to(STORING_LIFE)).await;
        victim.kill().await?;
        row.add(KILLS, 1);
        row.add("of them while handoffs arrived", 1);
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
            settle(&mut row, &mut scene, &sealed, &broker).await?;
        }
    }
    Ok(row)
}

/// Nobody sends it again: the broker or the disk has what was handed over last. Sent once more, it is confirmed.
async fn settle(row: &mut Row, scene: &mut Scene, sealed: &Sealed, broker: &str) -> Result<()> {
    let mut victim = kills::online(scene, broker).await?;
    let verdict = kills::settled(&mut victim, scene.device.generation).await;
    scene.device.send(sealed.as_bytes());
    let receipt = scene.receipt().await;
    match (&verdict, &receipt) {
        (Ok(verdict), Ok(Outcome::Stored { .. })) if verdict == "stored" => row.add(STORED, 1),
        _ => row.fail(kills::LOST, format!("handed over: {verdict:?}, receipt {receipt:?}")),
    }
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

async fn one(row: &mut Row, scene: &Scene, ledger: &mut Ledger, chance: &mut Chance) -> Result<String> {
    let life = chance.up_to(LIFE);
    let mut victim = Victim::unready(&scene.dir(), None)?;
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
    row.add(HANDED_OUT, tokens.len() as u64);
    ledger.handed_out(tokens);
    let place = format!("{life:?} after the start");
    kills::judge_disk(row, scene, ledger, &place);
    Ok(place)
}
