//! What the rest of the shell shares: the companion that runs behind it.

use std::sync::Mutex;
use std::time::Duration;

use tauri::{AppHandle, Manager, Runtime};
use tokio::sync::{mpsc, watch};
use valetkey_companion::doctor::Doctor;
use valetkey_companion::{Command, Handle, InviteLink, Language, View};

use crate::{args, window};

/// How long quitting waits for the companion to say goodbye to the broker. What is under way is on disk already.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The language of the words that the shell itself asks the companion for.
pub const LANGUAGE: Language = Language::English;

#[derive(Debug)]
pub struct Shell {
    commands: mpsc::UnboundedSender<Command>,
    views: watch::Receiver<View>,
    doctor: Doctor,
    /// Taken when the app quits.
    handle: Mutex<Option<Handle>>,
}

impl Shell {
    pub fn new(handle: Handle) -> Self {
        Self {
            commands: handle.commands(),
            views: handle.views(),
            doctor: handle.doctor(),
            handle: Mutex::new(Some(handle)),
        }
    }

    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    pub fn doctor(&self) -> &Doctor {
        &self.doctor
    }

    pub fn send(&self, command: Command) {
        // Nobody listens any more only while the app is quitting.
        let _ = self.commands.send(command);
    }

    pub async fn stop(&self) {
        let handle = self.handle.lock().ok().and_then(|mut handle| handle.take());
        if let Some(handle) = handle
            && tokio::time::timeout(STOP_LIMIT, handle.stop()).await.is_err()
        {
            tracing::warn!("the companion did not stop in time");
        }
    }
}

/// Shows an invite in the window. Nothing is contacted before the person agrees there.
pub fn show_invite<R: Runtime>(app: &AppHandle<R>, link: InviteLink) {
    app.state::<Shell>().send(Command::PasteInvite { link });
    window::open(app);
}

/// The program was started again: a link is handed over, anything else opens the window.
pub fn started_again<R: Runtime>(app: &AppHandle<R>, argv: Vec<String>) {
    use clap::Parser;

    match args::Args::try_parse_from(argv) {
        Ok(args::Args { link: Some(link), .. }) if !link.is_on_input() => {
            show_invite(app, link.into_invite());
        }
        Ok(args::Args { background: true, .. }) => {}
        Ok(_) | Err(_) => window::open(app),
    }
}
