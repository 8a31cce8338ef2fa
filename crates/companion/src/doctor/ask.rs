//! Asks the assistant how it is, as the only companion that runs.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use valetkey_handoff::message::State as Answer;
use valetkey_handoff::{Presence, ToDevice, Topic, open};
use valetkey_link::{Event, Link, Problem, Refusal, Retain, Settings};

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

/// Says hello and waits for the answer to it. Nothing is acknowledged: what the broker has kept comes again.
pub(super) async fn ask(keeper: &Keeper, settings: Settings, options: &Options) -> Asked {
    let failed = |problem| Asked { problem: Some(problem), assistant: Assistant::default() };
    // Nobody is told that this device is there: it is gone in a moment.
    let settings = Settings { birth: None, last_will: None, ..settings };
    let Ok((link, mut events)) = Link::start(settings) else { return failed(Problem::ProtocolError) };
    let up = async {
        loop {
            match events.next().await {
                Some(Event::Up { .. }) => return Ok(()),
                Some(Event::Down { problem, .. }) => return Err(problem),
                Some(Event::Refused { id: None, .. }) => {
                    return Err(Problem::Refused(Refusal::NotAuthorized));
                }
                Some(_) => {}
                None => return Err(Problem::ClosedByBroker),
            }
        }
    };
    let up = timeout(BROKER_PATIENCE, up).await.unwrap_or(Err(Problem::Unreachable));
    if let Err(problem) = up {
        link.stop().await;
        return failed(problem);
    }
    let mut assistant = Assistant::default();
    let patience = Duration::try_from(HELLO_PATIENCE).unwrap_or_default();
    let answered =
        timeout(patience, answer(keeper, &link, &mut events, &mut assistant.said_online, options)).await;
    link.stop().await;
    if let Ok(Some((state, at))) = answered {
        assistant.answered_at = Some(at);
        assistant.accounts = courier::accounts(state)
            .into_iter()
            .map(|one| Account { address: one.address, health: one.health, reason: one.reason })
            .collect();
    }
    Asked { problem: None, assistant }
}

async fn answer(
    keeper: &Keeper,
    link: &Link,
    events: &mut valetkey_link::Events,
    online: &mut Option<bool>,
    options: &Options,
) -> Option<(Answer, Timestamp)> {
    let (agent, topics) = {
        let pairing = &keeper.kept().pairing;
        (pairing.get().agent.clone(), pairing.get().topics())
    };
    let hello = keeper.hello(options.clock.now()).ok()?;
    link.publish(keeper.inbox_topic(), hello.text, Retain::No).ok()?;
    while let Some(event) = events.next().await {
        let Event::Message(delivery) = event else { continue };
        match topics.parse(&delivery.topic) {
            Some(Topic::Presence(who)) if who == *topics.agent() => {
                *online = Presence::parse(&delivery.payload).map(|presence| presence == Presence::Online);
            }
            Some(Topic::Out(device)) if device == keeper.keys.thumbprint() => {
                let now = options.clock.now();
                if let Ok(opened) = open::<ToDevice>(&delivery.payload, &agent, &keeper.keys, now)
                    && let ToDevice::State(state) = opened.message
                    && state.answers == Some(hello.jti)
                {
                    return Some((state, now));
                }
            }
            _ => {}
        }
    }
    None
}
