//! `cargo xtask torture`: breaks the agent at every place there is, and counts what survives.
//!
//! `torture [--full|--tenth|--smoke] [--only PART]… [--rows FILE]`; PART is kills, random, power, faults, callers, clocks, network
//! or models. The models belong to the full counts: a `cargo test` has them of itself.
//! `torture page FILE ROWS…` writes what several such runs found.

#![allow(clippy::print_stdout, reason = "it prints what it counted, and the victim what it did")]

mod callers;
mod clocks;
mod desk;
mod faults;
mod handle;
mod kills;
mod models;
mod network;
mod power;
mod random;
mod report;
mod scene;
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "test support of the agent")]
#[path = "../../../crates/agent/tests/support/mod.rs"]
mod support;
mod victim;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use valetkey_tests::tenant::Reuse;

use crate::report::{Found, Row};

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    name: &'static str,
    /// Every n-th system call is killed at.
    kill_stride: usize,
    random_kills: usize,
    power_cuts: usize,
    /// Every n-th fault.
    fault_stride: usize,
    modes: &'static [Reuse],
    /// Of each fault of a network.
    network_faults: usize,
    broker_kills: usize,
    /// What a busy machine may take beyond what is promised.
    margin: Duration,
    /// Every n-th clock that is set.
    clock_stride: usize,
    /// Nothing is left out: models are walked through as well, and a check that cannot be made here is not one that holds.
    whole: bool,
}

/// The counts that the project promises.
const FULL: Scale = Scale {
    name: "full",
    kill_stride: 1,
    random_kills: 10_000,
    power_cuts: 1000,
    fault_stride: 1,
    modes: &[Reuse::Tolerant, Reuse::Grace, Reuse::Strict],
    clock_stride: 1,
    network_faults: 200,
    broker_kills: 500,
    margin: Duration::from_secs(15),
    whole: true,
};
/// About a tenth, as `cargo xtask test` has it on a machine that does other things besides.
const TENTH: Scale = Scale {
    name: "a tenth",
    kill_stride: 10,
    random_kills: 1000,
    power_cuts: 100,
    fault_stride: 10,
    modes: &[Reuse::Tolerant, Reuse::Grace, Reuse::Strict],
    clock_stride: 7,
    network_faults: 20,
    broker_kills: 50,
    margin: Duration::from_secs(60),
    whole: false,
};
/// A few of each, for every `cargo test`.
const SMOKE: Scale = Scale {
    name: "smoke",
    kill_stride: 30,
    random_kills: 20,
    power_cuts: 10,
    fault_stride: 40,
    modes: &[Reuse::Strict],
    clock_stride: 17,
    network_faults: 1,
    broker_kills: 4,
    margin: Duration::from_secs(300),
    whole: false,
};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["victim", "run", dir] => return victim::run(dir.into(), None).map(|()| ExitCode::SUCCESS),
        ["victim", "run", dir, broker] => {
            return victim::run(dir.into(), Some((*broker).to_owned())).map(|()| ExitCode::SUCCESS);
        }
        ["victim", "desk", dir] => {
            let running = desk::run(Path::new(dir));
            return tokio::runtime::Runtime::new()?.block_on(running).map(|()| ExitCode::SUCCESS);
        }
        ["page", page, rows @ ..] => {
            let rows: Vec<&Path> = rows.iter().map(Path::new).collect();
            return report::write(Path::new(page), &rows).map(|()| ExitCode::SUCCESS);
        }
        ["victim", "tick"] => return victim::tick_by_the_clock().map(|()| ExitCode::SUCCESS),
        ["victim", "in-place", file] => {
            return victim::write_in_place(Path::new(file)).map(|()| ExitCode::SUCCESS);
        }
        ["ask", socket] => {
            let told = tokio::runtime::Runtime::new()?.block_on(callers::ask(Path::new(socket)))?;
            println!("{told}");
            return Ok(ExitCode::SUCCESS);
        }
        ["network", wish] => {
            let rows = tokio::runtime::Runtime::new()?.block_on(network::inside(wish))?;
            println!("{}", serde_json::to_string(&rows)?);
            return Ok(ExitCode::SUCCESS);
        }
        ["cuts", cuts] => {
            let row = tokio::runtime::Runtime::new()?.block_on(power::inside(cuts.parse()?))?;
            println!("{}", serde_json::to_string(&row)?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let wish = Wish::parse(&words)?;
    tokio::runtime::Runtime::new()?.block_on(torture(wish))
}

struct Wish {
    scale: Scale,
    only: Vec<String>,
    rows: Option<PathBuf>,
}

impl Wish {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut wish = Self { scale: FULL, only: Vec::new(), rows: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--full" => wish.scale = FULL,
                "--tenth" => wish.scale = TENTH,
                "--smoke" => wish.scale = SMOKE,
                "--only" => wish.only.push((*value()?).to_owned()),
                "--rows" => wish.rows = Some((*value()?).into()),
                other => {
                    bail!("torture [--full|--tenth|--smoke] [--only PART]… [--rows FILE]; not {other:?}")
                }
            }
        }
        Ok(wish)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

async fn torture(wish: Wish) -> Result<ExitCode> {
    let (began, commit) = (Instant::now(), report::commit());
    let scale = wish.scale;
    let mut rows = Vec::new();
    let mut done = |row: Row| {
        println!("{}", row.shown());
        rows.push(row);
    };
    if wish.wants("kills")
        && let Some(why) = strace_is_missing()
    {
        done(Row::skipped("SIGKILL at the system calls", why));
    } else if wish.wants("kills") {
        for (index, reuse) in scale.modes.iter().enumerate() {
            let mut row = kills::refreshing(*reuse, scale.kill_stride).await?;
            if index == 0 {
                kills::controls(&mut row).await?;
            }
            done(row);
            done(kills::storing(*reuse, scale.kill_stride).await?);
        }
    }
    if wish.wants("random") {
        let seed = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        done(random::kills(scale.random_kills, seed).await?);
    }
    if wish.wants("power") {
        done(power::cuts(scale.power_cuts).await?);
    }
    if wish.wants("faults")
        && let Some(why) = strace_is_missing()
    {
        done(Row::skipped("Errors at the file calls", why));
    } else if wish.wants("faults") {
        faults::all(scale.fault_stride).await?.into_iter().for_each(&mut done);
    }
    if wish.wants("callers") {
        callers::all().await?.into_iter().for_each(&mut done);
    }
    if wish.wants("clocks") && clocks::library().is_none() {
        done(Row::skipped("Clocks that are set", "libfaketime is not installed"));
    } else if wish.wants("clocks") {
        done(clocks::jumps(scale.clock_stride).await?);
    }
    if wish.wants("network") {
        let (per_fault, broker_kills, margin) = (scale.network_faults, scale.broker_kills, scale.margin);
        let seed = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        let wish = network::Wish { per_fault, broker_kills, margin, seed };
        Box::pin(network::all(wish)).await?.into_iter().for_each(&mut done);
    }
    if wish.wants("models") && scale.whole {
        models::all().await?.into_iter().for_each(&mut done);
    }
    println!("\n{}", report::closing(&rows));
    let holds = |row: &Row| row.failures.is_empty() && !(scale.whole && row.skipped.is_some());
    let failed = rows.is_empty() || !rows.iter().all(holds);
    if let Some(file) = &wish.rows {
        let (counts, seconds) = (scale.name.to_owned(), began.elapsed().as_secs());
        Found { commit, counts, seconds, rows }.save(file)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why strace cannot be used: it is not there, or not allowed.
fn strace_is_missing() -> Option<String> {
    match std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("strace: {error}")),
    }
}
