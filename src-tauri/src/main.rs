//! Valet Key on the desktop: tray icon, window, notifications, links and the keyring, wired to the companion.
//!
//! Wiring only. What is shown, and what a click leads to, is decided in `valetkey_companion`.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod app;
mod args;
mod commands;
mod display;
mod outlets;
mod shell;
mod tray;
#[cfg(target_os = "linux")]
mod tray_host;
mod unseen;
mod window;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// What is logged when `VALETKEY_LOG` does not say otherwise.
const LOG_DEFAULT: &str = "warn,valet_key=info,valetkey_companion=info,valetkey_link=info";

fn main() -> ExitCode {
    valetkey_companion::memory::leave_no_core();
    valetkey_checkup::keep_quiet("valet-key");
    let args = args::Args::parse();
    let filter = EnvFilter::try_from_env("VALETKEY_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    if let Err(problem) = display::check() {
        return fail(&problem);
    }
    match app::run(args) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(problem) => fail(&problem),
    }
}

#[allow(clippy::print_stderr)] // For whoever started it in a terminal: there is no window to say it in.
fn fail(problem: &anyhow::Error) -> ExitCode {
    eprintln!("valet-key: {problem:#}");
    ExitCode::FAILURE
}
