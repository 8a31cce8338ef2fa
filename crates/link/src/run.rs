//! The task behind a link: connect, serve the connection, wait, connect again.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use crate::backoff::{next_attempt, retry_delay};
use crate::connection::{Connection, End};
use crate::link::{Event, Shared};
use crate::plan::Plan;
use crate::session::Session;

pub(crate) async fn run<S: Session>(
    plan: Plan,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    done: DropGuard,
) {
    let mut attempt = None;
    loop {
        let mut connection = Connection::new(&plan, &shared, &events);
        let End::Lost(problem) = connection.serve::<S>().await else { break };
        let number = next_attempt(attempt, connection.up_for());
        attempt = Some(number);
        let retry_in = retry_delay(number, rand::random());
        tracing::debug!(%problem, ?retry_in, "broker connection down");
        if !shared.emit(&events, Event::Down { problem, retry_in }).await {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = shared.retry.notified() => {}
            () = shared.stop.cancelled() => break,
            () = shared.abandoned.cancelled() => break,
        }
    }
    drop(done);
}
