//! A handoff that cannot be stored.

use anyhow::{Result, ensure};
use serde_json::Value;
use valetkey_handoff::Sealed;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::Reuse;

use super::{DAMAGE, Deed, LATER, SILENT, STUCK, TOLD, UNHARMED, meet, names_a_problem, row};
use crate::handle::{Thread, Victim};
use crate::kills::{online, recorded_in};
use crate::report::Row;
use crate::scene::{Scene, tokens_on_disk};

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
    storing.victim.kill().await?;
    Ok(row)
}

struct Storing {
    scene: Scene,
    victim: Victim,
}

impl Deed for Storing {
    type Ended = (Sealed, Option<Value>);

    fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        self.victim.said.clear();
        Ok(())
    }

    async fn take_place(&mut self) -> Result<Self::Ended> {
        let sealed = self.scene.hand_over().await;
        // What a device hears and what a status says come in the order in which they happened.
        self.scene.device.hello();
        Ok((sealed, ended(&mut self.victim, &mut self.scene).await?))
    }

    async fn judge(&mut self, row: &mut Row, place: &str, (sealed, status): Self::Ended) -> Result<()> {
        if let Err(torn) = tokens_on_disk(&self.scene.dir()) {
            row.fail(DAMAGE, format!("{place}: {torn}"));
        }
        let Some(status) = status else {
            row.add(UNHARMED, 1);
            return Ok(());
        };
        if !names_a_problem(&status) {
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

/// `None`: there is a receipt. Else the status after the fault was met.
async fn ended(victim: &mut Victim, scene: &mut Scene) -> Result<Option<Value>> {
    let receipt = tokio::time::timeout(WITHOUT_RECEIPT, scene.receipt()).await;
    if matches!(receipt, Ok(Ok(Outcome::Stored { .. }))) {
        return Ok(None);
    }
    victim.status().await.map(Some)
}

/// A store and its refresh take a twentieth of it on a machine at rest.
const WITHOUT_RECEIPT: std::time::Duration = std::time::Duration::from_secs(2);
