//! A real GNOME keyring of one's own, which can be locked and unlocked.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zbus::Connection;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

use super::PATIENCE;

const SERVICE: &str = "org.freedesktop.secrets";
const PASSWORD: &[u8] = b"practice";

#[derive(Debug)]
pub struct Keyring {
    bus: Connection,
    daemon: Child,
}

impl Keyring {
    pub(super) async fn start(
        bus: Connection,
        environment: &[(&'static str, String)],
        home: &Path,
    ) -> Result<Self> {
        let names = zbus::fdo::DBusProxy::new(&bus).await?;
        let mut owners = names.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await?;
        let daemon = daemon(environment, &home.join("run/keyring")).await?;
        timeout(PATIENCE, owners.next()).await.context("the keyring does not get ready")?;
        Ok(Self { bus, daemon })
    }

    /// Ends it, and waits until it has left the bus.
    pub(super) async fn stop(mut self) -> Result<()> {
        let names = zbus::fdo::DBusProxy::new(&self.bus).await?;
        let mut owners = names.receive_name_owner_changed_with_args(&[(0, SERVICE), (2, "")]).await?;
        self.daemon.kill().await?;
        timeout(PATIENCE, owners.next()).await.context("the keyring is still there")?;
        Ok(())
    }

    /// Locks every collection, as after the screen was locked.
    pub async fn lock(&self) -> Result<()> {
        let service = self.service().await?;
        let collections: Vec<OwnedObjectPath> = service.get_property("Collections").await?;
        let _: (Vec<OwnedObjectPath>, OwnedObjectPath) = service.call("Lock", &(collections,)).await?;
        Ok(())
    }

    /// Unlocks them with the password, as the desktop's own log-in does: its interface for that takes no prompt.
    pub async fn unlock(&self) -> Result<()> {
        let service = self.service().await?;
        let collections: Vec<OwnedObjectPath> = service.get_property("Collections").await?;
        let (_, session): (OwnedValue, OwnedObjectPath) =
            service.call("OpenSession", &("plain", Value::from(""))).await?;
        let internal =
            self.at(service.path(), "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface").await?;
        for collection in collections {
            let password = (&session, [0_u8; 0].as_slice(), PASSWORD, "text/plain");
            let _: () = internal.call("UnlockWithMasterPassword", &(&collection, password)).await?;
        }
        Ok(())
    }

    /// Waits until something is kept in it.
    pub async fn wait_for_entry(&self) -> Result<()> {
        let rule = zbus::MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface("org.freedesktop.Secret.Collection")?
            .member("ItemCreated")?
            .build();
        let mut created = zbus::MessageStream::for_match_rule(rule, &self.bus, None).await?;
        if self.entries().await?.is_empty() {
            timeout(PATIENCE, created.next()).await.context("nothing was put in the keyring")?;
        }
        Ok(())
    }

    /// Labels of everything that is kept in it.
    pub async fn entries(&self) -> Result<Vec<String>> {
        let service = self.service().await?;
        let collections: Vec<OwnedObjectPath> = service.get_property("Collections").await?;
        let mut labels = Vec::new();
        for collection in collections {
            let items: Vec<OwnedObjectPath> = self
                .at(&collection, "org.freedesktop.Secret.Collection")
                .await?
                .get_property("Items")
                .await?;
            for item in items {
                labels
                    .push(self.at(&item, "org.freedesktop.Secret.Item").await?.get_property("Label").await?);
            }
        }
        Ok(labels)
    }

    async fn service(&self) -> Result<zbus::Proxy<'_>> {
        let path = ObjectPath::try_from("/org/freedesktop/secrets")?;
        self.at(&path, "org.freedesktop.Secret.Service").await
    }

    async fn at(&self, path: &ObjectPath<'_>, interface: &'static str) -> Result<zbus::Proxy<'_>> {
        Ok(zbus::proxy::Builder::new(&self.bus)
            .destination(SERVICE)?
            .path(path.to_owned())?
            .interface(interface)?
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?)
    }
}

/// Runs the keyring program with the password on its input, which makes and opens the first collection.
async fn daemon(environment: &[(&'static str, String)], control: &Path) -> Result<Child> {
    let mut program = Command::new("gnome-keyring-daemon")
        .args(["--foreground", "--unlock", "--components=secrets"])
        .arg(format!("--control-directory={}", control.display()))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("gnome-keyring-daemon could not be started (package gnome-keyring)")?;
    let mut input = program.stdin.take().context("no input")?;
    input.write_all(PASSWORD).await?;
    Ok(program)
}
