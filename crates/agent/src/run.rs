//! The agent at work: it listens to the broker, does what verified messages ask, and tells the devices what they need to
//! know. Every answer goes out after the disk has what it says.

mod handoffs;
mod ways;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use valetkey_handoff::{Digest, Presence};
use valetkey_link::{Delivery, Event, Events, Link, Publish, Retain, Settings, SettingsError, try_once};

use crate::agent::{Agent, Shared};
use crate::arrivals::Arrivals;
use crate::health::Update;
use crate::inbox::{self, Incoming, Refused};
use crate::registry::{BrokerAccounts, Device};
use crate::status::LinkStatus;
use crate::tell::{Voice, refused};
use ways::{Answer, MAX_ANSWERS};

impl Agent {
    /// Listens, refreshes and tells until `stop` is cancelled; then ends in order: a refresh that has begun is saved.
    ///
    /// `settings` say where the broker is and as whom; subscriptions, birth and last will are filled in here.
    pub async fn run(
        &self,
        settings: Settings,
        accounts: Arc<dyn BrokerAccounts>,
        stop: CancellationToken,
    ) -> Result<(), SettingsError> {
        // Before anything can happen that a device must hear of.
        let mut updates = self.updates();
        let (link, mut events) = Link::start(self.with_topics(settings))?;
        self.0.set_link(LinkStatus::Connecting);
        let (arrivals, look_for_lapsed) = (Mutex::default(), Notify::new());
        let (answers, waiting) = mpsc::channel(MAX_ANSWERS);
        let desk = Desk {
            shared: &self.0,
            voice: Voice { shared: &self.0, link: &link },
            accounts: &*accounts,
            arrivals: &arrivals,
            answers: &answers,
            look_for_lapsed: &look_for_lapsed,
        };
        desk.prove_pending();
        let work = desk.work(&mut events, &mut updates, &stop);
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            // It was told to stop; what is being stored is still noted down and acknowledged.
            () = self.0.tokens.keep_fresh(&stop) => work.await,
            () = desk.keep_ways(waiting) => {}
        }
        link.stop().await;
        self.0.tokens.finish().await;
        self.0.set_link(LinkStatus::Stopped);
        Ok(())
    }

    /// One try at the broker, for whoever looks for a fault while [`Agent::run`] does not. It hears nothing and tells
    /// nobody: what the broker has kept for this agent, it keeps.
    pub async fn try_broker(
        &self,
        settings: Settings,
        limit: Duration,
    ) -> Result<Result<(), valetkey_link::Problem>, SettingsError> {
        try_once(self.with_topics(settings), limit).await
    }

    fn with_topics(&self, mut settings: Settings) -> Settings {
        let topics = &self.0.topics;
        let presence =
            |what: Presence| Publish::new(topics.presence(topics.agent()), what.as_bytes(), Retain::Yes);
        settings.subscriptions = vec![topics.all_inboxes(), topics.all_enrolls()];
        settings.birth = Some(presence(Presence::Online));
        settings.last_will = Some(presence(Presence::Offline));
        settings
    }
}

impl Shared {
    fn set_link(&self, status: LinkStatus) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = status.clone();
        self.announcer.tell(Update::Link(status));
    }
}

/// One run of an agent.
#[derive(Clone, Copy)]
struct Desk<'a> {
    shared: &'a Shared,
    voice: Voice<'a>,
    accounts: &'a dyn BrokerAccounts,
    arrivals: &'a Mutex<Arrivals>,
    /// To devices whose way is to be opened first.
    answers: &'a mpsc::Sender<Answer>,
    look_for_lapsed: &'a Notify,
}

