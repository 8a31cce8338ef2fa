//! The same things broken on purpose: each has to be caught, or the checks prove nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use valetkey_companion::outbox::Pending;
use valetkey_link::{Event, Events, Link, Retain, Version};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::fault_proxy::{Blow, FaultProxy};

use super::case::Scene;
use super::fault::{Fault, SLOW, Side};
use super::judge::{LOST, ORDER, Order, TWICE, judge};
use super::lane::{Lane, PATIENCE};
use super::{LATE, Stage, promised, settings};
use crate::random::Chance;
use crate::report::Row;

/// A keep-alive that never comes: so is a link without a watchdog.
const NO_KEEP_ALIVE: Duration = Duration::from_secs(3600);

/// A quarter of a minute on a line of 32 kbit/s.
const LONG_MESSAGE: usize = 64 * 1024;

/// A control, and the check it belongs to.
pub struct Control {
    part_of: &'static str,
    what: &'static str,
    caught: u64,
    of: u64,
}

impl Control {
    pub fn into_row_of(self, rows: &mut [Row]) -> Result<()> {
        let part_of = self.part_of.to_lowercase();
        let row = rows.iter_mut().find(|row| row.check.to_lowercase().contains(&part_of));
        row.with_context(|| format!("a control of no check: {part_of}"))?.caught(
            self.caught,
            self.of,
            self.what,
        );
        Ok(())
    }
}

pub async fn all(stage: &Arc<Stage>) -> Result<Vec<Control>> {
    let (once, twice, order, stalled, slow) = tokio::try_join!(
        sent_once(stage),
        stored_twice(stage),
        out_of_order(stage),
        no_watchdog(),
        impatient()
    )?;
    let mut all = vec![once, twice, order, stalled, slow];
    let to_give_up_at = [Fault::Partition, Fault::HalfClose, Fault::Reset, Fault::Loss];
    let faults = to_give_up_at.into_iter().filter(|fault| *fault != Fault::Loss || stage.lossy.is_some());
    all.extend(futures::future::try_join_all(faults.map(|fault| given_up_at(stage, fault))).await?);
    Ok(all)
}

/// A companion whose first connection is its last, when the fault comes in the midst of handoffs.
async fn given_up_at(stage: &Stage, fault: Fault) -> Result<Control> {
    let broker = Stage::broker(true).await?;
    let mut lane = stage.lane(&broker).await?;
    lane.patience = promised();
    let (first, exchange) = Side::Device.first(&lane);
    let at = first.bytes() + exchange / 4;
    let (mut chance, lossy) = (Chance(stage.wish.seed), stage.lossy.as_ref());
    let mut scene = Scene::begin(&lane)?;
    let struck = fault.begin(&lane, Side::Device, at, lossy, &mut chance, lane.settled()).await?;
    scene.gives_up().await;
    fault.end(&lane, Side::Device, lossy).await?;
    let told = scene.end(Instant::now(), promised(), Duration::ZERO, Order::OfDevice).await?;
    let caught = struck.is_some() && told.wrong.iter().any(|(what, _)| *what == LATE);
    let what = "a companion that makes no other connection";
    Ok(Control { part_of: fault.name(), what, caught: u64::from(caught), of: 1 })
}

/// A link that takes a late answer to its ping for a dead line, when a message is longer under way than it waits.
async fn impatient() -> Result<Control> {
    let broker = Stage::broker(true).await?;
    let proxy = FaultProxy::start(broker.port()).await?;
    let mut settings = settings(proxy.port(), "waits-for-nothing")?;
    (settings.version, settings.keep_alive) = (Version::V311, Duration::from_secs(1));
    let (link, mut events) = Link::start(settings)?;
    until(&mut events, |event| matches!(event, Event::Up { .. })).await?;
    proxy.slow_down(SLOW);
    let message = vec![b'x'; LONG_MESSAGE];
    let allowed = promised() + Fault::Slow.slower_by(u64::try_from(message.len())?);
    link.publish("a/topic", message, Retain::No)?;
    let acknowledged = until(&mut events, |event| matches!(event, Event::Published { .. }));
    let caught = u64::from(tokio::time::timeout(allowed, acknowledged).await.is_err());
    let what = "a link that gives up at a late answer to its ping";
    Ok(Control { part_of: Fault::Slow.name(), what, caught, of: 1 })
}

