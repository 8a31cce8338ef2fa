//! `cargo xtask test` and `cargo xtask check`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, execute, say};

/// A test that meets a broker, a browser and a screen may lose a race against the rest of a busy machine. So few that failed
/// are run once more, alone, and the closing line names them; more than these are no accident.
const SECOND_TRIES: usize = 5;
/// What begins so, or has it in it, depends on no race that is not its very matter: once found broken, it is.
const NO_SECOND_TRY: [&str; 2] = ["under_torture::", "model::"];

/// How much torture a test run has; for whoever wants a part of the tests, as little as shows that it works.
const TORTURE: &str = "VALETKEY_TORTURE";

/// Everything, counted, with a tenth of the torture. The targets are built first, and all at once: the journeys start our own programs, and one
/// set of features for all means nothing is compiled twice.
pub fn run(extra: &[String]) -> Result<()> {
    if extra.is_empty() {
        execute(cargo(&["build", "--locked", "--workspace", "--all-targets"]))?;
    }
    let mut count = counted(extra, &[])?;
    let failed = std::mem::take(&mut count.names);
    let mut second = String::new();
    let final_ones = failed.iter().any(|name| NO_SECOND_TRY.iter().any(|part| name.contains(part)));
    if !failed.is_empty() && failed.len() <= SECOND_TRIES && !final_ones {
        say(&format!("\nOnce more, alone: {}\n", failed.join(", ")));
        let again = counted(extra, &failed)?;
        if again.failed == 0 && again.passed as usize >= failed.len() {
            count.passed += count.failed;
            count.failed = 0;
            second = format!("; only at the second try: {}", failed.join(", "));
        }
    }
    say(&format!("\n{} passed, {} failed, {} skipped{second}", count.passed, count.failed, count.skipped));
    if count.failed > 0 {
        bail!("{} tests failed", count.failed);
    }
    if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// `cargo test`, of everything or of what `extra` says; of the tests with these names alone if there are any.
fn counted(extra: &[String], names: &[String]) -> Result<Count> {
    let mut test = cargo(&["test", "--locked", "--no-fail-fast"]);
    if extra.is_empty() {
        test.arg("--workspace");
        if std::env::var_os(TORTURE).is_none() {
            test.env(TORTURE, "tenth");
        }
    }
    test.args(extra);
    if !names.is_empty() {
        if !extra.iter().any(|arg| arg == "--") {
            test.arg("--");
        }
        test.args(["--exact", "--test-threads=1"]).args(names);
    }
    let mut child = test.stdout(Stdio::piped()).spawn().context("could not start cargo test")?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            count.add(&line);
            say(&line);
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        bail!("cargo test failed before it could count ({status})");
    }
    Ok(count)
}

/// What a reviewer would ask for before reading.
pub fn check() -> Result<()> {
    execute(cargo(&["fmt", "--all", "--check"]))?;
    execute(cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

#[derive(Default, Debug, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
    /// Of those that failed.
    names: Vec<String>,
}

impl Count {
    /// Takes in one line of output; only libtest's `test result: …` lines count, and `test … FAILED` names.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            // One that runs itself in another process says it twice.
            if !self.names.iter().any(|known| known == name) {
                self.names.push(name.to_owned());
            }
            return;
        }
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in numbers.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn result_lines_are_added_up_and_nothing_else_is() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test a::test_result_of_passed ... ok",
            "test a::lost_a_race ... FAILED",
            "test a::lost_a_race ... FAILED",
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
        ] {
            count.add(line);
        }
        let names = vec!["a::lost_a_race".to_owned()];
        assert_eq!(count, Count { passed: 5, failed: 4, skipped: 1, names });
    }
}
