//! The two ends of a journey, set up: a practice tenant, a broker, the daemon; and a person's desk with the companion on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "test support; not every journey uses all"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use url::Url;
use valetkey_companion::doctor::Doctor;
use valetkey_companion::view::Screen;
use valetkey_companion::{
    Clock, Command, Companion, Handle, InviteLink, Language, MemoryKeyStore, Options, Outlet, View, Way,
};
use valetkey_tests::broker::{Broker, BrokerOptions, User as BrokerUser};
use valetkey_tests::daemon::Daemon;
use valetkey_tests::program::PATIENCE;
use valetkey_tests::tenant::{ALICE, CLIENT_ID, Tenant, User};

/// The credentials an operator made at the broker: the agent's, and one that all devices share.
pub const AGENT_PASSWORD: &str = "agents-word-at-the-broker";
pub const DEVICE_PASSWORD: &str = "devices-word-at-the-broker";

/// Everything but the person.
pub struct World {
    pub tenant: Tenant,
    pub broker: Option<Broker>,
    pub daemon: Daemon,
    pub folder: TempDir,
}

impl World {
    /// With a mosquitto that an operator configured.
    pub async fn with_operators_broker() -> Self {
        let broker = Broker::start(BrokerOptions {
            users: vec![
                BrokerUser::new("agent", AGENT_PASSWORD, &["topic readwrite valetkey/v1/#"]),
                BrokerUser::new(
                    "device",
                    DEVICE_PASSWORD,
                    &[
                        "topic write valetkey/v1/+/enroll/+",
                        "topic write valetkey/v1/+/in/+",
                        "topic read valetkey/v1/+/out/+",
                        "topic readwrite valetkey/v1/+/presence/+",
                    ],
                ),
            ],
            persistence: true,
            ..BrokerOptions::default()
        })
        .await
        .expect("a broker");
        Self::with(Some(broker), ALICE.tid).await
    }

    /// With the mosquitto that the agent runs itself.
    pub async fn with_own_broker() -> Self {
        Self::with(None, ALICE.tid).await
    }

    /// Where Microsoft's names are the practice tenant's (`valetkey_tests::private_network`), configured as for Microsoft.
    pub fn under_microsofts_names(tenant: Tenant) -> Self {
        let folder = TempDir::with_prefix("journey-").expect("a folder");
        let daemon = Daemon::init_global(folder.path(), ALICE.tid, CLIENT_ID).expect("init");
        Self { tenant, broker: None, daemon, folder }
    }

    pub async fn with(broker: Option<Broker>, people_of: &str) -> Self {
        let folder = TempDir::with_prefix("journey-").expect("a folder");
        let tenant = Tenant::start().await.expect("a practice tenant");
        let section = broker.as_ref().map_or_else(String::new, |broker| {
            for (name, password) in [("agent-password", AGENT_PASSWORD), ("device-password", DEVICE_PASSWORD)]
            {
                std::io::Write::write_all(
                    &mut std::fs::File::create(folder.path().join(name)).unwrap(),
                    password.as_bytes(),
                )
                .unwrap();
            }
            format!(
                "[broker]\nurl = \"{}\"\nusername = \"agent\"\npassword_file = \"{dir}/agent-password\"\n\
                 device_username = \"device\"\ndevice_password_file = \"{dir}/device-password\"\n",
                broker.url(),
                dir = folder.path().display()
            )
        });
        let daemon =
            Daemon::init(folder.path(), &tenant.origin, people_of, CLIENT_ID, &section).expect("init");
        Self { tenant, broker, daemon, folder }
    }

    pub fn broker(&mut self) -> &mut Broker {
        self.broker.as_mut().expect("a broker of the operator's")
    }

    /// A person's computer.
    pub fn desk(&self) -> Desk {
        Desk::start(&self.folder.path().join("desk"), Arc::default())
    }

    /// What Graph answers to the token that the agent gives for this person.
    pub async fn graph_me(&self, user: User) -> reqwest::StatusCode {
        let token = self.daemon.token(user.mail).expect("a token");
        self.graph_me_with(&token).await
    }

    pub async fn graph_me_with(&self, token: &str) -> reqwest::StatusCode {
        let client = valetkey_tests::http_sign_in::client().unwrap();
        let me = client.get(format!("{}/v1.0/me", self.tenant.origin)).bearer_auth(token).send();
        me.await.expect("the Graph stub answers").status()
    }

