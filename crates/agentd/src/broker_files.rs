//! The agent's own broker on disk: its configuration, its users, what each may do.
//!
//! Each invite gets a user of its own that may enroll; once a device has, the user's ACL opens that device's topics and
//! nothing else. Passwords are kept only as mosquitto's salted hashes; the agent's own is made anew at every start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::config::OwnBrokerConfig;

/// The user the agent itself connects as.
pub const AGENT_USER: &str = "agent";
/// Above the largest sealed message with its topic and properties; anything larger is not ours.
const MAX_PACKET_BYTES: u32 = 512 * 1024;
/// mosquitto drops what is above this without a word. A device sends few messages and repeats them until the
/// receipt, so this bounds memory and loses nothing.
const MAX_QUEUED_MESSAGES: u32 = 1_000;
/// One connection a device and a few to spare.
const MAX_CONNECTIONS: u32 = 4_096;
/// Two computers may race with one invite, and the one that loses is told; more than a few is somebody playing.
const MAX_DEVICES_PER_INVITE: usize = 4;
/// Debian puts mosquitto where a user's PATH often does not look.
const MORE_PATHS: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"];

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

/// The files of the broker under the agent's state directory. Users can be added while it runs or before.
#[derive(Debug, Clone)]
pub struct BrokerFiles {
    dir: PathBuf,
    agent: String,
}

/// Everybody who may log in, by name: what mosquitto's password and ACL files are made from.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Users(BTreeMap<String, User>);

#[derive(Debug, Serialize, Deserialize)]
struct User {
    /// As `mosquitto_passwd` writes it.
    hash: String,
    /// The devices that enrolled with this user's invite, by thumbprint.
    devices: Vec<String>,
}

