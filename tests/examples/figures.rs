//! `cargo xtask figures`: what the app costs, measured on the release build; each as a median of several runs.
//!
//! `figures FOLDER`, where FOLDER holds the release builds.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use support::World;
use valetkey_companion::Command;
use valetkey_companion::view::Screen;
use valetkey_tests::desktop::{Desktop, Options};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::ALICE;

/// An odd number, so that the median is one of them.
const RUNS: usize = 7;
/// Long enough for a program that has started to have nothing left to do.
const SETTLED: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: figures FOLDER")?);
    for name in ["valet-key", "valetkey-agent", "valetkey-cli"] {
        let bytes = std::fs::metadata(folder.join(name))?.len();
        println!("{name}: {:.1} MB stripped", megabytes(bytes));
    }
    tray(&folder.join("valet-key")).await?;
    daemon(&folder.join("valetkey-agent")).await?;
    click_to_receipt().await
}

/// From the start of the process to its tray icon, and what it holds when only the tray is there.
async fn tray(app: &Path) -> Result<()> {
    let (mut starts, mut memory, mut ticks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let desktop = Desktop::start(Options::default()).await?;
        let began = Instant::now();
        let child = desktop
            .command(app)
            .arg("--data-dir")
            .arg(desktop.data_dir())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let tray = desktop.tray_host.as_ref().context("a tray host")?.tray().await?;
        starts.push(began.elapsed().as_secs_f64() * 1000.0);
        tray.first_line(|line| !line.starts_with("Checking")).await?;
        // Nothing tells when a program has become idle.
        tokio::time::sleep(SETTLED).await;
        let pid = child.id().context("it still runs")?;
        memory.push(pss(pid)?);
        let before = cpu_ticks(pid)?;
        tokio::time::sleep(SETTLED).await;
        ticks.push(cpu_ticks(pid)? - before);
    }
    println!("start to tray icon: {:.0} ms (median of {RUNS})", median(&mut starts));
    println!(
        "tray only: {:.1} MB PSS, {:.0} CPU ticks in {SETTLED:?}",
        median(&mut memory),
        median(&mut ticks)
    );
    Ok(())
}

/// What the daemon holds when nothing happens: connected to its own broker, which is another process.
async fn daemon(program: &Path) -> Result<()> {
    let world = World::with_own_broker().await;
    let mut memory = Vec::new();
    for _ in 0..RUNS {
        let mut command = std::process::Command::new(program);
        command.arg("--state-dir").arg(world.daemon.state_dir()).args(["serve", "--json"]);
        let log = world.folder.path().join("figures.log");
        let mut serving = valetkey_tests::program::Program::start(&mut command, &log)?;
        serving.event("online").await?;
        tokio::time::sleep(SETTLED).await;
        memory.push(pss(serving.pid())?);
        serving.stop()?;
    }
    println!("idle daemon: {:.1} MB PSS (median of {RUNS})", median(&mut memory));
    Ok(())
}

/// From the click on "Connect" to "Connected", less what the provider took to answer and the person to sign in.
async fn click_to_receipt() -> Result<()> {
    let world = World::with_own_broker().await;
    let serving = world.daemon.serve().await?;
    let link = world.daemon.invite(ALICE.mail)?;
    let mut desk = world.desk();
    desk.connect(&link, ALICE).await;
    let (mut all, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        world.daemon.run(&["remove", "--account", ALICE.mail])?;
        desk.screen(Screen::NotConnected).await;
        let before = world.tenant.log().await?.len();
        let clicked = Instant::now();
        desk.click(Command::Connect);
        let url = desk.browser().await;
        let person = Instant::now();
        let redirect = http_sign_in::http_sign_in_up_to_redirect(url.as_str(), ALICE.username).await?;
        let signing_in = person.elapsed();
        let browser = http_sign_in::client()?.get(redirect).send();
        let (_, _) = tokio::join!(browser, desk.screen(Screen::Connected));
        let total = (clicked.elapsed().as_secs_f64() - signing_in.as_secs_f64()) * 1000.0;
        let log = world.tenant.log().await?;
        let provider: f64 = log[before..]
            .iter()
            .filter(|line| !matches!(line.endpoint.as_str(), "authorize" | "login"))
            .map(|line| line.ms)
            .sum();
        all.push(total);
        ours.push(total - provider);
    }
    println!(
        "click to receipt, without the person: {:.0} ms; less the provider's own answers: {:.0} ms (medians of {RUNS})",
        median(&mut all),
        median(&mut ours)
    );
    serving.stop()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::cast_precision_loss, reason = "sizes in MB")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The proportional set size of a process and its children, in MB.
fn pss(pid: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut sum = megabytes(kib * 1024);
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        // A broker or a browser is a program of its own.
        if let Ok(name) = std::fs::read_to_string(format!("/proc/{child}/comm"))
            && name.starts_with("WebKit")
        {
            sum += pss(child)?;
        }
    }
    Ok(sum)
}

/// User and system time of a process in clock ticks.
fn cpu_ticks(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("an unusual stat line")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: [u32; 2] = [fields[11].parse()?, fields[12].parse()?];
    Ok(f64::from(ticks[0] + ticks[1]))
}