/// A device that trusts the broker's word and sends nothing again, a broker that forgets, an agent that comes later.
async fn sent_once(stage: &Stage) -> Result<Control> {
    let mut broker = Stage::broker(false).await?;
    let lane = stage.lane(&broker).await?;
    let before = lane.accepted()?.len();
    let last = lane.hand_over()?;
    publish_all(&lane, broker.port(), lane.waiting()?).await?;
    lane.empty_outbox()?;
    broker.restart().await?;
    let (agent, companion) = (lane.agent()?, lane.companion());
    // It has an answer of the agent's, so whatever the broker had for the agent would have come before.
    lane.at_peace(&companion).await?;
    companion.stop().await;
    agent.stop().await?;
    let found = judge(&lane.accepted()?.split_off(before), &last, Order::OfAccount);
    let caught = found.iter().filter(|(what, _)| *what == LOST).count() as u64;
    let what = "a device that sends each handoff once";
    Ok(Control { part_of: "without its persistence", what, caught, of: last.len() as u64 })
}

/// An agent that has forgotten what it stored, when the same handoffs come again.
async fn stored_twice(stage: &Stage) -> Result<Control> {
    let broker = Stage::broker(true).await?;
    let lane = stage.lane(&broker).await?;
    let before = lane.accepted()?.len();
    let last = lane.hand_over()?;
    let waiting = lane.waiting()?;
    let exchange = async || {
        let (agent, companion) = (lane.agent()?, lane.companion());
        lane.at_peace(&companion).await?;
        companion.stop().await;
        agent.stop().await
    };
    exchange().await?;
    lane.forget_accounts()?;
    // By the broker in its queue, before anything that the companion says.
    publish_all(&lane, broker.port(), waiting).await?;
    exchange().await?;
    let found = judge(&lane.accepted()?.split_off(before), &last, Order::OfDevice);
    let caught = found.iter().filter(|(what, _)| *what == TWICE).count() as u64;
    let what = "an agent that forgets what it has stored";
    Ok(Control { part_of: "with its persistence", what, caught, of: last.len() as u64 })
}

/// A device that sends the newest first.
async fn out_of_order(stage: &Stage) -> Result<Control> {
    let broker = Stage::broker(true).await?;
    let lane = stage.lane(&broker).await?;
    let before = lane.accepted()?.len();
    let last = lane.hand_over()?;
    let mut waiting = lane.waiting()?;
    waiting.reverse();
    let agent = lane.agent()?;
    publish_all(&lane, broker.port(), waiting).await?;
    // Sent again by itself, and answered.
    let companion = lane.companion();
    lane.at_peace(&companion).await?;
    companion.stop().await;
    agent.stop().await?;
    let found = judge(&lane.accepted()?.split_off(before), &last, Order::OfDevice);
    let caught = u64::from(found.iter().any(|(what, _)| *what == ORDER));
    let what = "a device that sends the newest first";
    Ok(Control { part_of: "A reset", what, caught, of: 1 })
}

/// A connection that nobody looks after, when it stalls.
async fn no_watchdog() -> Result<Control> {
    let broker = Broker::start(BrokerOptions::default()).await?;
    let proxy = FaultProxy::start(broker.port()).await?;
    let mut settings = settings(proxy.port(), "nobody-looks-after-it")?;
    settings.keep_alive = NO_KEEP_ALIVE;
    let (link, mut events) = Link::start(settings)?;
    until(&mut events, |event| matches!(event, Event::Up { .. })).await?;
    proxy.strike(Blow::Stall);
    link.publish("a/topic", "a message", Retain::No)?;
    let acknowledged = until(&mut events, |event| matches!(event, Event::Published { .. }));
    let caught = u64::from(tokio::time::timeout(promised(), acknowledged).await.is_err());
    let what = "a link without a watchdog";
    Ok(Control { part_of: "A connection that stalls", what, caught, of: 1 })
}

/// Publishes in this order, and returns when the broker has acknowledged each.
async fn publish_all(lane: &Lane, port: u16, waiting: Vec<Pending>) -> Result<()> {
    let (link, mut events) = Link::start(settings(port, "no-companion")?)?;
    let mut left = waiting.len();
    for pending in waiting {
        link.publish(lane.inbox(), pending.sealed, Retain::No)?;
    }
    while left > 0 {
        until(&mut events, |event| matches!(event, Event::Published { .. })).await?;
        left -= 1;
    }
    link.stop().await;
    Ok(())
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Result<()> {
    let found = async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return Ok(());
            }
        }
        bail!("the link has ended")
    };
    tokio::time::timeout(PATIENCE, found).await.context("the link does not come to it")?
}