impl BrokerFiles {
    /// `agent` is the agent's name in topics.
    pub fn open(state_dir: &Path, agent: &str) -> Result<Self> {
        let dir = state_dir.join("broker");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, agent: agent.to_owned() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A login for whoever holds the invite `id`. It can enroll, and nothing else.
    pub fn invited(&self, id: &str) -> Result<Login> {
        let login = self.new_login(id)?;
        self.reload()?;
        Ok(login)
    }

    /// The holder of the invite `id` has enrolled `device`: its own topics are opened to it. Whether that was news.
    pub fn enrolled(&self, id: &str, device: &str) -> Result<bool> {
        let mut users = self.users()?;
        let user =
            users.0.get_mut(id).with_context(|| format!("no broker user was made for the invite {id}"))?;
        if user.devices.iter().any(|known| known == device) {
            return Ok(false);
        }
        if user.devices.len() >= MAX_DEVICES_PER_INVITE {
            bail!("too many devices tried the invite {id}");
        }
        user.devices.push(device.to_owned());
        self.write(&users)?;
        Ok(true)
    }

    /// Takes an invite's login away; unknown ones are not an error.
    pub fn revoked(&self, id: &str) -> Result<()> {
        let mut users = self.users()?;
        if users.0.remove(id).is_some() {
            self.write(&users)?;
            self.reload()?;
        }
        Ok(())
    }

    /// Asks a running broker to read its users again; without one there is nothing to do.
    pub fn reload(&self) -> Result<()> {
        match self.running() {
            Some(pid) => {
                kill_process(pid, Signal::HUP).context("cannot tell mosquitto to read its users again")
            }
            None => Ok(()),
        }
    }

    pub fn new_login(&self, username: &str) -> Result<Login> {
        let password = format!("{:032x}", rand::random::<u128>());
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        writeln!(file, "{username}:{password}")?;
        file.flush()?;
        // -U hashes a file in place: the password is never on a command line.
        let output = std::process::Command::new(find("mosquitto_passwd")?)
            .arg("-U")
            .arg(file.path())
            .stdin(Stdio::null())
            .output()
            .context("cannot run mosquitto_passwd")?;
        let line = fs::read_to_string(file.path())?;
        let hash = line.trim().split_once(':').map(|(_, hash)| hash).filter(|hash| hash.starts_with('$'));
        let (true, Some(hash)) = (output.status.success(), hash) else {
            bail!("mosquitto_passwd failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        };
        let mut users = self.users()?;
        users.0.insert(username.to_owned(), User { hash: hash.to_owned(), devices: Vec::new() });
        self.write(&users)?;
        Ok(Login { username: username.to_owned(), password })
    }

    fn users(&self) -> Result<Users> {
        match fs::read(self.path("users.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("the broker's users.json is damaged"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Users::default()),
            Err(error) => Err(error).context("cannot read the broker's users"),
        }
    }

    fn write(&self, users: &Users) -> Result<()> {
        self.replace("users.json", &serde_json::to_vec(users)?)?;
        self.replace("passwords", users.passwords().as_bytes())?;
        self.replace("acl", users.acl(&self.agent).as_bytes())
    }

    /// Written whole beside the old file, then put in its place.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        fs::File::open(&self.dir)?.sync_all()?;
        Ok(())
    }

    /// The process that a pid file of ours names, if it is a mosquitto with our configuration.
    pub fn running(&self) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = self.path("mosquitto.conf");
        let names_it =
            command.split(|byte| *byte == 0).any(|word| word == ours.as_os_str().as_encoded_bytes());
        if names_it { Pid::from_raw(pid) } else { None }
    }

    pub fn configuration(&self, config: &OwnBrokerConfig) -> Result<String> {
        let mut text = String::from("# Made by valetkey-agent at every start; edit agent.toml instead.\n");
        let dir = self.dir.to_str().context("the state directory's name must be UTF-8 for mosquitto")?;
        // Written to a String: cannot fail.
        let _ = write!(
            text,
            "listener {port} {address}\n\
             allow_anonymous false\n\
             password_file {dir}/passwords\n\
             acl_file {dir}/acl\n\
             pid_file {dir}/pid\n\
             persistence true\n\
             persistence_location {dir}/\n\
             autosave_interval 1\n\
             autosave_on_changes true\n\
             max_packet_size {MAX_PACKET_BYTES}\n\
             max_queued_messages {MAX_QUEUED_MESSAGES}\n\
             max_connections {MAX_CONNECTIONS}\n\
             log_dest stderr\n\
             log_timestamp false\n\
             log_type error\n\
             log_type warning\n\
             log_type information\n",
            port = config.port,
            address = config.address,
        );
        if rustix::process::geteuid().is_root() {
            // Started as root it would become a user who may not read our 0700 directory.
            text.push_str("user root\n");
        }
        if let (Some(certificate), Some(key)) = (&config.certificate_file, &config.key_file) {
            let _ = writeln!(text, "certfile {}\nkeyfile {}", certificate.display(), key.display());
        }
        Ok(text)
    }
}

impl Users {
    fn passwords(&self) -> String {
        self.0.iter().map(|(name, user)| format!("{name}:{}\n", user.hash)).collect()
    }

    /// The agent may do what the agent does; an invite's holder may enroll; a device has its own topics.
    fn acl(&self, agent: &str) -> String {
        let root = format!("valetkey/v1/{agent}");
        let mut text = format!(
            "user {AGENT_USER}\n\
             topic read {root}/in/+\n\
             topic read {root}/enroll/+\n\
             topic read {root}/presence/+\n\
             topic write {root}/out/+\n\
             topic write {root}/presence/{agent}\n"
        );
        for (name, user) in self.0.iter().filter(|(name, _)| *name != AGENT_USER) {
            // Written to a String: cannot fail.
            let _ = write!(
                text,
                "\nuser {name}\ntopic write {root}/enroll/{name}\ntopic read {root}/presence/{agent}\n"
            );
            for device in &user.devices {
                let _ = write!(
                    text,
                    "topic write {root}/in/{device}\n\
                     topic write {root}/presence/{device}\n\
                     topic read {root}/out/{device}\n"
                );
            }
        }
        text
    }
}

/// A program of mosquitto's, or words about how to get it.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(MORE_PATHS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| {
            fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
        });
    found.with_context(|| {
        format!(
            "{program} is not installed, and no broker is configured. Either install it \
             (Debian and Ubuntu: sudo apt install mosquitto) or use a broker of yours: \
             valetkey-agent serve --broker mqtts://broker.example.com"
        )
    })
}
