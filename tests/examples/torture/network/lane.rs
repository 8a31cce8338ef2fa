//! An agent and a device, paired, with a line that can be broken between each of them and the broker.
//!
//! Both are the real ones, in this process: the agent crate as a daemon embeds it, the companion with its outbox and courier.
//! What the sign-in flow would put into the outbox is put there by hand, because a person cannot sign in a thousand times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use valetkey_agent::{
    Agent, AgentOptions, BrokerAccess, CancellationToken, Clock, InviteRequest, Settings, SharedAccess,
};
use valetkey_companion::outbox::{Outbox, Pending, What};
use valetkey_companion::pairing::{Entry, PairingFile};
use valetkey_companion::view::Screen;
use valetkey_companion::{
    Companion, EntryName, Handle, KeyStore as _, Language, MemoryKeyStore, Options, Way,
};
use valetkey_entra::account::AccountId;
use valetkey_handoff::message::{CacheUpdated, Enroll};
use valetkey_handoff::{
    Facts, Invite, Keys, Label, PublicKeys, Sealed, Terms, ToAgent, Topics, seal, seal_enroll,
};
use valetkey_tests::fault_proxy::FaultProxy;

/// Far more than every time-out that is measured.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Nobody tells when a folder is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An account, as it is written in the audit, and the number under which it was handed over.
pub type Handoff = (String, u64);

pub struct Lane {
    folder: TempDir,
    pub device_line: FaultProxy,
    pub agent_line: FaultProxy,
    store: Arc<MemoryKeyStore>,
    keys: Keys,
    agent: PublicKeys,
    bodies: Arc<Vec<CacheUpdated>>,
    /// What an undisturbed exchange comes to, in bytes: on the device's line, on the agent's.
    pub exchange: (u64, u64),
    /// How long it is waited for what must come.
    pub patience: Duration,
}

