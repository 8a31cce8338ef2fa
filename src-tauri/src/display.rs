//! Whether there is a screen to show anything on. Asked first, because the toolkit ends the program without a word.

use anyhow::Result;

/// Opens the display (X11 or Wayland), so that the toolkit finds it open. The error is for a person in a terminal.
#[cfg(target_os = "linux")]
pub fn check() -> Result<()> {
    gtk::init().map_err(|_| {
        anyhow::anyhow!(
            "there is no display to show anything on. Start it from your desktop, or use valetkey-cli in a terminal."
        )
    })
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // Windows and macOS always have one for a logged-in person.
pub fn check() -> Result<()> {
    Ok(())
}
