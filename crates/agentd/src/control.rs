//! How the commands talk to a running daemon: one JSON line each way over a Unix socket in the state directory, which
//! only its owner can open. Without a daemon the same question is answered in this process, under the same lock.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Far above any question; a longer line is not ours.
const MAX_QUESTION_BYTES: u64 = 64 * 1024;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    Invite { email: Option<String>, allow: Vec<String>, expires: Option<String> },
    Devices,
    RemoveDevice { id: String },
    Accounts,
    Token { account: Option<String>, resource: String },
    Export { account: Option<String> },
    Remove { account: Option<String> },
    Status,
}

/// What comes back: a value, or a problem in words with a code and the exit code that goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(Value),
    Error(Problem),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Kebab-case, for programs.
    pub code: String,
    /// What happened and what to do, for people.
    pub message: String,
}

impl Problem {
    pub fn new(code: &str, message: impl std::fmt::Display) -> Self {
        Self { code: code.to_owned(), message: format!("{message:#}") }
    }
}

/// Whoever can answer.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, question: Question) -> impl Future<Output = Answer> + Send;
}

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}

/// Asks the running daemon; `None` when there is none.
pub fn ask(state_dir: &Path, question: &Question) -> Result<Option<Answer>> {
    let mut stream = match BlockingStream::connect(socket(state_dir)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).context("cannot reach the running agent"),
    };
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the agent ended before it answered")?;
    Ok(Some(serde_json::from_str(&answer).context("the agent's answer was cut short")?))
}

/// Answers on the socket until cancelled. Call it with the state directory's lock held: a left-over socket is then
/// nobody's.
pub async fn serve<A: Answers>(state_dir: &Path, answers: Arc<A>, stop: CancellationToken) -> Result<()> {
    let path = socket(state_dir);
    let _ = fs::remove_file(&path);
    // The directory is 0700, so nobody else gets here between the two lines.
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot open {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let answers = Arc::clone(&answers);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, answers.as_ref()).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a command");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
    let _ = fs::remove_file(&path);
    Ok(())
}

async fn converse<A: Answers>(stream: UnixStream, answers: &A) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = AsyncReader::new(read.take(MAX_QUESTION_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(question) => answers.answer(question).await,
            Err(error) => Answer::Error(Problem {
                code: "bad-question".into(),
                message: format!("not understood: {error}"),
            }),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await?;
    }
    Ok(())
}
