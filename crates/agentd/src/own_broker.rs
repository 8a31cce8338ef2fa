//! The agent's own broker as a process: a mosquitto that the daemon starts, watches and stops.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::broker_files::{AGENT_USER, BrokerFiles, Login, find};
use crate::config::OwnBrokerConfig;

/// mosquitto reads a few files; it says when it begins, and does nothing else until it has.
const RELOAD_LIMIT: Duration = Duration::from_secs(5);
/// What it says.
const RELOADING: &str = "Reloading config.";
/// Binding a loopback port and reading a short file takes milliseconds; a machine that swaps takes longer.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Between a broker's end and its next start: long enough not to spin, short beside the devices' own back-off.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The address a client on this machine reaches the broker at.
pub fn local_url(config: &OwnBrokerConfig) -> Result<Url> {
    let scheme = if config.certificate_file.is_some() { "mqtts" } else { "mqtt" };
    Ok(Url::parse(&format!("{scheme}://{}", local_address(config)))?)
}

fn local_address(config: &OwnBrokerConfig) -> SocketAddr {
    let host = match config.address {
        address if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        address => address,
    };
    SocketAddr::new(host, config.port)
}

/// A running broker of the agent's own. It is started again when it ends, until it is told to stop.
#[derive(Debug)]
pub struct OwnBroker {
    files: BrokerFiles,
    reloads: watch::Receiver<u64>,
    stop: CancellationToken,
    supervisor: tokio::task::JoinHandle<()>,
}

impl OwnBroker {
    /// Starts it and waits until it accepts connections. The login is the agent's own.
    pub async fn start(files: &BrokerFiles, config: &OwnBrokerConfig) -> Result<(Self, Login)> {
        let program = find("mosquitto")?;
        stop_left_over(files).await?;
        let login = files.new_login(AGENT_USER)?;
        files.replace("mosquitto.conf", files.configuration(config)?.as_bytes())?;
        let (reloaded, reloads) = watch::channel(0);
        let mosquitto = Mosquitto { program, files: files.clone(), config: config.clone(), reloaded };
        let child = mosquitto.started().await?;
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(child, mosquitto, stop.clone()));
        Ok((Self { files: files.clone(), reloads, stop, supervisor }, login))
    }

    /// Opens its own topics to a device that has enrolled, and waits until that holds.
    pub async fn enrolled(&self, invite: &str, device: &str) -> Result<()> {
        if !self.files.enrolled(invite, device)? {
            return Ok(());
        }
        let mut reloads = self.reloads.clone();
        reloads.mark_unchanged();
        self.files.reload()?;
        tokio::time::timeout(RELOAD_LIMIT, reloads.changed())
            .await
            .context("mosquitto did not read its users again")?
            .context("mosquitto has ended")
    }

    /// Ends it, and waits until it has written what it holds.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.supervisor.await;
    }
}

/// A daemon that was killed could not stop its broker.
async fn stop_left_over(files: &BrokerFiles) -> Result<()> {
    if let Some(left_over) = files.running() {
        kill_process(left_over, Signal::TERM).context("cannot stop the broker of an earlier run")?;
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        while files.running().is_some() {
            if tokio::time::Instant::now() > deadline {
                bail!("the broker of an earlier run (process {left_over}) does not stop");
            }
            // Not a child of ours: there is nothing to wait on.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let _ = fs::remove_file(files.path("pid"));
    Ok(())
}

async fn supervise(mut child: Child, mosquitto: Mosquitto, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                    let _ = kill_process(pid, Signal::TERM);
                }
                let _ = child.wait().await;
                return;
            }
            status = child.wait() => {
                tracing::warn!(?status, "the agent's own broker ended; starting it again");
            }
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESTART_DELAY) => {}
            }
            match mosquitto.started().await {
                Ok(again) => {
                    child = again;
                    break;
                }
                Err(error) => tracing::error!(%error, "the agent's own broker does not start"),
            }
        }
    }
}

/// How it is started, each time.
struct Mosquitto {
    program: PathBuf,
    files: BrokerFiles,
    config: OwnBrokerConfig,
    reloaded: watch::Sender<u64>,
}

impl Mosquitto {
    /// A process that accepts connections.
    async fn started(&self) -> Result<Child> {
        let port = self.config.port;
        let address = local_address(&self.config);
        if TcpStream::connect(address).await.is_ok() {
            bail!(
                "port {port} is already in use, so the agent's own broker cannot start. \
                 Stop the other program, or set another `port` under [own_broker]"
            );
        }
        let mut child = Command::new(&self.program)
            .arg("-c")
            .arg(self.files.path("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start mosquitto")?;
        let mut said = BufReader::new(child.stderr.take().context("mosquitto has no error stream")?).lines();
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        let mut last = String::new();
        // mosquitto does not say when it listens, so its door is tried until it opens or it has ended.
        loop {
            tokio::select! {
                line = said.next_line() => match line {
                    Ok(Some(line)) => last = line,
                    _ => bail!("mosquitto ended at once: {last}"),
                },
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    if TcpStream::connect(address).await.is_ok() {
                        break;
                    }
                }
            }
            if tokio::time::Instant::now() > deadline {
                bail!("mosquitto did not open port {port} within {START_LIMIT:?}: {last}");
            }
        }
        let reloaded = self.reloaded.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                tracing::debug!(target: "mosquitto", "{line}");
                if line.contains(RELOADING) {
                    reloaded.send_modify(|count| *count += 1);
                }
            }
        });
        Ok(child)
    }
}
