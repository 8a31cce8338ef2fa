//! Networks and brokers that fail, at a random moment of a hello, a handoff or a receipt: every handoff is stored exactly once,
//! the order is kept, and all is well again within two and a half keep-alives and the back-off.
//!
//! Many pairs of an agent and a companion are tortured at once, because nearly all of the time is waiting.

mod broker_kills;
mod case;
mod controls;
mod fault;
mod judge;
mod lane;
mod private;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use valetkey_agent::Settings;
use valetkey_handoff::Terms;
use valetkey_handoff::message::CacheUpdated;
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::tenant::{ALICE, ANA, BOB, Reuse};

use self::case::Told;
use self::fault::Fault;
use self::judge::{LOST, ORDER, TWICE};
use self::lane::Lane;
use self::private::Lossy;
use crate::random::Chance;
use crate::report::Row;
use crate::support::World;

/// Seconds; the shortest that mosquitto prescribes to its clients.
const KEEP_ALIVE: u16 = 10;
/// The ceilings of the first four retries together: each case begins with a new connection, and none needs a fifth.
const BACK_OFF: Duration = Duration::from_millis(500 + 1000 + 2000 + 4000);
/// Pairs at once: more of them would mostly wait for each other's share of the machine.
const MOST_LANES: usize = 16;

const LATE: &str = "not well again in time";
const BEYOND: &str = "well later than promised, within what a busy machine may take besides";

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Wish {
    /// Of each of the six faults.
    pub per_fault: usize,
    /// Half of them with the broker's persistence.
    pub broker_kills: usize,
    /// What a busy machine may take for the handoffs themselves, beyond what is promised for the network.
    pub margin: Duration,
    pub seed: u64,
}

/// Two and a half keep-alives and the back-off.
pub fn promised() -> Duration {
    Duration::from_secs(u64::from(KEEP_ALIVE)).mul_f64(2.5) + BACK_OFF
}

/// In a private network if there can be one; outside, no packet is lost.
pub async fn all(wish: Wish) -> Result<Vec<Row>> {
    if let Some(why) = private::impossible().await {
        let mut rows = here(wish, None).await?;
        rows.push(Row::skipped(check(Fault::Loss, wish.seed), why));
        return Ok(rows);
    }
    let output = private::inside(&std::env::current_exe()?)
        .args(["network", &serde_json::to_string(&wish)?])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rows = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    rows.with_context(|| format!("it ended early: {}", String::from_utf8_lossy(&output.stderr)))
}

/// In the private network.
pub async fn inside(wish: &str) -> Result<Vec<Row>> {
    here(serde_json::from_str(wish)?, Some(Lossy::new().await?)).await
}

/// What every lane has in common.
pub struct Stage {
    pub terms: Terms,
    pub bodies: Arc<Vec<CacheUpdated>>,
    pub lossy: Option<Lossy>,
    pub wish: Wish,
    /// Provider; its end is the end of all.
    _world: World,
}

impl Stage {
    async fn new(wish: Wish, lossy: Option<Lossy>) -> Result<Self> {
        let world = World::new().await;
        world.tenant.reuse(Reuse::Tolerant).await?;
        let mut bodies = Vec::new();
        for user in [ALICE, ANA, BOB] {
            bodies.push(world.sign_in(user).await);
        }
        let terms = Terms { email: None, ..world.terms(ALICE.mail) };
        Ok(Self { terms, bodies: Arc::new(bodies), lossy, wish, _world: world })
    }

    pub async fn lane(&self, broker: &Broker) -> Result<Lane> {
        Lane::new(broker.port(), self.terms.clone(), Arc::clone(&self.bodies)).await
    }

    pub async fn broker(persistence: bool) -> Result<Broker> {
        let max_keep_alive = Some(KEEP_ALIVE);
        Broker::start(BrokerOptions { persistence, max_keep_alive, ..BrokerOptions::default() }).await
    }
}

async fn here(wish: Wish, lossy: Option<Lossy>) -> Result<Vec<Row>> {
    let stage = Arc::new(Stage::new(wish, lossy).await?);
    let (faults, kills, controls) =
        tokio::try_join!(faults(&stage), broker_kills::all(&stage), Box::pin(controls::all(&stage)))?;
    let mut rows: Vec<Row> = faults.into_iter().chain(kills).collect();
    for control in controls {
        control.into_row_of(&mut rows)?;
    }
    Ok(rows)
}

/// The six faults.
async fn faults(stage: &Arc<Stage>) -> Result<Vec<Row>> {
    let possible = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Loss || stage.lossy.is_some());
    let mut chance = Chance(stage.wish.seed);
    let cases: VecDeque<(Fault, u64)> = possible
        .clone()
        .flat_map(|fault| std::iter::repeat_n(fault, stage.wish.per_fault))
        .map(|fault| (fault, chance.next()))
        .collect();
    let lanes = cases.len().min(MOST_LANES);
    let cases = Arc::new(Mutex::new(cases));
    let broker = Arc::new(Stage::broker(true).await?);
    let mut at_work = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let (stage, broker, cases) = (Arc::clone(stage), Arc::clone(&broker), Arc::clone(&cases));
        at_work.spawn(async move {
            let lane = stage.lane(&broker).await?;
            let mut told = Vec::new();
            loop {
                let next = cases.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((fault, seed)) = next else { return anyhow::Ok(told) };
                told.push((fault, case::run(&lane, fault, &stage, &mut Chance(seed)).await?));
            }
        });
    }
    let mut told = Vec::new();
    while let Some(lane) = at_work.join_next().await {
        told.extend(lane??);
    }
    let mut rows = Vec::new();
    for fault in possible {
        let of_fault = told.iter().filter(|(of, _)| *of == fault).map(|(_, told)| told);
        let mut row = row(check(fault, stage.wish.seed), of_fault);
        if let (Fault::Loss, Some(lossy)) = (fault, &stage.lossy) {
            row.add("packets dropped", lossy.dropped().await?);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn check(fault: Fault, seed: u64) -> String {
    format!("{} in the midst of handoffs (seed {seed})", capitalised(fault.name()))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the cases of one kind came to.
fn row<'a>(check: String, told: impl Iterator<Item = &'a Told>) -> Row {
    let mut row = Row::new(check);
    for what in ["cases", "handoffs sealed", "handoffs stored", LOST, TWICE, ORDER, LATE] {
        row.add(what, 0);
    }
    let mut took = Vec::new();
    for case in told {
        row.add("cases", 1);
        row.add("handoffs sealed", case.sealed);
        row.add("handoffs stored", case.stored);
        row.add("connections made anew", case.made_anew);
        row.add("of them well before the moment came", u64::from(case.came_to_the_end));
        row.add("of them well while it lasted", u64::from(case.meanwhile));
        for (what, problem) in &case.wrong {
            row.fail(what, problem.clone());
        }
        row.add(BEYOND, u64::from(case.beyond));
        took.extend(case.took.filter(|_| !case.came_to_the_end && !case.meanwhile));
    }
    took.sort();
    let shown =
        |time: Option<&Duration>| time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    row.add("ms until all was well again, half of them within", shown(took.get(took.len() / 2)));
    row.add("ms until all was well again, the longest", shown(took.last()));
    row.add("ms that are promised", shown(Some(&promised())));
    row
}

/// A connection as both sides make it, for controls that have none of their own.
fn settings(port: u16, client_id: &str) -> Result<Settings> {
    Ok(Settings::new(&format!("mqtt://127.0.0.1:{port}"), client_id)?)
}
