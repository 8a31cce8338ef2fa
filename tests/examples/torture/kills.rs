//! SIGKILL at every system call of a refresh and of storing a handoff; what a restart finds.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::time::Instant;
use valetkey_handoff::message::Outcome;
use valetkey_handoff::{Sealed, ToDevice};
use valetkey_tests::tenant::Reuse;

use crate::handle::{Call, Injection, Strace, Thread, Victim, calls};
use crate::report::Row;
use crate::scene::{Ledger, Scene, left_over, tokens_on_disk};

pub const KILLS: &str = "kills";
const AGAIN: &str =
    "times that the call did not come, or the work was done before it, and it was tried again";
const UNMET: &str = "system calls that never came again to be killed at";
/// How often a call is waited for until the kill comes: how often a thread wakes another one depends on time.
const TRIES: usize = 8;
/// What a victim still does after it has answered: some of the calls are there.
const AFTERWARDS: Duration = Duration::from_millis(100);
pub const LOST: &str = "sign-ins lost";
pub const TORN: &str = "files torn";
pub const RECEIPTS: &str = "receipts after the restart";
const NOT_ON_DISK: &str = "tokens handed out that are not on disk";
const IN_WINDOW: &str = "sign-ins ended between the provider's rotation and our fsync, and told so";
const REFUSED: &str = "handoffs never proven, because the kill fell between the provider's rotation and our fsync, and told so by the refusal in their receipt";
const GOES_ON: &str = "of them with the sign-in before it still serving";
const TOLD: &str = "of them told by an auth.expired that the device opened within 60 s of the restart";
const NOT_ENDED: &str = "sign-ins that went on, although the provider had rotated and we had not stored it";
const NOT_TOLD: &str = "sign-ins ended and not told within 60 s";
/// As long as a person's device may know nothing of it, from the restart on.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// What would be told comes at once.
const SILENCE: Duration = Duration::from_secs(5);
pub const NO_START: &str = "restarts that failed";

/// For strace: a file is never put in place, and nobody notices.
pub const RENAME_PRETENDS: [&str; 6] =
    ["-o", "/dev/null", "-e", "trace=renameat,renameat2", "-e", "inject=renameat,renameat2:retval=0"];

pub fn name(reuse: Reuse) -> &'static str {
    match reuse {
        Reuse::Tolerant => "reuse tolerated",
        Reuse::Grace => "60 s of grace",
        Reuse::Strict => "strict",
    }
}

/// Counts that are shown even when they are 0.
pub fn row(check: String) -> Row {
    let mut row = Row::new(check);
    for what in [KILLS, LOST, TORN, NOT_ON_DISK] {
        row.add(what, 0);
    }
    row
}

/// A kill that a restart is to make good.
pub struct Kill {
    /// The call or the moment, for people.
    pub place: String,
    /// The provider had rotated the refresh token, and punishes the reuse of the older one.
    pub in_window: bool,
    /// The handoff that was being stored.
    pub sealed: Option<Sealed>,
}

/// The calls that are left to be killed at.
struct Plan {
    calls: VecDeque<Call>,
    of: u64,
    tries: usize,
    unmet: u64,
}

impl Plan {
    fn of(calls: &[Call], stride: usize) -> Self {
        let calls: VecDeque<_> = calls.iter().step_by(stride).cloned().collect();
        Self { of: calls.len() as u64, calls, tries: 0, unmet: 0 }
    }

    fn next(&self) -> Option<&Call> {
        self.calls.front()
    }

    /// Whether the kill came to the first of them.
    fn tried(&mut self, met: bool, row: &mut Row) {
        self.tries += 1;
        if met {
            row.add(KILLS, 1);
        } else if self.tries < TRIES {
            row.add(AGAIN, 1);
            return;
        } else {
            self.unmet += 1;
        }
        self.calls.pop_front();
        self.tries = 0;
    }

    fn over(self, row: &mut Row) {
        row.unmet(self.unmet, self.of, UNMET);
    }
}

/// Whether it is killed by itself within the moment that it still works.
async fn ends_afterwards(victim: &mut Victim) -> Result<bool> {
    tokio::time::timeout(AFTERWARDS, victim.until(|_| false))
        .await
        .map_or(Ok(false), |ended| Ok(ended?.is_none()))
}

