//! Asks the assistant how it is, as the only companion that runs.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;
use valetkey_handoff::message::State;
use valetkey_handoff::{Presence, PublicKeys, ToDevice, Topic, Topics, open};
use valetkey_link::{Clock, Delivery, Event, Events, Link, Problem, Refusal, Retain, Settings};

use super::facts::{Account, Assistant};
use crate::controller::Options;
use crate::courier;
use crate::keeper::Keeper;
use crate::state::HELLO_PATIENCE;

/// A slow proxy takes ten seconds, and a broker that does not answer is given up by the link after twenty.
const BROKER_PATIENCE: Duration = Duration::from_secs(25);

pub(super) struct Asked {
    pub problem: Option<Problem>,
    pub assistant: Assistant,
}

/// Says hello and waits for the answer to it. What the companion needs, such as a receipt, is not acknowledged: it comes again.
/// What it would only pass over is, because behind twenty of those a broker delivers no answer.
pub(super) async fn ask(keeper: &Keeper, settings: Settings, options: &Options) -> Asked {
    let failed = |problem| Asked { problem: Some(problem), assistant: Assistant::default() };
    // Nobody is told that this device is there: it is gone in a moment.
    let settings = Settings { birth: None, last_will: None, ..settings };
    let Ok((link, mut events)) = Link::start(settings) else { return failed(Problem::ProtocolError) };
    let mut listener = Listener::new(keeper, options);
    let patience = Duration::try_from(HELLO_PATIENCE).unwrap_or_default();
    let connected = listener.listen(&link, &mut events, |event| matches!(event, Event::Up { .. }));
    let mut came = timeout(BROKER_PATIENCE, connected).await.unwrap_or(Err(Problem::Unreachable));
    if came.is_ok() && listener.say_hello(&link) {
        let answered = listener.listen(&link, &mut events, |_| false);
        // Silence is not the broker's fault.
        came = timeout(patience, answered).await.unwrap_or(Ok(()));
    }
    link.stop().await;
    match came {
        Ok(()) => Asked { problem: None, assistant: listener.heard },
        Err(problem) => failed(problem),
    }
}

struct Listener<'a> {
    keeper: &'a Keeper,
    clock: &'a Clock,
    agent: PublicKeys,
    topics: Topics,
    hello: Option<Uuid>,
    heard: Assistant,
}

impl<'a> Listener<'a> {
    fn new(keeper: &'a Keeper, options: &'a Options) -> Self {
        let (agent, topics) = {
            let pairing = &keeper.kept().pairing;
            (pairing.get().agent.clone(), pairing.get().topics())
        };
        Self { keeper, clock: &options.clock, agent, topics, hello: None, heard: Assistant::default() }
    }

    fn say_hello(&mut self, link: &Link) -> bool {
        let Ok(hello) = self.keeper.hello(self.clock.now()) else { return false };
        self.hello = Some(hello.jti);
        link.publish(self.keeper.inbox_topic(), hello.text, Retain::No).is_ok()
    }

    /// Until the answer, or an event that is the `last` one wanted. Much may come before the connection is said to be up.
    async fn listen(
        &mut self,
        link: &Link,
        events: &mut Events,
        last: impl Fn(&Event) -> bool,
    ) -> Result<(), Problem> {
        while let Some(event) = events.next().await {
            let is_last = last(&event);
            match event {
                Event::Message(delivery) => self.take(delivery, link),
                // Once connected, it may be lost and come again within the time there is.
                Event::Down { problem, .. } if self.hello.is_none() => return Err(problem),
                Event::Refused { id: None, .. } => return Err(Problem::Refused(Refusal::NotAuthorized)),
                _ => {}
            }
            if is_last || self.heard.answered_at.is_some() {
                return Ok(());
            }
        }
        Err(Problem::ClosedByBroker)
    }

    fn take(&mut self, delivery: Delivery, link: &Link) {
        if self.is_done_with(&delivery.topic, &delivery.payload) {
            link.ack(delivery);
        }
    }

    /// Reads it. Whether the companion has no need of it any more.
    fn is_done_with(&mut self, topic: &str, payload: &[u8]) -> bool {
        match self.topics.parse(topic) {
            Some(Topic::Presence(who)) if who == *self.topics.agent() => {
                let said = Presence::parse(payload);
                self.heard.said_online = said.map(|presence| presence == Presence::Online);
            }
            Some(Topic::Out(device)) if device == self.keeper.keys.thumbprint() => {
                let now = self.clock.now();
                let opened = open::<ToDevice>(payload, &self.agent, &self.keeper.keys, now);
                match opened.map(|opened| opened.message) {
                    Ok(ToDevice::State(state)) => {
                        if self.hello.is_some() && state.answers == self.hello {
                            self.answered(state, now);
                        }
                    }
                    // Nobody can open it.
                    Err(_) => {}
                    Ok(_) => return false,
                }
            }
            _ => {}
        }
        true
    }

    fn answered(&mut self, state: State, now: Timestamp) {
        self.heard.answered_at = Some(now);
        self.heard.accounts = courier::accounts(state)
            .into_iter()
            .map(|one| Account { address: one.address, health: one.health, reason: one.reason })
            .collect();
    }
}
