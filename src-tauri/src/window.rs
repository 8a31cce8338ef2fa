//! The one window: made when it is first wanted, because a web view costs several times what the tray does.

use anyhow::Context;
use tauri::{AppHandle, Emitter, Manager, Runtime, WebviewUrl, WebviewWindowBuilder};

/// Its name in the configuration and the capability.
const MAIN: &str = "main";

/// What lies over the page when it opens.
#[derive(Clone, Copy, Debug)]
pub enum Panel {
    Help,
    CheckUp,
}

impl Panel {
    /// As the page knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Help => "help",
            Self::CheckUp => "check-up",
        }
    }
}

/// Shows the window, in front.
pub fn open<R: Runtime>(app: &AppHandle<R>) {
    open_with(app, None);
}

/// Shows the window with this panel open.
pub fn open_at<R: Runtime>(app: &AppHandle<R>, panel: Panel) {
    open_with(app, Some(panel));
}

pub fn is_in_front<R: Runtime>(app: &AppHandle<R>) -> bool {
    app.get_webview_window(MAIN).is_some_and(|window| window.is_focused().unwrap_or(false))
}

fn open_with<R: Runtime>(app: &AppHandle<R>, panel: Option<Panel>) {
    let app = app.clone();
    // Building from the event loop's own thread would wait for itself.
    tauri::async_runtime::spawn(async move {
        if let Err(error) = show(&app, panel.map(Panel::name)) {
            tracing::error!(%error, "the window could not be opened");
        }
    });
}

fn show<R: Runtime>(app: &AppHandle<R>, panel: Option<&str>) -> anyhow::Result<()> {
    if let Some(window) = app.get_webview_window(MAIN) {
        window.show()?;
        window.unminimize()?;
        window.set_focus()?;
        if let Some(panel) = panel {
            app.emit_to(MAIN, "open", panel)?;
        }
        return Ok(());
    }
    let config = app.config().app.windows.iter().find(|window| window.label == MAIN);
    let mut config = config.context("no window is configured")?.clone();
    if let Some(panel) = panel {
        config.url = WebviewUrl::App(format!("index.html#{panel}").into());
    }
    // A link dropped on the window must not take the app's place in it.
    let own = |url: &tauri::Url| url.scheme() == "tauri" || url.host_str() == Some("tauri.localhost");
    match WebviewWindowBuilder::from_config(app, &config)?.on_navigation(own).build() {
        // Two clicks at once: the other one has made it.
        Ok(_) | Err(tauri::Error::WebviewLabelAlreadyExists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
