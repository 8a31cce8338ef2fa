//! A system that refuses: each error at each file call of a store, and writes that stop half-way. The old file stays, the
//! operator is told, and when the fault is gone it goes on by itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, Reuse};

use crate::handle::{Call, Strace, Thread, Victim, calls};
use crate::kills::{online, recorded_in};
use crate::report::Row;
use crate::scene::{Ledger, Scene, tokens_on_disk};

const ERRORS: &[&str] = &["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "EDQUOT", "EINTR"];
/// Longer than the longest wait after a failure, so that the next try is due.
const LATER: &str = "advance 700";
/// Longer than a token of [`Scene`] lives: one that still works would be handed out instead of an error.
const EXPIRED: &str = "advance 100";

const CASES: &str = "faults";
const TOLD: &str = "told to the operator, and recovered from";
const UNHARMED: &str = "that did no harm";
const DAMAGE: &str = "old files damaged";
const SILENT: &str = "not told to the operator";
const STUCK: &str = "not recovered from";

/// All of it; `stride` leaves cases out.
pub async fn all(stride: usize) -> Result<Vec<Row>> {
    let mut refresh = refreshing(stride).await?;
    control(&mut refresh).await?;
    Ok(vec![
        refresh,
        short_writes(stride).await?,
        storing(stride).await?,
        inviting(stride).await?,
        opening(stride).await?,
    ])
}

fn row(check: &str) -> Row {
    let mut row = Row::new(check);
    for what in [CASES, TOLD, UNHARMED, DAMAGE, SILENT, STUCK] {
        row.add(what, 0);
    }
    row
}

fn cases(calls: &[Call], stride: usize) -> Vec<(Call, &'static str)> {
    let files = calls.iter().filter(|call| call.on_file);
    let all = files.flat_map(|call| ERRORS.iter().map(|error| (call.clone(), *error)));
    all.step_by(stride).collect()
}

/// A file before a fault.
struct Old {
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Old {
    fn of(file: PathBuf) -> Result<Self> {
        Ok(Self { bytes: std::fs::read(&file)?, file })
    }

    fn is_there(&self) -> bool {
        std::fs::read(&self.file).is_ok_and(|bytes| bytes == self.bytes)
    }
}

async fn refreshing(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of a refresh, provider: strict");
    let scene = Scene::new(Reuse::Strict, true).await?;
    let mut victim = deaf_to_limits(&scene.dir(), None).await?;
    victim.token().await?;
    let calls =
        recorded_in(&mut victim, &[Thread::Disk], async |victim| victim.token().await.map(drop)).await?;
    victim.said.clear();
    let mut ledger = Ledger::of(&scene.dir())?;
    for (call, error) in cases(&calls, stride) {
        let place = format!("{} {error}", call.shown());
        victim.ask(EXPIRED, &["advanced"]).await?;
        let strace = Strace::inject(&victim, &call, &format!("error={error}")).await?;
        refused(&mut row, &scene, &mut victim, &mut ledger, &place, async || strace.detach().await)
            .await
            .context(place)?;
    }
    victim.kill().await?;
    Ok(row)
}

/// Real ones, by the limit of a file's size: the call that reaches it writes less, and the next one fails.
async fn short_writes(stride: usize) -> Result<Row> {
    let mut row = row("Short writes of a refresh, provider: strict");
    let scene = Scene::new(Reuse::Strict, true).await?;
    let mut victim = deaf_to_limits(&scene.dir(), None).await?;
    victim.token().await?;
    victim.said.clear();
    let mut ledger = Ledger::of(&scene.dir())?;
    let size = std::fs::metadata(scene.world.file(ALICE))?.len();
    for part in (0..SHORT_WRITES).step_by(stride) {
        let bytes = size * part / SHORT_WRITES;
        victim.ask(EXPIRED, &["advanced"]).await?;
        limit(&victim, &bytes.to_string()).await?;
        let place = format!("{bytes} of {size} bytes");
        let pid = victim.pid;
        refused(&mut row, &scene, &mut victim, &mut ledger, &place, async || {
            limit_of(pid, "unlimited").await
        })
        .await?;
    }
    victim.kill().await?;
    Ok(row)
}

const SHORT_WRITES: u64 = 40;

/// One request for a token that meets a fault; then the fault ends.
async fn refused(
    row: &mut Row,
    scene: &Scene,
    victim: &mut Victim,
    ledger: &mut Ledger,
    place: &str,
    end: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let old = Old::of(scene.world.file(ALICE))?;
    let answer = victim.token().await?.context("it ended by itself")?;
    end().await?;
    row.add(CASES, 1);
    ledger.handed_out(victim.handed_out());
    match tokens_on_disk(&scene.dir()) {
        Ok(tokens) if ledger.agrees_with(&tokens) => {}
        Ok(_) => row.fail(DAMAGE, format!("{place}: a token was handed out that is not on disk")),
        Err(torn) => row.fail(DAMAGE, format!("{place}: {torn}")),
    }
    if answer["event"] == "token" {
        row.add(UNHARMED, 1);
        return Ok(());
    }
    // An fsync of the directory that fails comes after the new file is in place.
    if !old.is_there() && tokens_on_disk(&scene.dir()).is_err() {
        row.fail(DAMAGE, place);
    }
    let status = victim.status().await?;
    let said = answer["problem"].as_str().is_some_and(|problem| !problem.is_empty());
    if !(said && names_a_problem(&status)) {
        row.fail(SILENT, format!("{place}: {} {}", answer["problem"], status["troubles"]));
    }
    victim.ask(LATER, &["advanced"]).await?;
    let again = victim.token().await?.context("it ended by itself")?;
    ledger.handed_out(victim.handed_out());
    let status = victim.status().await?;
    if again["event"] == "token" && !names_a_problem(&status) {
        row.add(TOLD, 1);
    } else {
        row.fail(STUCK, format!("{place}: {} {}", again["problem"], status["troubles"]));
    }
    Ok(())
}

/// Health or a trouble says so. The audit's own is not meant: it goes at its own pace.
fn names_a_problem(status: &Value) -> bool {
    let troubles = status["troubles"].as_array();
    status["accounts"][0]["health"] != "connected"
        || troubles.is_some_and(|all| all.iter().any(|trouble| trouble["file"] != "audit"))
}

/// The same, where the error is hidden from the agent: it believes in a file that is not there.
async fn control(row: &mut Row) -> Result<()> {
    let scene = Scene::new(Reuse::Strict, true).await?;
    let mut victim = deaf_to_limits(&scene.dir(), None).await?;
    victim.token().await?;
    victim.said.clear();
    let mut ledger = Ledger::of(&scene.dir())?;
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
        victim.ask(EXPIRED, &["advanced"]).await?;
        let strace = Strace::attach(&victim, Thread::Disk, &hidden).await?;
        refused(&mut broken, &scene, &mut victim, &mut ledger, "hidden", async || strace.detach().await)
            .await?;
        victim.token().await?;
    }
    victim.kill().await?;
    row.caught(u64::from(!broken.failures.is_empty()), 1, "an agent from which the error is hidden");
    Ok(())
}

async fn storing(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of storing a handoff");
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let broker = scene.world.broker.url();
    let mut victim = online(&scene, &broker).await?;
    let calls = recorded_in(&mut victim, &[Thread::Disk], async |_| {
        scene.hand_over().await;
        scene.receipt().await.map(drop)
    })
    .await?;
    for (call, error) in cases(&calls, stride) {
        let place = format!("{} {error}", call.shown());
        let strace = Strace::inject(&victim, &call, &format!("error={error}")).await?;
        victim.said.clear();
        let sealed = scene.hand_over().await;
        // What a device hears and what a status says come in the order in which they happened.
        scene.device.hello();
        let status = storing_ended(&mut victim, &mut scene).await?;
        strace.detach().await?;
        row.add(CASES, 1);
        if let Err(torn) = tokens_on_disk(&scene.dir()) {
            row.fail(DAMAGE, format!("{place}: {torn}"));
        }
        let Some(status) = status else {
            row.add(UNHARMED, 1);
            continue;
        };
        if !names_a_problem(&status) {
            row.fail(SILENT, format!("{place}: {status}"));
        }
        victim.ask(LATER, &["advanced"]).await?;
        // As the outbox does until there is a receipt.
        scene.device.send(sealed.as_bytes());
        match scene.receipt().await {
            Ok(Outcome::Stored { .. }) => {}
            other => {
                row.fail(STUCK, format!("{place}: {other:?}"));
                continue;
            }
        }
        let status = victim.status().await?;
        if names_a_problem(&status) {
            row.fail(STUCK, format!("{place}: {} {}", status["troubles"], status["accounts"][0]["health"]));
        } else {
            row.add(TOLD, 1);
        }
    }
    victim.kill().await?;
    Ok(row)
}

/// `None`: there is a receipt. Else the status after the fault was met.
async fn storing_ended(victim: &mut Victim, scene: &mut Scene) -> Result<Option<Value>> {
    let receipt = tokio::time::timeout(WITHOUT_RECEIPT, scene.receipt()).await;
    if matches!(receipt, Ok(Ok(Outcome::Stored { .. }))) {
        return Ok(None);
    }
    victim.status().await.map(Some)
}

/// A store and its refresh take a twentieth of it on a machine at rest.
const WITHOUT_RECEIPT: std::time::Duration = std::time::Duration::from_secs(2);

async fn inviting(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of making an invite");
    let scene = Scene::new(Reuse::Tolerant, false).await?;
    let mut victim = deaf_to_limits(&scene.dir(), None).await?;
    let events = &["invited", "failure"];
    let calls = recorded_in(&mut victim, &[Thread::Network], async |victim| {
        victim.ask("invite", events).await.map(drop)
    })
    .await?;
    let registry = scene.dir().join("registry.json");
    for (call, error) in cases(&calls, stride) {
        let place = format!("{} {error}", call.shown());
        let old = Old::of(registry.clone())?;
        let strace = Strace::inject(&victim, &call, &format!("error={error}")).await?;
        let answer = victim.ask("invite", events).await?.context("it ended by itself")?;
        strace.detach().await?;
        row.add(CASES, 1);
        if let Err(torn) = tokens_on_disk(&scene.dir()) {
            row.fail(DAMAGE, format!("{place}: {torn}"));
        }
        if answer["event"] == "invited" {
            row.add(UNHARMED, 1);
            continue;
        }
        if call.name != "fsync" && !old.is_there() {
            row.fail(DAMAGE, place.clone());
        }
        if answer["problem"].as_str().is_none_or(str::is_empty) {
            row.fail(SILENT, place.clone());
        }
        let again = victim.ask("invite", events).await?.context("it ended by itself")?;
        if again["event"] == "invited" {
            row.add(TOLD, 1);
        } else {
            row.fail(STUCK, format!("{place}: {}", again["problem"]));
        }
    }
    victim.kill().await?;
    Ok(row)
}

/// A start that meets a fault: nothing is moved away that is only unreadable for the moment.
async fn opening(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of a start");
    let scene = Scene::new(Reuse::Tolerant, false).await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let wrapped = |strace: &[&str]| -> Result<Command> {
        let mut command = Command::new("strace");
        command.arg("-y").arg("-o").arg(&log).args(strace);
        for place in ["", "lock", "agent.json", "registry.json", "vault", "quarantine"] {
            command.arg("-P").arg(scene.dir().join(place).components().as_path());
        }
        command.arg("-P").arg(scene.world.file(ALICE));
        command.arg(std::env::current_exe()?).args(["victim", "run"]).arg(scene.dir());
        Ok(command)
    };
    let mut victim = Victim::start(&mut wrapped(&[])?).await?;
    victim.kill().await?;
    let calls = calls(&std::fs::read_to_string(&log)?, Thread::Network);
    let old = Old::of(scene.world.file(ALICE))?;
    for (call, error) in cases(&calls, stride) {
        let place = format!("{} {error}", call.shown());
        let trace = format!("trace={}", call.name);
        let inject = format!("inject={}:error={error}:when={}", call.name, call.nth);
        row.add(CASES, 1);
        let started = Victim::start(&mut wrapped(&["-e", &trace, "-e", &inject])?).await;
        if !old.is_there() {
            row.fail(DAMAGE, place.clone());
        }
        match started {
            Err(error) if error.to_string().contains("did not start: \"") => {}
            Err(error) => row.fail(SILENT, format!("{place}: {error}")),
            Ok(mut victim) => {
                // One call was refused; this is the next.
                let answer = victim.token().await?.context("it ended by itself")?;
                victim.kill().await?;
                if answer["event"] == "token" {
                    row.add(UNHARMED, 1);
                } else {
                    row.fail(STUCK, format!("{place}: {}", answer["problem"]));
                }
                continue;
            }
        }
        match usable(&scene).await {
            Ok(()) => row.add(TOLD, 1),
            Err(error) => row.fail(STUCK, format!("{place}: {error}")),
        }
    }
    Ok(row)
}

async fn usable(scene: &Scene) -> Result<()> {
    let mut victim = Victim::on(&scene.dir(), None).await?;
    let answer = victim.token().await?.context("it ended by itself")?;
    victim.kill().await?;
    ensure!(answer["event"] == "token", "{}", answer["problem"]);
    Ok(())
}

/// Whoever writes beyond the limit of a file's size is killed unless it ignores the signal; only a shell can do that for us.
async fn deaf_to_limits(dir: &Path, broker: Option<&str>) -> Result<Victim> {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe()?)
        .args(["victim", "run"]);
    command.arg(dir).args(broker);
    Victim::start(&mut command).await
}

async fn limit(victim: &Victim, bytes: &str) -> Result<()> {
    limit_of(victim.pid, bytes).await
}

/// The soft limit, so that it can be lifted again.
async fn limit_of(pid: u32, bytes: &str) -> Result<()> {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")])
        .status()
        .await?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}
