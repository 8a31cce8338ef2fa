//! A desktop of one's own: a screen nobody sees, a session bus, a keyring, a tray host and a browser shim, all private
//! to one test, and the app running on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command as AsyncCommand};
use tokio::time::timeout;

mod app;
pub mod keyring;
pub mod notifications;
pub mod tray;
pub mod window;

pub use app::{App, binary, start_again, start_again_with};
use keyring::Keyring;
use notifications::Notifications;
use tray::TrayHost;

/// How long anything on this desktop may take before the test says that it did not happen. More than the 20 seconds after
/// which the app takes a silent keyring for a locked one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// X has no event that a shell tool waits for here: it is asked this often.
const POLL: Duration = Duration::from_millis(50);

/// How many times [`POLL`] a window gets to close before the key is pressed again.
const POLLS_BEFORE_PRESSING_AGAIN: u32 = 40;

/// An unpainted window has one colour; text alone, with its soft edges, has dozens.
const BLANK_COLOURS: u32 = 16;

/// A session bus that starts nothing by itself: what is on it, a test put there.
const BUS_CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=BUS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// What the test stands in for: a system's opener that hands the address to the test instead of a browser.
const XDG_OPEN: &str = "#!/bin/sh\nprintf '%s\\n' \"$1\" > \"$VALETKEY_TEST_OPENED\"\n";

/// What this desktop has.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub keyring: KeyringState,
    pub tray_host: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keyring: KeyringState::Unlocked, tray_host: true }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyringState {
    Unlocked,
    Locked,
    Absent,
}

/// Fields are dropped in this order: what runs on the bus and the screen goes before them.
#[derive(Debug)]
pub struct Desktop {
    pub notifications: Notifications,
    pub tray_host: Option<TrayHost>,
    pub keyring: Option<Keyring>,
    opened: tokio::io::Lines<BufReader<pipe::Receiver>>,
    environment: Vec<(&'static str, String)>,
    _window_manager: Child,
    _bus: Child,
    _screen: Child,
    home: TempDir,
}

impl Desktop {
    pub async fn start(options: Options) -> Result<Self> {
        let home = TempDir::new()?;
        let at = |name: &str| home.path().join(name);
        for name in ["run", "config", "data", "cache", "bin", "tmp"] {
            std::fs::DirBuilder::new().create(at(name))?;
        }
        private(&at("run"))?;
        write_program(&at("bin/xdg-open"), XDG_OPEN)?;
        let opened = make_pipe(&at("opened"))?;

        let (screen, display) = screen().await?;
        let socket = at("run/bus");
        let bus = bus(&socket, &at("bus.conf")).await?;
        let text = |path: PathBuf| path.display().to_string();
        let environment = vec![
            ("DISPLAY", display),
            ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", socket.display())),
            ("HOME", text(home.path().into())),
            ("XDG_RUNTIME_DIR", text(at("run"))),
            ("XDG_CONFIG_HOME", text(at("config"))),
            ("XDG_DATA_HOME", text(at("data"))),
            ("XDG_CACHE_HOME", text(at("cache"))),
            ("TMPDIR", text(at("tmp"))),
            ("PATH", format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default())),
            ("VALETKEY_TEST_OPENED", text(at("opened"))),
            // No accessibility bus, no graphics card, and a language whose texts are known.
            ("NO_AT_BRIDGE", "1".into()),
            ("GDK_BACKEND", "x11".into()),
            ("GDK_GL", "disable".into()),
            ("WEBKIT_DISABLE_DMABUF_RENDERER", "1".into()),
            ("LC_ALL", "C.UTF-8".into()),
        ];
        let window_manager = window_manager(&environment).await?;
        let connect = || connection(&socket);
        let tray_host = if options.tray_host { Some(TrayHost::start(connect().await?).await?) } else { None };
        let keyring = match options.keyring {
            KeyringState::Absent => None,
            state => {
                let keyring = Keyring::start(connect().await?, &environment, home.path()).await?;
                if state == KeyringState::Locked {
                    keyring.lock().await?;
                }
                Some(keyring)
            }
        };
        let notifications = Notifications::start(connect().await?).await?;
        Ok(Self {
            notifications,
            tray_host,
            keyring,
            opened,
            environment,
            _window_manager: window_manager,
            _bus: bus,
            _screen: screen,
            home,
        })
    }

    /// Ends the keyring; what is kept in it stays on the disk.
    pub async fn stop_keyring(&mut self) -> Result<()> {
        self.keyring.take().context("no keyring")?.stop().await
    }

