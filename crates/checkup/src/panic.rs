//! What a program says when it has a fault of its own. A panic's payload is made of whatever was at hand (an error that
//! holds an address with a code in it, a file's content), so it is never said; where it happened is enough to find it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, Location};

/// `EX_SOFTWARE` of sysexits.h: an error in the program itself.
pub const FAULT_CODE: u8 = 70;

/// From now on a panic in any thread ends the process with [`FAULT_CODE`], after one line that says where it was. A
/// program that went on without the part that broke would say "connected" of what nobody does any more.
pub fn keep_quiet(program: &'static str) {
    panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let line = line(program, info.location(), thread.name());
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "{line}");
        // Names of functions and lines, no values; only where RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            let _ = writeln!(out, "{trace}");
        }
        let _ = out.flush();
        drop(out);
        std::process::exit(FAULT_CODE.into());
    }));
}

fn line(program: &str, place: Option<&Location<'_>>, thread: Option<&str>) -> String {
    let place = place.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread.unwrap_or("unnamed");
    format!(
        "{program}: a fault in the program itself, at {place} in thread {thread}. It has ended; start it again, and \
         please report this line"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_place_and_the_thread() {
        let line = line("valetkey-agent", Some(Location::caller()), Some("main"));
        assert!(line.contains("panic.rs:") && line.contains("thread main"), "{line}");
    }
}
