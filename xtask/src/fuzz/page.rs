//! `docs/fuzz.md`: one line a target, of the longest run it has had.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::libfuzzer::Outcome;
use crate::run::{command, root};

const HEAD: &str = "\
# Fuzzing

Written by `cargo xtask fuzz`, not by hand: one line a target, of the longest run it has had. What each target promises is in
`tests/fuzzed/src/`; its seeds, and whatever was ever found, are in `tests/fuzzed/corpora/` and run as plain tests
(`cargo test -p valetkey-fuzzed`), without a fuzzer.

- **taken**: inputs that were taken for what they should be, and then had to keep every promise; the rest was refused.
- **found**: 0, or the run was stopped by a panic, a broken promise, a case of more than 20 s, or one that held more than
  16 MiB at once.
- **slowest**: the dearest single case, in processor time, at the best of four tries.
- **heap**: the most that reader and constants held at once. **RSS** is the whole fuzzer, its corpus included.
- Each campaign begins with controls that it has to catch: a panic behind a word that has to be found, memory, time.
- Built in release mode with checks of arithmetic and debug assertions on, without a sanitizer: code of ours has no `unsafe`.

";

const COLUMNS: &str = "\
| target | executions | taken | found | a second | slowest | heap | RSS | date | commit |
|---|---:|---:|---:|---:|---:|---:|---:|---|---|
";

/// Several runs may end at once.
static WRITING: Mutex<()> = Mutex::new(());

pub fn table(outcomes: &[Outcome], commit: &str) -> String {
    let date = date();
    let rows: String = outcomes.iter().map(|outcome| row(outcome, &date, commit)).collect();
    format!("{COLUMNS}{rows}")
}

/// Puts a run on the page, unless a longer one that found nothing is there already and this one found nothing either.
pub fn enter(outcome: &Outcome, commit: &str) -> Result<()> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = root().join("docs/fuzz.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let page = with(&before, outcome, &date(), commit);
    let new = path.with_extension("md.new");
    File::create(&new)?.write_all(page.as_bytes())?;
    Ok(fs::rename(new, path)?)
}

fn with(before: &str, outcome: &Outcome, date: &str, commit: &str) -> String {
    let mut rows: Vec<&str> = before.lines().filter(|line| executions(line).is_some()).collect();
    let new = row(outcome, date, commit);
    let is_this = |line: &&str| line.split('|').nth(1).is_some_and(|name| name.trim() == outcome.target);
    let before = rows.iter().find(|line| is_this(line)).and_then(|line| executions(line));
    if outcome.found || before.is_none_or(|before| outcome.executions >= before) {
        rows.retain(|line| !is_this(line));
        rows.push(new.trim_end());
    }
    rows.sort_unstable();
    format!("{HEAD}{COLUMNS}{}\n", rows.join("\n"))
}

/// Of a target's line.
fn executions(line: &str) -> Option<u64> {
    line.strip_prefix("| ")?.split('|').nth(1)?.trim().replace(',', "").parse().ok()
}

fn row(outcome: &Outcome, date: &str, commit: &str) -> String {
    let Outcome { target, seconds, slowest_us, heap_kib, rss_mb, .. } = outcome;
    let (executions, taken) = (grouped(outcome.executions), grouped(outcome.taken));
    let a_second = grouped(outcome.executions / (*seconds).max(1));
    let found = u8::from(outcome.found);
    format!(
        "| {target} | {executions} | {taken} | {found} | {a_second} | {} µs | {heap_kib} KiB | {rss_mb} MB | {date} | {commit} |\n",
        grouped(*slowest_us)
    )
}

/// 10,000,000
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn date() -> String {
    said("date", &["-u", "+%F"])
}

/// To be asked when the targets are built: the checkout may move on while they run.
pub fn commit() -> String {
    said("git", &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
}

fn said(program: &str, args: &[&str]) -> String {
    let output = command(program, args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(target: &str, executions: u64, found: bool) -> Outcome {
        let target = target.to_owned();
        Outcome {
            target,
            executions,
            taken: 5,
            found,
            seconds: 10,
            slowest_us: 1234,
            heap_kib: 80,
            rss_mb: 90,
        }
    }

    #[test]
    fn the_page_keeps_the_longest_run_of_each_target_and_whatever_was_found() {
        let page = with("", &outcome("jwks", 10_000_000, false), "2026-11-21", "abc");
        let line = "| jwks | 10,000,000 | 5 | 0 | 1,000,000 | 1,234 µs | 80 KiB | 90 MB | 2026-11-21 | abc |";
        assert!(page.contains(line), "{page}");
        let both = with(&page, &outcome("invite", 50_000, false), "2026-11-22", "def");
        assert!(both.contains(line) && both.contains("| invite | 50,000 |"), "{both}");
        assert_eq!(with(&both, &outcome("jwks", 50_000, false), "2026-11-23", "x"), both);
        let found = with(&both, &outcome("jwks", 7, true), "2026-11-23", "x");
        assert!(!found.contains(line) && found.contains("| jwks | 7 | 5 | 1 |"), "{found}");
        assert_eq!(found.matches("| invite |").count(), 1);
    }
}
