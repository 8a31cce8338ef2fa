//! Taking connections, a bounded number of them for a bounded time, until told to stop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::Callback;
use super::answer::answer;
use super::desk::Desk;
use super::ports::TokioListeners;

/// A browser opens six to one host. When all are in use, the oldest that has asked for nothing makes room.
const MAX_CONNECTIONS: usize = 64;
/// Browsers open connections on suspicion and ask later; they open another if this one has gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For the request line and headers. A callback is some KiB, but the browser also sends the cookies of everything that
/// has ever run on `localhost`, on whatever port.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// Headers, form, verification and sending, each within its own limit, are done by then.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(150);
/// When the system has no more descriptors, asking again at once only heats the machine.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Ends when `stop` is sent or dropped, once the last page is shown. Ending closes everything.
pub(super) async fn serve(
    listeners: TokioListeners,
    desk: Arc<Desk>,
    callbacks: mpsc::Sender<Callback>,
    stop: oneshot::Receiver<()>,
) {
    let mut room = Room::default();
    let finished = async {
        let _ = stop.await;
        desk.last_page().await;
    };
    tokio::pin!(finished);
    loop {
        tokio::select! {
            () = &mut finished => return,
            Some(_) = room.tasks.join_next() => {}
            accepted = listeners.accept() => match accepted {
                Ok(stream) => room.admit(stream, &desk, &callbacks),
                Err(error) => {
                    tracing::debug!(%error, "a connection to the sign-in listener could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

#[derive(Default)]
struct Room {
    tasks: JoinSet<()>,
    guests: VecDeque<Guest>,
}

struct Guest {
    task: AbortHandle,
    /// A whole request has come: not to be sent away.
    asked: Arc<AtomicBool>,
}

impl Room {
    fn admit(&mut self, stream: TcpStream, desk: &Arc<Desk>, callbacks: &mpsc::Sender<Callback>) {
        self.guests.retain(|guest| !guest.task.is_finished());
        if self.guests.len() >= MAX_CONNECTIONS {
            let idle = self.guests.iter().position(|guest| !guest.asked.load(Ordering::Relaxed));
            // Without one, it is the new one that is dropped.
            let Some(guest) = idle.and_then(|place| self.guests.remove(place)) else { return };
            guest.task.abort();
        }
        let asked = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(converse(stream, desk.clone(), callbacks.clone(), asked.clone()));
        self.guests.push_back(Guest { task, asked });
    }
}

/// One request, and the connection is closed: nothing is left open when the listener stops.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    desk: Arc<Desk>,
    callbacks: mpsc::Sender<Callback>,
    asked: Arc<AtomicBool>,
) {
    let is_page = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let (desk, callbacks, is_page) = (&desk, &callbacks, &is_page);
        async move {
            let (answer, page) = answer(request, desk, callbacks).await;
            is_page.store(page, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let whole = matches!(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await, Ok(Ok(())));
    if whole && is_page.load(Ordering::Relaxed) {
        desk.page_was_shown();
    }
}
