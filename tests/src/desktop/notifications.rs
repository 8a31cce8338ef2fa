//! The desktop's notifications, received by the test.
#![allow(clippy::used_underscore_binding)] // The interface macro names every argument of the specification's.

use std::collections::HashMap;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, interface};

use super::PATIENCE;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toast {
    Shown { id: u32, title: String, body: String },
    TakenBack { id: u32 },
}

#[derive(Debug)]
pub struct Notifications {
    _bus: Connection,
    toasts: mpsc::UnboundedReceiver<Toast>,
}

impl Notifications {
    pub(super) async fn start(bus: Connection) -> Result<Self> {
        let (sender, toasts) = mpsc::unbounded_channel();
        bus.object_server().at("/org/freedesktop/Notifications", Server { sender, last: 0 }).await?;
        bus.request_name("org.freedesktop.Notifications").await?;
        Ok(Self { _bus: bus, toasts })
    }

    /// The next thing that happens to a notification.
    pub async fn next(&mut self) -> Result<Toast> {
        timeout(PATIENCE, self.toasts.recv())
            .await
            .context("no notification came")?
            .context("the server is gone")
    }

    /// Those that have come since, without waiting.
    pub fn so_far(&mut self) -> Vec<Toast> {
        std::iter::from_fn(|| self.toasts.try_recv().ok()).collect()
    }
}

struct Server {
    sender: mpsc::UnboundedSender<Toast>,
    last: u32,
}

#[interface(name = "org.freedesktop.Notifications")]
impl Server {
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // The specification's signature.
    fn notify(
        &mut self,
        _app: String,
        replaces: u32,
        _icon: String,
        title: String,
        body: String,
        _actions: Vec<String>,
        _hints: HashMap<String, OwnedValue>,
        _expires: i32,
    ) -> u32 {
        self.last += 1;
        let id = if replaces == 0 { self.last } else { replaces };
        let _ = self.sender.send(Toast::Shown { id, title, body });
        id
    }

    fn close_notification(&self, id: u32) {
        let _ = self.sender.send(Toast::TakenBack { id });
    }

    #[allow(clippy::unused_self)]
    fn get_capabilities(&self) -> Vec<String> {
        vec!["body".into(), "actions".into()]
    }

    #[allow(clippy::unused_self)]
    fn get_server_information(&self) -> (String, String, String, String) {
        ("test".into(), "test".into(), "1".into(), "1.2".into())
    }
}
