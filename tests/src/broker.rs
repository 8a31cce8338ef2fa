//! A real mosquitto, configured as an operator would: users, access lists, persistence, TLS, WebSocket.
//!
//! Every broker has a plain listener on loopback beside the one a test asks for. The harness publishes and
//! records through it under a user of its own, so that a test never needs our code to see what crossed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Guarded, free_port};

mod certificates;
mod recorder;

pub use certificates::{Certificate, ClientCertificate};
pub use recorder::{Recorded, Recorder};

/// The harness's own user, who may see and say everything.
const HARNESS: (&str, &str) = ("harness", "harness-password");

/// A slow machine starts mosquitto in well under this.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A port that was free a moment ago may be taken by the time mosquitto binds it.
const PORT_ATTEMPTS: usize = 5;

/// A user and the lines of the access list that belong to it, such as `topic write valetkey/v1/a/in/b`.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: String,
    pub acl: Vec<String>,
}

impl User {
    pub fn new(name: &str, password: &str, acl: &[&str]) -> Self {
        Self {
            name: name.into(),
            password: password.into(),
            acl: acl.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What the operator wants. The default is a plain listener that lets anybody do anything, and keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// With users, only they get in, and each only where its access list says.
    pub users: Vec<User>,
    /// Lets anybody in beside the users; without users everybody gets in anyway.
    pub anonymous: bool,
    /// Keeps sessions, queues and retained messages over a restart, as soon as they change.
    pub persistence: bool,
    /// Speaks TLS with this certificate.
    pub tls: Option<Certificate>,
    /// Asks clients for a certificate of the same CA (only with `tls`).
    pub require_client_certificate: bool,
    /// Speaks MQTT over WebSocket.
    pub websocket: bool,
    /// A fixed port; otherwise a free one.
    pub port: Option<u16>,
    /// Seconds; MQTT 5 clients are told to use this keep-alive if theirs is longer. mosquitto takes 10 and more.
    pub max_keep_alive: Option<u16>,
    /// More lines of its configuration, as an operator writes them.
    pub more: Vec<String>,
    /// The same for the listener of [`Broker::url`].
    pub more_of_listener: Vec<String>,
}

/// A running mosquitto. It is killed when dropped.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    port: u16,
    side_port: u16,
    dir: TempDir,
    child: Option<Guarded>,
}

impl Broker {
    /// Starts mosquitto and returns when it accepts connections.
    pub async fn start(options: BrokerOptions) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("broker-").tempdir()?;
        if options.tls.is_some() {
            certificates::generate(dir.path())?;
        }
        let mut broker = Self { options, port: 0, side_port: 0, dir, child: None };
        broker.write_users()?;
        for attempt in 1.. {
            broker.port = broker.options.port.map_or_else(free_port, Ok)?;
            broker.side_port = free_port()?;
            match broker.launch().await {
                Ok(()) => break,
                Err(error) if attempt == PORT_ATTEMPTS || broker.options.port.is_some() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(broker)
    }

    /// The address for our clients, e.g. `mqtts://localhost:40123`.
    pub fn url(&self) -> String {
        let scheme = match (self.options.websocket, self.options.tls.is_some()) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// The plain listener that is always there.
    pub fn plain_url(&self) -> String {
        format!("mqtt://localhost:{}", self.side_port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The CA that signed the broker's certificate, when it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.options.tls.map(|_| self.dir.path().join("ca.pem"))
    }

    /// A client certificate of the same CA, when the broker speaks TLS.
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        self.options.tls.map(|_| ClientCertificate {
            certificate: self.dir.path().join("client.pem"),
            key: self.dir.path().join("client.key"),
        })
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("mosquitto.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.0.id())
    }

    /// Ends the broker at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// Kills it if it still runs, and starts it again on the same ports with what it had kept.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.launch().await
    }

    /// Returns once what the broker holds now is in its file: an acknowledged message is in memory only for a moment.
    pub async fn saved(&self) -> Result<()> {
        let file = self.dir.path().join("mosquitto.db");
        let written = || fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
        let before = written();
        // mosquitto saves on this signal, into a new file that takes the place of the old one.
        self.signal("USR1")?;
        let deadline = Instant::now() + READY_WITHIN;
        while written() == before {
            ensure!(Instant::now() < deadline, "mosquitto did not save:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops the process without closing anything: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Publishes with QoS 1 as the harness's own user; returns once the broker has acknowledged it.
    pub async fn publish(&self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        let file = tempfile::NamedTempFile::new_in(self.dir.path())?;
        tokio::fs::write(file.path(), payload).await?;
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args(self.harness_arguments()).args(["-q", "1", "-t", topic, "-f"]).arg(file.path());
        if retain {
            command.arg("-r");
        }
        let output = command.stdin(Stdio::null()).output().await.context("mosquitto_pub")?;
        ensure!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Records everything under `topic_filter` from now on, as a second client; returns once it is subscribed.
    pub async fn record(&self, topic_filter: &str) -> Result<Recorder> {
        Recorder::start(&self.harness_arguments(), topic_filter).await
    }

    fn harness_arguments(&self) -> Vec<String> {
        let (name, password) = HARNESS;
        let port = self.side_port.to_string();
        ["-h", "127.0.0.1", "-p", &port, "-u", name, "-P", password, "-V", "5"].map(String::from).to_vec()
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the broker is not running")?;
        let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
        ensure!(status.success(), "kill -{name} {pid}: {status}");
        Ok(())
    }

    async fn launch(&mut self) -> Result<()> {
        let config = self.dir.path().join("mosquitto.conf");
        write(&config, &self.config())?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut child = Guarded::spawn(
            Command::new(program())
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        )
        .context("mosquitto did not start (is it installed?)")?;
        let deadline = Instant::now() + READY_WITHIN;
        for port in [self.side_port, self.port] {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                if let Some(status) = child.0.try_wait()? {
                    bail!("mosquitto ended with {status}:\n{}", self.log());
                }
                ensure!(Instant::now() < deadline, "mosquitto is not ready:\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.child = Some(child);
        Ok(())
    }

    fn write_users(&self) -> Result<()> {
        if self.options.users.is_empty() {
            return Ok(());
        }
        let harness = User::new(HARNESS.0, HARNESS.1, &["topic readwrite #"]);
        let mut passwords = String::new();
        let mut acl = String::new();
        for user in self.options.users.iter().chain([&harness]) {
            passwords += &format!("{}:{}\n", user.name, user.password);
            acl += &format!("user {}\n{}\n\n", user.name, user.acl.join("\n"));
        }
        let password_file = self.dir.path().join("passwords");
        write(&password_file, &passwords)?;
        write(&self.dir.path().join("acl"), &acl)?;
        let output = Command::new("mosquitto_passwd").arg("-U").arg(&password_file).output()?;
        ensure!(output.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let options = &self.options;
        // Without `user root` a mosquitto started by root becomes another user, who cannot read these files.
        let mut text = format!("user root\nlog_dest file {dir}/mosquitto.log\nlog_type all\n");
        text += &format!("allow_anonymous {}\n", options.anonymous || options.users.is_empty());
        if !options.users.is_empty() {
            text += &format!("password_file {dir}/passwords\nacl_file {dir}/acl\n");
        }
        if options.persistence {
            text += &format!("persistence true\npersistence_location {dir}/\n");
            text += "autosave_interval 1\nautosave_on_changes true\n";
        }
        if let Some(seconds) = options.max_keep_alive {
            text += &format!("max_keepalive {seconds}\n");
        }
        for line in &options.more {
            text += &format!("{line}\n");
        }
        // mosquitto 2.0.11 refuses to start with a WebSocket listener alone, so the plain one comes first.
        text += &format!("listener {} 127.0.0.1\n", self.side_port);
        text += &format!("listener {} 127.0.0.1\n", self.port);
        if options.websocket {
            text += "protocol websockets\n";
        }
        if let Some(certificate) = options.tls {
            let name = certificate.file_stem();
            text += &format!("cafile {dir}/ca.pem\ncertfile {dir}/{name}.pem\nkeyfile {dir}/{name}.key\n");
            text += &format!("require_certificate {}\n", options.require_client_certificate);
        }
        for line in &options.more_of_listener {
            text += &format!("{line}\n");
        }
        text
    }
}

/// Debian installs mosquitto where only root's PATH looks.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fallbacks = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(fallbacks)
        .map(|dir| dir.join("mosquitto"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| "mosquitto".into())
}

/// A new file with these contents: the harness has nothing that a crash could leave half written.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    fs::File::create(path)?.write_all(text.as_bytes())?;
    Ok(())
}
