//! The listener on this computer to which the browser brings the answer of a sign-in (RFC 8252 §7.3).
//!
//! One listener is for one sign-in and takes one answer: the first request that carries the expected `state`. Everything
//! else is refused and waited through: other paths, other hosts, forged states, connections that say nothing. The code
//! leaves the address bar at once (303 to `/done`), and `/done` shows what the caller says once it has verified.
//!
//! It knows nothing of tokens and words no page of its own.

mod answer;
mod desk;
mod parameters;
mod port_owner;
mod ports;
mod serve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oauth2::RedirectUrl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::desk::Desk;
pub use self::port_owner::Program;
use crate::secret::Secret;

/// Longest a stop takes, the last page included; what is still open then is cut off.
pub const STOP_TIMEOUT: Duration = Duration::from_millis(900);

/// A listener that waits for one callback. Dropping it stops it too, without waiting for that.
pub struct Loopback {
    redirect_uri: RedirectUrl,
    desk: Arc<Desk>,
    callbacks: mpsc::Receiver<Callback>,
    used: bool,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// The one answer of a sign-in. Dropped without [`Callback::answer`], the browser is told only that it is over.
pub struct Callback {
    pub outcome: Outcome,
    /// Who says to have answered (RFC 9207), unchecked: see [`crate::metadata::Metadata::permits_iss`].
    pub iss: Option<String>,
    state: Secret,
    page: watch::Sender<Option<Page>>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    Code(Secret),
    /// The parameters as they came, decoded but not to be believed or shown: anybody who knows the state wrote them.
    Refused {
        error: String,
        error_description: Option<String>,
        suberror: Option<String>,
    },
}

/// What the browser shows in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// A whole document; styles within it, no scripts and nothing fetched (its policy forbids both).
    pub html: String,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    #[error("port {port} is taken{}", .by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    PortTaken { port: u16, by: Option<Program> },
    #[error("no port of this computer could be listened on")]
    NoPort(#[source] std::io::Error),
    #[error("this listener has had its callback")]
    Used,
    #[error("the listener has ended by itself")]
    Ended,
}

impl Loopback {
    /// Listens on a free port, on both IPv4 and IPv6 where there is IPv6: a browser may try either for `localhost`, and
    /// another program must not have the one that we have not.
    ///
    /// To be called within a Tokio runtime with I/O and time.
    pub fn bind() -> Result<Self, LoopbackError> {
        Self::start(ports::free()?)
    }

    /// Listens on this port or says which program has it.
    pub fn bind_port(port: u16) -> Result<Self, LoopbackError> {
        Self::start(ports::fixed(port)?)
    }

    /// `http://localhost:{port}`, as MSAL writes it: Entra ignores the port of localhost, but not a path, and
    /// `http://localhost` is what is registered.
    pub fn redirect_uri(&self) -> &RedirectUrl {
        &self.redirect_uri
    }

    pub fn port(&self) -> u16 {
        self.desk.port()
    }

    /// The page for whatever is refused (a stranger's or an old address); said once, before waiting. Without it there
    /// is only the status.
    pub fn refuse_with(&self, html: impl Into<String>) {
        self.desk.refuse_with(html.into());
    }

    /// Waits for the callback that carries this state. It may be given up and called again, also with another state,
    /// which makes the earlier one void; only a callback that has been returned uses the listener up. How long to wait
    /// is the caller's to decide.
    pub async fn next(&mut self, expected_state: &Secret) -> Result<Callback, LoopbackError> {
        if self.used {
            return Err(LoopbackError::Used);
        }
        self.desk.expect(expected_state);
        loop {
            let callback = self.callbacks.recv().await.ok_or(LoopbackError::Ended)?;
            // One of an earlier state may have come in just before it was made void.
            if callback.state == *expected_state {
                self.used = true;
                return Ok(callback);
            }
        }
    }

    /// Stops within [`STOP_TIMEOUT`]: an answer given is still shown if the browser asks for it, everything else is cut
    /// off. The ports are free afterwards.
    pub async fn stop(mut self) {
        self.stop.take();
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }

    fn start(listeners: ports::Listeners) -> Result<Self, LoopbackError> {
        let port = listeners.port;
        let redirect_uri = RedirectUrl::new(format!("http://localhost:{port}"))
            .map_err(|error| LoopbackError::NoPort(std::io::Error::other(error)))?;
        let desk = Arc::new(Desk::new(port));
        // One: of a state only one callback is accepted.
        let (sender, callbacks) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve::serve(listeners.into_tokio()?, desk.clone(), sender, stopped));
        Ok(Self { redirect_uri, desk, callbacks, used: false, stop: Some(stop), task })
    }
}

/// One connection by itself, with a listener on `port` that waits for this state: the callback it brought, if any. For what
/// attacks it from inside the process.
#[doc(hidden)]
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    port: u16,
    expected_state: &Secret,
) -> Option<Callback> {
    let desk = Arc::new(Desk::new(port));
    desk.expect(expected_state);
    let (sender, mut callbacks) = mpsc::channel(1);
    serve::converse(stream, desk, sender, Arc::default()).await;
    callbacks.try_recv().ok()
}

impl Callback {
    /// Shows the browser this page, now and whenever it asks again.
    pub fn answer(self, page: Page) {
        self.page.send_replace(Some(page));
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback")
            .field("port", &self.port())
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// Neither the code nor a text that somebody else has written.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code(_) => "Code",
            Self::Refused { .. } => "Refused",
        })
    }
}
