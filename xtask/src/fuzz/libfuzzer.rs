//! One run of libFuzzer: how it is started, and what it says.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::run::{command, root, say};

/// Of one case, by the wall clock: the slowest take milliseconds, the rest is for a machine that does other things.
const TIMEOUT_SECONDS: u32 = 20;
/// Of the fuzzer with its growing corpus. The readers themselves are held to `valetkey_fuzzed::MAX_HEAP` by their allocator,
/// because libFuzzer's `-malloc_limit_mb` needs a sanitizer, and a sanitizer half the speed. Code of ours has no `unsafe`.
const RSS_LIMIT_MB: u32 = 1536;
/// Of what a failed run said, enough for the panic and its place.
const LAST_LINES: usize = 60;

pub struct Outcome {
    pub target: String,
    pub executions: u64,
    /// Taken for what they should be: otherwise only refusals were tried.
    pub taken: u64,
    pub found: bool,
    pub seconds: u64,
    /// Of processor time.
    pub slowest_us: u64,
    /// The most that the reader held at once.
    pub heap_kib: u64,
    pub rss_mb: u64,
}

impl Outcome {
    pub fn line(&self) -> String {
        let Self { target, executions, taken, seconds, slowest_us, heap_kib, rss_mb, .. } = self;
        let verdict = if self.found { "FOUND SOMETHING" } else { "nothing found" };
        format!(
            "{target:16} {verdict}: {executions} executions in {seconds} s, {taken} taken, slowest {slowest_us} µs, \
             heap {heap_kib} KiB, peak RSS {rss_mb} MB"
        )
    }
}

/// Runs a target; what it finds is kept under `found`, new inputs of interest in `grown`.
pub fn run(
    target: &str,
    max_len: usize,
    runs: u64,
    minutes: Option<u64>,
    seeds: &[PathBuf],
    grown: &Path,
    found: &str,
) -> Result<Outcome> {
    let mut fuzzer = program(target)?;
    fuzzer
        .arg(format!("-runs={runs}"))
        .arg(format!("-max_len={max_len}"))
        .arg(format!("-artifact_prefix={found}"));
    fuzzer.arg("-print_final_stats=1");
    if let Some(minutes) = minutes {
        fuzzer.arg(format!("-max_total_time={}", minutes * 60));
    }
    let dictionary = root().join(format!("fuzz/dictionaries/{target}.dict"));
    if dictionary.exists() {
        fuzzer.arg(format!("-dict={}", dictionary.display()));
    }
    let began = Instant::now();
    let mut child = fuzzer.arg(grown).args(seeds).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = Said::default();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            said.hear(&String::from_utf8_lossy(&line?));
        }
    }
    let failed = !child.wait()?.success();
    if failed && target != "control" {
        let last: Vec<String> = said.last.into();
        say(&format!("{target}:\n{}", last.join("\n")));
    }
    Ok(Outcome {
        target: target.to_owned(),
        executions: said.executions,
        taken: said.taken,
        found: failed,
        seconds: began.elapsed().as_secs(),
        slowest_us: said.slowest_us,
        heap_kib: said.heap_kib,
        rss_mb: said.rss_mb,
    })
}

/// Whether a target fails on this one case.
pub fn fails(target: &str, case: &Path) -> Result<bool> {
    let mut fuzzer = program(target)?;
    let place = case.parent().unwrap_or(Path::new("."));
    fuzzer.arg(format!("-artifact_prefix={}/", place.display())).arg(case);
    let status = fuzzer.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(!status.success())
}

pub(super) fn program(target: &str) -> Result<Command> {
    let path = root().join("fuzz/target").join(host()?).join("release").join(target);
    let mut fuzzer = command(path.to_str().context("the path is not UTF-8")?, &[]);
    // A backtrace needs more memory than a reader may have; the panic's place and the kept case say enough.
    fuzzer.env("RUST_BACKTRACE", "0");
    fuzzer.arg(format!("-timeout={TIMEOUT_SECONDS}")).arg(format!("-rss_limit_mb={RSS_LIMIT_MB}"));
    Ok(fuzzer)
}

/// The machine's own triple, under which cargo-fuzz builds.
fn host() -> Result<String> {
    let output = command("rustup", &["run", "nightly", "rustc", "-vV"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let host =
        text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    Ok(host.to_owned())
}

#[derive(Default)]
struct Said {
    executions: u64,
    taken: u64,
    slowest_us: u64,
    heap_kib: u64,
    rss_mb: u64,
    last: VecDeque<String>,
}

impl Said {
    /// Lines of libFuzzer (`stat::…`) and of our own targets (`valetkey: …`).
    fn hear(&mut self, line: &str) {
        if let Some(facts) = line.strip_prefix("valetkey: ") {
            let mut words = facts.split(' ');
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                let Ok(value) = value.parse() else { continue };
                match name {
                    "executions" => self.executions = self.executions.max(value),
                    "taken" => self.taken = value,
                    "slowest_us" => self.slowest_us = value,
                    "heap_kib" => self.heap_kib = value,
                    _ => {}
                }
            }
            return;
        }
        if let Some((name, value)) = line.strip_prefix("stat::").and_then(|fact| fact.split_once(':')) {
            let value = value.trim().parse().unwrap_or_default();
            match name {
                "number_of_executed_units" => self.executions = value,
                "peak_rss_mb" => self.rss_mb = value,
                _ => {}
            }
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_says_is_understood() {
        let mut said = Said::default();
        for line in [
            "valetkey: executions 50000 taken 12 slowest_us 900 heap_kib 80",
            "#50000 NEW    cov: 12 ft: 13",
            "valetkey: executions 70000 taken 14 slowest_us 1100 heap_kib 81",
            "stat::number_of_executed_units: 71234",
            "stat::peak_rss_mb:              93",
        ] {
            said.hear(line);
        }
        assert_eq!((said.executions, said.taken, said.slowest_us), (71_234, 14, 1100));
        assert_eq!((said.heap_kib, said.rss_mb, said.last.len()), (81, 93, 3));
    }
}