    /// Starts the keyring, unlocked, on a desktop that has none running.
    pub async fn start_keyring(&mut self) -> Result<()> {
        let bus = connection(&self.home().join("run/bus")).await?;
        self.keyring = Some(Keyring::start(bus, &self.environment, self.home.path()).await?);
        Ok(())
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the app keeps its files when [`App::start`] starts it.
    pub fn data_dir(&self) -> PathBuf {
        self.home().join("valetkey")
    }

    /// A command that runs on this desktop and sees nothing of the real one.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> AsyncCommand {
        let mut command = AsyncCommand::new(program);
        for name in ["WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP", "DESKTOP_SESSION"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The next address that the app opens in the person's browser.
    pub async fn next_opened(&mut self) -> Result<url::Url> {
        let line = timeout(PATIENCE, self.opened.next_line()).await.context("no browser was opened")??;
        Ok(line.context("the pipe was closed")?.parse()?)
    }

    /// Writes down every message on the session bus from now on, until what is returned is dropped.
    pub async fn listen_in(&self) -> Result<BusRecord> {
        let file = self.home().join("bus.log");
        let output = std::fs::File::create(&file)?;
        let listener = self.command("dbus-monitor").arg("--session").stdout(output).spawn()?;
        let begun = async {
            // It writes its own name down first.
            while std::fs::metadata(&file)?.len() == 0 {
                tokio::time::sleep(POLL).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, begun).await.context("nothing can be heard on the bus (package dbus-bin)")??;
        Ok(BusRecord { file, _listener: listener })
    }

    /// Waits until a window of this title is on the screen; its X11 number.
    pub async fn window(&self, title: &str) -> Result<String> {
        let search =
            self.command("xdotool").args(["search", "--sync", "--onlyvisible", "--name"]).arg(title).output();
        let found =
            timeout(PATIENCE, search).await.with_context(|| format!("no window called {title}"))??;
        let ids = String::from_utf8(found.stdout)?;
        ids.lines().next().map(str::to_owned).context("no window number")
    }

    /// Whether a window of this title is on the screen now.
    pub async fn has_window(&self, title: &str) -> Result<bool> {
        let found =
            self.command("xdotool").args(["search", "--onlyvisible", "--name", title]).output().await?;
        Ok(!found.stdout.is_empty())
    }

    /// Closes the window as its close button does, and waits until it is gone. The key goes to whatever has the focus, which
    /// a busy window manager may not have moved yet: it is pressed again until it was heard.
    pub async fn close_window(&self, title: &str) -> Result<()> {
        let number = self.window(title).await?;
        let gone = async {
            while self.has_window(title).await? {
                self.command("xdotool")
                    .args([
                        "windowactivate",
                        &number,
                        "windowfocus",
                        &number,
                        "key",
                        "--clearmodifiers",
                        "alt+F4",
                    ])
                    .stderr(Stdio::null())
                    .status()
                    .await?;
                for _ in 0..POLLS_BEFORE_PRESSING_AGAIN {
                    if !self.has_window(title).await? {
                        break;
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, gone).await.context("the window is still there")?
    }

    /// A picture of the window of this title, into `target/screens/`, once something is painted in it.
    pub async fn picture(&self, title: &str, name: &str) -> Result<PathBuf> {
        let path = screens_dir()?.join(format!("{name}.png"));
        let number = self.window(title).await?;
        let painted = async {
            loop {
                let done = self.command("import").args(["-window", &number]).arg(&path).status().await?;
                ensure!(done.success(), "no picture could be taken (package imagemagick)");
                let colours =
                    self.command("identify").args(["-format", "%k"]).arg(&path).output().await?.stdout;
                if String::from_utf8(colours)?.trim().parse::<u32>()? > BLANK_COLOURS {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, painted).await.context("nothing was painted")??;
        Ok(path)
    }
}

/// What was said on the session bus.
#[derive(Debug)]
pub struct BusRecord {
    file: PathBuf,
    _listener: Child,
}

impl BusRecord {
    /// In dbus-monitor's own form; texts stand there as they are.
    pub fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.file)?).into_owned())
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn screens_dir() -> Result<PathBuf> {
    let dir = target_dir().join("screens");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A screen with a number that the server itself finds free.
async fn screen() -> Result<(Child, String)> {
    let mut server = AsyncCommand::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("Xvfb could not be started (package xvfb)")?;
    let mut lines = BufReader::new(server.stdout.take().context("no output")?).lines();
    match timeout(PATIENCE, lines.next_line()).await.context("Xvfb does not get ready")?? {
        Some(number) => Ok((server, format!(":{}", number.trim()))),
        None => bail!("Xvfb ended at once"),
    }
}

/// Gives windows a frame, the focus and Alt+F4, as every desktop does.
async fn window_manager(environment: &[(&'static str, String)]) -> Result<Child> {
    let on_screen = |program: &str| {
        let mut command = AsyncCommand::new(program);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    };
    let manager = on_screen("openbox").spawn().context("openbox could not be started (package openbox)")?;
    let ready = async {
        // Succeeds from the moment on that a window manager has announced itself.
        while !on_screen("xprop")
            .args(["-root", "_NET_SUPPORTING_WM_CHECK"])
            .stdout(Stdio::piped())
            .output()
            .await?
            .stdout
            .contains(&b'#')
        {
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, ready).await.context("openbox does not get ready")??;
    Ok(manager)
}

async fn connection(bus: &Path) -> Result<zbus::Connection> {
    let address = format!("unix:path={}", bus.display());
    Ok(zbus::connection::Builder::address(address.as_str())?.build().await?)
}

async fn bus(socket: &Path, config: &Path) -> Result<Child> {
    write(config, &BUS_CONFIG.replace("BUS", &socket.display().to_string()))?;
    let mut bus = AsyncCommand::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--nofork", "--print-address=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("dbus-daemon could not be started (package dbus-bin)")?;
    let mut lines = BufReader::new(bus.stdout.take().context("no output")?).lines();
    timeout(PATIENCE, lines.next_line()).await.context("the bus does not get ready")??;
    Ok(bus)
}

/// Opened for both directions, so that it outlives each writer.
fn make_pipe(path: &Path) -> Result<tokio::io::Lines<BufReader<pipe::Receiver>>> {
    ensure!(Command::new("mkfifo").arg(path).status()?.success(), "mkfifo failed");
    Ok(BufReader::new(pipe::OpenOptions::new().read_write(true).open_receiver(path)?).lines())
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;

    Ok(std::fs::File::create(path)?.write_all(text.as_bytes())?)
}

fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?)
}
