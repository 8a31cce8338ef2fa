//! Power cuts while handoffs arrive: what was acknowledged to the broker, or confirmed to the device by a receipt, has to be
//! there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, Reuse};

use super::{Disk, LOOK_AGAIN, Mounted, PATIENCE, Round, writer};
use crate::handle::Victim;
use crate::kills::is_online;
use crate::random::Chance;
use crate::scene::{Scene, tokens_on_disk, whole};

/// Between two cuts: as long as a handoff takes to be opened, stored, proven and confirmed.
const BETWEEN: Duration = Duration::from_millis(150);
/// What was sent before a stop is with the device within this.
const ON_ITS_WAY: Duration = Duration::from_millis(20);
/// At once, at most.
const MOST: u64 = 3;

/// What the agent has acknowledged: the numbers of handoffs.
#[derive(Debug, Default, Clone, Copy)]
struct Acknowledged {
    /// The highest whose PUBACK the broker had.
    to_broker: u64,
    /// The highest whose receipt the device had.
    by_receipt: u64,
}

/// The broker's own log: which of the messages that it passed on were acknowledged, in their order.
struct Log {
    file: PathBuf,
    /// Where it stood when the round began.
    from: usize,
    /// The number of the first handoff after that.
    first: u64,
}

impl Log {
    /// The highest handoff that was acknowledged. The device sends nothing else meanwhile, and the broker passes on in order.
    fn acknowledged(&self) -> Result<u64> {
        let text = std::fs::read(&self.file)?;
        let text = String::from_utf8_lossy(&text[self.from.min(text.len())..]);
        let (mut passed_on, mut highest) = (Vec::new(), 0);
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("Sending PUBLISH to the-agent (")
                && rest.contains("/in/")
            {
                ensure!(rest.starts_with("d0"), "a message was passed on twice: {rest}");
                let id = rest.split(", m").nth(1).and_then(|rest| rest.split(',').next());
                passed_on.push(id.context("an id")?.to_owned());
            } else if let Some((_, rest)) = line.split_once("Received PUBACK from the-agent (Mid: ") {
                let id = rest.split(',').next().unwrap_or_default();
                // Ids are used again: the latest is meant.
                let at = passed_on.iter().rposition(|passed_on| passed_on == id);
                if let Some(at) = at {
                    highest = highest.max(self.first + u64::try_from(at)?);
                }
            }
        }
        Ok(highest)
    }
}

pub async fn round(cuts: usize, chance: &mut Chance, sabotaged: bool) -> Result<Round> {
    // A broker that has nothing of an earlier round's.
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let disk = Disk::with(&scene.dir())?;
    let broker = scene.world.broker.url();
    let mut victim = Victim::start(&mut writer(&disk.state(), Some(&broker), sabotaged)?).await?;
    victim.until(is_online).await?.context("it ended by itself")?;
    let file = scene.world.broker.log_file();
    let log = Log { from: std::fs::read(&file)?.len(), file, first: scene.device.generation + 1 };
    let (mut round, mut told) = (Round::default(), Acknowledged::default());
    for cut in 0..cuts {
        for _ in 0..=chance.next() % MOST {
            scene.hand_over().await;
        }
        // The moment is the experiment: any, or as soon as something more was acknowledged.
        match cut % 4 {
            1 => more_at_broker(&log, told.to_broker).await?,
            3 => told.by_receipt = told.by_receipt.max(receipt(&mut scene).await?),
            _ => tokio::time::sleep(chance.up_to(BETWEEN)).await,
        }
        victim.stop().await?;
        while let Ok(more) = tokio::time::timeout(ON_ITS_WAY, receipt(&mut scene)).await {
            told.by_receipt = told.by_receipt.max(more?);
        }
        told.to_broker = log.acknowledged()?;
        let found = disk.as_it_is(|| victim.go_on())?;
        round.cuts += 1;
        round.to_broker += told.to_broker.saturating_sub(log.first - 1);
        round.by_receipt += told.by_receipt.saturating_sub(log.first - 1);
        if let Err(loss) = compare(&scene, &found, told) {
            round.losses.push(loss.to_string());
        }
        // Nothing is under way at the next cut that was sent before this one.
        while told.by_receipt < scene.device.generation {
            told.by_receipt = told.by_receipt.max(receipt(&mut scene).await?);
        }
    }
    victim.kill().await?;
    Ok(round)
}

/// The number of the next handoff that is confirmed.
async fn receipt(scene: &mut Scene) -> Result<u64> {
    let receipt = scene.device.receipt().await;
    // One that was overtaken by another of the same account says so.
    ensure!(
        matches!(receipt.outcome, Outcome::Stored { .. }) || receipt.generation < scene.device.generation,
        "{receipt:?}"
    );
    Ok(if matches!(receipt.outcome, Outcome::Stored { .. }) { receipt.generation } else { 0 })
}

async fn more_at_broker(log: &Log, than: u64) -> Result<()> {
    let more = async {
        while log.acknowledged()? <= than {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, more).await.context("nothing is acknowledged any more")?
}

/// What was acknowledged against what is on the disk.
fn compare(scene: &Scene, found: &Mounted, told: Acknowledged) -> Result<()> {
    let state = found.0.join("state");
    tokens_on_disk(&state)?;
    let name = scene.world.file(ALICE);
    let vault = whole(&state.join("vault").join(name.file_name().context("a name")?))?;
    let seen = &vault["ValetKey"]["seen"][scene.device.keys.thumbprint().as_str()];
    let stored = seen["gen"].as_u64().context("the number of the last handoff")?;
    ensure!(
        stored >= told.to_broker,
        "handoff {} was acknowledged to the broker, and {stored} is there",
        told.to_broker
    );
    ensure!(
        stored >= told.by_receipt,
        "handoff {} was confirmed by a receipt, and {stored} is there",
        told.by_receipt
    );
    let verdict = &seen["verdict"]["result"];
    ensure!(
        stored > told.by_receipt || verdict == "stored",
        "handoff {stored} was confirmed, and its verdict is {verdict}"
    );
    Ok(())
}
