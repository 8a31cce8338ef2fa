//! Simulated power cuts: the agent writes on a file system of its own, is stopped, and the disk as it is at that moment is
//! mounted elsewhere. What was acknowledged has to be there.
//!
//! It runs in a mount namespace of its own, so that nothing stays mounted however it ends.

mod handoffs;

use std::path::{Path, PathBuf};
use std::process::Command as Blocking;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use valetkey_tests::tenant::Reuse;

use crate::handle::Victim;
use crate::random::Chance;
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk, whole};

const CHECK: &str = "Power cuts: an 8 MiB ext4 as it was at the moment, mounted again";
const CUTS: &str = "power cuts";
const LOST: &str = "acknowledged writes lost";
const WRITES: &str = "acknowledged invites and tokens held against the disk";
const TO_BROKER: &str = "handoffs acknowledged to the broker (PUBACK) held against the disk";
const BY_RECEIPT: &str = "handoffs confirmed by a receipt held against the disk";
/// The smallest that ext4 makes with a journal.
const IMAGE: u64 = 8 * 1024 * 1024;
/// The registry grows with each invite; a new round begins with a new disk.
const CUTS_A_ROUND: usize = 25;
/// Between two cuts: some ten writes.
const BETWEEN: Duration = Duration::from_millis(60);
/// Shorter than what comes between an acknowledgement and the next write.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 3;

/// Cuts the power `cuts` times, or says why that is not possible here.
pub async fn cuts(cuts: usize) -> Result<Row> {
    if let Some(why) = impossible() {
        return Ok(Row::skipped(CHECK, why));
    }
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(["cuts", &cuts.to_string()])
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let row = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    row.with_context(|| format!("the power cuts ended early: {}", String::from_utf8_lossy(&output.stderr)))
}

fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".into());
    }
    for tool in ["mkfs.ext4", "unshare", "mount"] {
        if !Blocking::new(tool).arg("--help").output().is_ok_and(|_| true) {
            return Some(format!("{tool} is missing"));
        }
    }
    let tried = (|| -> Result<()> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("image");
        make_image(&image)?;
        let script = r#"mkdir "$0.mounted" && mount -o loop "$0" "$0.mounted""#;
        done(
            Blocking::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", script])
                .arg(&image),
        )
    })();
    tried.err().map(|error| format!("no loop device can be mounted here: {error}"))
}

/// In the namespace.
pub async fn inside(cuts: usize) -> Result<Row> {
    let mut row = Row::new(CHECK);
    for what in [CUTS, LOST] {
        row.add(what, 0);
    }
    for what in [WRITES, TO_BROKER, BY_RECEIPT] {
        row.add(what, 0);
    }
    let mut chance = Chance(SEED);
    let handoffs = cuts / 2;
    let scene = Scene::new(Reuse::Tolerant, true).await?;
    for cuts in in_rounds(cuts - handoffs) {
        Round::of_writes(&scene, cuts, &mut chance, false).await?.add_to(&mut row);
    }
    let mut among_handoffs = 0;
    for cuts in in_rounds(handoffs) {
        let round = handoffs::round(cuts, &mut chance, false).await?;
        among_handoffs += round.cuts;
        round.add_to(&mut row);
    }
    row.add("of the cuts while handoffs arrived from a broker", among_handoffs);
    let round = Round::of_writes(&scene, cuts.clamp(8, CUTS_A_ROUND), &mut chance, true).await?;
    row.caught(
        round.losses.len() as u64,
        round.cuts,
        "the same agent whose fsync of the directory only pretends",
    );
    let round = handoffs::round(cuts.clamp(8, CUTS_A_ROUND), &mut chance, true).await?;
    row.caught(round.losses.len() as u64, round.cuts, "the same agent, while handoffs arrive");
    Ok(row)
}

fn in_rounds(cuts: usize) -> impl Iterator<Item = usize> {
    (0..cuts).step_by(CUTS_A_ROUND).map(move |begun| (cuts - begun).min(CUTS_A_ROUND))
}

#[derive(Debug, Default)]
struct Round {
    cuts: u64,
    /// Invites and tokens.
    writes: u64,
    /// Handoffs, each time that it is held against the disk.
    to_broker: u64,
    by_receipt: u64,
    /// One for each cut after which something was missing.
    losses: Vec<String>,
}

