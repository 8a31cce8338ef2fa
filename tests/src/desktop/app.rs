//! The app on a desktop: started, started again, and what can be seen of it from outside.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::time::timeout;

use super::{Desktop, PATIENCE, POLL};
use crate::process::listens_at;
use crate::program::program;

/// The app, running on a [`Desktop`]. Killed when dropped.
#[derive(Debug)]
pub struct App {
    process: Child,
    log: PathBuf,
}

impl App {
    /// Starts the app with its own data directory and `arguments`.
    pub fn start(desktop: &Desktop, arguments: &[&str]) -> Result<Self> {
        let log = desktop.home().join("app.log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = desktop.command(binary()?);
        command
            .arg("--data-dir")
            .arg(desktop.data_dir())
            .args(arguments)
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = command.spawn()?;
        Ok(Self { process, log })
    }

    /// Everything that the app has written to its terminal.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// What every user of the computer can read of how it was started.
    pub fn command_line(&self) -> Result<String> {
        let id = self.process.id().context("the app has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{id}/cmdline"))?)
    }

    /// How many bytes of its memory the system may write into a core file.
    pub fn core_limit(&self) -> Result<u64> {
        let id = self.process.id().context("the app has ended")?;
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
        let hard = line.and_then(|line| line.split_whitespace().nth(1)).context("no limit for cores")?;
        hard.parse().with_context(|| format!("a core of {hard} bytes"))
    }

    /// Where others can reach it.
    pub fn listens_at(&self) -> Result<BTreeSet<String>> {
        Ok(listens_at(self.process.id().context("the app has ended")?)?)
    }

    /// Waits until nobody can reach it any more.
    pub async fn listens_nowhere(&self) -> Result<()> {
        let closed = async {
            while !self.listens_at()?.is_empty() {
                tokio::time::sleep(POLL).await;
            }
            anyhow::Ok(())
        };
        let still = || format!("it still listens at {:?}", self.listens_at());
        timeout(PATIENCE, closed).await.with_context(still)?
    }

    /// It hangs from now on.
    pub fn freeze(&self) -> Result<()> {
        let id = self.process.id().context("the app has ended")?;
        let frozen = std::process::Command::new("kill").args(["-STOP", &id.to_string()]).status()?;
        anyhow::ensure!(frozen.success(), "the app cannot be stopped");
        Ok(())
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Waits for the app to end by itself; its exit code.
    pub async fn ended(&mut self) -> Result<Option<i32>> {
        Ok(timeout(PATIENCE, self.process.wait()).await.context("the app still runs")??.code())
    }
}

/// Starts the app a second time, and waits until that one has ended.
pub async fn start_again(desktop: &Desktop, arguments: &[&str]) -> Result<Output> {
    let output = desktop.command(binary()?).args(arguments).output();
    Ok(timeout(PATIENCE, output).await.context("the second app still runs")??)
}

/// Starts the app a second time with this on its standard input, and waits until that one has ended.
pub async fn start_again_with(desktop: &Desktop, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = desktop.command(binary()?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut app = command.spawn()?;
    app.stdin.take().context("no input")?.write_all(input.as_bytes()).await?;
    Ok(timeout(PATIENCE, app.wait_with_output()).await.context("the second app still runs")??)
}

/// The built app.
pub fn binary() -> Result<PathBuf> {
    program("valet-key")
}
