//! Every seed and every case that a fuzzer has found, through the same functions, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::System;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap::Cap;
use rustix::time::{ClockId, clock_gettime};
use valetkey_fuzzed::{
    CONTROL, HONEST_MESSAGES, HONEST_TOKENS, MAX_HEAP, TARGETS, Target, envelope, id_token,
};

/// Measures what the readers take. Unlike the fuzzer's it sets no limit of its own: the limit is asserted.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Of processor time, unoptimised. Most cases take microseconds; checking an RSA signature takes a few milliseconds.
const BOUND: Duration = Duration::from_secs(2);

struct Case {
    took: Duration,
    heap: usize,
    taken: bool,
}

fn read(target: &Target, bytes: &[u8]) -> Case {
    let (held, began) = (HEAP.allocated(), processor_time());
    let taken = (target.read)(bytes);
    let took = processor_time().saturating_sub(began);
    // The most that was ever held at once: an upper bound for this case.
    Case { took, heap: HEAP.max_allocated().saturating_sub(held), taken }
}

fn assert_bounded(name: &str, case: &Case) {
    assert!(case.took < BOUND, "{name} took {:?}", case.took);
    assert!(case.heap < MAX_HEAP, "{name} took {} bytes", case.heap);
}

/// Of this thread, so that a busy machine makes nothing slow.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// In `corpora/TARGET`: `seeds` that were written, `grown` ones that a fuzzer made of them, and what it `found`.
fn cases(target: &str, kind: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target).join(kind);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_seed_and_every_found_case_keeps_its_promises_in_bounded_time_and_memory() {
    println!(
        "{:16} {:>6} {:>6} {:>6} {:>6} {:>12} {:>10}",
        "", "seeds", "grown", "found", "taken", "slowest", "KiB"
    );
    for target in TARGETS {
        let [seeds, grown, found] = ["seeds", "grown", "found"].map(|kind| cases(target.name, kind));
        assert!(seeds.len() >= 3, "{} has no seeds", target.name);
        let (mut taken, mut slowest, mut heap) = (0, Duration::ZERO, 0);
        for (path, bytes) in seeds.iter().chain(&grown).chain(&found) {
            // What the name of a panic's case is: the panic itself says where.
            println!("{}", path.display());
            let case = read(&target, bytes);
            assert_bounded(&path.display().to_string(), &case);
            taken += u32::from(case.taken);
            slowest = slowest.max(case.took);
            heap = heap.max(case.heap);
        }
        assert!(taken > 0, "{}: nothing was taken, so the promises were never asked for", target.name);
        let (name, seeds, grown, found) = (target.name, seeds.len(), grown.len(), found.len());
        println!("{name:16} {seeds:6} {grown:6} {found:6} {taken:6} {slowest:>12.1?} {:>10}", heap / 1024);
    }
    a_broken_reader_is_noticed();
}

/// The control, last, because the allocator never forgets the most it has held.
fn a_broken_reader_is_noticed() {
    assert!(catch_unwind(|| read(&CONTROL, b"panic")).is_err());
    assert!(read(&CONTROL, b"paniC").taken);
    let greedy = read(&CONTROL, b"memory");
    assert!(catch_unwind(|| assert_bounded("the control", &greedy)).is_err(), "{} bytes", greedy.heap);
}

/// Every seventh bit, so that each place of a byte has its turn, and every third length.
#[test]
fn an_honest_message_or_token_that_was_changed_in_one_bit_or_cut_is_never_believed() {
    let messages =
        HONEST_MESSAGES.into_iter().map(|(name, bytes)| (name, bytes, envelope as fn(&[u8]) -> bool));
    let tokens = HONEST_TOKENS.map(|token| ("token", token.as_bytes(), id_token as fn(&[u8]) -> bool));
    let mut changed = 0;
    for (name, honest, read) in messages.chain(tokens) {
        assert!(read(honest), "{name} as it is");
        // Each that reaches the signature costs a millisecond or more in an unoptimised build.
        for bit in (0..honest.len() * 8).step_by(7) {
            let mut bytes = honest.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!read(&bytes), "{name} with bit {bit} changed");
            changed += 1;
        }
        for length in (0..honest.len()).step_by(3) {
            assert!(!read(&honest[..length]), "{name} cut to {length} bytes");
            changed += 1;
        }
    }
    println!("{changed} changed messages and tokens, none believed");
    assert!(changed > 10_000);
}
