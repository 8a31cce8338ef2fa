//! What a run found, for the terminal and for `docs/torture.md`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// One check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Row {
    pub check: String,
    /// What was counted, in the order to be shown.
    pub counts: Vec<(String, u64)>,
    /// What the broken control did, and that it was caught.
    pub control: String,
    /// Empty, or the check has failed.
    pub failures: Vec<String>,
    /// Why it could not be made here.
    pub skipped: Option<String>,
}

impl Row {
    pub fn new(check: impl Into<String>) -> Self {
        Self { check: check.into(), ..Self::default() }
    }

    pub fn skipped(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::new(check) }
    }

    /// Adds to a count.
    pub fn add(&mut self, what: &str, more: u64) {
        match self.counts.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what.to_owned(), more)),
        }
    }

    /// What a count has come to.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.iter().find(|(name, _)| name == what).map_or(0, |(_, count)| *count)
    }

    /// What could not be tried, of so many. A few depend on time; more than an eighth leave the check without its worth.
    pub fn unmet(&mut self, unmet: u64, of: u64, what: &str) {
        if unmet == 0 {
            return;
        }
        self.add(what, unmet);
        if unmet > UNMET_ALWAYS.max(of / 8) {
            self.too_little(&format!("{what}: {unmet} of {of}"));
        }
    }

    /// Nothing that was tried failed, and it says little.
    pub fn too_little(&mut self, why: &str) {
        self.failures.push(format!("too little was tried: {why}"));
    }

    /// Something that must not be.
    pub fn fail(&mut self, what: &str, failure: impl Into<String>) {
        self.add(what, 1);
        self.failures.push(format!("{what}: {}", failure.into()));
    }

    /// A control that nothing catches makes the check worthless.
    pub fn caught(&mut self, times: u64, of: u64, control: &str) {
        if times == 0 {
            self.failures.push(format!("the control was not caught: {control}"));
        }
        let said = format!("{control}: caught {times} of {of}");
        self.control = if self.control.is_empty() { said } else { format!("{}; {said}", self.control) };
    }

    fn verdict(&self) -> &'static str {
        match (&self.skipped, self.failures.is_empty()) {
            (Some(_), _) => "skipped",
            (None, true) => "holds",
            (None, false) => "FAILED",
        }
    }

    pub fn shown(&self) -> String {
        let mut text = format!("{}: {}", self.check, self.verdict());
        if let Some(why) = &self.skipped {
            let _ = write!(text, " ({why})");
        }
        for (what, count) in &self.counts {
            let _ = write!(text, "\n    {count} {what}");
        }
        if !self.control.is_empty() {
            let _ = write!(text, "\n    control: {}", self.control);
        }
        for failure in self.failures.iter().take(MOST_SHOWN) {
            let _ = write!(text, "\n    ! {failure}");
        }
        text
    }
}

/// Of a tenth of the calls an eighth is hardly one.
const UNMET_ALWAYS: u64 = 3;
/// A check that is broken is broken in the same way many times.
const MOST_SHOWN: usize = 12;

/// One line at the end, as the tests' own.
pub fn closing(rows: &[Row]) -> String {
    let count = |verdict: &str| rows.iter().filter(|row| row.verdict() == verdict).count();
    format!("{} hold, {} failed, {} skipped", count("holds"), count("FAILED"), count("skipped"))
}

/// What one run found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    pub commit: String,
    pub counts: String,
    pub seconds: u64,
    pub rows: Vec<Row>,
}

impl Found {
    pub fn save(&self, file: &Path) -> Result<()> {
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        put(file, &serde_json::to_vec(self)?)
    }
}

/// Writes the page of several runs that were made beside each other.
pub fn write(page: &Path, runs: &[&Path]) -> Result<()> {
    let mut found = Found { commit: String::new(), counts: String::new(), seconds: 0, rows: Vec::new() };
    for run in runs {
        let run: Found = serde_json::from_slice(&std::fs::read(run)?)?;
        ensure!(found.counts.is_empty() || found.counts == run.counts, "runs of different sizes");
        if !found.commit.contains(&run.commit) {
            let and = if found.commit.is_empty() { "" } else { " and " };
            found.commit = format!("{}{and}{}", found.commit, run.commit);
        }
        found.counts = run.counts;
        found.seconds = found.seconds.max(run.seconds);
        found.rows.extend(run.rows);
    }
    let Found { commit, counts, seconds, rows } = found;
    let mut text = format!(
        "# Torture\n\nWritten by `cargo xtask torture`, not by hand. Each kind of check has a control: the same thing broken on \
         purpose,\nwhich it has to catch. It stands with the first of its kind.\n\n- Date: {}\n- Commit: {commit}\n- Counts: {counts}\n- Took: {seconds} s\n- Result: {}\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        closing(&rows)
    );
    for row in &rows {
        let _ = write!(text, "\n## {}\n\n{}", row.check, row.verdict());
        if let Some(why) = &row.skipped {
            let _ = write!(text, ": {why}");
        }
        text.push('\n');
        if !row.counts.is_empty() {
            text.push_str("\n| counted | |\n|---|---:|\n");
        }
        for (what, count) in &row.counts {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        if !row.control.is_empty() {
            let _ = write!(text, "\nControl: {}.\n", row.control);
        }
        for failure in row.failures.iter().take(MOST_SHOWN) {
            let _ = write!(text, "\n- {failure}\n");
        }
    }
    put(page, text.as_bytes())
}

/// A report is made again if it is torn.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    Ok(std::fs::File::create(file)?.write_all(bytes)?)
}

/// What is tried.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    match git(&["status", "--porcelain", "--", "../crates", "../Cargo.lock", "."]) {
        Some(changed) if !changed.is_empty() => format!("{head}, with uncommitted changes"),
        _ => head,
    }
}
