//! A companion, and an agent made of the handoff's own parts: it opens what a real one opens, and answers as it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc;
use url::Url;
use valetkey_companion::doctor::Doctor;
use valetkey_companion::view::{Screen, View};
use valetkey_companion::{
    Clock, Command, Companion, Handle, InviteLink, KeyStore, Language, MemoryKeyStore, Options, Outlet, Way,
};
use valetkey_handoff::message::{AccountState, CacheUpdated, Enrolled, Health, Outcome, Receipt, State};
use valetkey_handoff::{
    BrokerAccess, Code, Digest, Facts, Header, Invite, InviteSecret, Keys, Label, Presence, PublicKeys,
    Terms, ToAgent, ToDevice, Topic, Topics, open, open_enroll, seal,
};
use valetkey_link::{Event, Events, Link, Publish, Retain, Settings};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{Tenant, User};

/// What a test waits for at most. Everything here is on one machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const CLIENT_ID: &str = "11111111-1111-4111-8111-111111111111";

pub fn terms(origin: &str, tenant: &str, email: &str) -> Terms {
    Terms {
        email: Some(email.into()),
        authority: origin.into(),
        graph: Some(origin.into()),
        tenant: tenant.into(),
        client_id: CLIENT_ID.into(),
        capabilities: vec!["mail".into(), "calendar".into()],
    }
}

pub fn invite(agent: &Keys, broker: &str, terms: Terms) -> Invite {
    Invite {
        name: Label::tidy("Rocky"),
        agent: agent.public(),
        broker: BrokerAccess { url: broker.parse().unwrap(), username: None, password: None },
        secret: InviteSecret::generate(),
        expires_at: Timestamp::now() + SignedDuration::from_mins(10),
        terms,
    }
}

/// The other side, as far as a companion can see it.
pub struct Agent {
    pub keys: Keys,
    pub invite: Invite,
    topics: Topics,
    link: Link,
    events: Events,
    pub device: Option<PublicKeys>,
    /// A `hello` that has had no answer.
    hello: Option<uuid::Uuid>,
}

impl Agent {
    pub fn start(broker: &str, terms: Terms) -> Self {
        Self::with_keys(Keys::generate(), broker, terms)
    }

    pub fn with_keys(keys: Keys, broker: &str, terms: Terms) -> Self {
        let invite = invite(&keys, broker, terms);
        Self::again(keys, invite, broker)
    }

    /// One that was stopped, started again.
    pub fn again(keys: Keys, invite: Invite, broker: &str) -> Self {
        let topics = Topics::new(keys.thumbprint());
        let (link, events) = Link::start(settings(broker, &keys, &topics)).unwrap();
        Self { keys, invite, topics, link, events, device: None, hello: None }
    }

    pub fn link_of_invite(&self) -> String {
        self.invite.to_link().unwrap().expose().clone()
    }

    /// Somebody who sees everybody come and go.
    pub fn watch_presences(&self, broker: &str) -> (Link, Events) {
        let mut settings = Settings::new(broker, "a watcher").unwrap();
        settings.subscriptions = vec![self.topics.all_presences()];
        Link::start(settings).unwrap()
    }

    pub fn presence_of_device(&self) -> String {
        self.topics.presence(&self.device.as_ref().expect("a device").thumbprint())
    }

    pub fn outbox_of_device(&self) -> String {
        self.topics.outbox(&self.device.as_ref().expect("a device").thumbprint())
    }

    /// Stops serving; what is sent meanwhile waits at the broker.
    pub async fn stop(self) -> (Keys, Invite, Option<PublicKeys>) {
        self.link.stop().await;
        (self.keys, self.invite, self.device)
    }

