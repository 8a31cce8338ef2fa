//! What only the shell around the companion can do: the desktop, or a terminal.

use url::Url;

/// Sent by the companion, done by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlet {
    /// Open the person's own browser.
    OpenBrowser(Url),
    /// Show one desktop notification; not while the window is in front. The same `id` replaces an earlier one.
    Notify { id: String, title: String, body: String },
    /// Take a notification back; it is no longer true.
    Withdraw { id: String },
    /// Put this text on the clipboard.
    Clipboard(String),
}