/// Kills at every `stride`th call of a refresh.
pub async fn refreshing(reuse: Reuse, stride: usize) -> Result<Row> {
    let mut row = row(format!("SIGKILL at the system calls of a refresh, provider: {}", name(reuse)));
    let mut scene = Scene::new(reuse, true).await?;
    let calls = {
        let mut victim = Victim::on(&scene.dir(), None).await?;
        victim.token().await?;
        let calls = recorded(&mut victim, async |victim| victim.token().await.map(drop)).await?;
        victim.kill().await?;
        calls
    };
    row.add("system calls found", calls.len() as u64);
    let mut ledger = Ledger::of(&scene.dir())?;
    let broker = scene.world.broker.url();
    let mut slowest = None;
    let mut before: Option<Kill> = None;
    let mut plan = Plan::of(&calls, stride);
    loop {
        // The restart after the last kill, and the life before the next one.
        let began = Instant::now();
        // Where a sign-in may have been lost, somebody has to be told.
        let online = before.as_ref().is_some_and(|kill| kill.in_window);
        let reaches = online.then_some(broker.as_str());
        let Some(mut victim) = restarted(&mut row, &scene, before.as_ref(), reaches).await? else {
            return Ok(row);
        };
        let answer = victim.token().await?.context("it ended by itself")?;
        ledger.handed_out(victim.handed_out());
        let lost = answer["event"] != "token";
        if lost {
            judge_loss(&mut row, &mut victim, before.as_ref(), &answer).await?;
            slowest = slowest.max(told(&mut row, &mut scene, began, before.as_ref()).await);
        }
        if lost || online {
            victim.kill().await?;
            if lost {
                scene.reconnect().await?;
            }
            ledger = Ledger::of(&scene.dir())?;
            victim = Victim::on(&scene.dir(), None).await?;
            victim.token().await?;
        }
        let Some(call) = plan.next().cloned() else {
            victim.kill().await?;
            break;
        };
        let so_far = rotations(&scene).await?;
        let injection = Injection::begin(&victim, &call, "signal=SIGKILL").await?;
        let ended = victim.token().await?.is_none() || ends_afterwards(&mut victim).await?;
        plan.tried(ended, &mut row);
        victim.kill().await?;
        injection.end().await?;
        ledger.handed_out(victim.handed_out());
        judge_disk(&mut row, &scene, &ledger, &call.shown());
        let in_window = rotations(&scene).await? > so_far && !scene.newest_is_on_disk().await?;
        before = Some(Kill { place: call.shown(), in_window, sealed: None });
    }
    plan.over(&mut row);
    judge_audit(&mut row, &scene)?;
    if let Some(slowest) = slowest {
        row.add("milliseconds until the slowest was told", u64::try_from(slowest.as_millis())?);
        no_more_was_told(&mut row, &mut scene, &broker).await?;
        control_of_telling(&mut row, &mut scene).await?;
    }
    Ok(row)
}

/// The restart after a kill in the window: the sign-in has ended, that is told, and the person signs in again.
pub async fn made_good(row: &mut Row, scene: &mut Scene, kill: &Kill) -> Result<()> {
    let (began, broker) = (Instant::now(), scene.world.broker.url());
    let Some(mut victim) = restarted(row, scene, Some(kill), Some(&broker)).await? else { return Ok(()) };
    let answer = victim.token().await?.context("it ended by itself")?;
    if answer["event"] == "token" {
        row.add(NOT_ENDED, 1);
        return victim.kill().await;
    }
    judge_loss(row, &mut victim, Some(kill), &answer).await?;
    told(row, scene, began, Some(kill)).await;
    victim.kill().await?;
    scene.reconnect().await
}

/// Whether the device hears that a person is needed, and how long that took.
async fn told(row: &mut Row, scene: &mut Scene, began: Instant, before: Option<&Kill>) -> Option<Duration> {
    let place = before.map_or("the first start", |kill| &kill.place);
    match tokio::time::timeout_at(began + TOLD_WITHIN, scene.device.expired()).await {
        Ok(expired) if expired.account == crate::support::reference(valetkey_tests::tenant::ALICE) => {
            row.add(TOLD, 1);
            Some(began.elapsed())
        }
        Ok(_) => {
            row.fail(NOT_TOLD, format!("{place}: another account was named"));
            None
        }
        Err(_) => {
            row.fail(NOT_TOLD, place);
            None
        }
    }
}