impl Round {
    async fn of_writes(scene: &Scene, cuts: usize, chance: &mut Chance, sabotaged: bool) -> Result<Self> {
        let disk = Disk::with(&scene.dir())?;
        let acknowledged = disk.folder.path().join("acknowledged");
        let mut victim = Victim::start(&mut writer(&disk.state(), None, sabotaged)?).await?;
        victim.tell(&format!("write-for-ever {}", acknowledged.display())).await?;
        let mut round = Self::default();
        for cut in 0..cuts {
            // The moment is the experiment: any, or as soon as something more was acknowledged.
            tokio::time::sleep(chance.up_to(BETWEEN)).await;
            if cut % 2 == 1 {
                grown(&acknowledged).await?;
            }
            victim.stop().await?;
            let so_far = std::fs::read_to_string(&acknowledged).unwrap_or_default();
            let found = disk.as_it_is(|| victim.go_on())?;
            round.cuts += 1;
            round.writes += so_far.lines().count() as u64;
            if let Err(loss) = compare(&scene.dir(), &found.0.join("state"), &so_far) {
                round.losses.push(loss.to_string());
            }
        }
        victim.kill().await?;
        Ok(round)
    }

    fn add_to(self, row: &mut Row) {
        for (what, more) in [
            (CUTS, self.cuts),
            (WRITES, self.writes),
            (TO_BROKER, self.to_broker),
            (BY_RECEIPT, self.by_receipt),
        ] {
            row.add(what, more);
        }
        for loss in self.losses {
            row.fail(LOST, loss);
        }
    }
}

/// A state directory on a file system of its own.
struct Disk {
    // Unmounted before the folder goes.
    mounted: Mounted,
    folder: TempDir,
}

impl Disk {
    /// With a copy of this state directory.
    fn with(state: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("disk");
        make_image(&image)?;
        let disk = Self { mounted: Mounted::new(&image, folder.path().join("mounted"))?, folder };
        done(Blocking::new("cp").arg("-a").arg(state).arg(disk.state()))?;
        done(Blocking::new("sync").arg("-f").arg(disk.state()))?;
        Ok(disk)
    }

    fn state(&self) -> PathBuf {
        self.mounted.0.join("state")
    }

    /// What a power cut at this moment leaves, mounted elsewhere. Whoever writes stands still until it is copied.
    fn as_it_is(&self, copied: impl FnOnce() -> Result<()>) -> Result<Mounted> {
        let copy = self.folder.path().join("copy");
        std::fs::copy(self.folder.path().join("disk"), &copy)?;
        copied()?;
        Mounted::new(&copy, self.folder.path().join("found"))
    }
}

/// With `sabotaged`, an fsync of a directory does nothing; nor does one of the audit, which would write the same journal.
fn writer(state: &Path, broker: Option<&str>, sabotaged: bool) -> Result<Command> {
    let state_dir = state.display().to_string();
    let arguments: Vec<&str> = ["run", &state_dir].into_iter().chain(broker).collect();
    if !sabotaged {
        return Victim::command(&arguments);
    }
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:retval=0",
    ]);
    for place in ["", "vault", "audit", "audit/audit.jsonl"] {
        command.arg("-P").arg(state.join(place).components().as_path());
    }
    command.arg(std::env::current_exe()?).arg("victim").args(arguments);
    Ok(command)
}

/// What was acknowledged, in order, against what is on the disk.
fn compare(before: &Path, found: &Path, acknowledged: &str) -> Result<()> {
    let registry = whole(&found.join("registry.json"))?;
    let known: Vec<&str> = registry["invites"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|invite| invite["id"].as_str())
        .collect();
    let mut ledger = Ledger::of(before)?;
    for (number, line) in acknowledged.lines().enumerate() {
        let told: Value = serde_json::from_str(line)?;
        if let Some(id) = told["id"].as_str() {
            ensure!(known.contains(&id), "invite {number} of {}", acknowledged.lines().count());
        } else if let Some(token) = told["token"].as_str() {
            ledger.handed_out(vec![token.to_owned()]);
        } else {
            anyhow::bail!("the writer failed: {}", told["problem"]);
        }
    }
    ensure!(ledger.agrees_with(&tokens_on_disk(found)?), "the sign-in of the last token");
    Ok(())
}

async fn grown(file: &Path) -> Result<()> {
    let size = || std::fs::metadata(file).map_or(0, |facts| facts.len());
    let known = size();
    let grown = async {
        while size() == known {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, grown).await.context("nothing is written any more")
}

fn make_image(image: &Path) -> Result<()> {
    std::fs::File::create(image)?.set_len(IMAGE)?;
    done(Blocking::new("mkfs.ext4").args(["-q", "-F"]).arg(image))
}

/// A loop-mounted image; unmounted when dropped. The journal is written by nobody but fsync.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&at)?;
        done(Blocking::new("mount").args(["-o", "loop,commit=600"]).arg(image).arg(&at))?;
        Ok(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A writer that has just been killed may hold it for another moment; the namespace ends it in any case.
        let _ = Blocking::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn done(command: &mut Blocking) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