    /// The refresh token in the vault.
    pub fn refresh_token(&self) -> String {
        let bytes = std::fs::read(self.daemon.vault_file().unwrap()).unwrap();
        let vault: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let (_, entry) = vault["RefreshToken"].as_object().unwrap().iter().next().expect("one refresh token");
        entry["secret"].as_str().unwrap().to_owned()
    }
}

/// A companion, and what a person sees and does of it.
pub struct Desk {
    pub dir: PathBuf,
    pub keys: Arc<MemoryKeyStore>,
    handle: Option<Handle>,
    views: watch::Receiver<View>,
    outlets: mpsc::UnboundedReceiver<Outlet>,
    /// Notifications shown and not asked about yet.
    pub notices: Vec<(String, String)>,
}

impl Desk {
    pub fn start(dir: &Path, keys: Arc<MemoryKeyStore>) -> Self {
        Self::start_trusting(dir, keys, None)
    }

    /// On a computer that trusts this authority for the broker, instead of the system's.
    pub fn start_trusting(dir: &Path, keys: Arc<MemoryKeyStore>, broker_ca: Option<PathBuf>) -> Self {
        Self::start_with(dir, keys, broker_ca, None)
    }

    /// On a computer where these rules of an organisation hold.
    pub fn start_ruled(dir: &Path, keys: Arc<MemoryKeyStore>, policy: PathBuf) -> Self {
        Self::start_with(dir, keys, None, Some(policy))
    }

    fn start_with(
        dir: &Path,
        keys: Arc<MemoryKeyStore>,
        broker_ca: Option<PathBuf>,
        policy_file: Option<PathBuf>,
    ) -> Self {
        let (sender, outlets) = mpsc::unbounded_channel();
        let handle = Companion::start(Options {
            data_dir: dir.to_owned(),
            keys: keys.clone(),
            outlets: sender,
            clock: Clock::system(),
            language: Language::English,
            device_name: "Alice's computer".into(),
            sign_in: Way::Browser { port: None },
            policy_file,
            broker_ca,
        });
        let views = handle.views();
        Self { dir: dir.to_owned(), keys, handle: Some(handle), views, outlets, notices: Vec::new() }
    }

    /// "Check my set-up", from inside.
    pub fn doctor(&self) -> Doctor {
        self.handle.as_ref().expect("running").doctor()
    }

    pub fn click(&self, command: Command) {
        self.handle.as_ref().expect("running").send(command);
    }

    /// The view, as soon as it is on this screen.
    pub async fn screen(&mut self, screen: Screen) -> View {
        self.until(&format!("{screen:?}"), |view| view.screen == screen).await
    }

    pub async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let mut views = self.views.clone();
        let found = tokio::time::timeout(PATIENCE, views.wait_for(wanted)).await;
        let Ok(view) = found else {
            panic!("never came to {what}; the screen says: {:#?}", *self.views.borrow())
        };
        view.expect("the companion runs").clone()
    }

    pub fn view(&self) -> View {
        self.views.borrow().clone()
    }

    /// The address the companion opens in the browser next.
    pub async fn browser(&mut self) -> Url {
        loop {
            let outlet = tokio::time::timeout(PATIENCE, self.outlets.recv()).await;
            match outlet.expect("a browser is opened").expect("the companion runs") {
                Outlet::OpenBrowser(url) => return url,
                Outlet::Notify { id, title, .. } => self.notices.push((id, title)),
                Outlet::Withdraw { .. } | Outlet::Clipboard(_) => {}
            }
        }
    }

    /// Takes in what was shown by now.
    pub fn notices(&mut self) -> Vec<(String, String)> {
        while let Ok(outlet) = self.outlets.try_recv() {
            if let Outlet::Notify { id, title, .. } = outlet {
                self.notices.push((id, title));
            }
        }
        std::mem::take(&mut self.notices)
    }

    /// Opens an invite, reads it and agrees.
    pub async fn accept(&mut self, link: &str) -> View {
        self.click(Command::PasteInvite { link: InviteLink::new(link) });
        let asked = self.screen(Screen::Invited).await;
        self.click(Command::AcceptInvite { invite: None });
        asked
    }

    /// From the invite to "Connected", by the practice tenant's form over plain HTTP.
    pub async fn connect(&mut self, link: &str, user: User) -> View {
        self.accept(link).await;
        let url = self.browser().await;
        valetkey_tests::http_sign_in(url.as_str(), user.username).await.expect("signed in");
        self.screen(Screen::Connected).await
    }

    pub async fn stop(mut self) -> (PathBuf, Arc<MemoryKeyStore>) {
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
        (self.dir.clone(), self.keys.clone())
    }
}