    /// The next message from the device; an enrolment is answered on the way.
    pub async fn next(&mut self) -> (Header, ToAgent, Digest) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.next().await.expect("the agent's link has ended");
                let Event::Message(delivery) = event else { continue };
                let message = self.take(&delivery.topic, &delivery.payload);
                self.link.ack(delivery);
                if let Some(message) = message {
                    return message;
                }
            }
        })
        .await
        .expect("no message from the device")
    }

    /// The next handoff; a `hello` on the way is answered with no accounts.
    pub async fn next_handoff(&mut self) -> (Header, CacheUpdated, Digest) {
        loop {
            match self.next().await {
                (header, ToAgent::CacheUpdated(body), digest) => return (header, body, digest),
                (_, ToAgent::Hello(_), _) => self.say_state(Vec::new()),
                other => panic!("not expected here: {:?}", other.0),
            }
        }
    }

    fn take(&mut self, topic: &str, payload: &[u8]) -> Option<(Header, ToAgent, Digest)> {
        match self.topics.parse(topic).expect("a topic of this agent") {
            Topic::Enroll(_) => {
                let enrolment = open_enroll(payload, &self.invite.secret, &self.keys, Timestamp::now())
                    .expect("an enrolment");
                self.device = Some(enrolment.device);
                let name = self.invite.name.clone();
                self.say(Enrolled { agent_name: name, terms: self.invite.terms.clone() });
                None
            }
            Topic::In(_) => {
                let device = self.device.as_ref().expect("a device that enrolled first");
                let opened =
                    open::<ToAgent>(payload, device, &self.keys, Timestamp::now()).expect("a message");
                if let ToAgent::Hello(_) = opened.message {
                    self.hello = Some(opened.header.jti);
                }
                Some((opened.header, opened.message, opened.digest))
            }
            _ => None,
        }
    }

    pub fn say(&self, message: impl Into<ToDevice>) {
        let message = message.into();
        let device = self.device.as_ref().expect("a device");
        let sealed = seal(&self.keys, device, &Facts::new(0, Timestamp::now()), &message).unwrap();
        self.link.publish(self.topics.outbox(&device.thumbprint()), sealed.text, Retain::No).unwrap();
    }

    pub fn say_stored(&self, header: &Header, body: &CacheUpdated) {
        self.say(Receipt {
            of: header.jti,
            generation: header.generation,
            account: Some(body.account.id),
            outcome: Outcome::Stored { refreshed_at: Timestamp::now() },
        });
    }

    pub fn say_refused(&self, header: &Header, reason: &str) {
        let outcome = Outcome::Refused { reason: Code::or_unknown(reason) };
        self.say(Receipt { of: header.jti, generation: header.generation, account: None, outcome });
    }

    /// Waits for the question how things are, and answers it.
    pub async fn answer_hello(&mut self, accounts: Vec<AccountState>) {
        while !matches!(self.next().await, (_, ToAgent::Hello(_), _)) {}
        self.say_state(accounts);
    }

    pub fn say_state(&mut self, accounts: Vec<AccountState>) {
        let answers = self.hello.take();
        self.say(State { accounts, at: Timestamp::now(), answers });
    }
}

pub fn account_state(
    body: &CacheUpdated,
    generation: u64,
    health: Health,
    reason: Option<&str>,
) -> AccountState {
    AccountState {
        account: body.account.id,
        username: body.account.username.clone(),
        health,
        reason: reason.map(Code::or_unknown),
        claims: None,
        generation,
        checked_at: Some(Timestamp::now()),
        capabilities: body.capabilities.clone(),
    }
}

fn settings(broker: &str, keys: &Keys, topics: &Topics) -> Settings {
    let presence = |presence: Presence| {
        Publish::new(topics.presence(&keys.thumbprint()), presence.as_bytes(), Retain::Yes)
    };
    let mut settings = Settings::new(broker, keys.thumbprint().as_str()).unwrap();
    settings.subscriptions = vec![topics.all_inboxes(), topics.all_enrolls()];
    settings.birth = Some(presence(Presence::Online));
    settings.last_will = Some(presence(Presence::Offline));
    settings
}

/// The whole way: a practice tenant, a broker, an agent with an invite for somebody, and that somebody's companion, started.
pub struct Bench {
    pub tenant: Tenant,
    pub broker: Broker,
    pub agent: Agent,
    pub person: Person,
    user: User,
}

impl Bench {
    pub async fn of(user: User) -> Self {
        Self::with(user, Person::new()).await
    }

    pub async fn with(user: User, mut person: Person) -> Self {
        let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
        let (tenant, broker) = (tenant.unwrap(), broker.unwrap());
        let agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", user.mail));
        person.start();
        Self { tenant, broker, agent, person, user }
    }

    /// The person agrees to the invite; the address that the browser is opened with.
    pub async fn agree(&mut self) -> Url {
        self.person.agree_to(&self.agent.link_of_invite()).await;
        self.person.browser_opens().await
    }

