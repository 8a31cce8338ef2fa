//! SIGKILL to the broker in the midst of handoffs, and a restart: with what it had saved, and without.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::case::{Scene, Told};
use super::judge::Order;
use super::{Stage, promised, row};
use crate::random::Chance;
use crate::report::Row;

/// Brokers at once, for each kind.
const BROKERS: usize = 2;
/// Agents and devices at each.
const LANES: usize = 2;
/// It is away for at most this long.
const AWAY: Duration = Duration::from_millis(700);

pub async fn all(stage: &Arc<Stage>) -> Result<Vec<Row>> {
    let half = stage.wish.broker_kills.div_ceil(2);
    let (kept, forgot) = tokio::try_join!(of_kind(stage, true, half), of_kind(stage, false, half))?;
    Ok(vec![kept, forgot])
}

async fn of_kind(stage: &Arc<Stage>, persistence: bool, kills: usize) -> Result<Row> {
    let brokers = kills.min(BROKERS);
    let mut at_work = tokio::task::JoinSet::new();
    for number in 0..brokers {
        let share = kills / brokers + usize::from(number < kills % brokers);
        let seed = stage.wish.seed.wrapping_add(number as u64 * 2 + u64::from(persistence) + 1);
        at_work.spawn(at_one_broker(Arc::clone(stage), persistence, share, Chance(seed)));
    }
    let mut told = Vec::new();
    while let Some(one) = at_work.join_next().await {
        told.extend(one??);
    }
    let how = if persistence { "with" } else { "without" };
    let check =
        format!("The broker is killed in the midst of handoffs, and starts again {how} its persistence");
    let mut row = row(format!("{check} (seed {})", stage.wish.seed), told.iter());
    row.counts.insert(0, ("kills".to_owned(), kills as u64));
    Ok(row)
}

async fn at_one_broker(
    stage: Arc<Stage>,
    persistence: bool,
    kills: usize,
    mut chance: Chance,
) -> Result<Vec<Told>> {
    let mut broker = Stage::broker(persistence).await?;
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        lanes.push(stage.lane(&broker).await?);
    }
    let order = if persistence { Order::OfDevice } else { Order::OfAccount };
    let mut all = Vec::new();
    for _ in 0..kills {
        let first = &lanes[0];
        let (line, exchange) = match chance.next() % 2 {
            0 => (&first.device_line, first.exchange.0),
            _ => (&first.agent_line, first.exchange.1),
        };
        let at = line.bytes() + chance.next() % exchange.max(1);
        let scenes = lanes.iter().map(Scene::begin).collect::<Result<Vec<_>>>()?;
        let came_to_the_end = tokio::select! {
            biased;
            () = line.passed(at) => false,
            settled = first.settled() => settled.map(|()| true)?,
        };
        broker.kill();
        // How long is part of the experiment.
        tokio::time::sleep(chance.up_to(AWAY)).await;
        let twice = chance.next().is_multiple_of(2);
        let mut going_on = Vec::new();
        for scene in scenes {
            going_on.push(if twice { scene.again().await? } else { scene });
        }
        broker.restart().await?;
        let since = Instant::now();
        let margin = stage.wish.margin;
        let ended = going_on.into_iter().map(|scene| scene.end(since, promised(), margin, order));
        let ended = futures::future::try_join_all(ended).await?;
        all.extend(ended.into_iter().map(|told| Told { came_to_the_end: came_to_the_end && !twice, ..told }));
    }
    Ok(all)
}
