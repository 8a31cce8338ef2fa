//! The agent's own broker while the daemon serves: a mosquitto that is started, watched, told of users, and stopped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::broker_files::{BrokerFiles, Login};
use crate::broker_users::AGENT_USER;
use crate::config::OwnBrokerConfig;
use crate::mosquitto::{Listeners, Mosquitto, Said};
use crate::programs::find;

/// mosquitto reads a few files; it says when it begins, and does nothing else until it has.
const RELOAD_LIMIT: Duration = Duration::from_secs(5);
/// A signal that comes while mosquitto still obeys the one before is lost.
const RELOAD_AGAIN: Duration = Duration::from_millis(250);
/// It writes what it holds and closes; a disk that hangs must not keep the daemon from ending.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Not a child of ours: there is nothing to wait on.
const LEFT_OVER_POLL: Duration = Duration::from_millis(20);
/// Between a broker's end and its next start: long enough not to spin, short beside the devices' own back-off.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The address that devices are told.
pub fn device_url(config: &OwnBrokerConfig) -> Result<Url> {
    match &config.device_url {
        Some(url) => Ok(url.clone()),
        None => url_of(SocketAddr::new(config.address, config.port), config.certificate_file.is_some()),
    }
}

fn url_of(address: SocketAddr, tls: bool) -> Result<Url> {
    Ok(Url::parse(&format!("{}://{address}", if tls { "mqtts" } else { "mqtt" }))?)
}

/// It is started again when it ends, until it is told to stop.
#[derive(Debug)]
pub struct OwnBroker {
    files: BrokerFiles,
    local: SocketAddr,
    running: watch::Receiver<Option<Pid>>,
    /// Counts how often it has said that it reads its users.
    reads: watch::Receiver<u64>,
    /// Whether there may be something in the files that it has not read. One change at a time, until it is read.
    unread: Mutex<bool>,
    stop: CancellationToken,
    supervisor: TaskTracker,
}

impl OwnBroker {
    /// Starts it and waits until it accepts connections. The login is the agent's own.
    pub async fn start(files: BrokerFiles, config: &OwnBrokerConfig) -> Result<(Self, Login)> {
        let program = find("mosquitto")?;
        stop_left_over(&files).await?;
        let login = files.new_login(AGENT_USER).await?;
        let listeners = listeners(config)?;
        let start = Start { program, configuration: files.configure(&listeners)?, listeners };
        let mosquitto = start.now().await?;

        let (pid, running) = watch::channel(None);
        let (read, reads) = watch::channel(0);
        let (stop, supervisor) = (CancellationToken::new(), TaskTracker::new());
        let local = start.listeners.local();
        supervisor.spawn(Supervisor { start, pid, read, stop: stop.clone() }.watch(mosquitto));
        supervisor.close();
        Ok((Self { files, local, running, reads, unread: Mutex::default(), stop, supervisor }, login))
    }

    /// Where the agent itself reaches it.
    pub fn local_url(&self) -> Result<Url> {
        url_of(self.local, false)
    }

    /// A login for whoever holds the invite. It is good when this returns.
    pub async fn invited(&self, invite: &str) -> Result<Login> {
        self.change(async { Ok((self.files.new_login(invite).await?, true)) }).await
    }

    /// Opens its own topics to a device that has enrolled, and waits until that holds.
    pub async fn enrolled(&self, invite: &str, device: &str) -> Result<()> {
        self.change(async { Ok(((), self.files.enrolled(invite, device).await?)) }).await
    }

    /// Ends a login, and the connections that were made with it.
    pub async fn revoked(&self, invite: &str) -> Result<()> {
        self.change(async { Ok(((), self.files.revoked(invite).await?)) }).await
    }

    /// Ends it, and waits until it has written what it holds.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.supervisor.wait().await;
    }

    /// Has files changed, and then read: whatever was written, also by a change before this one that failed half-way.
    async fn change<T>(&self, change: impl Future<Output = Result<(T, bool)>>) -> Result<T> {
        let mut unread = self.unread.lock().await;
        let before = std::mem::replace(&mut *unread, true);
        let (told, written) = change.await?;
        if before || written {
            self.reload().await?;
        }
        *unread = false;
        Ok(told)
    }

    async fn reload(&self) -> Result<()> {
        let (mut reads, mut running) = (self.reads.clone(), self.running.clone());
        let mut repeated = false;
        let ended = "the agent's own broker has ended";
        let read = async {
            loop {
                let pid = *running.wait_for(Option::is_some).await.context(ended)?;
                if !repeated {
                    // What it said before it was told is about what it had before.
                    reads.mark_unchanged();
                }
                if let Some(pid) = pid {
                    kill_process(pid, Signal::HUP)
                        .context("cannot tell mosquitto to read its users again")?;
                }
                match timeout(RELOAD_AGAIN, reads.changed()).await {
                    Ok(read) => return read.context(ended),
                    Err(_) => repeated = true,
                }
            }
        };
        timeout(RELOAD_LIMIT, read).await.context("mosquitto did not read its users again")??;
        if repeated {
            // It may say so once for each time it was told, and the next change must not take that for its own.
            let _ = timeout(RELOAD_AGAIN, reads.changed()).await;
        }
        Ok(())
    }
}

