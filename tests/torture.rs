//! Every torture, so that each check runs with each change: a few of each with `cargo test`, about a tenth of the promised
//! counts with `cargo xtask test`; `cargo xtask torture` has all of them.

#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test's helper")]

use std::io::Write as _;
use std::process::Command;

use valetkey_tests::program::{output, program};
use valetkey_tests::strangers::Scale;

/// Not run a second time when one fails.
mod under_torture {
    use super::holds;

    /// Shows of H4 that a file is whole, wherever the agent is killed: at some calls here, at each in the full count.
    #[test]
    fn a_sign_in_outlives_sigkill_at_a_system_call() {
        holds("kills");
    }

    #[test]
    fn a_sign_in_outlives_sigkill_at_a_random_moment() {
        holds("random");
    }

    /// Shows of H4, where root may mount, that what was acknowledged is on the disk; the control is a directory whose `fsync`
    /// only pretends.
    #[test]
    fn what_was_acknowledged_is_there_after_a_power_cut() {
        holds("power");
    }

    /// Shows M15 and M17 for the agent, at file calls taken from all of them; the full count has each.
    #[test]
    fn what_cannot_be_stored_is_told_and_nothing_is_lost() {
        holds("faults");
    }

    /// Shows C6.
    #[test]
    fn many_callers_cost_one_request_and_a_second_daemon_is_told_who_runs() {
        holds("callers");
    }

    #[test]
    fn a_handoff_outlives_what_networks_and_brokers_do() {
        holds("network");
    }

    /// Shows of J8 that an agent that slept is not shown as signed out; the full count has the person's computer asleep too.
    #[test]
    fn a_clock_that_is_set_ends_no_sign_in_and_tells_nobody_an_untruth() {
        holds("clocks");
    }
}

/// A check fails too when its broken control is not caught, or too little was tried. What a check finds broken stays found: it is
/// made once more only if it says nothing of the agent.
fn holds(part: &str) {
    let said = match run(part) {
        Ok(said) => said,
        Err(said) => {
            let found = said.lines().filter_map(|line| line.strip_prefix("    ! "));
            let of_the_check = ["the control was not caught", "too little was tried"];
            let judged = |failure: &str| !of_the_check.iter().any(|what| failure.starts_with(what));
            assert!(!found.into_iter().any(judged), "{said}");
            aloud(&format!("{part} came to no verdict, and is tried once more:\n{said}"));
            run(part).unwrap_or_else(|said| panic!("{said}"))
        }
    };
    // Whatever cannot be tried on this machine is no secret, although it holds.
    said.lines().filter(|line| line.contains(": skipped (")).for_each(aloud);
    println!("{said}");
}

/// Past the harness, which keeps what a test prints that passes.
fn aloud(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(part: &str) -> Result<String, String> {
    let torture = program("examples/torture").expect("built with the tests of this package");
    let counts = match Scale::of_this_run() {
        Scale::Few => "--smoke",
        Scale::Tenth => "--tenth",
        Scale::Full => "--full",
    };
    let run = output(Command::new(torture).args([counts, "--only", part])).expect("it can be started");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if run.status.success() { Ok(said) } else { Err(said) }
}
