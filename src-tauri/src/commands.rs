//! What the window can ask of the shell. Everything about accounts goes through [`act`] to the companion.

#![allow(clippy::needless_pass_by_value)] // Tauri hands commands their arguments by value.

use serde::Serialize;
use tauri::{AppHandle, Runtime, State};
use tauri_plugin_autostart::ManagerExt;
use valetkey_companion::doctor::Sheet;
use valetkey_companion::{Command, View};

use crate::shell::Shell;

#[derive(Debug, Serialize)]
pub struct Settings {
    autostart: bool,
    version: String,
}

/// The present view. The window asks when it has loaded, since it did not exist for earlier events.
#[tauri::command]
pub fn view(shell: State<'_, Shell>) -> View {
    shell.views().borrow().clone()
}

#[tauri::command]
pub fn act(shell: State<'_, Shell>, command: Command) {
    tracing::debug!(?command, "asked in the window");
    shell.send(command);
}

/// Takes up to half a minute; the window goes on meanwhile.
#[tauri::command]
pub async fn check_up(shell: State<'_, Shell>) -> Result<Sheet, ()> {
    Ok(shell.doctor().examine(env!("CARGO_PKG_NAME")).await)
}

/// The report of the last check on the clipboard. The window names no text, so it can put nothing else there.
#[tauri::command]
pub fn copy_report(shell: State<'_, Shell>) {
    shell.doctor().copy_report();
}

#[tauri::command]
pub fn settings<R: Runtime>(app: AppHandle<R>) -> Settings {
    Settings {
        autostart: app.autolaunch().is_enabled().unwrap_or(false),
        version: format!("Valet Key {}", app.package_info().version),
    }
}

/// An error only says that it failed: the window has the words.
#[tauri::command]
pub fn set_autostart<R: Runtime>(app: AppHandle<R>, on: bool) -> Result<(), ()> {
    let autostart = app.autolaunch();
    let done = if on { autostart.enable() } else { autostart.disable() };
    done.map_err(|error| tracing::warn!(%error, on, "starting at log-in could not be changed"))
}

#[tauri::command]
pub fn quit<R: Runtime>(app: AppHandle<R>) {
    app.exit(0);
}
