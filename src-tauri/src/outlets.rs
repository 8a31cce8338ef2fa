//! Does what only the desktop can do for the companion: browser, notifications, clipboard.

use std::hash::{DefaultHasher, Hash, Hasher};

use tauri::{AppHandle, Runtime};
use tauri_plugin_notification::NotificationExt;
use tauri_plugin_opener::OpenerExt;
use tokio::sync::mpsc::UnboundedReceiver;
use valetkey_companion::Outlet;

use crate::window;

/// Serves the companion until it ends.
pub async fn serve<R: Runtime>(app: AppHandle<R>, mut outlets: UnboundedReceiver<Outlet>) {
    // A click on a notification opens the window. Where the desktop reports no clicks, the banner in it must do.
    let opened = app.clone();
    if let Err(error) = app.notification().on_action(move |_| window::open(&opened)) {
        tracing::debug!(%error, "clicks on notifications are not reported here");
    }
    // Kept: on X11 the text is gone with its owner.
    let mut clipboard = None;
    while let Some(outlet) = outlets.recv().await {
        match outlet {
            Outlet::OpenBrowser(url) => {
                // Never logged: the address holds the state of the sign-in.
                if let Err(error) = app.opener().open_url(url, None::<&str>) {
                    tracing::warn!(kind = %browser_error(&error), "no browser could be opened");
                    window::open(&app); // "Copy link" is there.
                }
            }
            Outlet::Notify { id, title, body } => notify(&app, &id, &title, &body),
            Outlet::Withdraw { id } => {
                let app = app.clone();
                // Waits for the desktop's answer, which an async thread must not.
                tauri::async_runtime::spawn_blocking(move || {
                    if let Err(error) = app.notification().remove_active(vec![number(&id)]) {
                        tracing::debug!(%error, "a notification could not be taken back");
                    }
                });
            }
            Outlet::Clipboard(text) => copy(&mut clipboard, text),
        }
    }
}

/// Not while the window is in front: it says the same.
fn notify<R: Runtime>(app: &AppHandle<R>, id: &str, title: &str, body: &str) {
    if window::is_in_front(app) {
        return;
    }
    let notification = app.notification().builder().id(number(id)).title(title).body(body);
    if let Err(error) = notification.show() {
        tracing::debug!(%error, "a notification could not be shown");
    }
}

fn copy(clipboard: &mut Option<arboard::Clipboard>, text: String) {
    if clipboard.is_none() {
        match arboard::Clipboard::new() {
            Ok(opened) => *clipboard = Some(opened),
            Err(error) => tracing::warn!(%error, "there is no clipboard"),
        }
    }
    if let Some(Err(error)) = clipboard.as_mut().map(|clipboard| clipboard.set_text(text)) {
        tracing::warn!(%error, "nothing could be copied");
    }
}

/// The plugin knows notifications by number.
fn number(id: &str) -> i32 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    (hasher.finish() & 0x7fff_ffff) as i32
}

fn browser_error(error: &tauri_plugin_opener::Error) -> String {
    match error {
        tauri_plugin_opener::Error::Io(error) => error.kind().to_string(),
        _ => "other".into(),
    }
}
