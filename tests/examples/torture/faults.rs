//! A system that refuses: each error at each file call of a store, writes that stop half-way, and what sockets come to. The old
//! file stays, the operator is told, and when the fault is gone it goes on by itself.

mod inviting;
mod network;
mod opening;
mod refreshing;
mod storing;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::handle::{Call, Injection, On, Victim};
use crate::report::Row;

const ERRORS: &[&str] = &["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "EDQUOT", "EINTR"];
/// Longer than the longest wait after a failure, so that the next try is due.
const LATER: &str = "advance 700";

/// Faults in all, when none is left out.
const PROMISED: u64 = 300;
const CASES: &str = "faults";
const TOLD: &str = "told to the operator, and recovered from";
const UNHARMED: &str = "that did no harm";
const DAMAGE: &str = "old files damaged";
const SILENT: &str = "not told to the operator";
const STUCK: &str = "not recovered from";
const UNMET: &str = "calls that did not come again to be met";

/// All of it; `stride` leaves cases out.
pub async fn all(stride: usize) -> Result<Vec<Row>> {
    let mut rows = vec![
        refreshing::errors(stride).await?,
        refreshing::short_writes(stride).await?,
        storing::errors(stride).await?,
        inviting::errors(stride).await?,
        opening::errors(stride).await?,
        network::errors(stride).await?,
    ];
    let met: u64 = rows.iter().map(|row| row.count(CASES)).sum();
    if met * (stride as u64) < PROMISED
        && let Some(last) = rows.last_mut()
    {
        last.too_little(&format!("{met} faults in all were met"));
    }
    Ok(rows)
}

fn row(check: &str) -> Row {
    let mut row = Row::new(check);
    for what in [CASES, TOLD, UNHARMED, DAMAGE, SILENT, STUCK] {
        row.add(what, 0);
    }
    row
}

fn cases(calls: &[Call], stride: usize) -> Vec<(Call, &'static str)> {
    let files = calls.iter().filter(|call| call.on == On::File);
    let all = files.flat_map(|call| ERRORS.iter().map(|error| (call.clone(), *error)));
    all.step_by(stride).collect()
}

/// What a victim does again and again, each time with another fault in its way.
trait Deed {
    /// How it ended, and whatever is needed to judge that.
    type Ended;

    fn victim(&mut self) -> &mut Victim;
    /// Whatever must be so before, done while there is no fault yet.
    async fn prepare(&mut self) -> Result<()>;
    async fn take_place(&mut self) -> Result<Self::Ended>;
    /// The fault has been met, and is gone.
    async fn judge(&mut self, row: &mut Row, place: &str, ended: Self::Ended) -> Result<()>;
    /// Another victim, in the place of one that cannot go on.
    async fn begin_anew(&mut self) -> Result<()>;
}

/// How often a case is begun until its error meets what it is for: what else a thread writes comes before or after that, as it happens.
const TRIES: usize = 8;

/// Each error at each of the calls that work on a file.
async fn meet(deed: &mut impl Deed, calls: &[Call], stride: usize, row: &mut Row) -> Result<()> {
    meet_each(deed, cases(calls, stride), row).await
}

async fn meet_each(deed: &mut impl Deed, cases: Vec<(Call, &str)>, row: &mut Row) -> Result<()> {
    let (of, mut unmet) = (cases.len() as u64, 0);
    for (call, error) in cases {
        let place = format!("{} {error}", call.shown());
        if meet_one(deed, &call, error, &place, row).await? {
            row.add(CASES, 1);
        } else {
            unmet += 1;
        }
    }
    row.unmet(unmet, of, UNMET);
    Ok(())
}

async fn meet_one(
    deed: &mut impl Deed,
    call: &Call,
    error: &str,
    place: &str,
    row: &mut Row,
) -> Result<bool> {
    for _ in 0..TRIES {
        deed.prepare().await?;
        let mut injection = Injection::begin(deed.victim(), call, &format!("error={error}")).await?;
        let ended = injection.over(deed.take_place()).await;
        match (injection.end().await?, ended) {
            (Some(on), Some(ended)) if on == call.on => {
                deed.judge(row, place, ended?).await?;
                return Ok(true);
            }
            // tokio ends a thread that cannot wake the others: nothing of ours was asked.
            (Some(on), _) if on != call.on => deed.begin_anew().await?,
            (_, Some(ended)) => drop(ended?),
            (met, None) => {
                let victim = deed.victim();
                victim.until(|_| false).await?;
                let last_words = victim.said.iter().find(|line| line["event"] == "panicked");
                bail!("{place}: its thread ended ({last_words:?}), and had met {met:?}");
            }
        }
    }
    Ok(false)
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

/// Health or a trouble says so.
fn names_a_problem(status: &Value) -> bool {
    !is_well(status) || names_a_trouble(status)
}

fn is_well(status: &Value) -> bool {
    status["accounts"][0]["health"] == "connected"
}

/// The audit's own is not meant: it goes at its own pace.
fn names_a_trouble(status: &Value) -> bool {
    let troubles = status["troubles"].as_array();
    troubles.is_some_and(|all| all.iter().any(|trouble| trouble["file"] != "audit"))
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
