//! A tray host owned by the test: it sees the app's icon come, and reads and clicks its menu over D-Bus, as a panel does.
#![allow(clippy::used_underscore_binding)] // The interface macro names every argument of the specification's.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::time::timeout;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, interface};

use super::PATIENCE;

const PATH: &str = "/StatusNotifierWatcher";
const ITEM: &str = "org.kde.StatusNotifierItem";
const MENU: &str = "com.canonical.dbusmenu";

/// The whole tree, with every property.
const ALL: (i32, i32, &[&str]) = (0, -1, &[]);

#[derive(Debug)]
pub struct TrayHost {
    bus: Connection,
    items: watch::Receiver<Vec<Registered>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    owner: String,
    path: String,
}

impl TrayHost {
    pub(super) async fn start(bus: Connection) -> Result<Self> {
        let (sender, items) = watch::channel(Vec::new());
        bus.object_server().at(PATH, Watcher { items: sender }).await?;
        bus.request_name("org.kde.StatusNotifierWatcher").await?;
        Ok(Self { bus, items })
    }

    /// The icon of the app that runs, once it has come.
    pub async fn tray(&self) -> Result<Tray> {
        self.tray_of_start(1).await
    }

    /// The icon of the app's `number`th start on this desktop, counted from 1.
    pub async fn tray_of_start(&self, number: usize) -> Result<Tray> {
        let mut items = self.items.clone();
        let found = timeout(PATIENCE, items.wait_for(|items| items.len() >= number)).await;
        let item = found.context("no tray icon came")??.get(number - 1).cloned().context("no tray icon")?;
        Tray::open(&self.bus, &item).await
    }

    /// How many icons there have been since the start.
    pub fn count(&self) -> usize {
        self.items.borrow().len()
    }
}

/// While the app puts one menu in another's place, there is none at its path.
const BETWEEN_MENUS: &str = "org.freedesktop.DBus.Error.UnknownMethod";
/// What an item is called that was in the menu before. In small letters; the library's versions differ in that.
const NO_SUCH_ITEM: &str = "org.gtk.gdbus.unmappedgerror.quark._libdbusmenu";
/// Nothing on the bus tells when it is back.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

struct Watcher {
    items: watch::Sender<Vec<Registered>>,
}

#[interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    async fn register_status_notifier_item(
        &self,
        service: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<()> {
        // Either a path on the caller, or a name with the usual path.
        let caller = header.sender().map(ToString::to_string).unwrap_or_default();
        let item = if service.starts_with('/') {
            Registered { owner: caller, path: service.into() }
        } else {
            Registered { owner: service.into(), path: "/StatusNotifierItem".into() }
        };
        Self::status_notifier_item_registered(&emitter, &format!("{}{}", item.owner, item.path)).await?;
        // Some register again when their menu is another one.
        self.items.send_if_modified(|items| {
            let new = !items.contains(&item);
            if new {
                items.push(item);
            }
            new
        });
        Ok(())
    }

    #[allow(clippy::unused_self)]
    fn register_status_notifier_host(&self, _service: &str) {}

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        self.items.borrow().iter().map(|item| format!("{}{}", item.owner, item.path)).collect()
    }

    #[zbus(property)]
    #[allow(clippy::unused_self)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    #[allow(clippy::unused_self)]
    fn protocol_version(&self) -> i32 {
        0
    }

    #[zbus(signal)]
    async fn status_notifier_item_registered(emitter: &SignalEmitter<'_>, item: &str) -> zbus::Result<()>;
}

/// The app's tray icon.
#[derive(Debug)]
pub struct Tray {
    item: zbus::Proxy<'static>,
    menu: zbus::Proxy<'static>,
}

/// One line of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    id: i32,
    pub label: String,
    pub enabled: bool,
    pub separator: bool,
}