fn listeners(config: &OwnBrokerConfig) -> Result<Listeners> {
    let certificate = config.certificate_file.clone().zip(config.key_file.clone());
    // The certificate names the host that devices know, which this machine may not be able to reach itself by.
    let agent = match certificate {
        Some(_) => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?),
        None => None,
    };
    if certificate.is_none() && !config.address.is_loopback() {
        tracing::warn!(
            address = %config.address,
            "the agent's own broker is open to other machines without TLS: their logins can be read on the way"
        );
    }
    Ok(Listeners { devices: SocketAddr::new(config.address, config.port), certificate, agent })
}

impl Listeners {
    /// Where this machine reaches it without TLS.
    fn local(&self) -> SocketAddr {
        self.agent.unwrap_or_else(|| match self.devices.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, self.devices.port()).into(),
            IpAddr::V6(ip) if ip.is_unspecified() => {
                (std::net::Ipv6Addr::LOCALHOST, self.devices.port()).into()
            }
            _ => self.devices,
        })
    }
}

/// A daemon that was killed could not stop its broker. On Linux that ends by itself then, but may not have ended yet.
async fn stop_left_over(files: &BrokerFiles) -> Result<()> {
    if let Some(pid) = files.left_over() {
        tracing::info!(pid = pid.as_raw_nonzero(), "stopping the broker of a run that was cut off");
        match kill_process(pid, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("cannot stop the broker of an earlier run"),
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while files.left_over().is_some() {
            if Instant::now() > deadline {
                bail!("the broker of an earlier run does not stop; run: kill -9 {}", pid.as_raw_nonzero());
            }
            sleep(LEFT_OVER_POLL).await;
        }
    }
    Ok(())
}

/// How it is started, each time.
struct Start {
    program: PathBuf,
    configuration: PathBuf,
    listeners: Listeners,
}

impl Start {
    async fn now(&self) -> Result<Mosquitto> {
        Mosquitto::start(&self.program, &self.configuration, &self.listeners).await
    }
}

struct Supervisor {
    start: Start,
    pid: watch::Sender<Option<Pid>>,
    read: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn watch(self, mut mosquitto: Mosquitto) {
        loop {
            let pid = mosquitto.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            // It has read what there was when it was started: whoever waits for more than that tells it.
            self.pid.send_replace(pid);
            let ended = self.until_it_ends(&mut mosquitto).await;
            self.pid.send_replace(None);
            if !ended {
                return end(mosquitto, pid).await;
            }
            let status = mosquitto.child.wait().await;
            tracing::warn!(?status, "the agent's own broker ended; starting it again");
            let Some(again) = self.again().await else { return };
            mosquitto = again;
        }
    }

    /// `false`: it shall be ended.
    async fn until_it_ends(&self, mosquitto: &mut Mosquitto) -> bool {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return false,
                said = mosquitto.says() => match said {
                    Said::Reloading => self.read.send_modify(|count| *count += 1),
                    Said::Ended => return true,
                },
            }
        }
    }

    /// `None`: it shall not be started any more.
    async fn again(&self) -> Option<Mosquitto> {
        let mut told = String::new();
        self.stop
            .run_until_cancelled(async {
                loop {
                    sleep(RESTART_DELAY).await;
                    match self.start.now().await {
                        Ok(mosquitto) => return mosquitto,
                        Err(error) => {
                            let problem = format!("{error:#}");
                            // One line per problem, not per attempt.
                            if problem != told {
                                tracing::error!(problem, "the agent's own broker does not start");
                            }
                            told = problem;
                        }
                    }
                }
            })
            .await
    }
}

/// It is still read from while it ends, because it may say more than a pipe holds.
async fn end(mut mosquitto: Mosquitto, pid: Option<Pid>) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    let ended = async {
        while let Said::Reloading = mosquitto.says().await {}
        let _ = mosquitto.child.wait().await;
    };
    if timeout(STOP_LIMIT, ended).await.is_err() {
        tracing::warn!("the agent's own broker does not stop; it is killed");
        let _ = mosquitto.child.kill().await;
    }
}
