//! A refresh that cannot be stored.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use valetkey_tests::tenant::{ALICE, Reuse};

use super::{
    CASES, DAMAGE, Deed, LATER, Old, SILENT, STUCK, TOLD, UNHARMED, deaf_to_limits, is_well, meet,
    names_a_problem, names_a_trouble, row,
};
use crate::handle::{Strace, Thread, Victim};
use crate::kills::recorded_in;
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk};

/// Longer than a token of [`Scene`] lives: one that still works would be handed out instead of an error.
const EXPIRED: &str = "advance 100";
const SHORT_WRITES: u64 = 40;

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of a refresh, provider: strict");
    let mut refresh = Refresh::new().await?;
    let work = async |victim: &mut Victim| victim.token().await.map(drop);
    let calls = recorded_in(&mut refresh.victim, &[Thread::Disk], work).await?;
    refresh.victim.said.clear();
    meet(&mut refresh, &calls, stride, &mut row).await?;
    refresh.victim.kill().await?;
    control(&mut row).await?;
    Ok(row)
}

/// Real ones, by the limit of a file's size: the call that reaches it writes less, and the next one fails.
pub async fn short_writes(stride: usize) -> Result<Row> {
    let mut row = row("Short writes of a refresh, provider: strict");
    let mut refresh = Refresh::new().await?;
    let size = std::fs::metadata(refresh.scene.world.file(ALICE))?.len();
    for part in (0..SHORT_WRITES).step_by(stride) {
        let bytes = size * part / SHORT_WRITES;
        refresh.prepare().await?;
        limit(&refresh.victim, &bytes.to_string()).await?;
        let ended = refresh.take_place().await?;
        limit(&refresh.victim, "unlimited").await?;
        row.add(CASES, 1);
        refresh.judge(&mut row, &format!("{bytes} of {size} bytes"), ended).await?;
    }
    refresh.victim.kill().await?;
    Ok(row)
}

/// An error that is hidden from the agent: it believes in a file that is not there.
async fn control(row: &mut Row) -> Result<()> {
    let mut refresh = Refresh::new().await?;
    let mut broken = Row::new("");
    let hidden = [
        "-o",
        "/dev/null",
        "-e",
        "trace=renameat,renameat2",
        "-e",
        "inject=renameat,renameat2:retval=0:when=1",
    ];
    for _ in 0..3 {
        refresh.prepare().await?;
        let strace = Strace::attach(&refresh.victim, Thread::Disk, &hidden).await?;
        let ended = refresh.take_place().await?;
        strace.detach().await?;
        refresh.judge(&mut broken, "hidden", ended).await?;
        refresh.victim.token().await?;
    }
    refresh.victim.kill().await?;
    row.caught(u64::from(!broken.failures.is_empty()), 1, "an agent from which the error is hidden");
    Ok(())
}

/// A victim whose every token needs a refresh, at a provider that punishes reuse.
struct Refresh {
    scene: Scene,
    victim: Victim,
    ledger: Ledger,
}

impl Refresh {
    async fn new() -> Result<Self> {
        let scene = Scene::new(Reuse::Strict, true).await?;
        let mut victim = deaf_to_limits(&scene.dir(), None).await?;
        victim.token().await?;
        victim.said.clear();
        let ledger = Ledger::of(&scene.dir())?;
        Ok(Self { scene, victim, ledger })
    }

    async fn answer(&mut self) -> Result<Value> {
        let answer = self.victim.token().await?.context("it ended by itself")?;
        self.ledger.handed_out(self.victim.handed_out());
        Ok(answer)
    }
}

impl Deed for Refresh {
    type Ended = (Old, Value);

    fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        self.victim.ask(EXPIRED, &["advanced"]).await.map(drop)
    }

    async fn take_place(&mut self) -> Result<Self::Ended> {
        let old = Old::of(self.scene.world.file(ALICE))?;
        Ok((old, self.answer().await?))
    }

    async fn judge(&mut self, row: &mut Row, place: &str, (old, answer): Self::Ended) -> Result<()> {
        match tokens_on_disk(&self.scene.dir()) {
            Ok(tokens) if self.ledger.agrees_with(&tokens) => {}
            Ok(_) => row.fail(DAMAGE, format!("{place}: a token was handed out that is not on disk")),
            Err(torn) => row.fail(DAMAGE, format!("{place}: {torn}")),
        }
        if answer["event"] == "token" {
            row.add(UNHARMED, 1);
            return Ok(());
        }
        // Else it met what is read to reach the provider, which is noted in the file as what keeps it from renewing.
        let of_ours = answer["code"] == "storage";
        // An fsync of the directory that fails comes after the new file is in place.
        if of_ours && !(place.contains("fsync") || old.is_there()) {
            row.fail(DAMAGE, place);
        }
        let status = self.victim.status().await?;
        let said = answer["problem"].as_str().is_some_and(|problem| !problem.is_empty());
        if !said || is_well(&status) || (of_ours && !names_a_trouble(&status)) {
            let health = &status["accounts"][0]["health"];
            row.fail(SILENT, format!("{place}: {} {} {health}", answer["problem"], status["troubles"]));
        }
        self.victim.ask(LATER, &["advanced"]).await?;
        let again = self.answer().await?;
        let status = self.victim.status().await?;
        if again["event"] == "token" && !names_a_problem(&status) {
            row.add(TOLD, 1);
        } else {
            row.fail(STUCK, format!("{place}: {} {}", again["problem"], status["troubles"]));
        }
        Ok(())
    }

    /// With another sign-in too: a provider that punishes reuse may have ended this one.
    async fn begin_anew(&mut self) -> Result<()> {
        self.victim.kill().await?;
        *self = Self::new().await?;
        Ok(())
    }
}

/// The soft limit, so that it can be lifted again.
async fn limit(victim: &Victim, bytes: &str) -> Result<()> {
    let status = Command::new("prlimit")
        .args(["--pid", &victim.pid.to_string(), &format!("--fsize={bytes}:")])
        .status()
        .await?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}
