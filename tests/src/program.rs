//! Our own programs as processes: what they print, line by line, awaited.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::process::Guarded;

/// Nothing here takes longer on a machine that works, however busy it is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The file of a program of this workspace, built beside the test that asks.
pub fn program(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let found = me.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not built; run: cargo build --workspace --bins"))
}

/// A program that prints one JSON object a line, or plain lines, which come as JSON strings.
#[derive(Debug)]
pub struct Program {
    child: Guarded,
    lines: mpsc::UnboundedReceiver<Value>,
    seen: VecDeque<Value>,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it says on its error stream goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stderr = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = Guarded::spawn(command).with_context(|| format!("cannot start {name}"))?;
        let stdout = child.0.stdout.take().context("no output to read")?;
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line))).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, seen: VecDeque::new(), name, log: log.to_owned() })
    }

    /// The next line that `wanted` accepts; earlier ones that it does not accept stay for later calls.
    pub async fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(at) = self.seen.iter().position(&wanted)
            && let Some(value) = self.seen.remove(at)
        {
            return Ok(value);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(value)) if wanted(&value) => return Ok(value),
                Ok(Some(value)) => self.seen.push_back(value),
                Ok(None) => bail!("{} ended before {what}; it said:\n{}", self.name, self.log()),
                Err(_) => bail!(
                    "{} did not come to {what}; lines: {:?}; it said:\n{}",
                    self.name,
                    self.seen,
                    self.log()
                ),
            }
        }
    }

    /// The next line with this `event`.
    pub async fn event(&mut self, event: &str) -> Result<Value> {
        self.next(event, |line| line["event"] == event).await
    }

    /// The next plain line with this in it.
    pub async fn line(&mut self, part: &str) -> Result<String> {
        let line = self.next(part, |line| line.as_str().is_some_and(|line| line.contains(part))).await?;
        Ok(line.as_str().unwrap_or_default().to_owned())
    }

    /// How many lines that `wanted` accepts have come and were not taken.
    pub fn count(&mut self, wanted: impl Fn(&Value) -> bool) -> usize {
        while let Ok(value) = self.lines.try_recv() {
            self.seen.push_back(value);
        }
        self.seen.iter().filter(|value| wanted(value)).count()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        if self.child.0.try_wait()?.is_some() {
            bail!("{} had already ended; it said:\n{}", self.name, self.log());
        }
        self.terminate()
    }

    fn terminate(&mut self) -> Result<()> {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        self.child.0.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<std::process::ExitStatus> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(value)) = tokio::time::timeout_at(deadline, self.lines.recv()).await {
            self.seen.push_back(value);
        }
        // Its output has ended, so it has or is about to.
        Ok(self.child.0.wait()?)
    }
}

/// A daemon ends its broker when it is asked to end, and cannot when it is killed; so a test that fails asks, too.
impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.0.try_wait(), Ok(None)) {
            let _ = self.terminate();
        }
    }
}

/// Runs a program to its end.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))
}
