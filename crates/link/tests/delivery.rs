//! What is delivered, when, and how often: shown with a real mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{
    BOTH, broker_of_ana, connect, down, message, persistent_broker, published, settings, subscribed, up, wait,
};
use valetkey_link::{Event, Link, Password, Problem, Retain, Version};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::fault_proxy::FaultProxy;

async fn plain_broker() -> Broker {
    Broker::start(BrokerOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_message_crosses_in_both_versions_of_the_protocol() {
    let broker = plain_broker().await;
    for version in BOTH {
        let mut listening = subscribed(&broker, "listener", "to/+");
        listening.version = version;
        let (link, mut events) = connect(listening).await;
        let mut speaking = settings(&broker, "speaker");
        speaking.version = version;
        let (speaker, mut acknowledged) = connect(speaking).await;

        let id = speaker.publish("to/you", *b"hello", Retain::No).unwrap();
        published(&mut acknowledged, id).await;
        let delivery = message(&mut events).await;
        assert_eq!((delivery.topic.as_str(), &*delivery.payload), ("to/you", &b"hello"[..]), "{version:?}");
        link.ack(delivery);
        link.stop().await;
        speaker.stop().await;
    }
}

#[tokio::test]
async fn a_message_of_200_kib_crosses_in_both_versions() {
    let broker = plain_broker().await;
    let payload: Vec<u8> = (0..200 * 1024).map(|i: u32| i.to_le_bytes()[0]).collect();
    for version in BOTH {
        let mut settings = subscribed(&broker, "large", "large");
        settings.version = version;
        let (link, mut events) = connect(settings).await;
        link.publish("large", payload.clone(), Retain::No).unwrap();
        let delivery = message(&mut events).await;
        assert_eq!(delivery.payload, payload, "{version:?}");
        link.ack(delivery);
        link.stop().await;
    }
}

/// A ping waits behind what is being sent, for longer than a keep-alive. What is acknowledged meanwhile is life enough; a
/// connection that is given up here begins again from the first byte, and again.
#[tokio::test]
async fn a_slow_line_that_moves_is_not_given_up_for_a_late_answer_to_a_ping() {
    const BITS_PER_SECOND: u32 = 32_000;
    const PAYLOAD: usize = 4000;
    let broker = plain_broker().await;
    let both = [(Version::V5, 5), (Version::V311, 4)].map(async |(version, keep_alive)| {
        let modem = FaultProxy::start(broker.port()).await.unwrap();
        let mut settings = settings(&broker, &format!("patient-{version:?}"));
        settings.url.set_port(Some(modem.port())).unwrap();
        settings.version = version;
        settings.keep_alive = Duration::from_secs(keep_alive);
        let (link, mut events) = connect(settings).await;
        modem.slow_down(BITS_PER_SECOND);
        // Three keep-alives' worth, which is no more than may be in flight at once.
        let count = 3 * usize::try_from(keep_alive).unwrap();
        let mut last = link.publish("slow", vec![0; PAYLOAD], Retain::No).unwrap();
        for _ in 1..count {
            last = link.publish("slow", vec![0; PAYLOAD], Retain::No).unwrap();
        }
        published(&mut events, last).await;
        assert_eq!(modem.connections(), 1, "{version:?}");
        link.stop().await;
    });
    let [one, other] = both;
    tokio::join!(one, other);
}

/// The listener is away, the broker is killed and started again, and the message is still there.
#[tokio::test]
async fn a_message_survives_a_killed_broker_that_keeps_its_sessions() {
    let mut broker = persistent_broker().await;
    for version in BOTH {
        let mut listening = subscribed(&broker, "listener", "to/you");
        listening.version = version;
        let (listener, _events) = connect(listening.clone()).await;
        listener.stop().await;

        let (speaker, mut acknowledged) = connect(settings(&broker, "speaker")).await;
        let id = speaker.publish("to/you", *b"kept", Retain::No).unwrap();
        published(&mut acknowledged, id).await;
        broker.saved().await.unwrap();
        broker.restart().await.unwrap();

        let (listener, mut events) = Link::start(listening).unwrap();
        let delivery = message(&mut events).await;
        assert_eq!(delivery.payload, b"kept", "{version:?}");
        listener.ack(delivery);
        listener.stop().await;
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let broker = plain_broker().await;
    for version in BOTH {
        let mut listening = subscribed(&broker, "listener", "to/you");
        listening.version = version;
        let (link, mut events) = connect(listening.clone()).await;
        broker.publish("to/you", b"first", false).await.unwrap();
        broker.publish("to/you", b"second", false).await.unwrap();
        let first = message(&mut events).await;
        assert_eq!(first.payload, b"first");
        let second = message(&mut events).await;
        assert_eq!(second.payload, b"second");
        link.ack(first);
        link.stop().await;

        let (link, mut events) = Link::start(listening).unwrap();
        let again = message(&mut events).await;
        assert_eq!(again.payload, b"second", "{version:?}: the first was acknowledged");
        link.ack(again);
        broker.publish("to/you", b"third", false).await.unwrap();
        let third = message(&mut events).await;
        assert_eq!(third.payload, b"third", "{version:?}: nothing comes a third time");
        link.ack(third);
        link.stop().await;
    }
}

/// Without that a broker delivers nothing more once so many wait for an acknowledgement.
#[tokio::test]
async fn what_is_given_back_comes_again_with_everything_behind_it() {
    /// More than mosquitto has under way with one client.
    const MANY: usize = 30;
    for version in BOTH {
        // Of the last ones the acknowledgements may be lost with the connection, and they would come again.
        let broker = plain_broker().await;
        let mut listening = subscribed(&broker, "listener", "to/you");
        listening.version = version;
        let (link, mut events) = connect(listening).await;
        let (speaker, mut acknowledged) = connect(settings(&broker, "speaker")).await;
        let mut last = speaker.publish("to/you", 0.to_string(), Retain::No).unwrap();
        for number in 1..MANY {
            last = speaker.publish("to/you", number.to_string(), Retain::No).unwrap();
        }
        published(&mut acknowledged, last).await;

        let first = message(&mut events).await;
        assert_eq!(first.payload, b"0");
        link.give_back(first);
        assert_eq!(down(&mut events).await, Problem::GivenBack, "{version:?}");

        let mut again = HashSet::new();
        while again.len() < MANY {
            let delivery = message(&mut events).await;
            again.insert(delivery.payload.clone());
            link.ack(delivery);
        }
        link.stop().await;
        speaker.stop().await;
    }
}

/// Acknowledging on a new connection what came on the old one must not acknowledge something else.
#[tokio::test]
async fn an_acknowledgement_that_comes_after_a_reconnect_is_void() {
    let mut broker = persistent_broker().await;
    let (link, mut events) = connect(subscribed(&broker, "listener", "to/you")).await;
    broker.publish("to/you", b"kept", false).await.unwrap();
    let old = message(&mut events).await;
    broker.saved().await.unwrap();
    broker.restart().await.unwrap();
    down(&mut events).await;
    let new = message(&mut events).await;
    link.ack(old);
    broker.saved().await.unwrap();
    broker.restart().await.unwrap();
    down(&mut events).await;
    let newer = message(&mut events).await;
    assert_eq!(newer.payload, new.payload);
    link.ack(newer);
    link.stop().await;
}

#[tokio::test]
async fn what_is_published_while_the_broker_is_down_arrives_when_it_is_up() {
    let mut broker = persistent_broker().await;
    for version in BOTH {
        let mut both = subscribed(&broker, "both", "to/you");
        both.version = version;
        let (link, mut events) = connect(both).await;
        broker.kill();
        down(&mut events).await;
        let ids = [b"1", b"2", b"3"].map(|payload| link.publish("to/you", *payload, Retain::No).unwrap());
        broker.restart().await.unwrap();
        link.retry_now();
        for expected in [b"1", b"2", b"3"] {
            let delivery = message(&mut events).await;
            assert_eq!(delivery.payload, expected, "{version:?}: in order");
            link.ack(delivery);
        }
        let id = link.publish("elsewhere", *b"", Retain::No).unwrap();
        assert!(id > ids[2]);
        published(&mut events, id).await;
        link.stop().await;
    }
}

/// The library would drop these: the restarted broker knows nothing of the session.
#[tokio::test]
async fn more_than_a_window_in_flight_survives_a_broker_that_forgets_everything() {
    const MANY: usize = 100;
    let mut broker = plain_broker().await;
    let (link, mut events) = connect(settings(&broker, "speaker")).await;
    broker.freeze().unwrap();
    let ids: Vec<_> = (0..MANY).map(|i| link.publish("to/you", i.to_string(), Retain::No).unwrap()).collect();
    broker.restart().await.unwrap();
    assert!(!up(&mut events).await, "the broker has forgotten the session");
    for expected in ids {
        published(&mut events, expected).await;
    }
    link.stop().await;
}

#[tokio::test]
async fn subscriptions_are_made_again_when_the_broker_has_forgotten_them() {
    let mut broker = plain_broker().await;
    let (link, mut events) = connect(subscribed(&broker, "listener", "to/you")).await;
    broker.restart().await.unwrap();
    down(&mut events).await;
    assert!(!up(&mut events).await);
    broker.publish("to/you", b"hello", false).await.unwrap();
    let delivery = message(&mut events).await;
    assert_eq!(delivery.payload, b"hello");
    link.ack(delivery);
    link.stop().await;
}

/// An earlier life of this client subscribed more; the broker remembers, and must not get through with it.
#[tokio::test]
async fn a_message_on_a_topic_that_is_not_subscribed_now_is_dropped() {
    let broker = plain_broker().await;
    let (before, _events) = connect(subscribed(&broker, "listener", "old/#")).await;
    before.stop().await;
    let (link, mut events) = Link::start(subscribed(&broker, "listener", "new/#")).unwrap();
    assert!(up(&mut events).await, "the broker has kept the session");
    broker.publish("old/topic", b"unwanted", false).await.unwrap();
    broker.publish("new/topic", b"wanted", false).await.unwrap();
    let delivery = message(&mut events).await;
    assert_eq!(delivery.payload, b"wanted");
    link.ack(delivery);
    link.stop().await;
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_is_told_by_mqtt_5_and_cannot_be_by_3_1_1() {
    let broker = broker_of_ana().await;
    for version in BOTH {
        let mut settings = settings(&broker, "ana");
        settings.version = version;
        settings.username = Some("ana".into());
        settings.password = Some(Password::new("right"));
        let (link, mut events) = connect(settings).await;
        let forbidden = link.publish("bob/in", *b"", Retain::No).unwrap();
        let allowed = link.publish("ana/in", *b"", Retain::No).unwrap();
        let mut refused = None;
        wait(&mut events, |event| match event {
            Event::Refused { topic, id } => {
                refused = Some((topic, id));
                None
            }
            Event::Published { id, .. } if id == allowed => Some(()),
            _ => None,
        })
        .await;
        let expected = (version == Version::V5).then(|| ("bob/in".to_owned(), Some(forbidden)));
        assert_eq!(refused, expected, "{version:?}");
        link.stop().await;
    }
}
