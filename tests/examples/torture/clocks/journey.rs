//! One journey in which a clock is set or a computer sleeps, and what is to be true of it: nobody is told an untruth, nothing
//! runs hot, and there is always a way on to "Connected".

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::daemon::Daemon;
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{ALICE, CLIENT_ID, Tenant};

mod person;

use super::faked::FakeClock;
use super::{How, Phase, Scenario, Side};
use crate::handle::Victim;

/// How long a process is watched that has nothing to do.
const WATCH: Duration = Duration::from_secs(2);
/// How much of the time a process may want a processor, whether it gets one on a busy machine or not. A loop without a pause
/// wants one all the time; what a clock's jump leads to, once, takes a few hundredths.
pub const MOST_WORK: f64 = 0.6;
/// Requests to the provider in [`WATCH`]: one refresh and the metadata it needs, twice.
const MOST_REQUESTS: u64 = 4;
/// A computer sleeps at least so long that its peers can notice.
const NAP: Duration = Duration::from_millis(500);
/// A clock that runs sixty times as fast is set this often.
const RACE_STEP: Duration = Duration::from_millis(100);
/// More untrue or unlucky turns than there are kinds of them.
const MOST_TURNS: usize = 8;
/// For the agent to find out by itself that its clock was put right: it looks every half minute.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// What several journeys share, one after the other.
pub struct Ground {
    tenant: Tenant,
    broker: Broker,
}

impl Ground {
    pub async fn new() -> Result<Self> {
        Ok(Self { tenant: Tenant::start().await?, broker: Broker::start(BrokerOptions::default()).await? })
    }
}

/// What a journey came to.
#[derive(Debug, Default)]
pub struct Found {
    /// The codes of what the person was told on the way; none: "Connected" at once.
    pub told: Vec<String>,
    pub untrue: Vec<String>,
    pub false_expired: Vec<String>,
    pub hot: Vec<String>,
    /// The busiest that an idle process was, in hundredths.
    pub busiest: u64,
}

struct Journey<'a> {
    ground: &'a Ground,
    daemon: Daemon,
    agent: Victim,
    desk: Victim,
    agents_clock: FakeClock,
    desks_clock: FakeClock,
    race: Option<JoinHandle<()>>,
    latest: Value,
    /// The sign-in page that is open and that nobody has answered.
    page: Option<String>,
    /// The provider has ended a sign-in.
    revoked: bool,
    /// What agents said that have ended.
    heard: Vec<Value>,
    found: Found,
    _folder: TempDir,
}

/// Goes the whole way. `behind_our_back`: the provider ends the sign-in and this check is not told: the control.
pub async fn run(ground: &Ground, scenario: &Scenario, behind_our_back: bool) -> Result<Found> {
    let mut journey = Journey::begin(ground).await?;
    journey.up_to(scenario).await?;
    if behind_our_back {
        journey.end_sign_in().await?;
        journey.shows("reconnect").await?;
    }
    journey.jump(scenario).await?;
    journey.watch("after the jump").await?;
    if matches!(scenario.phase, Phase::BeforeSignIn) {
        journey.open_invite().await?;
    }
    journey.go_on_to_the_end().await?;
    journey.works().await?;
    // What was set wrong is put right one day, and that is a jump as well.
    journey.put_right().await?;
    journey.watch("after the clock was put right").await?;
    journey.go_on_to_the_end().await?;
    journey.works().await?;
    journey.believes_in_no_far_future().await?;
    journey.close().await
}

impl<'a> Journey<'a> {
    async fn begin(ground: &'a Ground) -> Result<Self> {
        let folder = TempDir::with_prefix("clocks-")?;
        let section = format!("[broker]\nurl = \"{}\"\n", ground.broker.url());
        let daemon = Daemon::init(folder.path(), &ground.tenant.origin, ALICE.tid, CLIENT_ID, &section)?;
        let agents_clock = FakeClock::new(folder.path().join("agents-clock"))?;
        let desks_clock = FakeClock::new(folder.path().join("desks-clock"))?;
        let agent = serve(&daemon, &agents_clock).await?;
        let mut command = Victim::command(&["desk", &folder.path().join("desk").display().to_string()])?;
        desks_clock.rules(&mut command)?;
        let desk = Victim::start(&mut command).await?;
        Ok(Self {
            ground,
            daemon,
            agent,
            desk,
            agents_clock,
            desks_clock,
            race: None,
            latest: Value::Null,
            page: None,
            revoked: false,
            heard: Vec::new(),
            found: Found::default(),
            _folder: folder,
        })
    }