impl Tray {
    async fn open(bus: &Connection, item: &Registered) -> Result<Self> {
        let proxy = |path: String, interface: &'static str| {
            let (bus, owner) = (bus.clone(), item.owner.clone());
            async move {
                zbus::proxy::Builder::new(&bus)
                    .destination(owner)?
                    .path(path)?
                    .interface(interface)?
                    .cache_properties(zbus::proxy::CacheProperties::No)
                    .build()
                    .await
            }
        };
        let item_proxy: zbus::Proxy<'static> = proxy(item.path.clone(), ITEM).await?;
        let path: OwnedObjectPath = item_proxy.get_property("Menu").await?;
        let menu = proxy(path.to_string(), MENU).await?;
        Ok(Self { item: item_proxy, menu })
    }

    /// Where the icon's picture is.
    pub async fn icon(&self) -> Result<String> {
        Ok(self.item.get_property("IconName").await?)
    }

    pub async fn entries(&self) -> Result<Vec<Entry>> {
        let children = timeout(PATIENCE, async {
            loop {
                match self.menu.call::<_, _, (u32, Node)>("GetLayout", &ALL).await {
                    Ok((_, (_, _, children))) => return anyhow::Ok(children),
                    Err(zbus::Error::MethodError(name, ..)) if name == BETWEEN_MENUS => {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        });
        children.await.context("the icon has no menu")??.into_iter().map(entry).collect()
    }

    /// The labels in order, separators left out.
    pub async fn labels(&self) -> Result<Vec<String>> {
        Ok(self
            .entries()
            .await?
            .into_iter()
            .filter(|entry| !entry.separator)
            .map(|entry| entry.label)
            .collect())
    }

    /// Waits until the first line, the state in words, is as wanted.
    pub async fn first_line(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut changes = self.menu.receive_all_signals().await?;
        let mut last = String::new();
        let reached = timeout(PATIENCE, async {
            loop {
                last = self.labels().await?.into_iter().next().unwrap_or_default();
                if wanted(&last) {
                    return anyhow::Ok(());
                }
                changes.next().await.context("the menu is gone")?;
            }
        })
        .await;
        match reached {
            Ok(done) => done.map(|()| last),
            Err(_) => bail!("the tray still says “{last}”"),
        }
    }

    /// Waits until the app has left the bus, which is when its process has ended.
    pub async fn gone(&self) -> Result<()> {
        let bus = self.item.connection();
        let owner = self.item.destination().to_string();
        let names = zbus::fdo::DBusProxy::new(bus).await?;
        let mut left = names.receive_name_owner_changed_with_args(&[(0, &owner)]).await?;
        if names.name_has_owner(owner.as_str().try_into()?).await? {
            timeout(PATIENCE, left.next()).await.context("the app is still there")?;
        }
        Ok(())
    }

    /// Clicks the item with this label; once more if the menu was replaced between looking and clicking.
    pub async fn click(&self, label: &str) -> Result<()> {
        let clicked = async {
            loop {
                let entries = self.entries().await?;
                let Some(entry) = entries.iter().find(|entry| entry.label == label && entry.enabled) else {
                    bail!("nothing called “{label}” can be clicked in {entries:?}");
                };
                if self.heard_click(entry.id).await? {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        timeout(PATIENCE, clicked).await.context("no click is heard")?
    }

    /// Whether the app has an item of this number now, which it then takes to be clicked.
    pub async fn heard_click(&self, number: i32) -> Result<bool> {
        match self.menu.call_method("Event", &(number, "clicked", Value::I32(0), 0_u32)).await {
            // An app that quits may be gone before it answers.
            Err(zbus::Error::MethodError(name, ..)) if name == "org.freedesktop.DBus.Error.NoReply" => {
                Ok(true)
            }
            Err(zbus::Error::MethodError(name, ..))
                if name == BETWEEN_MENUS || name.to_ascii_lowercase().starts_with(NO_SUCH_ITEM) =>
            {
                Ok(false)
            }
            answer => Ok(answer.map(|_| true)?),
        }
    }
}

type Node = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

fn entry(node: OwnedValue) -> Result<Entry> {
    let (id, mut properties, _) = Node::try_from(node)?;
    let mut text = |name: &str| -> Result<Option<String>> {
        Ok(properties.remove(name).map(String::try_from).transpose()?)
    };
    // An underscore marks a key; two are one.
    let label =
        text("label")?.unwrap_or_default().replace("__", "\u{0}").replace('_', "").replace('\u{0}', "_");
    let separator = text("type")?.as_deref() == Some("separator");
    let enabled = properties.remove("enabled").map(bool::try_from).transpose()?.unwrap_or(true);
    Ok(Entry { id, label, enabled, separator })
}
