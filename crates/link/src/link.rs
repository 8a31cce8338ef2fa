//! The handle that the owner of a connection holds, and what comes out of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::plan::Plan;
use crate::problem::Problem;
use crate::queue::{PublishError, PublishId, Queue};
use crate::run::run;
use crate::session::{v5, v311};
use crate::settings::{Publish, Retain, Settings, SettingsError, Version};

/// Events waiting for a slow owner. Beyond this nothing more is read from the broker, which keeps the rest.
const EVENTS_BUFFERED: usize = 64;

/// What a link has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Connected and subscribed. Without `session_present` the broker has kept nothing from before. It comes once more when a
    /// subscription that was refused is granted after all: what was said there until then is lost.
    Up { session_present: bool },
    /// Not connected; the next try begins after `retry_in`.
    Down { problem: Problem, retry_in: Duration },
    /// A message on a topic that was subscribed. It may come before `Up` when the broker had kept it.
    Message(Delivery),
    /// The broker has taken the message; that says nothing of who received it, or of a disk.
    Published { id: PublishId, topic: String },
    /// The broker did not allow a publish (`id`; MQTT 5 only) or a subscription (`None`, after `Up`), or found it too large.
    /// A subscription is asked for again.
    Refused { topic: String, id: Option<PublishId> },
}

/// An incoming message. The broker delivers it again on a later connection until it is given to [`Link::ack`]; on the same
/// one it does not, and waits: [`Link::give_back`] is for what cannot be kept now.
#[derive(Debug)]
#[must_use = "a delivery that is neither acknowledged nor given back holds up those behind it"]
pub struct Delivery {
    pub topic: String,
    pub payload: Vec<u8>,
    /// From the broker's store, not published just now.
    pub retained: bool,
    pub(crate) connection: u64,
    pub(crate) packet: u16,
}

/// A connection that is kept up. Clones are the same link. When the last one is dropped the connection is cut off
/// and the broker publishes the last will; [`Link::stop`] is the polite way.
#[derive(Clone, Debug)]
pub struct Link(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    _abandon_on_drop: DropGuard,
}

/// The receiving end. It must be read: a full buffer stops the connection.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Link {
    /// Begins connecting. Fails only for settings that no network could make right. Needs a tokio runtime.
    pub fn start(settings: Settings) -> Result<(Self, Events), SettingsError> {
        let version = settings.version;
        let plan = Plan::new(settings)?;
        let (sender, receiver) = mpsc::channel(EVENTS_BUFFERED);
        let shared = Arc::new(Shared::new(plan.settings.max_packet));
        let done = shared.done.clone().drop_guard();
        let task = Arc::clone(&shared);
        match version {
            Version::V5 => tokio::spawn(run::<v5::V5>(plan, task, sender, done)),
            Version::V311 => tokio::spawn(run::<v311::V311>(plan, task, sender, done)),
        };
        let abandon = shared.abandoned.clone().drop_guard();
        Ok((Self(Arc::new(Owner { shared, _abandon_on_drop: abandon })), Events(receiver)))
    }

    /// Queues a message with QoS 1; it is sent, again if need be, until the broker has acknowledged it. The queue
    /// is in memory only and may deliver twice.
    pub fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Vec<u8>>,
        retain: Retain,
    ) -> Result<PublishId, PublishError> {
        let shared = &self.0.shared;
        if shared.stop.is_cancelled() || shared.done.is_cancelled() {
            return Err(PublishError::Stopped);
        }
        let id = shared.queue().push(Publish::new(topic, payload, retain), shared.max_packet)?;
        shared.work.notify_one();
        Ok(id)
    }

    /// Takes back whatever the broker has not acknowledged, for whoever knows better what to send on the next connection.
    /// Of what was taken back nothing is told any more.
    pub fn withdraw_all(&self) {
        self.0.shared.queue().clear();
    }

    /// Tells the broker that the message is safe here. After a reconnect it does nothing: the broker delivers the
    /// message again, and that delivery is to be acknowledged.
    #[allow(clippy::needless_pass_by_value, reason = "taken, so that none is acknowledged twice")]
    pub fn ack(&self, delivery: Delivery) {
        let Delivery { connection, packet, .. } = delivery;
        self.0.shared.acknowledge(connection, packet);
    }

    /// Ends the connection, so that the broker delivers the message again on the next one, after the usual wait. It does not
    /// deliver again on the same connection, and after some messages without an acknowledgement it delivers nothing more.
    /// After a reconnect this does nothing: the broker has been asked again already.
    #[allow(clippy::needless_pass_by_value, reason = "taken, so that it is not acknowledged as well")]
    pub fn give_back(&self, delivery: Delivery) {
        self.0.shared.give_back(delivery.connection);
    }

    /// Ends a wait before the next try, when there is reason to believe that it will work now.
    pub fn retry_now(&self) {
        self.0.shared.retry.notify_one();
    }

    /// Publishes the last will in an orderly way, disconnects, and returns within a second.
    pub async fn stop(&self) {
        self.0.shared.stop.cancel();
        self.0.shared.done.cancelled().await;
    }
}

