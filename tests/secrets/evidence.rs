//! Gathers what a journey leaves where others may see it: files, logs, what commands print, what crosses the broker.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing_subscriber::fmt::format::FmtSpan;
use valetkey_tests::broker::Recorded;
use valetkey_tests::daemon::Daemon;

use crate::processes::Watch;
use crate::search::{Exhibit, Kind};

/// Nothing that a journey leaves is this large; other people's files in a temporary directory may be.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// For what is there for everybody.
pub const NOTHING: &[Kind] = &[];

pub struct Evidence {
    pub exhibits: Vec<Exhibit>,
    pub watch: Watch,
}

impl Evidence {
    pub fn start() -> Self {
        Self { exhibits: Vec::new(), watch: Watch::start() }
    }

    pub fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>, may: &'static [Kind]) {
        self.exhibits.push(Exhibit { place: place.into(), bytes: bytes.into(), may });
    }

    /// Every file under `dir` as it is now. `may` says by its path what a file is there to hold.
    pub fn add_files(&mut self, dir: &Path, may: &dyn Fn(&Path) -> &'static [Kind]) {
        self.add_files_since(dir, SystemTime::UNIX_EPOCH, may);
    }

    pub fn add_files_since(&mut self, dir: &Path, since: SystemTime, may: &dyn Fn(&Path) -> &'static [Kind]) {
        // What is gone when it is looked at is seen by the next look, or was somebody else's.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, Ok(facts)) = (entry.path(), entry.metadata()) else { continue };
            let place = path.display().to_string();
            if facts.is_dir() {
                self.add_files_since(&path, since, may);
            } else if facts.is_file()
                && facts.len() < MAX_BYTES
                && facts.modified().is_ok_and(|at| at >= since)
                && let Ok(bytes) = fs::read(&path)
            {
                self.add(place.clone(), bytes, may(&path));
            }
            self.add("a file's name", place, NOTHING);
        }
    }

    /// Runs a command of the daemon's program to its end and keeps what it printed. Returns its output stream.
    pub fn command(&mut self, daemon: &Daemon, args: &[&str], may: &'static [Kind]) -> String {
        let mut command = daemon.command(args).unwrap();
        command.env("RUST_LOG", "trace").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        self.watch.look();
        let output = child.wait_with_output().unwrap();
        let name = format!("valetkey-agent {}", args[0]);
        self.add(format!("standard output of {name}"), output.stdout.clone(), may);
        self.add(format!("standard error of {name}"), output.stderr, NOTHING);
        String::from_utf8(output.stdout).unwrap()
    }

    /// A message as it crossed the broker, and what its parts decode to.
    pub fn add_message(&mut self, message: &Recorded) {
        self.add("an MQTT topic", message.topic.clone(), NOTHING);
        self.add("an MQTT message", message.payload.clone(), NOTHING);
        for part in message.payload.split(|byte| *byte == b'.') {
            if let Ok(decoded) = URL_SAFE_NO_PAD.decode(part) {
                self.add("an MQTT message, decoded", decoded, NOTHING);
            }
        }
    }

    /// What could be read of processes so far; the watch goes on anew.
    pub fn add_processes(&mut self) {
        let watched = std::mem::replace(&mut self.watch, Watch::start()).take_down();
        for (place, bytes) in watched {
            self.add(place, bytes, NOTHING);
        }
    }
}

/// Everything that this process logs, at every level: the companion runs in it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The one log of this process, from the first call on.
    pub fn of_this_process() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let install = || {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_span_events(FmtSpan::FULL)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            log
        };
        LOG.get_or_init(install).clone()
    }

    pub fn so_far(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