impl Desk<'_> {
    /// First refreshes that a restart may have interrupted.
    fn prove_pending(&self) {
        for facts in self.shared.vault.live() {
            if facts.is_trying(&facts.device) {
                self.shared.tokens.prove(facts.account);
            }
        }
    }

    /// Ends between two messages when it is told to stop: none is left half done.
    async fn work(
        &self,
        events: &mut Events,
        updates: &mut broadcast::Receiver<Update>,
        stop: &CancellationToken,
    ) {
        let mut greeted = false;
        let clock = &self.shared.clock;
        let mut heartbeat = clock.deadline(clock.now() + self.shared.heartbeat);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    None => return,
                    Some(Event::Up { session_present }) => {
                        tracing::info!(session_present, "connected to the broker");
                        self.shared.set_link(LinkStatus::Up { since: self.shared.clock.now() });
                        // After a restart, or if the broker forgot what was queued, say again how things are.
                        if !std::mem::replace(&mut greeted, true) || !session_present {
                            self.voice.tell_all();
                        }
                    }
                    Some(Event::Down { problem, retry_in }) => self.went_down(&problem.to_string(), retry_in),
                    Some(Event::Message(delivery)) => self.receive(delivery).await,
                    Some(Event::Refused { topic, .. }) => {
                        tracing::warn!(topic, "the broker does not allow this agent to use a topic");
                    }
                    Some(_) => {}
                },
                update = updates.recv() => match update {
                    Ok(update) => {
                        if let Update::Settled(settled) = &update {
                            self.settled(settled);
                        }
                        self.voice.pass_on(&update);
                    }
                    Err(RecvError::Lagged(_)) => self.voice.tell_all(),
                    Err(RecvError::Closed) => return,
                },
                () = clock.comes(&heartbeat) => {
                    heartbeat = clock.deadline(clock.now() + self.shared.heartbeat);
                    self.voice.tell_all();
                    self.look_for_lapsed.notify_one();
                }
            }
        }
    }

    /// One line per outage, not per attempt.
    fn went_down(&self, problem: &str, retry_in: Duration) {
        if let LinkStatus::Down { problem: known, .. } =
            &mut *self.shared.link.lock().unwrap_or_else(PoisonError::into_inner)
        {
            problem.clone_into(known);
            return;
        }
        tracing::warn!(problem, ?retry_in, "not connected to the broker");
        let since = self.shared.clock.now();
        self.shared.set_link(LinkStatus::Down { since, problem: problem.to_owned() });
    }

    async fn receive(&self, delivery: Delivery) {
        let shared = self.shared;
        let now = shared.clock.now();
        let read = inbox::read(
            &shared.topics,
            &shared.registry,
            &shared.identity.keys,
            &delivery.topic,
            &delivery.payload,
            now,
        );
        let safe = match read {
            Ok(Incoming::Hello(device, hello)) => {
                self.heard(&device, now);
                self.voice.answer(&device, hello);
                true
            }
            Ok(Incoming::Cache(device, mark, body)) => {
                self.heard(&device, now);
                self.take_in(&device, mark, &body, now).await
            }
            Ok(Incoming::Disconnect(device, mark, body)) => {
                self.heard(&device, now);
                self.disconnect(&device, mark, body.account, now).await
            }
            Ok(Incoming::Access(device, mark, body)) => {
                self.heard(&device, now);
                // Switches for single programs are not kept by this version; it must not look as if they were.
                self.voice.receipt(&device, &mark, Some(body.account), refused("unsupported"));
                true
            }
            Ok(Incoming::Enrol(invite, enrolment)) => self.enrol(&invite, *enrolment, now),
            Err(refused) => {
                self.set_aside(&delivery, &refused, now);
                true
            }
        };
        if safe {
            self.voice.link.ack(delivery);
        } else {
            // Only kept, it would take up one of the few places that the broker has for what waits for us, until there is
            // none left.
            self.voice.link.give_back(delivery);
        }
    }

    /// Keeps what was refused for the operator. It came from anybody, so it is answered by nothing, and costs little.
    fn set_aside(&self, delivery: &Delivery, refused: &Refused, now: Timestamp) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        let digest = || Digest::of(&delivery.payload).to_string();
        self.shared.audit.message_refused(&refused.to_string(), digest, now);
        let told = self.shared.evidence.lock().unwrap_or_else(PoisonError::into_inner).tell(now);
        let Some(untold) = told else { return };
        tracing::warn!(topic = delivery.topic, reason = %refused, untold, "a message was refused");
        let cut = delivery.payload.len().min(valetkey_handoff::MAX_MESSAGE_BYTES);
        if let Err(problem) = self.shared.dir.quarantine_message(&digest(), &delivery.payload[..cut], now) {
            tracing::error!(%problem, "a refused message could not be set aside");
        }
        self.shared.announcer.tell(Update::MessageRefused { reason: refused.to_string() });
    }

    fn heard(&self, device: &Device, now: Timestamp) {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(device.id(), now);
    }
}
