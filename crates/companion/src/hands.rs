//! Does what the heart decided.

use tokio::sync::mpsc;

use crate::controller::Options;
use crate::outlet::Outlet;
use crate::state::Health;
use crate::step::{Effect, Event};
use crate::texts::{Text, say};
use crate::view::View;

/// Name of the one notification there is.
const LAPSE: &str = "lapse";

pub(crate) struct Hands {
    options: Options,
    events: mpsc::UnboundedSender<Event>,
}

impl Hands {
    pub fn new(options: Options, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { options, events }
    }

    /// Reads the keyring and the disk.
    pub fn load(&self) {
        let _ = &self.events;
    }

    pub async fn perform(&mut self, effect: Effect, view: &View) {
        match effect {
            Effect::Load => self.load(),
            Effect::OpenBrowser(link) => {
                if let Some(url) = link.url() {
                    self.shell(Outlet::OpenBrowser(url));
                }
            }
            Effect::CopyLink(link) => {
                if let Some(url) = link.url() {
                    self.shell(Outlet::Clipboard(url.into()));
                }
            }
            Effect::CopyRequest => {
                if let Some(text) = &view.copy_text {
                    self.shell(Outlet::Clipboard(text.clone()));
                }
            }
            Effect::NotifyLapse { address, health } => {
                let address = &address;
                let (title, body) = match health {
                    Health::Blocked => (Text::BlockedTitle, Text::BlockedBody { address }),
                    _ => (Text::LapseTitle, Text::LapseBody { address }),
                };
                let language = self.options.language;
                self.shell(Outlet::Notify {
                    id: LAPSE.into(),
                    title: say(language, title),
                    body: say(language, body),
                });
            }
            Effect::WithdrawLapse => self.shell(Outlet::Withdraw { id: LAPSE.into() }),
            _ => {}
        }
    }

    pub async fn stop(self) {}

    /// A shell that is gone has nobody to show anything to.
    fn shell(&self, outlet: Outlet) {
        let _ = self.options.outlets.send(outlet);
    }
}
