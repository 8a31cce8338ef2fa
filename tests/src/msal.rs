//! Microsoft's own libraries, unmodified, as programs that a test talks with. See `msal/`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::private_network::{msal_folder, python};

/// Both insist on Microsoft's names: use them inside [`crate::private_network::enter`].
#[derive(Clone, Copy, Debug)]
pub enum Library {
    /// msal for Python.
    Python,
    /// @azure/msal-node.
    Node,
}

/// One run of a library: a verb, a cache file, and a conversation in lines of JSON.
#[derive(Debug)]
pub struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Library {
    /// `verb` is `sign-in`, `device`, `token` or `silent`; `msal/python_client.py` says what each does.
    pub fn start(self, authority: &str, verb: &str, cache: &Path) -> Result<Run> {
        let folder = msal_folder()?;
        let mut command = match self {
            Self::Python => Command::new(python()?),
            Self::Node => Command::new("node"),
        };
        let script = match self {
            Self::Python => "python_client.py",
            Self::Node => "node_client.mjs",
        };
        let mut child = command
            .arg(folder.join(script))
            .arg(verb)
            .arg(cache)
            .env("AUTHORITY", authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("a library's script could not be started")?;
        let lines = BufReader::new(child.stdout.take().context("no output to read")?).lines();
        Ok(Run { child, lines })
    }

    /// A run that asks nothing: its outcome.
    pub async fn outcome(self, authority: &str, verb: &str, cache: &Path) -> Result<Value> {
        self.start(authority, verb, cache)?.hear().await
    }
}

impl Run {
    pub async fn hear(&mut self) -> Result<Value> {
        let line =
            self.lines.next_line().await?.context("the library's script ended; its words are above")?;
        Ok(serde_json::from_str(&line)?)
    }

    pub async fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no input to write to")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        input.flush().await?;
        Ok(())
    }
}
