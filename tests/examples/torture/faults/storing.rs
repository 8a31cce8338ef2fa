//! A handoff that cannot be stored.

use anyhow::{Result, ensure};
use serde_json::Value;
use valetkey_handoff::Sealed;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, Reuse};

use super::{
    DAMAGE, Deed, LATER, Old, SILENT, STUCK, TOLD, UNHARMED, is_well, meet, names_a_problem, names_a_trouble,
    row,
};
use crate::handle::{Strace, Thread, Victim};
use crate::kills::{RENAME_PRETENDS, online, recorded_in};
use crate::report::Row;
use crate::scene::{Scene, tokens_on_disk, whole};

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of storing a handoff");
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let mut victim = online(&scene, &scene.world.broker.url()).await?;
    // The first one after a start makes calls that no later one makes.
    scene.hand_over().await;
    scene.receipt().await?;
    let calls = recorded_in(&mut victim, &[Thread::Disk], async |_| {
        scene.hand_over().await;
        scene.receipt().await.map(drop)
    })
    .await?;
    let mut storing = Storing { scene, victim };
    meet(&mut storing, &calls, stride, &mut row).await?;
    control(&mut storing, &mut row).await?;
    storing.victim.kill().await?;
    Ok(row)
}

struct Storing {
    scene: Scene,
    victim: Victim,
}

impl Deed for Storing {
    type Ended = (Old, Sealed, Option<Value>);

    fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        self.victim.said.clear();
        Ok(())
    }

    async fn take_place(&mut self) -> Result<Self::Ended> {
        let old = Old::of(self.scene.world.file(ALICE))?;
        let sealed = self.scene.hand_over().await;
        // What a device hears and what a status says come in the order in which they happened.
        self.scene.device.hello();
        Ok((old, sealed, ended(&mut self.victim, &mut self.scene).await?))
    }

    async fn judge(&mut self, row: &mut Row, place: &str, (old, sealed, status): Self::Ended) -> Result<()> {
        if let Err(torn) = tokens_on_disk(&self.scene.dir()) {
            row.fail(DAMAGE, format!("{place}: {torn}"));
        }
        let is_there = number_on_disk(&self.scene) == Some(self.scene.device.generation);
        let Some(status) = status else {
            if is_there {
                row.add(UNHARMED, 1);
            } else {
                row.fail(DAMAGE, format!("{place}: confirmed, and not on the disk"));
            }
            return Ok(());
        };
        if !(is_there || old.is_there()) {
            row.fail(DAMAGE, format!("{place}: neither the old file nor the new one"));
        }
        if is_well(&status) || !names_a_trouble(&status) {
            row.fail(SILENT, format!("{place}: {status}"));
        }
        self.victim.ask(LATER, &["advanced"]).await?;
        // As the outbox does until there is a receipt.
        self.scene.device.send(sealed.as_bytes());
        let outcome = self.scene.receipt().await;
        if !matches!(outcome, Ok(Outcome::Stored { .. })) {
            row.fail(STUCK, format!("{place}: {outcome:?}"));
            return Ok(());
        }
        let status = self.victim.status().await?;
        if names_a_problem(&status) {
            row.fail(STUCK, format!("{place}: {} {}", status["troubles"], status["accounts"][0]["health"]));
        } else {
            row.add(TOLD, 1);
        }
        Ok(())
    }

    async fn begin_anew(&mut self) -> Result<()> {
        self.victim.kill().await?;
        self.victim = another(&mut self.scene).await?;
        Ok(())
    }
}

/// A victim in the place of one that could not go on, well and with everything stored.
pub(super) async fn another(scene: &mut Scene) -> Result<Victim> {
    let victim = online(scene, &scene.world.broker.url()).await?;
    // The number is a newer one, and so is the receipt, whatever the broker still has.
    scene.hand_over().await;
    let outcome = scene.receipt().await?;
    ensure!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    Ok(victim)
}

/// The number of the newest handoff that the disk has.
fn number_on_disk(scene: &Scene) -> Option<u64> {
    let vault = whole(&scene.world.file(ALICE)).ok()?;
    vault["ValetKey"]["seen"][scene.device.keys.thumbprint().as_str()]["gen"].as_u64()
}

/// An error that is hidden from the agent: it confirms what is not there.
async fn control(storing: &mut Storing, row: &mut Row) -> Result<()> {
    let mut broken = Row::new("");
    storing.prepare().await?;
    let strace = Strace::attach(&storing.victim, Thread::Disk, &RENAME_PRETENDS).await?;
    let ended = storing.take_place().await?;
    storing.judge(&mut broken, "hidden", ended).await?;
    strace.detach().await?;
    row.caught(u64::from(!broken.failures.is_empty()), 1, "an agent from which the error is hidden");
    Ok(())
}

/// `None`: there is a receipt. Else the status after the fault was met.
async fn ended(victim: &mut Victim, scene: &mut Scene) -> Result<Option<Value>> {
    let receipt = tokio::time::timeout(WITHOUT_RECEIPT, scene.receipt()).await;
    if matches!(receipt, Ok(Ok(Outcome::Stored { .. }))) {
        return Ok(None);
    }
    let status = victim.status().await?;
    // Nothing is wrong, or it is not said: then no receipt comes either.
    if !names_a_problem(&status) && matches!(scene.receipt().await, Ok(Outcome::Stored { .. })) {
        return Ok(None);
    }
    Ok(Some(status))
}

/// A store and its refresh take a twentieth of it on a machine at rest.
const WITHOUT_RECEIPT: std::time::Duration = std::time::Duration::from_secs(2);
