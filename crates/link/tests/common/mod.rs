//! Links to real brokers, and waiting for what comes out of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "helpers; not every test file needs each"
)]

use std::time::Duration;

use valetkey_link::{Delivery, Event, Events, Link, Problem, Proxy, PublishId, Settings, Version};
use valetkey_tests::broker::{Broker, BrokerOptions, User};

/// Far above what any test needs on a slow machine; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn settings(broker: &Broker, client_id: &str) -> Settings {
    let mut settings = Settings::new(&broker.url(), client_id).unwrap();
    settings.ca_file = broker.ca_file();
    settings.proxy = Proxy::Off;
    settings
}

pub fn subscribed(broker: &Broker, client_id: &str, filter: &str) -> Settings {
    let mut settings = settings(broker, client_id);
    settings.subscriptions = vec![filter.into()];
    settings
}

pub async fn connect(settings: Settings) -> (Link, Events) {
    let (link, mut events) = Link::start(settings).unwrap();
    up(&mut events).await;
    (link, events)
}

pub async fn persistent_broker() -> Broker {
    Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() }).await.unwrap()
}

/// A broker where `ana` may write below `ana/` and read everything.
pub async fn broker_of_ana() -> Broker {
    let users = vec![User::new("ana", "right", &["topic readwrite ana/#", "topic read #"])];
    Broker::start(BrokerOptions { users, ..BrokerOptions::default() }).await.unwrap()
}

/// The first event that `pick` takes; others are passed over.
pub async fn wait<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let mut passed = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let event = events.next().await.expect("the link ended");
            passed.push(format!("{event:?}").chars().take(120).collect::<String>());
            if let Some(found) = pick(event) {
                return found;
            }
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("waited in vain; came: {passed:#?}"))
}

/// Waits until connected, and tells whether the broker had kept the session.
pub async fn up(events: &mut Events) -> bool {
    wait(events, |event| match event {
        Event::Up { session_present } => Some(session_present),
        _ => None,
    })
    .await
}

pub async fn down(events: &mut Events) -> Problem {
    wait(events, |event| match event {
        Event::Down { problem, .. } => Some(problem),
        _ => None,
    })
    .await
}

pub async fn message(events: &mut Events) -> Delivery {
    wait(events, |event| match event {
        Event::Message(delivery) => Some(delivery),
        _ => None,
    })
    .await
}

/// Waits until the broker has acknowledged this publish.
pub async fn published(events: &mut Events, wanted: PublishId) {
    wait(events, |event| match event {
        Event::Published { id, .. } if id == wanted => Some(()),
        _ => None,
    })
    .await;
}

/// The first problem a link with these settings meets.
pub async fn first_problem(settings: Settings) -> Problem {
    let (_link, mut events) = Link::start(settings).unwrap();
    wait(&mut events, |event| match event {
        Event::Down { problem, .. } => Some(problem),
        Event::Up { .. } => panic!("it connected"),
        _ => None,
    })
    .await
}

pub const BOTH: [Version; 2] = [Version::V5, Version::V311];
