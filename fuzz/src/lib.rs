//! What every fuzz target is made of: one function of `valetkey-fuzzed`, an allocator that stops it at a limit, and a line
//! whenever a case needed more time or memory than any before.

use std::alloc::System;
use std::cell::Cell;

use cap::Cap;
pub use libfuzzer_sys;
use rustix::time::{ClockId, clock_gettime};
use valetkey_fuzzed::{CONTROL, MAX_HEAP, Target};

/// libFuzzer's own limit on one allocation needs a sanitizer; this needs none, and bounds all of them together. The fuzzer
/// itself allocates elsewhere.
#[global_allocator]
pub static HEAP: Cap<System> = Cap::new(System, MAX_HEAP);

#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::run($name, bytes));
    };
}

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { target: None, executions: 0, taken: 0, slowest_us: 0, heap_kib: 0 }) };
}

#[derive(Clone, Copy)]
struct Seen {
    target: Option<Target>,
    executions: u64,
    taken: u64,
    slowest_us: u64,
    heap_kib: usize,
}

/// Of a case that seems to be the slowest so far.
const REPEATS: u32 = 3;

/// Told at least this often, so that the last line is nearly the end.
const EVERY: u64 = 50_000;

pub fn run(name: &str, bytes: &[u8]) {
    let mut seen = SEEN.get();
    let Some(target) = seen
        .target
        .or_else(|| if name == CONTROL.name { Some(CONTROL) } else { valetkey_fuzzed::target(name) })
    else {
        panic!("there is no target {name}");
    };
    seen.target = Some(target);
    let (taken, mut took) = timed(target, bytes);
    // The machine charges a thread for what others do. What is slow is slow again.
    for _ in 0..REPEATS {
        if took > seen.slowest_us {
            took = took.min(timed(target, bytes).1);
        }
    }
    seen.executions += 1;
    seen.taken += u64::from(taken);
    let heap = HEAP.max_allocated() / 1024;
    let slower = took > seen.slowest_us;
    if slower {
        seen.slowest_us = took;
    }
    if slower || heap > seen.heap_kib || seen.executions % EVERY == 0 {
        seen.heap_kib = heap;
        let Seen { executions, taken, slowest_us, heap_kib, .. } = seen;
        eprintln!(
            "valetkey: executions {executions} taken {taken} slowest_us {slowest_us} heap_kib {heap_kib}"
        );
    }
    SEEN.set(seen);
}

fn timed(target: Target, bytes: &[u8]) -> (bool, u64) {
    let began = processor_us();
    let taken = (target.read)(bytes);
    (taken, processor_us() - began)
}

/// Of this thread's processor time: a busy machine makes nothing slow.
fn processor_us() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
