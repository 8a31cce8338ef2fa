//! A clock that is set while its processes run: libfaketime reads its file at every look at the time. Timers go on as they
//! are, as they do on a computer whose clock is set.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context as _, Result};
use tokio::process::Command;

/// Debian's folder has the machine's name in it.
const FOLDER: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir(FOLDER).ok()?;
    let mut found = folders.filter_map(|folder| Some(folder.ok()?.path().join(LIBRARY)));
    found.find(|file| file.is_file())
}

/// The clock of one computer. Clones are the same one.
#[derive(Debug, Clone)]
pub struct FakeClock {
    file: PathBuf,
    /// Milliseconds.
    ahead: Arc<AtomicI64>,
    furthest: Arc<AtomicI64>,
}

impl FakeClock {
    /// A clock that is right.
    pub fn new(file: PathBuf) -> Result<Self> {
        let clock = Self { file, ahead: Arc::default(), furthest: Arc::default() };
        clock.set(0)?;
        Ok(clock)
    }

    /// Has a program live by this clock.
    pub fn rules(&self, command: &mut Command) -> Result<()> {
        command
            .env("LD_PRELOAD", library().context("libfaketime is not installed")?)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        Ok(())
    }

    /// Sets it this many milliseconds ahead of the right time.
    pub fn set(&self, ahead: i64) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        let sign = if ahead < 0 { '-' } else { '+' };
        let (seconds, rest) = (ahead.unsigned_abs() / 1000, ahead.unsigned_abs() % 1000);
        writeln!(new, "{sign}{seconds}.{rest:03}")?;
        // In one go: it is being read all the time.
        new.persist(&self.file)?;
        self.ahead.store(ahead, Ordering::Relaxed);
        self.furthest.fetch_max(ahead, Ordering::Relaxed);
        Ok(())
    }

    pub fn go_on(&self, by: i64) -> Result<()> {
        self.set(self.ahead.load(Ordering::Relaxed) + by)
    }

    /// Puts it right, and forgets that it was wrong.
    pub fn put_right(&self) -> Result<()> {
        self.set(0)?;
        self.furthest.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Minutes ahead of the right time.
    pub fn minutes(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed) / 60_000
    }

    /// The most minutes it has been ahead since it was last right.
    pub fn most_minutes(&self) -> i64 {
        self.furthest.load(Ordering::Relaxed) / 60_000
    }
}