impl Events {
    /// The next event; `None` once the link is stopped.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// What handle and task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    acks: Mutex<Vec<u16>>,
    /// Something that came on the present connection is to be delivered again.
    given_back: AtomicBool,
    /// The number of the present connection; acknowledgements of an earlier one are void.
    connection: AtomicU64,
    max_packet: u32,
    /// Something was put into `queue` or `acks`.
    pub(crate) work: Notify,
    pub(crate) retry: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) abandoned: CancellationToken,
    pub(crate) done: CancellationToken,
}

impl Shared {
    pub(crate) fn new(max_packet: u32) -> Self {
        Self {
            queue: Mutex::default(),
            acks: Mutex::default(),
            given_back: AtomicBool::new(false),
            connection: AtomicU64::new(0),
            max_packet,
            work: Notify::new(),
            retry: Notify::new(),
            stop: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            done: CancellationToken::new(),
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acks(&self) -> MutexGuard<'_, Vec<u16>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, unless the link ends meanwhile; `false` then.
    pub(crate) async fn emit(&self, events: &mpsc::Sender<Event>, event: Event) -> bool {
        tokio::select! {
            sent = events.send(event) => sent.is_ok(),
            () = self.stop.cancelled() => false,
            () = self.abandoned.cancelled() => false,
        }
    }

    /// Void acknowledgements and a queue that starts at its front: what a new connection begins with.
    pub(crate) fn begin_connection(&self) -> u64 {
        let mut acks = self.acks();
        acks.clear();
        self.given_back.store(false, Ordering::Relaxed);
        self.queue().rewind();
        self.connection.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn acknowledge(&self, connection: u64, packet: u16) {
        // Compared under the lock, so that none slips in while a new connection begins.
        let mut acks = self.acks();
        // A QoS 0 message has no packet id and wants no acknowledgement.
        if packet != 0 && connection == self.connection.load(Ordering::Relaxed) {
            acks.push(packet);
            self.work.notify_one();
        }
    }

    pub(crate) fn give_back(&self, connection: u64) {
        // Under the same lock, for the same reason.
        let _acks = self.acks();
        if connection == self.connection.load(Ordering::Relaxed) {
            self.given_back.store(true, Ordering::Relaxed);
            self.work.notify_one();
        }
    }

    pub(crate) fn is_given_back(&self) -> bool {
        self.given_back.load(Ordering::Relaxed)
    }

    /// Hands each waiting acknowledgement to `send` until it takes no more.
    pub(crate) fn drain_acks(&self, mut send: impl FnMut(u16) -> bool) {
        let mut acks = self.acks();
        let taken = acks.iter().take_while(|packet| send(**packet)).count();
        acks.drain(..taken);
    }
}
