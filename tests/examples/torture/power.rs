//! Simulated power cuts: the agent writes on a file system of its own, is stopped, and the disk as it is at that moment is
//! mounted elsewhere. What was acknowledged has to be there.
//!
//! It runs in a mount namespace of its own, so that nothing stays mounted however it ends.

use std::path::{Path, PathBuf};
use std::process::Command as Blocking;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use valetkey_tests::tenant::Reuse;

use crate::handle::Victim;
use crate::random::Chance;
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk, whole};

const CHECK: &str = "Power cuts: an 8 MiB ext4 as it was at the moment, mounted again";
const CUTS: &str = "power cuts";
const LOST: &str = "acknowledged writes lost";
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
    let scene = Scene::new(Reuse::Tolerant, true).await?;
    let mut chance = Chance(SEED);
    let mut left = cuts;
    while left > 0 {
        let now = left.min(CUTS_A_ROUND);
        left -= now;
        let round = Round::run(&scene, now, &mut chance, false).await?;
        row.add(CUTS, round.cuts);
        row.add("acknowledged writes held against the disk", round.acknowledged);
        for loss in round.losses {
            row.fail(LOST, loss);
        }
    }
    let round = Round::run(&scene, cuts.clamp(8, CUTS_A_ROUND), &mut chance, true).await?;
    row.caught(
        round.losses.len() as u64,
        round.cuts,
        "the same agent whose fsync of the directory only pretends",
    );
    Ok(row)
}

#[derive(Debug, Default)]
struct Round {
    cuts: u64,
    acknowledged: u64,
    /// One for each cut after which something was missing.
    losses: Vec<String>,
}

impl Round {
    async fn run(scene: &Scene, cuts: usize, chance: &mut Chance, sabotaged: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let image = at("disk");
        make_image(&image)?;
        let disk = Mounted::new(&image, at("mounted"))?;
        let state = disk.0.join("state");
        done(Blocking::new("cp").arg("-a").arg(scene.dir()).arg(&state))?;
        done(Blocking::new("sync").arg("-f").arg(&state))?;
        let acknowledged = at("acknowledged");
        let mut victim = Victim::start(&mut writer(&state, sabotaged)?).await?;
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
            let copy = at("copy");
            std::fs::copy(&image, &copy)?;
            victim.go_on()?;
            let found = Mounted::new(&copy, at("found"))?;
            round.cuts += 1;
            round.acknowledged += so_far.lines().count() as u64;
            if let Err(loss) = compare(&scene.dir(), &found.0.join("state"), &so_far) {
                round.losses.push(loss.to_string());
            }
        }
        victim.kill().await?;
        Ok(round)
    }
}

/// With `sabotaged`, an fsync of a directory does nothing; nor does one of the audit, which would write the same journal.
fn writer(state: &Path, sabotaged: bool) -> Result<Command> {
    let arguments = ["run", &state.display().to_string()];
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
