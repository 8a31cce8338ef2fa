//! A device made of handoff and entra alone, and an agent between a practice tenant and a mosquitto.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;
use valetkey_agent::{
    Agent, AgentError, AgentOptions, BrokerAccounts, InviteRequest, LinkStatus, SharedAccess, TokenFailure,
    Update, VaultKey,
};
use valetkey_entra::account::AccountId;
use valetkey_entra::authorize::{RedirectUrl, SignInRequest, authorize};
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::{self, Resource};
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::id_token::{Expect, verify};
use valetkey_entra::jwks;
use valetkey_entra::metadata::Metadata;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::{CodeGrant, TokenEndpoint};
use valetkey_handoff::message::{
    AccountDetails, AccountDisconnect, AccountRef, AuthExpired, CacheUpdated, Enroll, Hello, Outcome,
    Receipt, State,
};
use valetkey_handoff::{
    BrokerAccess, Facts, Invite, Keys, Label, Sealed, Terms, ToAgent, ToDevice, Topics, open, seal,
    seal_enroll,
};
use valetkey_link::{Clock, Event, Events, Link, Retain, Settings};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in::http_sign_in_up_to_redirect;
use valetkey_tests::tenant::{CLIENT_ID, NextError, Tenant, User};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Lets time pass for every timer at once, and then goes on in real time.
pub async fn advance(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

pub struct World {
    pub tenant: Tenant,
    pub broker: Broker,
    home: tempfile::TempDir,
    pub clock: Clock,
    /// Seals what the agent keeps.
    pub vault_key: Option<VaultKey>,
}

/// An agent at work.
pub struct Running {
    pub agent: Agent,
    pub updates: broadcast::Receiver<Update>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self {
            tenant: Tenant::start().await.unwrap(),
            broker: Broker::start(BrokerOptions::default()).await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            clock: Clock::tokio_from(Timestamp::now()),
            vault_key: None,
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub fn file(&self, user: User) -> PathBuf {
        self.state_dir().join("vault").join(format!("{}.json", id(user)))
    }

    pub fn json(&self, user: User) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.file(user)).unwrap()).unwrap()
    }

    pub fn open(&self) -> Agent {
        self.open_with(self.vault_key.clone()).unwrap()
    }

    pub fn open_with(&self, vault_key: Option<VaultKey>) -> Result<Agent, AgentError> {
        let clock = self.clock.clone();
        Agent::open(AgentOptions { clock, vault_key, ..AgentOptions::new(self.state_dir()) })
    }

    /// An agent that is connected and listens.
    pub async fn run(&self) -> Running {
        self.run_with(Arc::new(self.access())).await
    }

    pub async fn run_with(&self, accounts: Arc<dyn BrokerAccounts>) -> Running {
        let agent = self.open();
        let updates = agent.updates();
        let stop = CancellationToken::new();
        let settings = Settings::new(&self.broker.url(), "the-agent").unwrap();
        let task = tokio::spawn({
            let (agent, stop) = (agent.clone(), stop.clone());
            async move { agent.run(settings, accounts, stop).await.unwrap() }
        });
        let mut running = Running { agent, updates, stop, task };
        running
            .until("the agent connects", |update| {
                matches!(update, Update::Link(LinkStatus::Up { .. })).then_some(())
            })
            .await;
        running
    }

    pub fn access(&self) -> SharedAccess {
        SharedAccess(BrokerAccess { url: self.broker.url().parse().unwrap(), username: None, password: None })
    }

    pub fn terms(&self, email: &str) -> Terms {
        Terms {
            email: Some(email.to_owned()),
            authority: format!("{}/", self.tenant.origin),
            graph: Some(format!("{}/", self.tenant.origin)),
            tenant: "common".to_owned(),
            client_id: CLIENT_ID.to_owned(),
            capabilities: vec!["mail".to_owned(), "calendar".to_owned(), "imap".to_owned()],
        }
    }

    pub async fn invite(&self, agent: &Agent, user: User) -> Invite {
        agent.invite(InviteRequest::new(self.terms(user.mail)), &self.access()).await.unwrap()
    }

    /// A paired device.
    pub async fn pair(&self, agent: &Agent, user: User) -> Device {
        let invite = self.invite(agent, user).await;
        let mut device = Device::new(&invite).await;
        device.enroll(&invite);
        assert!(matches!(device.next().await, ToDevice::Enrolled(_)));
        device
    }

    /// A paired device whose sign-in the agent has proved.
    pub async fn connect(&self, agent: &Agent, user: User) -> Device {
        let mut device = self.pair(agent, user).await;
        let body = self.sign_in(user).await;
        device.hand_over(&body);
        let receipt = device.receipt().await;
        assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
        device
    }

    /// Signs in at the practice tenant as the companion does, and packs what the companion would hand over.
    pub async fn sign_in(&self, user: User) -> CacheUpdated {
        let http = valetkey_entra::http::client().unwrap();
        let terms = self.terms(user.mail);
        let cloud = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()).unwrap();
        let authority = Authority { cloud, tenant: terms.tenant.parse().unwrap() };
        let capabilities = capability::parse(["mail", "calendar", "imap"]).unwrap();
        let metadata = Metadata::fetch(&http, &authority).await.unwrap();
        let request = SignInRequest {
            authority: authority.clone(),
            client_id: CLIENT_ID.to_owned(),
            capabilities: capabilities.clone(),
            login_hint: None,
            prompt: None,
            claims: None,
        };
        // Nobody listens there: the answer is taken from the address.
        let redirect = RedirectUrl::new("http://localhost:9/".to_owned()).unwrap();
        let now = Timestamp::now();
        let pending = authorize(&metadata, &request, &redirect, now).unwrap();
        let back = http_sign_in_up_to_redirect(pending.url.as_str(), user.username).await.unwrap();
        let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        let scopes = capability::scopes_for(Resource::Graph, &authority.cloud, &capabilities).unwrap();
        let grant = CodeGrant {
            client_id: CLIENT_ID,
            code: &Secret::new(code),
            verifier: &pending.verifier,
            redirect_uri: &pending.redirect_uri,
            scopes: &scopes,
            claims: None,
        };
        let tokens = TokenEndpoint::new(http.clone(), metadata.token_endpoint.clone())
            .exchange(&grant, now)
            .await
            .unwrap();
        let keys = jwks::Keys::new(http, metadata.jwks_uri.clone());
        let expect = Expect {
            authority: &authority,
            client_id: CLIENT_ID,
            nonce: Some(&pending.nonce),
            access_token: Some(&tokens.access_token),
            code: None,
            account: None,
        };
        let claims = verify(tokens.id_token.as_ref().unwrap(), &keys, &expect, now).await.unwrap();
        let cache = MsalCache::from_tokens(&authority, CLIENT_ID, &claims, &tokens, now).unwrap();
        let json = String::from_utf8(cache.to_json().unwrap().to_vec()).unwrap();
        CacheUpdated {
            account: AccountDetails {
                id: AccountRef { tid: claims.account.tid, oid: claims.account.oid },
                username: claims.username.unwrap_or_default(),
                name: claims.name,
            },
            authority: terms.authority,
            tenant: terms.tenant,
            client_id: CLIENT_ID.to_owned(),
            scopes: tokens.scope.split(' ').map(str::to_owned).collect(),
            capabilities: vec!["mail".to_owned(), "calendar".to_owned(), "imap".to_owned()],
            expires_at: now + tokens.expires_in,
            cache: json.into(),
        }
    }

    pub async fn refreshes(&self) -> u64 {
        self.tenant.count("token:refresh_token").await.unwrap()
    }

    /// Whether Graph takes the agent's token, and whose it is.
    pub async fn who(&self, agent: &Agent, user: User) -> Result<String, TokenFailure> {
        let token = agent.tokens().token(&id(user), Resource::Graph, None).await?;
        let http = valetkey_tests::http_sign_in::client().unwrap();
        let answer = http
            .get(format!("{}/v1.0/me", self.tenant.origin))
            .bearer_auth(token.secret.expose())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let me: serde_json::Value = answer.json().await.unwrap();
        Ok(me["userPrincipalName"].as_str().unwrap().to_owned())
    }
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        within("the agent stops", self.task).await.unwrap();
    }

    /// The next update that fits; others before it are passed over.
    pub async fn until<T>(&mut self, what: &str, fits: impl Fn(&Update) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(found) = fits(&self.updates.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
    }
}

