//! Coming, going and vanishing, as others see it, and a broker that vanishes without a word.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use common::{BOTH, connect, down, message, settings, subscribed, up};
use valetkey_link::{Link, Problem, Publish, Retain, Settings, Version};
use valetkey_tests::broker::{Broker, BrokerOptions};

async fn plain_broker() -> Broker {
    Broker::start(BrokerOptions::default()).await.unwrap()
}

fn with_presence(mut settings: Settings) -> Settings {
    settings.birth = Some(Publish::new("presence/me", *b"online", Retain::Yes));
    settings.last_will = Some(Publish::new("presence/me", *b"offline", Retain::Yes));
    settings
}

#[tokio::test]
async fn presence_is_retained_online_while_up_and_offline_after_stop() {
    let broker = plain_broker().await;
    for version in BOTH {
        let mut settings = with_presence(settings(&broker, "me"));
        settings.version = version;
        let recorder = broker.record("presence/#").await.unwrap();
        let (link, _events) = connect(settings).await;
        recorder.wait_for(|seen| seen.payload == b"online" && !seen.retained).await.unwrap();
        let later = broker.record("presence/#").await.unwrap();
        later.wait_for(|seen| seen.payload == b"online" && seen.retained).await.unwrap();

        let started = Instant::now();
        link.stop().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{version:?}: {:?}", started.elapsed());
        recorder.wait_for(|seen| seen.payload == b"offline" && !seen.retained).await.unwrap();
        let states: Vec<_> = recorder.messages().into_iter().filter(|seen| !seen.retained).collect();
        assert_eq!(states.len(), 2, "{version:?}: said once, not by the last will as well");
        let after = broker.record("presence/#").await.unwrap();
        after.wait_for(|seen| seen.payload == b"offline" && seen.retained).await.unwrap();
    }
}

/// An acknowledgement that goes out at the end without its answer leaves somebody waiting.
#[tokio::test]
async fn what_was_published_just_before_the_end_goes_out_before_the_last_will() {
    let broker = plain_broker().await;
    for version in BOTH {
        let mut settings = with_presence(settings(&broker, "me"));
        settings.version = version;
        let recorder = broker.record("#").await.unwrap();
        let (link, _events) = connect(settings).await;
        recorder.wait_for(|seen| seen.payload == b"online" && !seen.retained).await.unwrap();
        link.publish("a/topic", "an answer", Retain::No).unwrap();
        link.stop().await;
        recorder.wait_for(|seen| seen.payload == b"offline" && !seen.retained).await.unwrap();
        assert!(recorder.messages().iter().any(|seen| seen.payload == b"an answer"), "{version:?}");
    }
}

#[tokio::test]
async fn a_link_that_is_dropped_without_stop_leaves_its_last_will() {
    let broker = plain_broker().await;
    for version in BOTH {
        let recorder = broker.record("presence/#").await.unwrap();
        let mut settings = with_presence(settings(&broker, "me"));
        settings.version = version;
        let (link, _events) = connect(settings).await;
        recorder.wait_for(|seen| seen.payload == b"online" && !seen.retained).await.unwrap();
        drop(link);
        recorder.wait_for(|seen| seen.payload == b"offline" && !seen.retained).await.unwrap();
    }
}

#[tokio::test]
async fn birth_is_said_again_after_the_broker_was_away() {
    let mut broker = plain_broker().await;
    let (link, mut events) = connect(with_presence(settings(&broker, "me"))).await;
    broker.restart().await.unwrap();
    down(&mut events).await;
    let recorder = broker.record("presence/#").await.unwrap();
    recorder.wait_for(|seen| seen.payload == b"online").await.unwrap();
    link.stop().await;
}

#[tokio::test]
async fn stop_takes_less_than_a_second_with_a_broker_that_is_away_or_frozen() {
    let mut broker = plain_broker().await;
    let (frozen, _events) = connect(with_presence(settings(&broker, "frozen"))).await;
    let (away, mut away_events) = connect(with_presence(settings(&broker, "away"))).await;
    broker.freeze().unwrap();
    let started = Instant::now();
    frozen.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "frozen: {:?}", started.elapsed());

    broker.kill();
    down(&mut away_events).await;
    let started = Instant::now();
    away.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "away: {:?}", started.elapsed());
    assert!(away_events.next().await.is_none(), "events end with the link");
    assert!(away.publish("t", *b"", Retain::No).is_err());
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_and_used_again_once_it_thaws() {
    let broker = plain_broker().await;
    let mut settings = subscribed(&broker, "me", "to/me");
    settings.version = Version::V311;
    settings.keep_alive = Duration::from_secs(1);
    let (link, mut events) = connect(settings).await;
    broker.freeze().unwrap();
    assert_eq!(down(&mut events).await, Problem::Stalled);
    let id = link.publish("to/me", *b"while frozen", Retain::No).unwrap();
    broker.thaw().unwrap();
    let delivery = message(&mut events).await;
    assert_eq!(delivery.payload, b"while frozen", "{id:?}");
    link.ack(delivery);
    link.stop().await;
}

/// The library hangs in its write here and sends no pings; only the watchdog is left.
#[tokio::test]
async fn a_broker_that_stops_reading_is_noticed_although_the_write_to_it_hangs() {
    let broker = plain_broker().await;
    let mut settings = settings(&broker, "me");
    settings.keep_alive = Duration::from_secs(5);
    let (link, mut events) = connect(settings).await;
    broker.freeze().unwrap();
    for _ in 0..48 {
        link.publish("to/nobody", vec![0; 300 * 1024], Retain::No).unwrap();
    }
    let frozen = Instant::now();
    assert_eq!(down(&mut events).await, Problem::Stalled);
    assert!(frozen.elapsed() >= Duration::from_secs(5));
    broker.thaw().unwrap();
    up(&mut events).await;
    let id = link.publish("to/nobody", *b"last", Retain::No).unwrap();
    common::published(&mut events, id).await;
    link.stop().await;
}

#[tokio::test]
async fn two_links_with_one_client_id_do_not_stop_each_other_for_good() {
    let broker = plain_broker().await;
    let (_first, mut events) = connect(settings(&broker, "same")).await;
    let (second, _second_events) = Link::start(settings(&broker, "same")).unwrap();
    assert_eq!(down(&mut events).await, Problem::ClosedByBroker);
    second.stop().await;
    up(&mut events).await;
}