/// Each lapse was told once, and nothing was told that was no lapse.
async fn no_more_was_told(row: &mut Row, scene: &mut Scene, broker: &str) -> Result<()> {
    let mut victim = online(scene, broker).await?;
    let more = scene.device.all_so_far().await;
    victim.kill().await?;
    for _ in more.iter().filter(|message| matches!(message, ToDevice::AuthExpired(_))) {
        row.fail("auth.expired that was not true, or came twice", "at the end");
    }
    Ok(())
}

/// A lapse that is found out where no broker is reached.
async fn control_of_telling(row: &mut Row, scene: &mut Scene) -> Result<()> {
    scene.world.tenant.revoke(valetkey_tests::tenant::ALICE).await?;
    let mut victim = Victim::on(&scene.dir(), None).await?;
    let answer = victim.token().await?.context("it ended by itself")?;
    let silent = tokio::time::timeout(SILENCE, scene.device.expired()).await.is_err();
    victim.kill().await?;
    let caught = answer["event"] != "token" && silent;
    row.caught(u64::from(caught), 1, "an agent that finds out and reaches no broker");
    Ok(())
}

/// Kills at every `stride`th call of taking in a handoff: from the message's arrival to the receipt.
pub async fn storing(reuse: Reuse, stride: usize) -> Result<Row> {
    let mut row = row(format!("SIGKILL at the system calls of storing a handoff, provider: {}", name(reuse)));
    let mut scene = Scene::new(reuse, false).await?;
    let broker = scene.world.broker.url();
    let calls = {
        let mut victim = online(&scene, &broker).await?;
        let calls = recorded(&mut victim, async |_| {
            scene.hand_over().await;
            scene.receipt().await.map(drop)
        })
        .await?;
        victim.kill().await?;
        calls
    };
    row.add("system calls found", calls.len() as u64);
    let mut before: Option<Kill> = None;
    let mut plan = Plan::of(&calls, stride);
    loop {
        let Some(mut victim) = restarted(&mut row, &scene, before.as_ref(), Some(&broker)).await? else {
            return Ok(row);
        };
        match &before {
            Some(kill) => arrived(&mut row, &mut scene, &mut victim, kill).await?,
            None => drop(victim.until(is_online).await?.context("it ended by itself")?),
        }
        let Some(call) = plan.next().cloned() else {
            victim.kill().await?;
            break;
        };
        let injection = Injection::begin(&victim, &call, "signal=SIGKILL").await?;
        let so_far = rotations(&scene).await?;
        let sealed = scene.hand_over().await;
        let ended = tokio::select! {
            ended = victim.until(|_| false) => ended?.is_none(),
            receipt = scene.receipt() => { receipt?; false }
        };
        let ended = ended || ends_afterwards(&mut victim).await?;
        plan.tried(ended, &mut row);
        victim.kill().await?;
        injection.end().await?;
        if let Err(torn) = tokens_on_disk(&scene.dir()) {
            row.fail(TORN, format!("{}: {torn}", call.shown()));
        }
        // Handing over in the strict mode begins with a sign-in, which gives out one itself.
        let in_window = rotations(&scene).await? > so_far + 1 && !scene.newest_is_on_disk().await?;
        before = Some(Kill { place: call.shown(), in_window, sealed: Some(sealed) });
    }
    plan.over(&mut row);
    judge_audit(&mut row, &scene)?;
    Ok(row)
}

/// What was being handed over at a kill is there after the restart, or is refused where it may be. Nobody sends it again: what
/// was acknowledged to the broker has to be there, and the rest comes from it. Sent once more, it is confirmed.
pub async fn arrived(row: &mut Row, scene: &mut Scene, victim: &mut Victim, kill: &Kill) -> Result<()> {
    victim.until(is_online).await?.context("it ended by itself")?;
    let Some(sealed) = &kill.sealed else { return Ok(()) };
    let verdict = settled(victim, scene.device.generation).await;
    scene.device.send(sealed.as_bytes());
    match (verdict, scene.receipt().await) {
        (Ok(verdict), Ok(Outcome::Stored { .. })) if verdict == "stored" => row.add(RECEIPTS, 1),
        (Ok(_), Ok(Outcome::Refused { .. })) if kill.in_window => {
            row.add(REFUSED, 1);
            // The sign-in before it goes on.
            match victim.token().await? {
                Some(answer) if answer["event"] == "token" => row.add(GOES_ON, 1),
                answer => row.fail(LOST, format!("{}: the one before it: {answer:?}", kill.place)),
            }
        }
        (verdict, receipt) => row.fail(LOST, format!("{}: {verdict:?}, receipt {receipt:?}", kill.place)),
    }
    Ok(())
}

