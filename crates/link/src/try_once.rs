//! One try, for whoever looks for a fault.

use std::time::Duration;

use crate::link::{Event, Link};
use crate::problem::Problem;
use crate::settings::{Settings, SettingsError};

/// What the first connection came to, given up after `limit`. It listens to what the settings name and acknowledges
/// nothing, so what the broker has kept comes again; nobody is told of it by a birth or a last will. Whoever is connected
/// under the same client id is thrown out.
pub async fn try_once(settings: Settings, limit: Duration) -> Result<Result<(), Problem>, SettingsError> {
    let (link, mut events) = Link::start(Settings { birth: None, last_will: None, ..settings })?;
    let first = async {
        loop {
            match events.next().await {
                Some(Event::Up { .. }) => return Ok(()),
                Some(Event::Down { problem, .. }) => return Err(problem),
                Some(_) => {}
                None => return Err(Problem::Unreachable),
            }
        }
    };
    let came = tokio::time::timeout(limit, first).await.unwrap_or(Err(Problem::Unreachable));
    link.stop().await;
    Ok(came)
}
