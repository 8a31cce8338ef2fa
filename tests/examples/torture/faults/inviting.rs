//! An invite that cannot be kept.

use anyhow::{Context as _, Result};
use serde_json::Value;
use valetkey_tests::tenant::Reuse;

use super::{DAMAGE, Deed, Old, SILENT, STUCK, TOLD, UNHARMED, deaf_to_limits, meet, row};
use crate::handle::{Thread, Victim};
use crate::kills::recorded_in;
use crate::report::Row;
use crate::scene::{Scene, tokens_on_disk};

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of making an invite");
    let scene = Scene::new(Reuse::Tolerant, false).await?;
    let victim = deaf_to_limits(&scene.dir(), None).await?;
    let mut inviting = Inviting { scene, victim };
    let work = async |victim: &mut Victim| invite(victim).await.map(drop);
    let calls = recorded_in(&mut inviting.victim, &[Thread::Network], work).await?;
    meet(&mut inviting, &calls, stride, &mut row).await?;
    inviting.victim.kill().await?;
    Ok(row)
}

async fn invite(victim: &mut Victim) -> Result<Value> {
    victim.ask("invite", &["invited", "failure"]).await?.context("it ended by itself")
}

struct Inviting {
    scene: Scene,
    victim: Victim,
}

impl Deed for Inviting {
    type Ended = (Old, Value);

    fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    async fn take_place(&mut self) -> Result<Self::Ended> {
        let old = Old::of(self.scene.dir().join("registry.json"))?;
        Ok((old, invite(&mut self.victim).await?))
    }

    async fn judge(&mut self, row: &mut Row, place: &str, (old, answer): Self::Ended) -> Result<()> {
        if let Err(torn) = tokens_on_disk(&self.scene.dir()) {
            row.fail(DAMAGE, format!("{place}: {torn}"));
        }
        if answer["event"] == "invited" {
            row.add(UNHARMED, 1);
            return Ok(());
        }
        // An fsync of the directory that fails comes after the new file is in place.
        if !(place.contains("fsync") || old.is_there()) {
            row.fail(DAMAGE, place);
        }
        if answer["problem"].as_str().is_none_or(str::is_empty) {
            row.fail(SILENT, place);
        }
        let again = invite(&mut self.victim).await?;
        if again["event"] == "invited" {
            row.add(TOLD, 1);
        } else {
            row.fail(STUCK, format!("{place}: {}", again["problem"]));
        }
        Ok(())
    }

    async fn begin_anew(&mut self) -> Result<()> {
        self.victim.kill().await?;
        self.victim = deaf_to_limits(&self.scene.dir(), None).await?;
        Ok(())
    }
}
