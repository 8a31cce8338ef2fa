//! Whether this desktop shows tray icons at all. Some do not; some start their panel after us.

use std::time::Duration;

use zbus::export::ordered_stream::OrderedStreamExt;

/// A panel that starts together with us at log-in has drawn itself by then.
const GRACE: Duration = Duration::from_secs(3);
const WATCHER: &str = "org.kde.StatusNotifierWatcher";

/// Whether something shows tray icons, now or within the grace.
pub async fn appears() -> bool {
    tokio::time::timeout(GRACE, wait()).await.is_ok_and(|found| found.unwrap_or(false))
}

async fn wait() -> zbus::Result<bool> {
    let bus = zbus::Connection::session().await?;
    let names = zbus::fdo::DBusProxy::new(&bus).await?;
    let mut changes = names.receive_name_owner_changed_with_args(&[(0, WATCHER)]).await?;
    if names.name_has_owner(WATCHER.try_into()?).await? {
        return Ok(true);
    }
    while let Some(change) = changes.next().await {
        if change.args()?.new_owner().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