    /// From agreeing to what the agent gets.
    pub async fn hand_over(&mut self) -> (Header, CacheUpdated, Digest) {
        let url = self.agree().await;
        http_sign_in(url.as_str(), self.user.username).await.unwrap();
        self.agent.next_handoff().await
    }

    /// From agreeing to "Connected".
    pub async fn connect(&mut self) -> (Header, CacheUpdated) {
        let (header, body, _) = self.hand_over().await;
        self.agent.say_stored(&header, &body);
        self.person.until_screen(Screen::Connected).await;
        (header, body)
    }
}

/// A companion whose shell is the test.
pub struct Person {
    pub companion: Option<Handle>,
    pub outlets: mpsc::UnboundedReceiver<Outlet>,
    pub keys: MemoryKeyStore,
    pub dir: TempDir,
    pub clock: Clock,
    pub way: Way,
    pub policy: Option<std::path::PathBuf>,
    /// In place of `keys`.
    pub other_keys: Option<Arc<dyn KeyStore>>,
}

impl Person {
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    pub fn with_clock(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outlets = mpsc::unbounded_channel().1;
        let way = Way::Browser { port: None };
        Self {
            companion: None,
            outlets,
            keys: MemoryKeyStore::default(),
            dir,
            clock,
            way,
            policy: None,
            other_keys: None,
        }
    }

    /// Starts the program, or starts it again with what it left on the disk and in the keyring.
    pub fn start(&mut self) {
        let (outlets, received) = mpsc::unbounded_channel();
        self.outlets = received;
        self.companion = Some(Companion::start(Options {
            data_dir: self.dir.path().to_owned(),
            keys: self.other_keys.clone().unwrap_or_else(|| Arc::new(self.keys.clone())),
            outlets,
            clock: self.clock.clone(),
            language: Language::English,
            device_name: "a test".into(),
            sign_in: self.way,
            policy_file: self.policy.clone(),
            broker_ca: None,
        }));
    }

    pub fn doctor(&self) -> Doctor {
        self.companion.as_ref().unwrap().doctor()
    }

    pub fn send(&self, command: Command) {
        self.companion.as_ref().unwrap().send(command);
    }

    pub async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let mut views = self.companion.as_ref().unwrap().views();
        match tokio::time::timeout(PATIENCE, views.wait_for(|view| wanted(view))).await {
            Ok(view) => view.unwrap().clone(),
            Err(_) => {
                let view = self.view();
                panic!(
                    "waited in vain for {what}; shown is {:?}: {} {:?}",
                    view.screen, view.headline, view.detail
                )
            }
        }
    }

    pub async fn until_screen(&self, screen: Screen) -> View {
        self.until(&format!("{screen:?}"), |view| view.screen == screen).await
    }

    pub fn view(&self) -> View {
        self.companion.as_ref().unwrap().views().borrow().clone()
    }

    /// Opens the invite and agrees to it.
    pub async fn agree_to(&self, link: &str) {
        self.until("the end of checking", |view| view.screen != Screen::Checking).await;
        self.send(Command::PasteInvite { link: InviteLink::new(link) });
        self.until_screen(Screen::Invited).await;
        self.send(Command::AcceptInvite { invite: None });
    }

    /// The address that the browser is opened with.
    pub async fn browser_opens(&mut self) -> Url {
        self.outlet("a browser", |outlet| match outlet {
            Outlet::OpenBrowser(url) => Some(url),
            _ => None,
        })
        .await
    }

    pub async fn outlet<T>(&mut self, what: &str, wanted: impl Fn(Outlet) -> Option<T>) -> T {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let outlet = self.outlets.recv().await.expect("the companion has ended");
                if let Some(found) = wanted(outlet) {
                    return found;
                }
            }
        })
        .await
        .unwrap_or_else(|_| {
            let view = self.view();
            panic!(
                "waited in vain for {what}; shown is {:?}: {} {:?}",
                view.screen, view.headline, view.detail
            )
        })
    }

    pub async fn stop(&mut self) {
        self.companion.take().unwrap().stop().await;
    }

    /// Every file's text, for looking for what must not be there.
    pub fn everything_on_disk(&self) -> String {
        fn read(dir: &Path, into: &mut String) {
            for file in std::fs::read_dir(dir).unwrap() {
                let path = file.unwrap().path();
                if path.is_dir() {
                    read(&path, into);
                } else {
                    into.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
                }
            }
        }
        let mut text = String::new();
        read(self.dir.path(), &mut text);
        text
    }
}
