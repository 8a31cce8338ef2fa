//! The agent's own broker on disk: its configuration and its users, in a folder of the state directory.
//!
//! Passwords are kept only as mosquitto's salted hashes; the agent's own is made anew at every start.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::Mutex;
use valetkey_agent::StateDirError;

use crate::broker_users::Users;
use crate::mosquitto::{self, Listeners};
use crate::problem::Problem;
use crate::programs::find;

/// Begins the name of every file that is not finished.
const UNFINISHED: &str = ".new-";

/// A name and the password that goes with it.
pub struct Login {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The folder. Open it with the state directory's lock held. Clones are the same one.
#[derive(Debug, Clone)]
pub struct BrokerFiles {
    dir: PathBuf,
    agent: String,
    /// Two invites at once must not overwrite each other's user. Whether a change failed half-way: what stands in the files
    /// may not be on the disk then.
    changing: Arc<Mutex<bool>>,
}

impl BrokerFiles {
    /// `agent` is the agent's name in topics.
    pub fn open(state_dir: &Path, agent: &str) -> Result<Self> {
        // However it was spelled this time: a broker that was left over is known by its configuration's path.
        let dir = state_dir.canonicalize()?.join("broker");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).context("broker");
            }
            _ => {}
        }
        let facts = fs::symlink_metadata(&dir)?;
        ensure!(facts.is_dir(), "{} is not a directory; move it away", dir.display());
        if let Some(mode) = open_to_others(&facts) {
            return Err(Problem::from(StateDirError::OpenToOthers { path: dir, mode }).into());
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            } else if let Some(mode) = open_to_others(&entry.metadata()?) {
                let path = entry.path();
                return Err(Problem::from(StateDirError::FileOpenToOthers { path, mode }).into());
            }
        }
        Ok(Self { dir, agent: agent.to_owned(), changing: Arc::default() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A user with a new password.
    pub async fn new_login(&self, username: &str) -> Result<Login> {
        let password = random();
        let hash = self.hash(username, &password).await?;
        self.change(|users| users.put(username, &hash)).await?;
        Ok(Login { username: username.to_owned(), password })
    }

    /// The holder of the invite has enrolled `device`: its topics are opened to it. Whether a file was written.
    pub async fn enrolled(&self, invite: &str, device: &str) -> Result<bool> {
        let (enrolled, written) = self.change(|users| users.enrolled(invite, device)).await?;
        enrolled.map(|()| written)
    }

    /// Takes an invite's login away. Whether a file was written.
    pub async fn revoked(&self, invite: &str) -> Result<bool> {
        let ((), written) = self.change(|users| users.remove(invite)).await?;
        Ok(written)
    }

    /// What the agent calls itself at its broker. Its thumbprint is known to every device, and whoever connects under a
    /// client's id throws that client out; so it is a secret, and the same one each time for the session's sake.
    pub fn client_id(&self) -> Result<String> {
        match fs::read_to_string(self.path("client-id")) {
            Ok(id) if !id.is_empty() => Ok(id),
            Ok(_) => self.new_client_id(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_client_id(),
            Err(error) => Err(error).context("cannot read the broker's client-id"),
        }
    }

    fn new_client_id(&self) -> Result<String> {
        let id = random();
        self.replace("client-id", id.as_bytes())?;
        Ok(id)
    }

    /// Writes mosquitto's configuration; returns its path.
    pub fn configure(&self, listeners: &Listeners) -> Result<PathBuf> {
        self.replace("mosquitto.conf", mosquitto::configuration(&self.dir, listeners)?.as_bytes())?;
        Ok(self.path("mosquitto.conf"))
    }

    /// The mosquitto that a daemon before us left behind.
    pub fn left_over(&self) -> Option<Pid> {
        let pid = Pid::from_raw(fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?)?;
        mosquitto::runs_with(pid, &self.path("mosquitto.conf")).then_some(pid)
    }

    /// Has one that was left behind read its users again; without one there is nothing to do.
    pub fn reload_left_over(&self) -> Result<()> {
        self.left_over()
            .map_or(Ok(()), |pid| kill_process(pid, Signal::HUP))
            .context("cannot tell mosquitto to read its users again")
    }

    /// `mosquitto_passwd` knows the form that mosquitto wants.
    async fn hash(&self, username: &str, password: &str) -> Result<String> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
        writeln!(file, "{username}:{password}")?;
        file.flush()?;
        // -U hashes a file in place: the password is never on a command line.
        let output = Command::new(find("mosquitto_passwd")?)
            .arg("-U")
            .arg(file.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run mosquitto_passwd")?;
        let line = fs::read_to_string(file.path())?;
        let hash = line.trim().split_once(':').map(|(_, hash)| hash).filter(|hash| hash.starts_with('$'));
        let (true, Some(hash)) = (output.status.success(), hash) else {
            bail!("mosquitto_passwd failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        };
        Ok(hash.to_owned())
    }

    /// Whether a file had to be written comes with what was decided.
    async fn change<T>(&self, decide: impl FnOnce(&mut Users) -> T) -> Result<(T, bool)> {
        let mut changing = self.changing.lock().await;
        let anew = std::mem::replace(&mut *changing, true);
        let path = self.path("users.json");
        let mut users = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok().with_context(|| {
                format!("{} is damaged; move it away, and invite the devices again", path.display())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Users::default(),
            Err(error) => return Err(error).context("cannot read the broker's users"),
        };
        let told = decide(&mut users);
        let mut written = false;
        for (name, bytes) in [
            ("users.json", serde_json::to_vec(&users)?),
            ("passwords", users.passwords().into_bytes()),
            ("acl", users.acl(&self.agent).into_bytes()),
        ] {
            if anew || fs::read(self.path(name)).ok().is_none_or(|there| there != bytes) {
                self.replace(name, &bytes)?;
                written = true;
            }
        }
        *changing = false;
        Ok((told, written))
    }

    /// Written whole beside the old file, then put in its place.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        fs::File::open(&self.dir)?.sync_all()?;
        Ok(())
    }
}

fn open_to_others(facts: &fs::Metadata) -> Option<u32> {
    let mode = facts.permissions().mode() & 0o7777;
    (mode & 0o077 != 0 && !facts.is_symlink()).then_some(mode)
}

/// 128 bits.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_news_writes_nothing_and_what_failed_half_way_is_written_again() {
        let home = tempfile::tempdir().unwrap();
        let files = BrokerFiles::open(home.path(), "A").unwrap();
        files.new_login("inv").await.unwrap();
        assert!(files.enrolled("inv", "dev").await.unwrap());
        assert!(!files.enrolled("inv", "dev").await.unwrap());
        assert!(!files.revoked("other").await.unwrap());

        let passwords = files.path("passwords");
        fs::remove_file(&passwords).unwrap();
        fs::create_dir(&passwords).unwrap();
        files.revoked("inv").await.unwrap_err();
        fs::remove_dir(&passwords).unwrap();
        assert!(files.revoked("inv").await.unwrap(), "no user of that name is left, and yet it is not done");
        assert_eq!(fs::read_to_string(&passwords).unwrap(), "");
        assert!(!fs::read_to_string(files.path("acl")).unwrap().contains("dev"));
        assert!(!files.revoked("inv").await.unwrap());
    }
}