/// The same kills on a writer that truncates in place, and a rename that only seems to happen. Both must be caught.
pub async fn controls(row: &mut Row) -> Result<()> {
    let scene = Scene::new(Reuse::Strict, true).await?;
    // A token handed out although the file was never put in place.
    let (mut caught, mut of) = (0, 0);
    for _ in 0..3 {
        let mut ledger = Ledger::of(&scene.dir())?;
        let mut victim = Victim::on(&scene.dir(), None).await?;
        let strace = Strace::attach(&victim, Thread::Disk, &RENAME_PRETENDS).await?;
        victim.token().await?;
        victim.kill().await?;
        strace.detach().await?;
        let tokens = victim.handed_out();
        of += tokens.len() as u64;
        ledger.handed_out(tokens);
        caught += u64::from(!ledger.agrees_with(&tokens_on_disk(&scene.dir())?));
    }
    row.caught(caught, of, "an agent whose rename only pretends");

    Box::pin(stored_in_vain(row)).await?;

    let file = scene.world.file(valetkey_tests::tenant::ALICE);
    let good = std::fs::read(&file)?;
    let command = || Victim::command(&["in-place", &file.display().to_string()]);
    let mut victim = Victim::start(&mut command()?).await?;
    let calls = recorded_in(&mut victim, &[Thread::Network], async |victim| {
        victim.ask("write", &["written"]).await.map(drop)
    })
    .await?;
    victim.kill().await?;
    let mut torn = 0;
    for call in &calls {
        let mut victim = Victim::start(&mut command()?).await?;
        let injection = Injection::begin(&victim, call, "signal=SIGKILL").await?;
        victim.ask("write", &["written"]).await?;
        victim.kill().await?;
        injection.end().await?;
        torn += u64::from(tokens_on_disk(&scene.dir()).is_err());
        std::io::Write::write_all(&mut std::fs::File::create(&file)?, &good)?;
    }
    row.caught(torn, calls.len() as u64, "a writer that truncates in place");
    Ok(())
}

/// A handoff that is acknowledged to the broker although it was never put in place.
async fn stored_in_vain(row: &mut Row) -> Result<()> {
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let broker = scene.world.broker.url();
    let mut victim = online(&scene, &broker).await?;
    let strace = Strace::attach(&victim, Thread::Disk, &RENAME_PRETENDS).await?;
    let sealed = scene.hand_over().await;
    let _ = tokio::time::timeout(SILENCE, scene.receipt()).await;
    victim.kill().await?;
    strace.detach().await?;
    let kill = Kill { place: "in vain".into(), in_window: false, sealed: Some(sealed) };
    let mut judged = Row::new("");
    let mut victim = Victim::on(&scene.dir(), Some(&broker)).await?;
    // The broker does not send it again, so that the verdict never comes.
    let found = tokio::time::timeout(SILENCE, arrived(&mut judged, &mut scene, &mut victim, &kill)).await;
    victim.kill().await?;
    let caught = found.is_err() || !judged.failures.is_empty();
    row.caught(u64::from(caught), 1, "an agent that takes a handoff in whose rename only pretends");
    Ok(())
}

/// In the strict mode, where they matter.
async fn rotations(scene: &Scene) -> Result<usize> {
    if matches!(scene.reuse, Reuse::Strict) { scene.rotations().await } else { Ok(0) }
}

/// The calls that both threads make while `work` is done.
async fn recorded(
    victim: &mut Victim,
    work: impl AsyncFnOnce(&mut Victim) -> Result<()>,
) -> Result<Vec<Call>> {
    recorded_in(victim, &[Thread::Network, Thread::Disk], work).await
}

