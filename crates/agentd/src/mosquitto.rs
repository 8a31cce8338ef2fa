//! mosquitto as a program: its configuration, its process, and what it says.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr};

use crate::problem::Problem;
use crate::stand_in;

/// Above the largest sealed message with its topic and properties; anything larger is not ours.
const MAX_PACKET_BYTES: u32 = 512 * 1024;
/// mosquitto drops what is above this without a word. A device sends few messages and repeats them until the
/// receipt, so this bounds memory and loses nothing.
pub const MAX_QUEUED_MESSAGES: u32 = 1_000;
/// One connection a device and a few to spare.
const MAX_CONNECTIONS: u32 = 4_096;
/// Binding a port and reading a short file takes milliseconds; a machine that swaps takes longer.
const START_LIMIT: Duration = Duration::from_secs(10);
/// What it says when it is ready, when it takes its users in again, and when its port is taken.
const READY: (&str, &str) = ("mosquitto version ", " running");
const RELOADING: &str = "Reloading config.";
const TAKEN: &str = "Address already in use";

/// Where it listens.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// For devices.
    pub devices: SocketAddr,
    /// PEM files of the certificate and its key; without, `devices` is not TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// For the agent itself on loopback, where devices get TLS.
    pub agent: Option<SocketAddr>,
}

/// A running mosquitto. It is killed when dropped, and ends when this process does.
pub struct Mosquitto {
    pub child: Child,
    said: Lines,
}

/// What mosquitto says, line by line; clients choose some of its words.
struct Lines(BufReader<ChildStderr>);

/// Something in what it says that matters here.
pub enum Said {
    Reloading,
    Ended,
}

impl Mosquitto {
    /// A process that takes connections and signals.
    pub async fn start(program: &Path, configuration: &Path, listeners: &Listeners) -> Result<Self> {
        let mut command = stand_in::command(program);
        command
            .arg("-c")
            .arg(configuration)
            // Its messages are matched.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the daemon, which then stops its broker last.
            .process_group(0)
            .kill_on_drop(true);
        let mut child =
            stand_in::spawn(command).await.with_context(|| format!("cannot start {}", program.display()))?;
        let mut said = Lines(BufReader::new(child.stderr.take().context("mosquitto has no error stream")?));
        let ready = tokio::time::timeout(START_LIMIT, said.ready()).await;
        match ready.with_context(|| format!("mosquitto is not ready after {START_LIMIT:?}"))? {
            Ok(()) => Ok(Self { child, said }),
            Err(last) if last.contains(TAKEN) => {
                let address = listeners.devices;
                Err(Problem::new(
                    "broker",
                    format!(
                        "another program has {address}, so the agent's own broker cannot start. Stop that program, or set \
                         another `port` under [own_broker]"
                    ),
                )
                .into())
            }
            Err(last) => bail!("mosquitto does not start: {last}"),
        }
    }

    /// The next thing of interest; it must be asked for all the time, or mosquitto waits for its log to be read.
    pub async fn says(&mut self) -> Said {
        while let Some(line) = self.said.next().await {
            if line == RELOADING {
                return Said::Reloading;
            }
        }
        Said::Ended
    }
}

impl Lines {
    async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.starts_with("Error") || line.starts_with("Warning") {
            tracing::warn!(target: "mosquitto", "{line}");
        } else {
            tracing::debug!(target: "mosquitto", "{line}");
        }
        Some(line)
    }

    /// The error is what it said before it ended.
    async fn ready(&mut self) -> Result<(), String> {
        let mut errors = String::new();
        while let Some(line) = self.next().await {
            if line.starts_with(READY.0) && line.ends_with(READY.1) {
                return Ok(());
            }
            if line.starts_with("Error") {
                errors = format!("{errors}{line} ");
            }
        }
        Err(errors.trim_end().to_owned())
    }
}

/// The text of its configuration file; `dir` has its other files.
pub fn configuration(dir: &Path, listeners: &Listeners) -> Result<String> {
    let dir = word(dir)?;
    let mut text = format!(
        "# Made by valetkey-agent at every start; edit agent.toml instead.\n\
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
         log_dest stderr\n\
         log_timestamp false\n\
         log_type error\n\
         log_type warning\n\
         log_type information\n"
    );
    if rustix::process::geteuid().is_root() {
        // Started as root it would become a user who may not read our 0700 directory.
        text.push_str("user root\n");
    }
    for address in listeners.agent.into_iter().chain([listeners.devices]) {
        // Written to a String: cannot fail.
        let _ = writeln!(text, "listener {} {}", address.port(), address.ip());
        let _ = writeln!(text, "max_connections {MAX_CONNECTIONS}");
    }
    // Of the last listener, which is the devices'.
    if let Some((certificate, key)) = &listeners.certificate {
        let _ = writeln!(text, "certfile {}\nkeyfile {}", word(certificate)?, word(key)?);
    }
    Ok(text)
}

/// A path as mosquitto reads one: the rest of its line.
fn word(path: &Path) -> Result<&str> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.with_context(|| format!("mosquitto cannot be given the path {}", path.display()))
}

/// Whether the process is a mosquitto with this configuration: a pid may be somebody else's by now.
pub fn runs_with(pid: Pid, configuration: &Path) -> bool {
    let command = command_line(pid).unwrap_or_default();
    command.contains("mosquitto -c") && command.ends_with(&*configuration.to_string_lossy())
}

#[cfg(target_os = "linux")]
fn command_line(pid: Pid) -> Option<String> {
    let words = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    Some(String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " "))
}

#[cfg(not(target_os = "linux"))]
fn command_line(pid: Pid) -> Option<String> {
    let pid = pid.as_raw_nonzero().to_string();
    let output = std::process::Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_belongs_to_the_devices_listener_and_the_agent_has_one_of_its_own() {
        let listeners = Listeners {
            devices: "0.0.0.0:8883".parse().unwrap(),
            certificate: Some(("/c.pem".into(), "/c.key".into())),
            agent: Some("127.0.0.1:4000".parse().unwrap()),
        };
        let text = configuration(Path::new("/state/broker"), &listeners).unwrap();
        let (_, after) = text.split_once("listener 4000 127.0.0.1\n").unwrap();
        let (agents, devices) = after.split_once("listener 8883 0.0.0.0\n").unwrap();
        assert!(!agents.contains("certfile"));
        assert!(devices.contains("certfile /c.pem\nkeyfile /c.key\n"));
        assert!(text.contains("allow_anonymous false\n"));
    }

    #[test]
    fn a_path_cannot_put_another_line_into_the_configuration() {
        let listeners = Listeners { devices: "127.0.0.1:1".parse().unwrap(), certificate: None, agent: None };
        assert!(configuration(Path::new("/state\nallow_anonymous true"), &listeners).is_err());
    }

    #[test]
    fn another_program_with_the_same_pid_is_not_taken_for_mosquitto() {
        assert!(!runs_with(rustix::process::getpid(), Path::new("/state/broker/mosquitto.conf")));
    }
}