pub fn id(user: User) -> AccountId {
    AccountId { tid: user.tid.parse().unwrap(), oid: user.oid.parse().unwrap() }
}

pub fn reference(user: User) -> AccountRef {
    AccountRef { tid: user.tid.parse().unwrap(), oid: user.oid.parse().unwrap() }
}

/// The companion's side of the wire.
pub struct Device {
    pub keys: Keys,
    pub generation: u64,
    agent: valetkey_handoff::PublicKeys,
    topics: Topics,
    link: Link,
    events: Events,
    early: VecDeque<ToDevice>,
}

impl Device {
    /// Connected and listening, not paired.
    pub async fn new(invite: &Invite) -> Self {
        Self::with_keys(invite, Keys::generate()).await
    }

    pub async fn with_keys(invite: &Invite, keys: Keys) -> Self {
        let topics = Topics::new(invite.agent.thumbprint());
        let url: &Url = &invite.broker.url;
        let mut settings = Settings::new(url.as_str(), keys.thumbprint().as_str()).unwrap();
        settings.subscriptions = vec![topics.outbox(&keys.thumbprint())];
        let (link, mut events) = Link::start(settings).unwrap();
        within("the device connects", async {
            while !matches!(events.next().await.unwrap(), Event::Up { .. }) {}
        })
        .await;
        Self {
            keys,
            generation: 0,
            agent: invite.agent.clone(),
            topics,
            link,
            events,
            early: VecDeque::new(),
        }
    }

