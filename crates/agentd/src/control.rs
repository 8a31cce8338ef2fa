//! How the commands talk to a running daemon: one JSON line each way over a Unix socket in the state directory, which
//! only its owner can open. Without a daemon the same question is answered in this process, under the same lock.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use valetkey_agent::Caller;

use crate::problem::Problem;

/// Far above any question; a longer line is not ours.
const MAX_QUESTION_BYTES: u64 = 64 * 1024;
/// Longer than a refresh at a slow provider, and than an operator's command for credentials.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// For an answer to be taken: it fits into the socket, unless somebody asks and asks and never reads.
const TAKE_LIMIT: Duration = Duration::from_secs(5);
/// Between tries to take a command in when the system has no room for another open file.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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
    Remove { account: String },
    Status,
    Audit { last: u32 },
    AuditVerify,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(Value),
    Error(Problem),
}

/// Whoever can answer.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, question: Question, caller: Caller) -> impl Future<Output = Answer> + Send;
}

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}

/// Asks the running daemon; `None` when there is none.
pub fn ask(state_dir: &Path, question: &Question) -> Result<Option<Answer>> {
    let mut stream = match BlockingStream::connect(socket(state_dir)) {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                // The last: a path that is too long for a socket, so no daemon runs there.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput => {
                    Ok(None)
                }
                io::ErrorKind::PermissionDenied => Err(not_yours(state_dir).into()),
                _ => Err(error).context("cannot reach the running agent"),
            };
        }
    };
    check_who_listens(&stream, state_dir)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    let mut answer = String::new();
    let asked = stream.write_all(&line).and_then(|()| BufReader::new(stream).read_line(&mut answer));
    match asked {
        Ok(1..) => Ok(Some(serde_json::from_str(&answer).context("the agent's answer was cut short")?)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Problem::new("unavailable", "the running agent does not answer; restart it").into())
        }
        Ok(0) | Err(_) => {
            Err(Problem::new("stopping", "the agent stopped before it answered; try again").into())
        }
    }
}

/// Somebody else could have put a directory with a socket of his own here: he is asked nothing, and his answer is not believed.
#[cfg(target_os = "linux")]
fn check_who_listens(stream: &BlockingStream, state_dir: &Path) -> Result<()> {
    let listener = rustix::net::sockopt::socket_peercred(stream).context("cannot see who listens")?;
    if listener.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(Problem::not_yours(state_dir, listener.uid.as_raw()).into())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn check_who_listens(_: &BlockingStream, _: &Path) -> Result<()> {
    Ok(())
}

fn not_yours(state_dir: &Path) -> Problem {
    match fs::symlink_metadata(state_dir) {
        Ok(facts) => Problem::not_yours(state_dir, facts.uid()),
        Err(_) => Problem::new("state_dir", format!("{} is not yours to enter", state_dir.display())),
    }
}

/// The open socket. Commands that come before [`Door::serve`] wait for it. It is removed when dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Call it with the state directory's lock held: a left-over socket is then nobody's.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let path = socket(state_dir);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Problem::configuration(format!(
                "the path {} is too long for a socket; use a shorter --state-dir",
                path.display()
            ))
            .into(),
            _ => anyhow::Error::from(error).context(format!("cannot open {}", path.display())),
        })?;
        // The directory is 0700, so nobody else gets here between the two lines.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers until cancelled; what has been asked by then is answered before this returns, and nothing after it.
    pub async fn serve<A: Answers>(self, answers: Arc<A>, stop: &CancellationToken) {
        let conversations = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (answers, stop) = (Arc::clone(&answers), stop.clone());
                    conversations.spawn(async move {
                        if let Err(error) = converse(stream, answers.as_ref(), &stop).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a command");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self);
        conversations.close();
        conversations.wait().await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse<A: Answers>(stream: UnixStream, answers: &A, stop: &CancellationToken) -> Result<()> {
    let asks = stream.peer_cred()?;
    let caller = Caller::Socket { uid: asks.uid(), pid: asks.pid() };
    let (read, mut write) = stream.into_split();
    let mut lines = AsyncReader::new(read.take(MAX_QUESTION_BYTES)).lines();
    while let Some(Some(line)) = stop.run_until_cancelled(lines.next_line()).await.transpose()? {
        let answer = match serde_json::from_str(&line) {
            Ok(question) => answers.answer(question, caller).await,
            Err(_) => Answer::Error(Problem::new(
                "version",
                "the running agent is of another version and does not understand this; restart it",
            )),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(TAKE_LIMIT, write.write_all(&text)).await??;
    }
    Ok(())
}
