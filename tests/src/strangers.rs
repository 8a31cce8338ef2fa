//! What a stranger may send to a parser: anything, and above all what is nearly right.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// Longer than a parser takes over any input, on a machine that does ten things at once; short enough to notice one that
/// takes quadratic time.
const BOUND: Duration = Duration::from_secs(1);

/// For [`feed`], in everybody's run.
pub const INPUTS: u32 = 5000;

/// How much of everything a run does, by the variable `VALETKEY_TORTURE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A few of each, for every `cargo test`.
    Few,
    /// `tenth`: about a tenth of what is promised, as `cargo xtask test` asks for it.
    Tenth,
    /// `full`: the counts that the project promises.
    Full,
}

impl Scale {
    pub fn of_this_run() -> Self {
        match std::env::var("VALETKEY_TORTURE").as_deref() {
            Ok("full") => Self::Full,
            Ok("tenth") => Self::Tenth,
            _ => Self::Few,
        }
    }
}

/// What is promised of each model.
const STEPS: usize = 1_000_000;

/// `usual`, and ten times as many in a full run.
pub fn cases(usual: u32) -> u32 {
    if Scale::of_this_run() == Scale::Full { usual * 10 } else { usual }
}

/// Walks a model through `usual` histories; in a full run, through as many as it takes to make a million steps. `walk` returns
/// how many one history had.
#[expect(clippy::print_stdout, reason = "counts belong to the outcome")]
pub fn explore<S: Strategy>(
    what: &str,
    usual: u32,
    histories: &S,
    walk: impl Fn(S::Value) -> Result<usize, TestCaseError>,
) {
    let least = if Scale::of_this_run() == Scale::Full { STEPS } else { 1 };
    let (steps, runs) = (Cell::new(0), Cell::new(0_usize));
    while steps.get() < least {
        let outcome = runner(usual).run(histories, |history| {
            steps.set(steps.get() + walk(history)?);
            runs.set(runs.get() + 1);
            Ok(())
        });
        assert!(
            outcome.is_ok(),
            "{what}: {}",
            outcome.map_or_else(|failed| failed.to_string(), |()| String::new())
        );
    }
    println!("{what}: {} histories, {} steps", runs.get(), steps.get());
}

/// A runner whose failures are printed and written nowhere.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Whether a broken model, as a control, is found out in `usual` histories.
pub fn is_found_out<S: Strategy>(
    usual: u32,
    histories: &S,
    walk: impl Fn(S::Value) -> Result<usize, TestCaseError>,
) -> bool {
    // Nobody reads by which history.
    let config = Config { cases: usual, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new(config).run(histories, |history| walk(history).map(drop)).is_err()
}

/// Gives `read` [`INPUTS`] inputs made of `seeds`, and says how many it took. `read` returns whether it took one; it must
/// return from each within a second.
#[expect(clippy::print_stdout, reason = "counts belong to the outcome")]
pub fn feed(what: &str, seeds: &[&[u8]], read: impl Fn(&[u8]) -> bool) {
    let (taken, inputs, slowest) = (Cell::new(0), Cell::new(0), Cell::new(Duration::ZERO));
    let result = runner(cases(INPUTS)).run(&inputs_like(seeds), |input| {
        let began = Instant::now();
        let took_it = read(&input);
        let elapsed = began.elapsed();
        prop_assert!(elapsed < BOUND, "{elapsed:?}");
        slowest.set(slowest.get().max(elapsed));
        inputs.set(inputs.get() + 1);
        taken.set(taken.get() + u32::from(took_it));
        Ok(())
    });
    if let Err(TestError::Fail(why, input)) = &result {
        panic!("{what}: {why} with {:?}", String::from_utf8_lossy(input));
    }
    println!(
        "{what}: {} inputs, {} taken, none panicked, slowest {:?}",
        inputs.get(),
        taken.get(),
        slowest.get()
    );
    assert!(inputs.get() >= INPUTS, "{result:?}");
}

/// Bytes at random, and seeds that were changed in up to five places.
pub fn inputs_like(seeds: &[&[u8]]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let seed = prop::sample::select(seeds);
    let changed = (
        seed.clone(),
        seed,
        vec((change(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    );
    prop_oneof![
        1 => (any::<u64>(), 0..2048_usize).prop_map(|(start, length)| noise(start, length)),
        1 => vec(prop::sample::select(&TOKENS[..]), 0..64).prop_map(|tokens| tokens.concat().into_bytes()),
        8 => changed.prop_map(|(seed, other, changes)| {
            changes.into_iter().fold(seed, |text, (change, from, to)| change.apply(text, from, to, &other))
        }),
    ]
}

/// A strategy for each byte would take longer than any parser.
fn noise(start: u64, length: usize) -> Vec<u8> {
    // Knuth's linear congruential generator.
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(start), next).take(length).map(|state| state.to_be_bytes()[0]).collect()
}

#[derive(Clone, Debug)]
enum Change {
    Flip(u8),
    Insert(Vec<u8>),
    /// The part becomes this.
    Become(Vec<u8>),
    Remove,
    /// The part once more behind itself, or many times.
    Repeat(usize),
    /// From here on it is the other seed.
    Splice,
    Cut,
}

/// Tokens at which parsers of JSON, TOML, HTTP, base64 and numbers part ways.
const TOKENS: [&str; 30] = [
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "=",
    ".",
    "/",
    "%",
    "%00",
    "\r\n",
    "\n",
    "\0",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "-9223372036854775809",
    "253402300800",
    "\"\"",
    "[[[[[[[[",
    "{\"a\":",
    "é",
];

fn change() -> impl Strategy<Value = Change> {
    let token = prop::sample::select(&TOKENS[..]).prop_map(|token| token.as_bytes().to_vec());
    prop_oneof![
        2 => any::<u8>().prop_map(Change::Flip),
        2 => token.clone().prop_map(Change::Insert),
        1 => vec(any::<u8>(), 1..32).prop_map(Change::Insert),
        3 => token.prop_map(Change::Become),
        2 => Just(Change::Remove),
        1 => Just(Change::Repeat(1)),
        1 => (2..2000_usize).prop_map(Change::Repeat),
        1 => Just(Change::Splice),
        1 => Just(Change::Cut),
    ]
}

impl Change {
    fn apply(
        self,
        mut text: Vec<u8>,
        from: prop::sample::Index,
        to: prop::sample::Index,
        other: &[u8],
    ) -> Vec<u8> {
        /// Beyond what any parser here is given, repeating only costs time.
        const LONGEST: usize = 64 * 1024;
        let (a, b) = (from.index(text.len() + 1), to.index(text.len() + 1));
        // A part is short more often than not: a value, a name.
        let (start, end) = (a.min(b), a.max(b).min(a.min(b) + 1 + b % 24).min(text.len()));
        match self {
            Self::Flip(with) => {
                if let Some(byte) = text.get_mut(start) {
                    *byte ^= with;
                }
            }
            Self::Insert(what) => drop(text.splice(start..start, what)),
            Self::Become(what) => drop(text.splice(start..end, what)),
            Self::Remove => drop(text.drain(start..end)),
            Self::Repeat(times) => {
                let part = text[start..end].to_vec();
                let times = times.min(LONGEST / part.len().max(1));
                drop(text.splice(end..end, part.repeat(times)));
            }
            Self::Splice => {
                text.truncate(start);
                text.extend_from_slice(&other[other.len().min(b)..]);
            }
            Self::Cut => text.truncate(start),
        }
        text
    }
}