    pub fn enroll(&self, invite: &Invite) {
        let enroll = Enroll { device_name: Label::tidy("test device") };
        let sealed = seal_enroll(&self.keys, invite, &Facts::new(0, Timestamp::now()), enroll).unwrap();
        self.link.publish(self.topics.enroll(&invite.id()), sealed.text, Retain::No).unwrap();
    }

    /// Seals under the next generation and sends.
    pub fn hand_over(&mut self, body: &CacheUpdated) -> Sealed {
        self.generation += 1;
        self.send_as(self.generation, &body.clone().into())
    }

    pub fn disconnect(&mut self, user: User) -> Sealed {
        self.generation += 1;
        self.send_as(self.generation, &AccountDisconnect { account: reference(user) }.into())
    }

    pub fn hello(&self) {
        self.send_as(0, &Hello {}.into());
    }

    pub fn send_as(&self, generation: u64, message: &ToAgent) -> Sealed {
        let sealed = self.seal_as(generation, message);
        self.send(sealed.as_bytes());
        sealed
    }

    pub fn seal_as(&self, generation: u64, message: &ToAgent) -> Sealed {
        seal(&self.keys, &self.agent, &Facts::new(generation, Timestamp::now()), message).unwrap()
    }

    pub fn send(&self, bytes: &[u8]) {
        self.link.publish(self.topics.inbox(&self.keys.thumbprint()), bytes, Retain::No).unwrap();
    }

    /// The next message of any kind.
    pub async fn next(&mut self) -> ToDevice {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        self.receive().await
    }

    async fn receive(&mut self) -> ToDevice {
        within("a message for the device", async {
            loop {
                match self.events.next().await.unwrap() {
                    Event::Message(delivery) => {
                        let opened =
                            open::<ToDevice>(&delivery.payload, &self.agent, &self.keys, Timestamp::now());
                        self.link.ack(delivery);
                        return opened.unwrap().message;
                    }
                    // As a companion does on every connect: a broker may have forgotten everything.
                    Event::Up { .. } => self.hello(),
                    _ => {}
                }
            }
        })
        .await
    }

    /// The next message that fits; others are kept for later.
    async fn pick<T>(&mut self, fits: impl Fn(&ToDevice) -> Option<T>) -> T {
        for index in 0..self.early.len() {
            if let Some(found) = fits(&self.early[index]) {
                self.early.remove(index);
                return found;
            }
        }
        loop {
            let message = self.receive().await;
            match fits(&message) {
                Some(found) => return found,
                None => self.early.push_back(message),
            }
        }
    }

    pub async fn receipt(&mut self) -> Receipt {
        self.pick(|message| match message {
            ToDevice::Receipt(receipt) => Some(receipt.clone()),
            _ => None,
        })
        .await
    }

    /// The next word that a person is needed.
    pub async fn expired(&mut self) -> AuthExpired {
        self.pick(|message| match message {
            ToDevice::AuthExpired(expired) => Some(expired.clone()),
            _ => None,
        })
        .await
    }

    /// The next `state` that fits.
    pub async fn state(&mut self, fits: impl Fn(&State) -> bool) -> State {
        self.pick(|message| match message {
            ToDevice::State(state) if fits(state) => Some(state.clone()),
            _ => None,
        })
        .await
    }

    /// Everything that has come so far: what was sent before the agent answered a `hello`.
    pub async fn all_so_far(&mut self) -> Vec<ToDevice> {
        let mut all: Vec<ToDevice> = self.early.drain(..).collect();
        self.hello();
        let asked = Timestamp::now();
        loop {
            let message = self.receive().await;
            let answer = matches!(&message, ToDevice::State(_)) && Timestamp::now() >= asked;
            all.push(message);
            if answer && self.quiet().await {
                return all;
            }
        }
    }

    /// Nothing more is on its way: a second `hello` is answered by exactly one more `state`.
    async fn quiet(&mut self) -> bool {
        self.hello();
        let message = self.receive().await;
        let quiet = matches!(message, ToDevice::State(_));
        self.early.push_back(message);
        quiet
    }
}

pub fn refused_because(receipt: &Receipt) -> &str {
    match &receipt.outcome {
        Outcome::Refused { reason } => reason.as_str(),
        other => panic!("not refused: {other:?}"),
    }
}

/// So many refreshes are answered with this.
pub fn refresh_error(times: u32, error: &NextError) -> NextError {
    NextError { endpoint: "token", grant: Some("refresh_token"), times: Some(times), ..error.clone() }
}