pub async fn recorded_in(
    victim: &mut Victim,
    threads: &[Thread],
    work: impl AsyncFnOnce(&mut Victim) -> Result<()>,
) -> Result<Vec<Call>> {
    let folder = tempfile::tempdir()?;
    let mut running = Vec::new();
    for (index, thread) in threads.iter().enumerate() {
        let log = folder.path().join(index.to_string());
        let strace = Strace::attach(victim, *thread, &["-y", "-o", &log.display().to_string()]).await?;
        running.push((strace, *thread, log));
    }
    work(victim).await?;
    let mut all = Vec::new();
    for (strace, thread, log) in running {
        strace.detach().await?;
        all.extend(calls(&std::fs::read_to_string(log)?, thread));
    }
    Ok(all)
}

pub async fn online(scene: &Scene, broker: &str) -> Result<Victim> {
    let mut victim = Victim::on(&scene.dir(), Some(broker)).await?;
    victim.until(is_online).await?.context("it ended by itself")?;
    Ok(victim)
}

pub fn is_online(line: &Value) -> bool {
    line["update"]["update"] == "link" && line["update"]["state"] == "up"
}

/// There is a verdict on the handoff under this number.
pub fn is_settled(line: &Value, generation: u64) -> bool {
    line["update"]["update"] == "settled" && line["update"]["generation"] == generation
}

/// The verdict on the handoff under this number: `stored` or `refused`.
pub async fn settled(victim: &mut Victim, generation: u64) -> Result<String> {
    let status = victim.status().await?;
    let account = &status["accounts"][0];
    if account["gen"] == generation && !account["refreshed_at"].is_null() {
        return Ok("stored".into());
    }
    let fits = |line: &Value| is_settled(line, generation);
    let found = match victim.said.iter().find(|line| fits(line)) {
        Some(found) => found.clone(),
        None => victim.until(fits).await?.context("it ended by itself")?,
    };
    Ok(found["update"]["verdict"]["result"].as_str().unwrap_or_default().to_owned())
}

/// A restart succeeds, and clears what was left half-written.
pub async fn restarted(
    row: &mut Row,
    scene: &Scene,
    before: Option<&Kill>,
    broker: Option<&str>,
) -> Result<Option<Victim>> {
    let place = before.map_or("the first start", |kill| &kill.place);
    match Victim::on(&scene.dir(), broker).await {
        Ok(victim) => {
            let clutter = left_over(&scene.dir())?;
            // With a broker it may be writing again already.
            if !clutter.is_empty() && broker.is_none() {
                row.fail("half-written files left", format!("{place}: {clutter:?}"));
            }
            Ok(Some(victim))
        }
        Err(error) => {
            row.fail(NO_START, format!("{place}: {error}"));
            Ok(None)
        }
    }
}

/// A restart that gets no token: allowed only where the provider had rotated and punishes reuse, and then it says so.
async fn judge_loss(row: &mut Row, victim: &mut Victim, before: Option<&Kill>, answer: &Value) -> Result<()> {
    let Some(Kill { place, in_window, .. }) = before else {
        row.fail(LOST, format!("at the first start: {}", answer["problem"]));
        return Ok(());
    };
    let status = victim.status().await?;
    let told = answer["code"] == "auth_required" && status["accounts"][0]["health"] == "reconnect_needed";
    if told && *in_window {
        row.add(IN_WINDOW, 1);
    } else {
        row.fail(LOST, format!("{place}: {}, health {}", answer["problem"], status["accounts"][0]["health"]));
    }
    Ok(())
}

/// What was written down of it all is still a chain.
pub fn judge_audit(row: &mut Row, scene: &Scene) -> Result<()> {
    let report = valetkey_agent::audit::verify(&scene.dir())?;
    row.add("audit lines, chained", report.lines);
    for finding in report.findings {
        row.fail("audit lines lost or altered", finding.to_string());
    }
    Ok(())
}

pub fn judge_disk(row: &mut Row, scene: &Scene, ledger: &Ledger, place: &str) {
    match tokens_on_disk(&scene.dir()) {
        Err(torn) => row.fail(TORN, format!("{place}: {torn}")),
        Ok(tokens) if !ledger.agrees_with(&tokens) => {
            row.fail(NOT_ON_DISK, format!("{place}: {} others are", tokens.len()));
        }
        Ok(_) => {}
    }
}