/// An agent at work.
pub struct AtWork {
    agent: Agent,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Lane {
    /// Pairs a new device with a new agent at the broker on this port, and hands each sign-in over once.
    pub async fn new(broker: u16, terms: Terms, bodies: Arc<Vec<CacheUpdated>>) -> Result<Self> {
        let (device_line, agent_line) = (FaultProxy::start(broker).await?, FaultProxy::start(broker).await?);
        let folder = TempDir::with_prefix("lane-")?;
        let agent = Agent::open(AgentOptions::new(folder.path().join("agent")))?;
        let url = format!("mqtt://127.0.0.1:{}", device_line.port()).parse()?;
        let access = SharedAccess(BrokerAccess { url, username: None, password: None });
        let invite = agent.invite(InviteRequest::new(terms), &access).await?;
        let (agent_keys, keys) = (agent.public_keys(), Keys::generate());
        drop(agent);
        let lane = Self {
            folder,
            device_line,
            agent_line,
            store: Arc::default(),
            keys,
            agent: agent_keys,
            bodies,
            exchange: (0, 0),
            patience: PATIENCE,
        };
        lane.agree(&invite).await?;
        lane.calibrated().await
    }

    /// As a companion leaves its disk that was stopped right after a person agreed to an invite.
    async fn agree(&self, invite: &Invite) -> Result<()> {
        PairingFile::create(&self.data_dir(), invite, &self.keys)?;
        let entry = Entry::new(&self.keys, &invite.broker).to_secret().context("an entry")?;
        self.store.store(EntryName::Device(self.keys.thumbprint()), entry).await?;
        let now = Timestamp::now();
        let body = Enroll { device_name: Label::tidy("A tortured computer") };
        let sealed = seal_enroll(&self.keys, invite, &Facts::new(0, now), body)?;
        let topic = Topics::new(self.agent.thumbprint()).enroll(&invite.id());
        self.put(sealed, topic, What::Enroll { expires_at: invite.expires_at }, now)
    }

    async fn calibrated(mut self) -> Result<Self> {
        let (agent, companion) = (self.agent()?, self.companion());
        self.settled().await?;
        companion.stop().await;
        let before = (self.device_line.bytes(), self.agent_line.bytes());
        self.hand_over()?;
        let companion = self.companion();
        self.settled().await?;
        self.exchange = (self.device_line.bytes() - before.0, self.agent_line.bytes() - before.1);
        companion.stop().await;
        agent.stop().await?;
        Ok(self)
    }

    /// Seals every sign-in under its next number, in order, and leaves them in the outbox. No companion may run.
    pub fn hand_over(&self) -> Result<Vec<Handoff>> {
        let mut file = PairingFile::load(&self.data_dir())?.context("a pairing")?;
        let mut wave = Vec::new();
        for body in self.bodies.iter() {
            let now = Timestamp::now();
            let generation = file.next_generation()?;
            let id = AccountId { tid: body.account.id.tid, oid: body.account.id.oid };
            let facts = Facts::new(generation, now);
            let sealed = seal(&self.keys, &self.agent, &facts, &ToAgent::from(body.clone()))?;
            let address = body.account.username.clone();
            let what = What::SignIn { account: id, address, generation };
            self.put(sealed, self.inbox(), what, now)?;
            wave.push((id.to_string(), generation));
        }
        Ok(wave)
    }

    fn put(&self, sealed: Sealed, topic: String, what: What, now: Timestamp) -> Result<()> {
        let pending = Pending { jti: sealed.jti, topic, what, sealed_at: now, sealed: sealed.text };
        Ok(Outbox::open(&self.data_dir())?.add(pending)?)
    }

    pub fn inbox(&self) -> String {
        Topics::new(self.agent.thumbprint()).inbox(&self.keys.thumbprint())
    }

    /// What waits in the outbox, in order.
    pub fn waiting(&self) -> Result<Vec<Pending>> {
        Ok(Outbox::open(&self.data_dir())?.all().cloned().collect())
    }

    pub fn empty_outbox(&self) -> Result<()> {
        Ok(Outbox::open(&self.data_dir())?.clear()?)
    }

    pub fn companion(&self) -> Handle {
        Companion::start(Options {
            data_dir: self.data_dir(),
            keys: self.store.clone(),
            // Nothing here asks for a browser.
            outlets: mpsc::unbounded_channel().0,
            clock: Clock::system(),
            language: Language::English,
            device_name: "A tortured computer".into(),
            sign_in: Way::DeviceCode,
            policy_file: None,
            broker_ca: None,
        })
    }

    pub fn agent(&self) -> Result<AtWork> {
        let agent = Agent::open(AgentOptions::new(self.agent_dir()))?;
        let url = format!("mqtt://127.0.0.1:{}", self.agent_line.port());
        let settings = Settings::new(&url, format!("agent-{}", agent.id()))?;
        let access = SharedAccess(BrokerAccess { url: url.parse()?, username: None, password: None });
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (agent, stop) = (agent.clone(), stop.clone());
            async move { Ok(agent.run(settings, Arc::new(access), stop).await?) }
        });
        Ok(AtWork { agent, stop, task })
    }

    /// Returns once every handoff has had its answer.
    pub async fn settled(&self) -> Result<()> {
        let outbox = self.data_dir().join("outbox");
        let empty = async {
            loop {
                let mut files = std::fs::read_dir(&outbox)?.filter_map(Result::ok);
                if !files.any(|file| file.file_name().to_string_lossy().ends_with(".sealed.json")) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(self.patience, empty).await.context("no receipt")?
    }

    /// Settled, and the person is told so.
    pub async fn at_peace(&self, companion: &Handle) -> Result<()> {
        self.settled().await?;
        let mut views = companion.views();
        let connected = views.wait_for(|view| view.screen == Screen::Connected);
        let shown = tokio::time::timeout(self.patience, connected).await;
        shown.map(drop).with_context(|| format!("the screen says {:?}", companion.views().borrow().screen))
    }

    /// The handoffs that the agent has accepted, in the order in which it did. It must be stopped.
    pub fn accepted(&self) -> Result<Vec<Handoff>> {
        let text = std::fs::read_to_string(self.agent_dir().join("audit/audit.jsonl"))?;
        let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let accepted = lines.iter().filter(|line| line["event"] == "handoff_accepted");
        accepted
            .map(|line| {
                let account = line["account"].as_str().context("an account")?;
                Ok((account.to_owned(), line["gen"].as_u64().context("a number")?))
            })
            .collect()
    }

    /// The number and the verdict that the agent's disk has for an account.
    pub fn on_disk(&self, account: &str) -> Result<(u64, String)> {
        let file = self.agent_dir().join("vault").join(format!("{account}.json"));
        let vault: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let seen = &vault["ValetKey"]["seen"][self.keys.thumbprint().as_str()];
        let verdict = seen["verdict"]["result"].as_str().context("a verdict")?;
        Ok((seen["gen"].as_u64().context("a number")?, verdict.to_owned()))
    }

    /// What an agent would be that forgets what it has stored.
    pub fn forget_accounts(&self) -> Result<()> {
        for file in std::fs::read_dir(self.agent_dir().join("vault"))? {
            std::fs::remove_file(file?.path())?;
        }
        Ok(())
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("desk")
    }

    fn agent_dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }
}

impl AtWork {
    /// Stops it in order: everything is on its disk.
    pub async fn stop(self) -> Result<()> {
        let Self { agent, stop, task } = self;
        stop.cancel();
        tokio::time::timeout(PATIENCE, task).await.context("the agent does not stop")???;
        drop(agent);
        Ok(())
    }
}