    /// As far as the clock is right.
    async fn up_to(&mut self, scenario: &Scenario) -> Result<()> {
        if matches!(scenario.phase, Phase::BeforeSignIn) {
            self.shows("not_paired").await?;
            return Ok(());
        }
        self.open_invite().await?;
        self.page_opens().await?;
        self.agent.until(|line| line["event"] == "paired").await?.context("the agent has ended")?;
        if matches!(scenario.phase, Phase::Waiting) {
            return Ok(());
        }
        if matches!(scenario.phase, Phase::HandingOver) {
            match scenario.how {
                How::Sleeps(_) => self.agent.stop().await?,
                How::Set(_) | How::Races => self.agent.kill().await?,
            }
            self.person_signs_in().await?;
            return self
                .view("a sealed sign-in", |view| {
                    let sealed = |step: &Value| step["id"] == "sealed" && step["done"] == true;
                    view["steps"].as_array().is_some_and(|steps| steps.iter().any(sealed))
                })
                .await
                .map(drop);
        }
        self.person_signs_in().await?;
        self.shows("connected").await?;
        if matches!(scenario.phase, Phase::ReconnectPending) {
            self.revoked = true;
            self.end_sign_in().await?;
            self.shows("reconnect").await?;
        }
        Ok(())
    }

    /// At the provider; the next refresh finds out, whoever wants it.
    async fn end_sign_in(&mut self) -> Result<()> {
        self.ground.tenant.revoke(ALICE).await?;
        self.agents_clock.go_on(HOUR)?;
        ensure!(self.token().await.is_err(), "a revoked sign-in gives tokens");
        self.agents_clock.put_right()
    }

    async fn jump(&mut self, scenario: &Scenario) -> Result<()> {
        let (agents, desks) = match scenario.side {
            Side::Agent => (true, false),
            Side::Companion => (false, true),
            Side::Both => (true, true),
        };
        let away = matches!(scenario.phase, Phase::HandingOver);
        let sleeps = matches!(scenario.how, How::Sleeps(_));
        if sleeps && agents && !away {
            self.agent.stop().await?;
        }
        if sleeps && desks {
            self.desk.stop().await?;
        }
        let set = |clock: &FakeClock, by: i64| clock.set(by * 1000);
        match scenario.how {
            How::Set(by) | How::Sleeps(by) => {
                if agents {
                    set(&self.agents_clock, by)?;
                }
                if desks {
                    set(&self.desks_clock, by)?;
                }
            }
            How::Races => self.start_race(agents, desks)?,
        }
        if sleeps {
            tokio::time::sleep(NAP).await;
            if desks {
                self.desk.go_on()?;
            }
            if agents || away {
                self.agent.go_on()?;
            }
        } else if away {
            let next = serve(&self.daemon, &self.agents_clock).await?;
            self.heard.append(&mut std::mem::replace(&mut self.agent, next).said);
        }
        Ok(())
    }

    fn start_race(&mut self, agents: bool, desks: bool) -> Result<()> {
        let clocks = [agents.then(|| self.agents_clock.clone()), desks.then(|| self.desks_clock.clone())];
        let by = i64::try_from(RACE_STEP.as_millis())? * 59;
        let mut pace = tokio::time::interval(RACE_STEP);
        self.race = Some(tokio::spawn(async move {
            loop {
                pace.tick().await;
                for clock in clocks.iter().flatten() {
                    // A journey that is over takes its folder with it.
                    if clock.go_on(by).is_err() {
                        return;
                    }
                }
            }
        }));
        Ok(())
    }

    async fn put_right(&mut self) -> Result<()> {
        if let Some(race) = self.race.take() {
            race.abort();
            // One last time it may be on its way.
            let _ = race.await;
        }
        self.agents_clock.put_right()?;
        self.desks_clock.put_right()
    }

    /// Plays the person until there is nothing left to do.
    async fn go_on_to_the_end(&mut self) -> Result<()> {
        for _ in 0..MOST_TURNS {
            let view = match &self.page {
                Some(_) => {
                    // A link that is no longer good leads nowhere, and the screen says so.
                    let _ = self.person_signs_in().await;
                    continue;
                }
                None => self.rests().await?,
            };
            if self.page.is_some() {
                continue;
            }
            let screen = view["screen"].as_str().unwrap_or_default();
            self.judge(&view);
            match (screen, view["code"].as_str()) {
                ("connected", _) => return Ok(()),
                ("reconnect", _) => self.click(&json!({ "do": "reconnect" })).await?,
                ("not_connected", _) => self.click(&json!({ "do": "connect" })).await?,
                ("error", Some(code)) => {
                    self.found.told.push(code.to_owned());
                    // As it says.
                    self.put_right().await?;
                    if code.starts_with("invite-") {
                        self.open_invite().await?;
                    } else {
                        self.click(&json!({ "do": "retry" })).await?;
                    }
                }
                _ => bail!("there is no way on from {}", view["headline"]),
            }
        }
        bail!("no end after {MOST_TURNS} turns: {}", self.latest["headline"])
    }

