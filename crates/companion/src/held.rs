//! One companion at a time on one data directory. Two would count the same sign-ins twice, and the agent would take the one
//! for a copy of the other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::durable;
use crate::problem::{Holder, Program};

const FILE: &str = "lock";
/// One that is just ending needs a second to leave the broker, and a child that is just being forked has a copy of the
/// descriptor for a moment.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Of what another program wrote, which is a name and a number.
const MAX_BYTES: u64 = 64;

/// Released when it is dropped, or when the program ends, however it ends.
#[derive(Debug)]
pub(crate) struct Held(File);

#[derive(Debug)]
pub(crate) enum NotHeld {
    By(Option<Holder>),
    Io(io::Error),
}

impl Held {
    /// Makes the directory if need be: only for somebody who agreed.
    pub async fn take(dir: &Path) -> Result<Self, NotHeld> {
        durable::private_dir(dir).map_err(NotHeld::Io)?;
        let mut file = open(&dir.join(FILE)).map_err(NotHeld::Io)?;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(TryLockError::WouldBlock) => return Err(NotHeld::By(holder(&mut file))),
                Err(TryLockError::Error(error)) => {
                    // Some network file systems have no locks. The agent notices two that count alike.
                    tracing::warn!(%error, "the data directory cannot be locked against a second companion");
                    break;
                }
            }
        }
        if let Err(error) = sign(&mut file) {
            tracing::debug!(%error, "nobody will be told who holds the data directory");
        }
        Ok(Self(file))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Said outright, because a forked child may keep the descriptor open a moment longer.
        let _ = self.0.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

fn sign(file: &mut File) -> io::Result<()> {
    let me = std::env::current_exe().ok();
    let name = me.as_deref().and_then(Path::file_stem).unwrap_or_default().to_string_lossy().into_owned();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{} {name}", std::process::id())
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let (pid, name) = text.split_once(' ')?;
    let program = if name == "valetkey-cli" { Program::Terminal } else { Program::App };
    Some(Holder { program, pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_one_is_told_who_holds_it_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Held::take(&data).await.unwrap();
        let Err(NotHeld::By(Some(holder))) = Held::take(&data).await else { panic!("two at once") };
        assert_eq!(holder.pid, std::process::id());
        drop(first);
        Held::take(&data).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_just_ending_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = Held::take(dir.path()).await.unwrap();
        let ending = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        });
        Held::take(dir.path()).await.unwrap();
        ending.await.unwrap();
    }
}
