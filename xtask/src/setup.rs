//! What the machine needs before anything is built or tested, and getting it there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{command, execute, root, say, succeeds};

/// Debian's names. Each line is what one part of the work needs.
const DEBIAN_PACKAGES: &[&str] = &[
    // building the desktop app
    "libwebkit2gtk-4.1-dev",
    "build-essential",
    "pkg-config",
    // running it without a screen: display, session bus, keyring, tray, deep link
    "xvfb",
    "xauth",
    "dbus-x11",
    "dbus-bin",
    "gnome-keyring",
    "libsecret-tools",
    "xdg-utils",
    "desktop-file-utils",
    "libayatana-appindicator3-1",
    "libglib2.0-bin",
    // seeing it: pictures, fonts, icons
    "imagemagick",
    "x11-utils",
    "openbox",
    "webkit2gtk-driver",
    "xdotool",
    "fonts-dejavu-core",
    "adwaita-icon-theme",
    "hicolor-icon-theme",
    "librsvg2-common",
    // the other ends: broker, browser, age, certificates, private networks
    "mosquitto",
    "mosquitto-clients",
    "chromium",
    "chromium-driver",
    "age",
    "openssl",
    "iproute2",
    // breaking things: system calls, file systems, limits, packets
    "strace",
    "libfaketime",
    "e2fsprogs",
    "util-linux",
    "procps",
    "mount",
    "nftables",
];

/// oidc-provider runs on it; older ones lack what it imports.
const OLDEST_NODE: u32 = 20;

/// Where Microsoft's Python library lives for the tests.
pub const PYTHON_ENVIRONMENT: &str = "target/practice-venv";

/// The folders with a `package-lock.json` of their own.
const NODE_PROJECTS: &[&str] = &["tests/practice-tenant", "tests/msal"];

pub fn machine() -> Result<()> {
    system_packages()?;
    node_projects()?;
    python_environment()
}

fn system_packages() -> Result<()> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        return other_system();
    }
    let mut wanted: Vec<&str> =
        DEBIAN_PACKAGES.iter().copied().filter(|package| !is_installed(package)).collect();
    // Any Node.js and Python will do, wherever they came from.
    if !succeeds(command("npm", &["--version"])) {
        wanted.extend(["nodejs", "npm"]);
    }
    if !succeeds(command("python3", &["-c", "import venv, ensurepip"])) {
        wanted.extend(["python3", "python3-venv"]);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    say(&format!("Installing from Debian: {}", wanted.join(" ")));
    execute(apt(&["update", "-qq"]))?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&wanted);
    execute(apt(&install)).context("these packages are needed; see the lines above for what apt says")
}

/// `apt-get` as root, through `sudo` where we are not, patient with another one that holds the lock.
fn apt(args: &[&str]) -> Command {
    let root = succeeds(command("sh", &["-c", "test \"$(id -u)\" = 0"]));
    let mut apt = if root { command("apt-get", &[]) } else { command("sudo", &["apt-get"]) };
    apt.args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// Elsewhere nothing is installed unasked: say exactly what is missing.
fn other_system() -> Result<()> {
    let tools = [
        "mosquitto",
        "mosquitto_passwd",
        "mosquitto_sub",
        "chromedriver",
        "node",
        "npm",
        "python3",
        "age",
        "openssl",
    ];
    let missing: Vec<&str> = tools
        .into_iter()
        .filter(|tool| !succeeds(command("sh", &["-c", &format!("command -v {tool}")])))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this is not Debian or Ubuntu, so nothing was installed. Missing: {}.\n\
         Fedora: sudo dnf install webkit2gtk4.1-devel gcc pkgconf mosquitto chromium chromedriver nodejs npm \
         python3 age openssl gnome-keyring xorg-x11-server-Xvfb\n\
         Arch:   sudo pacman -S webkit2gtk-4.1 base-devel mosquitto chromium nodejs npm python age openssl \
         gnome-keyring xorg-server-xvfb\n\
         macOS:  brew install mosquitto node python age openssl && brew install --cask chromedriver\n\
         Elsewhere, install what Debian calls: {}",
        missing.join(", "),
        DEBIAN_PACKAGES.join(" ")
    )
}

fn node_projects() -> Result<()> {
    let output =
        command("node", &["--version"]).output().context("Node.js is needed (node was not found)")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major: u32 =
        version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < OLDEST_NODE {
        bail!("Node.js {OLDEST_NODE} or newer is needed for the practice tenant; this machine has {version}");
    }
    for project in NODE_PROJECTS {
        let folder = root().join(project);
        let lock = folder.join("package-lock.json");
        if up_to_date(&folder.join("node_modules/.package-lock.json"), &lock) {
            continue;
        }
        say(&format!("Installing what {project} needs from npm"));
        let mut npm = command("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        npm.current_dir(&folder);
        execute(npm)?;
    }
    Ok(())
}

fn python_environment() -> Result<()> {
    let environment = root().join(PYTHON_ENVIRONMENT);
    let requirements = root().join("tests/msal/requirements.txt");
    let stamp = environment.join("installed");
    if up_to_date(&stamp, &requirements) {
        return Ok(());
    }
    say("Installing Microsoft's Python library for the tests");
    let place = environment.display().to_string();
    execute(command("python3", &["-m", "venv", "--clear", &place]))?;
    let pip = environment.join("bin/pip").display().to_string();
    execute(command(
        &pip,
        &["install", "--quiet", "--disable-pip-version-check", "-r", &requirements.display().to_string()],
    ))?;
    fs::File::create(stamp)?;
    Ok(())
}

/// Whether `made` is there and no older than what it was made from.
fn up_to_date(made: &Path, from: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    matches!((time(made), time(from)), (Some(made), Some(from)) if made >= from)
}
