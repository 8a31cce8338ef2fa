//! `cargo xtask demo`: the main job, against a practice tenant and the agent's own broker.
//!
//! With a display a person clicks through it in the real tray app. Without one, or with `--headless`, the same happens
//! in a terminal and with a headless browser, and every step is told.

#![allow(clippy::print_stdout, reason = "it tells a story at the terminal")]

mod person;
mod story;

use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;
use valetkey_tests::daemon::Daemon;
use valetkey_tests::tenant::{ALICE, CLIENT_ID, Lifetimes, PASSWORD, Tenant};

/// Shorter than the agent's five minutes of caution, so that the demo shows a silent refresh and nobody has to wait an
/// hour for one.
const SHORT_LIVED: Lifetimes = Lifetimes { access: Some(60), refresh: None, id: None, refresh_in: None };

/// What both ways share.
struct Stage {
    tenant: Tenant,
    daemon: Daemon,
    folder: TempDir,
}

#[tokio::main]
async fn main() -> Result<()> {
    let headless = std::env::args().any(|argument| argument == "--headless");
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());

    say("Valet Key: one person gives an assistant read access to mail and calendar, with one click.");
    let folder = TempDir::with_prefix("valet-key-demo-")?;
    let tenant = Tenant::start().await?;
    tenant.lifetimes(SHORT_LIVED).await?;
    step("A practice tenant stands in for Microsoft: a certified OpenID provider dressed as Entra.");
    note(&format!("{}   (user {}, password {PASSWORD})", tenant.origin, ALICE.username));
    step("The operator sets the agent up, once:");
    shell(&format!("valetkey-agent init --name \"Practice assistant\" --client-id {CLIENT_ID}"));
    let daemon = Daemon::init(folder.path(), &tenant.origin, ALICE.tid, CLIENT_ID, "")?;
    let stage = Stage { tenant, daemon, folder };
    if headless || !display { story::tell(stage).await } else { person::clicks_through(stage).await }
}

fn say(text: &str) {
    println!("\n{text}");
}

fn step(text: &str) {
    println!("\n● {text}");
}

fn note(text: &str) {
    println!("  {text}");
}

/// A command as one would type it.
fn shell(text: &str) {
    println!("  $ {text}");
}

/// A file's mode and owner, as `ls` shows them.
fn listing(path: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("mode {:04o}  uid {}  {} bytes  {name}", facts.mode() & 0o7777, facts.uid(), facts.len()))
}

/// What the daemon says of itself, for a person.
fn in_words(event: &Value) -> String {
    match event["event"].as_str() {
        Some("serving") => "serving".into(),
        Some("online") => "connected to its broker".into(),
        Some("paired") => "a computer is paired".into(),
        Some("stored") => "a sealed sign-in arrived, was verified, opened and stored".into(),
        Some("settled") => "it was renewed once; the receipt is on its way".into(),
        Some("health") => match event["reason"].as_str() {
            Some(reason) => {
                format!("this account is now {} ({reason})", event["health"].as_str().unwrap_or_default())
            }
            None => format!("this account is now {}", event["health"].as_str().unwrap_or_default()),
        },
        _ => event.to_string(),
    }
}

fn four_words(invite: &Value) -> String {
    let words = invite["words"].as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}
