//! One connection to the broker, from the first packet to its end.
//!
//! It has a client of its own from the library, begun anew: what must outlive the connection is in the queue and at
//! the broker, so nothing depends on what the library keeps.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::retry_delay;
use crate::link::{Delivery, Event, Shared};
use crate::plan::{CONNECT_TIMEOUT, IN_FLIGHT, Plan};
use crate::problem::Problem;
use crate::queue::{PublishId, packet_size};
use crate::session::{Requests, Session, Signal};
use crate::topic;

/// Without a word from the broker for this many keep-alives the connection is dead: the library pings once each, and
/// may itself hang in a write to a broker that has stopped reading.
const SILENCE: f64 = 2.5;

/// [`crate::Link::stop`] promises a second.
const STOP_WITHIN: Duration = Duration::from_millis(900);

/// Why a connection ended.
pub(crate) enum End {
    Lost(Problem),
    /// Stopped, or nobody is left to tell.
    Over,
}

/// What was published on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Queued(PublishId),
    Birth,
    Farewell,
}

pub(crate) struct Connection<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    events: &'a mpsc::Sender<Event>,
    number: u64,
    /// Unacknowledged publishes allowed at once; 0 until connected.
    window: usize,
    max_packet: Option<u32>,
    session_present: bool,
    /// Handed to the library, not yet under a packet id; in order.
    requested: VecDeque<Item>,
    in_flight: HashMap<u16, Item>,
    up_since: Option<Instant>,
    /// What was asked for last, and then what of it was refused.
    subscribing: Vec<String>,
    /// When the refused ones are asked for again, and how often that was done.
    subscribe_at: Option<Instant>,
    subscribed_again: u32,
    leaving: bool,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(plan: &'a Plan, shared: &'a Shared, events: &'a mpsc::Sender<Event>) -> Self {
        Self {
            plan,
            shared,
            events,
            number: shared.begin_connection(),
            window: 0,
            max_packet: None,
            session_present: false,
            requested: VecDeque::new(),
            in_flight: HashMap::new(),
            up_since: None,
            subscribing: plan.settings.subscriptions.clone(),
            subscribe_at: None,
            subscribed_again: 0,
            leaving: false,
        }
    }

    /// How long it was up, if ever.
    pub(crate) fn up_for(&self) -> Option<Duration> {
        self.up_since.map(|since| since.elapsed())
    }

    pub(crate) async fn serve<S: Session>(&mut self) -> End {
        let (requests, mut session) = match self.open::<S>().await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        // The library has its own limit for connecting; this one is for the library.
        let mut silence = CONNECT_TIMEOUT.mul_f64(1.5);
        let mut heard = Instant::now();
        let mut leave_by = None;
        loop {
            let signal = {
                let mut poll = pin!(session.poll());
                loop {
                    if !self.send_waiting(&requests).await {
                        return End::Over;
                    }
                    if self.shared.is_given_back() && !self.leaving {
                        return End::Lost(Problem::GivenBack);
                    }
                    tokio::select! {
                        biased;
                        () = self.shared.abandoned.cancelled() => return End::Over,
                        () = self.events.closed() => return End::Over,
                        () = self.shared.stop.cancelled(), if !self.leaving => {
                            // What was acknowledged just now has its answer in the queue.
                            if !(self.send_waiting(&requests).await && self.leave(&requests)) {
                                return End::Over;
                            }
                            leave_by = Some(Instant::now() + STOP_WITHIN);
                        }
                        () = sleep_until(leave_by.unwrap_or(heard)), if leave_by.is_some() => return End::Over,
                        signal = &mut poll => break signal,
                        () = self.shared.work.notified() => {}
                        () = sleep_until(self.subscribe_at.unwrap_or(heard)), if self.subscribe_at.is_some() => {
                            self.subscribe_again(&requests);
                        }
                        () = sleep_until(heard + silence) => return End::Lost(Problem::Stalled),
                    }
                }
            };
            let signal = match signal {
                Ok(signal) => signal,
                Err(_) if self.leaving => return End::Over,
                Err(problem) => return End::Lost(problem),
            };
            if signal.is_from_broker() {
                heard = Instant::now();
            }
            if let Signal::Connected { keep_alive, .. } = signal {
                silence = keep_alive.mul_f64(SILENCE);
            }
            if !self.handle(signal, &requests).await {
                return End::Over;
            }
        }
    }

    async fn open<S: Session>(&self) -> Result<(S::Requests, S), End> {
        let proxy = self.plan.proxy().map_err(|_| End::Lost(Problem::Proxy))?;
        // The library's error for an unknown name cannot be told from others. Behind a proxy names are its business.
        if proxy.is_none() {
            let (host, port) = (self.plan.address.host.as_str(), self.plan.address.port);
            tokio::select! {
                found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))) => match found {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return Err(End::Lost(Problem::NameNotFound)),
                    Err(_) => return Err(End::Lost(Problem::Unreachable)),
                },
                () = self.shared.stop.cancelled() => return Err(End::Over),
                () = self.shared.abandoned.cancelled() => return Err(End::Over),
            }
        }
        Ok(S::open(self.plan, proxy))
    }

    /// Hands acknowledgements and as many queued messages to the library as may be in flight.
    async fn send_waiting(&mut self, requests: &impl Requests) -> bool {
        if self.window == 0 {
            return true;
        }
        self.shared.drain_acks(|packet| requests.acknowledge(packet));
        loop {
            let refused = {
                let mut queue = self.shared.queue();
                if self.leaving || self.requested.len() + self.in_flight.len() >= self.window {
                    return true;
                }
                let Some((id, publish)) = queue.next() else { return true };
                let id = *id;
                if self.max_packet.is_some_and(|max| packet_size(publish) > u64::from(max)) {
                    queue.remove(id).map(|publish| Event::Refused { topic: publish.topic, id: Some(id) })
                } else if requests.publish(publish) {
                    queue.hand_over();
                    self.requested.push_back(Item::Queued(id));
                    None
                } else {
                    return true;
                }
            };
            if let Some(event) = refused
                && !self.shared.emit(self.events, event).await
            {
                return self.shared.stop.is_cancelled();
            }
        }
    }

    /// Begins an orderly end; `false` when there is nobody to take leave of.
    fn leave(&mut self, requests: &impl Requests) -> bool {
        self.shared.drain_acks(|packet| requests.acknowledge(packet));
        self.leaving = true;
        if self.window == 0 {
            return false;
        }
        match &self.plan.settings.last_will {
            Some(will) => {
                self.requested.push_back(Item::Farewell);
                requests.publish(will)
            }
            None => requests.disconnect(),
        }
    }

    /// `false` when the link is over.
    async fn handle(&mut self, signal: Signal, requests: &impl Requests) -> bool {
        let event = match signal {
            Signal::Connected { session_present, receive_maximum, max_packet, .. } => {
                self.connected(session_present, receive_maximum, max_packet, requests)
            }
            Signal::Subscribed { granted } => return self.subscribed(&granted).await,
            Signal::Message { topic, payload, retained, packet } => {
                if self.plan.settings.subscriptions.iter().any(|filter| topic::matches(filter, &topic)) {
                    let connection = self.number;
                    Some(Event::Message(Delivery { topic, payload, retained, connection, packet }))
                } else {
                    tracing::warn!(
                        bytes = payload.len(),
                        "dropped a message on a topic that was not subscribed"
                    );
                    self.shared.acknowledge(self.number, packet);
                    None
                }
            }
            Signal::Sent { packet } => {
                if let Some(item) = self.requested.pop_front() {
                    self.in_flight.insert(packet, item);
                }
                None
            }
            Signal::Acknowledged { packet, accepted } => match self.in_flight.remove(&packet) {
                Some(Item::Queued(id)) => self.shared.queue().remove(id).map(|publish| {
                    let topic = publish.topic;
                    if accepted {
                        Event::Published { id, topic }
                    } else {
                        Event::Refused { topic, id: Some(id) }
                    }
                }),
                Some(Item::Birth) if !accepted => self
                    .plan
                    .settings
                    .birth
                    .as_ref()
                    .map(|birth| Event::Refused { topic: birth.topic.clone(), id: None }),
                Some(Item::Farewell) => return requests.disconnect(),
                Some(Item::Birth) | None => None,
            },
            Signal::Disconnected => return false,
            Signal::Heard | Signal::Wrote => None,
        };
        self.tell(event).await
    }

    fn connected(
        &mut self,
        session_present: bool,
        receive_maximum: Option<u16>,
        max_packet: Option<u32>,
        requests: &impl Requests,
    ) -> Option<Event> {
        let allowed = receive_maximum.map_or(IN_FLIGHT, |most| most.saturating_sub(1));
        self.window = usize::from(allowed.clamp(1, IN_FLIGHT));
        self.max_packet = max_packet;
        self.session_present = session_present;
        let settings = &self.plan.settings;
        // The channel is empty, so these fit.
        let subscribing = !self.subscribing.is_empty() && requests.subscribe(&self.subscribing);
        if let Some(birth) = &settings.birth
            && requests.publish(birth)
        {
            self.requested.push_back(Item::Birth);
        }
        if subscribing { None } else { Some(self.up(self.session_present)) }
    }

    /// The first answer, or one to asking again. Whatever was granted is told with an `Up`; what is still refused, after it.
    async fn subscribed(&mut self, granted: &[bool]) -> bool {
        let first = self.up_since.is_none();
        let asked = self.subscribing.len();
        let mut granted = granted.iter();
        self.subscribing.retain(|_| granted.next() == Some(&false));
        self.subscribe_at = None;
        if !self.subscribing.is_empty() {
            self.subscribe_later();
        }
        if !first && self.subscribing.len() == asked {
            return true;
        }
        let up = self.up(first && self.session_present);
        let refused = self.subscribing.clone().into_iter().map(|topic| Event::Refused { topic, id: None });
        for event in std::iter::once(up).chain(refused) {
            if !self.tell(Some(event)).await {
                return false;
            }
        }
        true
    }

    /// A broker may open a topic to somebody only when it has learnt who that is.
    fn subscribe_again(&mut self, requests: &impl Requests) {
        self.subscribe_at = None;
        if !self.leaving && !requests.subscribe(&self.subscribing) {
            self.subscribe_later();
        }
    }

    /// As rarely as one connects to a broker that refuses.
    fn subscribe_later(&mut self) {
        self.subscribe_at = Some(Instant::now() + retry_delay(self.subscribed_again, rand::random()));
        self.subscribed_again = self.subscribed_again.saturating_add(1);
    }

    fn up(&mut self, session_present: bool) -> Event {
        self.up_since.get_or_insert_with(Instant::now);
        tracing::debug!(session_present, "broker connection up");
        Event::Up { session_present }
    }

    /// While leaving, events are no longer told, and that is no reason to end at once.
    async fn tell(&self, event: Option<Event>) -> bool {
        match event {
            Some(event) => self.shared.emit(self.events, event).await || self.shared.stop.is_cancelled(),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests;
