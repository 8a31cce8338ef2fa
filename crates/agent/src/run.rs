//! The agent at work: it listens to the broker, does what verified messages ask, and tells the devices what they need to
//! know. Every answer goes out after the disk has what it says.

mod handoffs;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use valetkey_handoff::message::{Enrolled, Receipt};
use valetkey_handoff::{Digest, InviteId, Presence, Thumbprint};
use valetkey_link::{Delivery, Event, Events, Link, Publish, Retain, Settings, SettingsError, try_once};

use crate::account_file::Verdict;
use crate::agent::{Agent, Shared};
use crate::arrivals::Arrivals;
use crate::audit::{Event as Audited, Known};
use crate::health::Update;
use crate::inbox::{self, Incoming, Refused};
use crate::registry::{BrokerAccounts, Device, Enrolment, EnrolmentRefused};
use crate::status::LinkStatus;
use crate::tell::{Voice, refused};

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
        let arrivals = Mutex::default();
        let desk = Desk {
            shared: &self.0,
            voice: Voice { shared: &self.0, link: &link },
            accounts: &*accounts,
            arrivals: &arrivals,
        };
        desk.begin().await;
        tokio::select! {
            () = self.0.tokens.keep_fresh(&stop) => {}
            () = desk.work(&mut events, &mut updates, &stop) => {}
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
}

impl Desk<'_> {
    /// What a restart may have interrupted: credentials of devices, and first refreshes.
    async fn begin(&self) {
        self.end_lapsed_invites().await;
        for device in self.shared.registry.devices() {
            if let Err(problem) = self.accounts.enrolled(&device.invite, &device.id()).await {
                tracing::error!(device = %device.id(), %problem, "a device has no way into the broker");
            }
        }
        for facts in self.shared.vault.live() {
            if facts.seen.values().any(|seen| seen.verdict == Verdict::Pending) {
                self.shared.tokens.prove(facts.account);
            }
        }
    }

    async fn work(
        &self,
        events: &mut Events,
        updates: &mut broadcast::Receiver<Update>,
        stop: &CancellationToken,
    ) {
        let mut greeted = false;
        let clock = &self.shared.clock;
        let mut heartbeat = clock.deadline(clock.now() + self.shared.heartbeat);
        loop {
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
                    self.end_lapsed_invites().await;
                }
            }
        }
    }

    /// Nobody needs the broker credential of an invite that nobody used, or whose device was removed.
    async fn end_lapsed_invites(&self) {
        for invite in self.shared.registry.lapsed(self.shared.clock.now()) {
            let invited = self.shared.registry.invited(&invite);
            let (expires_at, used) = invited
                .map_or((None, false), |invited| (Some(invited.expires_at), invited.used_by.is_some()));
            if let Err(problem) = self.accounts.revoke(&invite).await {
                tracing::error!(%invite, %problem, "the broker credential of an invite that is over could not be ended");
            } else if let Err(problem) = self.shared.registry.end(&invite) {
                tracing::error!(%invite, %problem, "the end of an invite could not be noted");
            } else if !used {
                self.shared.audit.record(Audited::InviteExpired { invite, expires_at });
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
            Ok(Incoming::Enrol(invite, enrolment)) => self.enrol(&invite, *enrolment, now).await,
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

    async fn enrol(&self, invite: &InviteId, asked: valetkey_handoff::Enrolment, now: Timestamp) -> bool {
        let keys = asked.device.clone();
        let enrolment = self.shared.registry.enrol(invite, asked.device, asked.enroll.device_name, now);
        if let Ok(enrolment) = &enrolment {
            let events = Audited::of_enrolment(invite, &keys.thumbprint(), enrolment);
            if matches!(enrolment, Enrolment::Refused(_)) {
                self.shared.audit.refused(&Known::Invite(invite.clone()), events);
            } else {
                for event in events {
                    self.shared.audit.record(event);
                }
            }
        }
        match enrolment {
            Ok(Enrolment::Paired(device) | Enrolment::Again(device)) => {
                self.heard(&device, now);
                self.open_way(invite, &device.id()).await;
                tracing::info!(device = %device.id(), name = %device.name, "a device is paired");
                let agent_name = self.shared.identity.name.clone();
                self.voice.send(&device, &Enrolled { agent_name, terms: device.terms.clone() }.into(), now);
                self.shared.announcer.tell(Update::Paired { device: device.id() });
            }
            Ok(Enrolment::Refused(why)) => {
                tracing::warn!(invite = %invite, device = %keys.thumbprint(), reason = why.code(), "a device was not paired");
                if why != EnrolmentRefused::Unknown {
                    // It proved that it holds the invite; what it may read is sealed to itself.
                    self.open_way(invite, &keys.thumbprint()).await;
                    let body = Receipt {
                        of: asked.header.jti,
                        generation: asked.header.generation,
                        account: None,
                        outcome: refused(why.code()),
                    };
                    self.voice.send_to(&keys, &body.into(), now);
                }
            }
            Err(problem) => {
                tracing::error!(%problem, "a device could not be stored");
                return !problem.may_pass();
            }
        }
        true
    }

    /// First the way in, then the answer that goes over it.
    async fn open_way(&self, invite: &InviteId, device: &Thumbprint) {
        if let Err(problem) = self.accounts.enrolled(invite, device).await {
            tracing::error!(%device, %problem, "a device has no way into the broker");
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
