//! `cargo xtask fuzz`: what reads strangers' bytes, against bytes that a fuzzer makes up. Its page is `docs/fuzz.md`.

mod keep;
mod libfuzzer;
mod page;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, command, execute, root, say, succeeds};
use libfuzzer::Outcome;

const KIB: usize = 1024;

/// Each with its longest input: a little beyond what the reader's own limit lets pass, or what a real one has. Longer ones
/// repeat what shorter ones show, and cost executions. In the order of how fast they are.
const TARGETS: [(&str, usize); 12] = [
    // Several packets of each kind.
    ("packet", 2 * KIB),
    ("policy", 2 * KIB),
    // Two or three keys.
    ("jwks", 3 * KIB),
    // Every kind of body, with a token cache of a few entries.
    ("message", 4 * KIB),
    // Entra's are 1 to 2 KiB.
    ("id_token", 3 * KIB),
    // A header's limit is 2,048 characters; real messages of a small body have 1,000 to 1,500.
    ("envelope", 4 * KIB),
    // A link's limit is 4,096 characters.
    ("invite", 5 * KIB),
    // A head's limit is 64 KiB and a form's 32 KiB, but the longest real request has one or two.
    ("callback", 2 * KIB),
    // The template with every key switched on has 5 KiB, most of it comments.
    ("configuration", 4 * KIB),
    // Real ones of one account have 3 to 8 KiB; each kind of entry fits in.
    ("msal_cache", 6 * KIB),
    ("vault_file", 6 * KIB),
    // An age header's limit is 1 KiB, and a chunk of its body fits behind it.
    ("signed_envelope", 3 * KIB),
];

/// Without `--runs`: a minute or so for all of them, to see that everything works.
const SHORT_RUNS: u64 = 50_000;
/// What the product promises of each.
const FULL_RUNS: u64 = 10_000_000;
/// The control's word is found in some ten thousand.
const CONTROL_RUNS: u64 = 2_000_000;

struct Wish {
    targets: Vec<(&'static str, usize)>,
    runs: u64,
    minutes: Option<u64>,
    jobs: usize,
    keep: bool,
}

pub fn run(args: &[String]) -> Result<()> {
    let wish = Wish::read(args)?;
    tools()?;
    let commit = page::commit();
    execute(nightly(&["fuzz", "build", "--sanitizer", "none"]))?;
    if wish.keep {
        return wish.targets.iter().try_for_each(|(target, _)| keep::keep(target));
    }
    controls()?;
    let next = Mutex::new(wish.targets.iter());
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                while let Some((target, max_len)) = next.lock().ok().and_then(|mut next| next.next()) {
                    let outcome = attack(target, *max_len, &wish);
                    if let Ok(outcome) = &outcome {
                        say(&outcome.line());
                        // At once: a long campaign that is stopped has told what it got to.
                        if let Err(error) = page::enter(outcome, &commit) {
                            say(&format!("docs/fuzz.md could not be written: {error:#}"));
                        }
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default().into_iter().collect::<Result<Vec<_>>>()?;
    say(&format!("\n{}", page::table(&outcomes, &commit)));
    let broken: Vec<&str> =
        outcomes.iter().filter(|outcome| outcome.found).map(|outcome| &*outcome.target).collect();
    ensure!(broken.is_empty(), "something was found in: {}", broken.join(", "));
    Ok(())
}

impl Wish {
    fn read(args: &[String]) -> Result<Self> {
        let mut wish = Self { targets: Vec::new(), runs: SHORT_RUNS, minutes: None, jobs: 1, keep: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64> {
                let value = args.next().with_context(|| format!("{arg} needs a number"))?;
                value.parse().with_context(|| format!("{arg} {value} is no number"))
            };
            match arg.as_str() {
                "--keep" => wish.keep = true,
                "--full" => wish.runs = FULL_RUNS,
                "--runs" => wish.runs = number()?,
                "--minutes" => wish.minutes = Some(number()?),
                "--jobs" => wish.jobs = usize::try_from(number()?)?.max(1),
                name => match TARGETS.iter().find(|(target, _)| *target == name) {
                    Some(target) => wish.targets.push(*target),
                    None => bail!(
                        "there is no target `{name}`; there are {}",
                        TARGETS.map(|(name, _)| name).join(", ")
                    ),
                },
            }
        }
        if wish.targets.is_empty() {
            wish.targets = TARGETS.to_vec();
        }
        Ok(wish)
    }
}

/// A compiler that can instrument, and the command that drives it.
fn tools() -> Result<()> {
    if !succeeds(command("rustup", &["run", "nightly", "rustc", "--version"])) {
        bail!(
            "fuzzing needs a nightly Rust; install one with\n\n  rustup toolchain install nightly --profile minimal\n\n\
             Without it every seed and every found case still runs as a plain test:\n\n  cargo test -p valetkey-fuzzed"
        );
    }
    if !succeeds(nightly(&["fuzz", "--version"])) {
        execute(cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    Ok(())
}

fn nightly(args: &[&str]) -> Command {
    let mut cargo = command("rustup", &["run", "nightly", "cargo"]);
    cargo.args(args);
    cargo
}

/// The fuzzer must find a word that only its feedback leads to, and both limits must hold; otherwise "nothing found" means
/// nothing.
fn controls() -> Result<()> {
    let place = root().join("fuzz/corpus/control");
    // Found anew each time.
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let found = format!("{}/", place.display());
    let searched = libfuzzer::run("control", 16, CONTROL_RUNS, None, &[], &place, &found)
        .context("the control could not run")?;
    ensure!(
        searched.found,
        "the control, a reader that panics at a word, was not caught in {CONTROL_RUNS} executions"
    );
    for word in ["memory", "time"] {
        let case = place.join(word);
        fs::copy(root().join("fuzz/controls").join(word), &case)?;
        ensure!(libfuzzer::fails("control", &case)?, "the control for {word} was not caught");
    }
    say(&format!(
        "controls: a panic found after {} executions, memory and time stopped",
        searched.executions
    ));
    Ok(())
}

fn attack(target: &str, max_len: usize, wish: &Wish) -> Result<Outcome> {
    let corpora = root().join("tests/fuzzed/corpora").join(target);
    let found = corpora.join("found");
    let grown = root().join("fuzz/corpus").join(target);
    for folder in [&found, &grown] {
        fs::create_dir_all(folder)?;
    }
    let seeds: Vec<PathBuf> = ["seeds", "grown", "found"]
        .iter()
        .map(|kind| corpora.join(kind))
        .filter(|folder| folder.exists())
        .collect();
    let prefix = format!("{}/", found.display());
    libfuzzer::run(target, max_len, wish.runs, wish.minutes, &seeds, &grown, &prefix)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_that_can_be_built_is_run() {
        let listed: BTreeSet<String> =
            TARGETS.iter().map(|(name, _)| (*name).to_owned()).chain(["control".to_owned()]).collect();
        let built = fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap();
        let built: BTreeSet<String> = built
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(listed, built);
        assert_eq!(listed.len(), TARGETS.len() + 1);
    }

    #[test]
    fn a_wish_is_read_and_a_mistyped_one_is_refused() {
        let read = |text: &str| Wish::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let wish = read("jwks packet --runs 7 --jobs 2 --minutes 3").unwrap();
        assert_eq!((wish.targets.len(), wish.runs, wish.jobs, wish.minutes), (2, 7, 2, Some(3)));
        assert_eq!(read("--full").unwrap().runs, FULL_RUNS);
        assert_eq!(read("").unwrap().targets.len(), TARGETS.len());
        for wrong in ["pakcet", "--runs", "--runs many", "--ful"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
