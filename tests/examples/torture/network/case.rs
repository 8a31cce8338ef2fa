//! One case: handoffs are under way, a line fails, and what becomes of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use valetkey_companion::Handle;

use super::fault::{Fault, Side};
use super::judge::{LOST, Order, judge};
use super::lane::{AtWork, Handoff, Lane};
use super::{LATE, Stage, promised};
use crate::random::Chance;

/// Within this a companion is restarted with newer sign-ins, after the fault has begun.
const SOON: Duration = Duration::from_millis(600);

/// What came of a case.
#[derive(Debug, Default)]
pub struct Told {
    pub sealed: u64,
    pub stored: u64,
    pub made_anew: u64,
    pub came_to_the_end: bool,
    /// All was well before it was over.
    pub meanwhile: bool,
    /// Later than is promised for the network alone.
    pub beyond: bool,
    /// From the end of the fault, or from its beginning if it is over at once.
    pub took: Option<Duration>,
    pub wrong: Vec<(&'static str, String)>,
}

/// An agent and a companion on a lane, with handoffs under way.
pub struct Scene<'a> {
    pub lane: &'a Lane,
    agent: AtWork,
    /// None that has given up.
    companion: Option<Handle>,
    before: usize,
    connections: u64,
    sealed: u64,
    /// Not overtaken by newer ones.
    last: Vec<Handoff>,
}

impl<'a> Scene<'a> {
    /// Both start at once, with every sign-in in the outbox.
    pub fn begin(lane: &'a Lane) -> Result<Self> {
        let before = lane.accepted()?.len();
        let last = lane.hand_over()?;
        let connections = lane.device_line.connections() + lane.agent_line.connections();
        let (agent, companion) = (lane.agent()?, Some(lane.companion()));
        Ok(Self { lane, agent, companion, before, connections, sealed: last.len() as u64, last })
    }

    /// The companion is stopped, sign-ins under newer numbers take the places of those that have no receipt, and it starts.
    pub async fn again(mut self) -> Result<Self> {
        self.gives_up().await;
        self.last = self.lane.hand_over()?;
        self.sealed += self.last.len() as u64;
        self.companion = Some(self.lane.companion());
        self.connections += 1;
        Ok(self)
    }

    /// A companion that makes no other connection, as a control.
    pub async fn gives_up(&mut self) {
        if let Some(companion) = self.companion.take() {
            companion.stop().await;
        }
    }

    /// Waits until all is well, stops both, and judges. `since`: from when on the time counts. `margin`: what a busy machine may
    /// take beyond what is promised.
    pub async fn end(
        mut self,
        since: Instant,
        promised: Duration,
        margin: Duration,
        order: Order,
    ) -> Result<Told> {
        let well = match &self.companion {
            Some(companion) => self.lane.at_peace(companion).await,
            None => self.lane.settled().await,
        };
        let took = since.elapsed();
        let made = self.lane.device_line.connections() + self.lane.agent_line.connections();
        let mut told = Told {
            sealed: self.sealed,
            // The two that every case begins with.
            made_anew: made.saturating_sub(self.connections + 2),
            beyond: took > promised,
            took: Some(took),
            ..Told::default()
        };
        if let Err(error) = well {
            told.wrong.push((LATE, format!("{error:#}")));
        } else if took > promised + margin {
            told.wrong.push((LATE, format!("{took:?}, not {promised:?}")));
        }
        self.gives_up().await;
        self.agent.stop().await?;
        let accepted = self.lane.accepted()?.split_off(self.before);
        told.stored = accepted.len() as u64;
        told.wrong.extend(judge(&accepted, &self.last, order));
        for (account, generation) in &self.last {
            let wrong = match self.lane.on_disk(account) {
                Ok((number, verdict)) if number == *generation && verdict == "stored" => continue,
                Ok(other) => format!("number {generation} of {account}, on disk: {other:?}"),
                Err(error) => format!("{account} on disk: {error}"),
            };
            told.wrong.push((LOST, wrong));
        }
        Ok(told)
    }
}

pub async fn run(lane: &Lane, fault: Fault, stage: &Stage, chance: &mut Chance) -> Result<Told> {
    let side = Side::any(chance);
    let (first, exchange) = side.first(lane);
    let at = first.bytes() + chance.next() % exchange.max(1);
    let lossy = stage.lossy.as_ref();
    let lasts = fault.lasts(chance);
    let wave = match (fault, lasts) {
        // Newer sign-ins come at the end, so that there is something under way when no more packets are lost.
        (Fault::Loss, Some(lasts)) => Some(lasts),
        _ => chance.next().is_multiple_of(2).then(|| chance.up_to(SOON)),
    };
    let mut scene = Scene::begin(lane)?;
    let struck = fault.begin(lane, side, at, lossy, chance, lane.settled()).await?;
    let mut since = Instant::now();
    let mut meanwhile = false;
    if let Some(wave) = wave {
        // The moment is the experiment.
        tokio::time::sleep(wave).await;
        let under_way = first.bytes() + chance.next() % (exchange / 2).max(1);
        scene = scene.again().await?;
        if fault == Fault::Loss {
            tokio::select! {
                () = first.passed(under_way) => {}
                settled = lane.settled() => meanwhile = settled.map(|()| true)?,
            }
        }
    }
    if let Some(lasts) = lasts {
        tokio::select! {
            () = tokio::time::sleep(lasts.saturating_sub(since.elapsed())) => {}
            settled = lane.settled() => meanwhile = settled.map(|()| true)?,
        }
        fault.end(lane, side, lossy).await?;
        since = Instant::now();
    }
    let bytes = (exchange + first.bytes().saturating_sub(at)) * 2;
    let promised = promised() + fault.slower_by(bytes);
    let told = scene.end(since, promised, stage.wish.margin, Order::OfDevice).await?;
    if lasts.is_none() {
        fault.end(lane, side, lossy).await?;
    }
    let came_to_the_end = struck.is_none() && (wave.is_none() || fault == Fault::Loss);
    Ok(Told { came_to_the_end, meanwhile: meanwhile && !came_to_the_end, ..told })
}