    /// Whether what the person is told is so.
    fn judge(&mut self, view: &Value) {
        let detail = view["detail"].as_str().unwrap_or_default();
        let headline = view["headline"].as_str().unwrap_or_default();
        let behind = -self.desks_clock.minutes();
        let ahead = self.desks_clock.most_minutes();
        let so = match (view["screen"].as_str(), view["code"].as_str()) {
            (Some("connected" | "not_connected"), _) => true,
            (Some("reconnect"), _) => {
                if !self.revoked {
                    self.found.false_expired.push(format!("the person is told {headline:?}"));
                }
                self.revoked
            }
            (Some("error"), Some("clock-wrong")) => {
                let named = headline.split_whitespace().find_map(|word| word.parse::<i64>().ok());
                named.is_none_or(|minutes| (minutes - behind).abs() <= 5)
                    && (behind != 0 || ahead != 0)
                    && detail.contains("date and time")
            }
            (Some("error"), Some("timed-out")) => ahead >= 4,
            // Whose clock it is, nobody can tell from here; so that is what is to be said.
            (Some("error"), Some("invite-expired")) => {
                let agents = &self.agents_clock;
                (ahead >= 9 || agents.most_minutes() >= 9 || agents.minutes() <= -9)
                    && detail.contains("date and time")
            }
            _ => false,
        };
        if !so {
            let minutes = (self.desks_clock.minutes(), self.agents_clock.minutes());
            self.found.untrue.push(format!(
                "{headline} {detail} ({minutes:?} minutes ahead; before: {:?})",
                self.found.told
            ));
        }
    }

    /// Nothing may run hot while there is nothing to do.
    async fn watch(&mut self, when: &str) -> Result<()> {
        let requests = self.ground.tenant.log().await?.len();
        let shares = tokio::try_join!(share_of(self.agent.pid), share_of(self.desk.pid))?;
        for (who, share) in [("the agent", shares.0), ("the companion", shares.1)] {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hundredths")]
            let hundredths = (share * 100.0).round() as u64;
            self.found.busiest = self.found.busiest.max(hundredths);
            if share > MOST_WORK {
                self.found.hot.push(format!("{who} {when}: wants to run {hundredths} % of the time"));
            }
        }
        let asked = (self.ground.tenant.log().await?.len() - requests) as u64;
        if asked > MOST_REQUESTS {
            self.found.hot.push(format!("{asked} requests to the provider {when}"));
        }
        Ok(())
    }

    /// A program's next call works.
    async fn works(&self) -> Result<()> {
        let token = self.token().await?;
        let me = http_sign_in::client()?.get(format!("{}/v1.0/me", self.ground.tenant.origin));
        let status = me.bearer_auth(token).send().await?.status();
        ensure!(status.is_success(), "Graph says {status} to the agent's token");
        Ok(())
    }

    /// A token's end that was reckoned by a wrong clock is not kept for years.
    async fn believes_in_no_far_future(&self) -> Result<()> {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            let status = self.ask(&["status"]).await?;
            let ends: jiff::Timestamp = serde_json::from_value(status["accounts"][0]["expires_at"].clone())?;
            if ends.duration_since(jiff::Timestamp::now()) < jiff::SignedDuration::from_hours(2) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the agent believes that its token is good until {ends}");
            // It finds out by itself, and announces nothing.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn close(mut self) -> Result<Found> {
        self.agent.kill().await?;
        self.desk.kill().await?;
        self.heard.append(&mut self.agent.said);
        let asks = |line: &&Value| line["event"] == "health" && line["health"] == "reconnect_needed";
        let lapses = self.heard.iter().filter(asks).count();
        if lapses != usize::from(self.revoked) {
            self.found.false_expired.push(format!("the agent says that a person is needed, {lapses} times"));
        }
        Ok(self.found)
    }

    async fn token(&self) -> Result<String> {
        let daemon = self.daemon.clone();
        tokio::task::spawn_blocking(move || daemon.token(ALICE.mail)).await?
    }

    async fn ask(&self, arguments: &'static [&'static str]) -> Result<Value> {
        let daemon = self.daemon.clone();
        Ok(tokio::task::spawn_blocking(move || daemon.ask(arguments)).await??.1)
    }
}

const HOUR: i64 = 3_600_000;

async fn serve(daemon: &Daemon, clock: &FakeClock) -> Result<Victim> {
    let mut command = Command::from(daemon.command(&["serve", "--json"])?);
    clock.rules(&mut command)?;
    let mut agent = Victim::spawn(&mut command)?;
    agent.until(|line| line["event"] == "online").await?.context("the agent has ended")?;
    Ok(agent)
}

/// For how much of the time a process wants a processor.
pub async fn share_of(pid: u32) -> Result<f64> {
    let (began, before) = (Instant::now(), worked(pid)?);
    tokio::time::sleep(WATCH).await;
    Ok(worked(pid)?.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64())
}

/// How long a process has run or stood in line for a processor, all its threads together.
fn worked(pid: u32) -> Result<Duration> {
    let mut all = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that ends meanwhile has worked little.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        all += text.split_whitespace().take(2).filter_map(|nanos| nanos.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(Duration::from_nanos(all))
}
