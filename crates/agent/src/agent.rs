//! The agent as a program holds it: open it, run it, ask it for tokens.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;
use url::Url;
use valetkey_entra::account::AccountId;
use valetkey_entra::http::HttpError;
use valetkey_handoff::{Invite, InviteError, InviteSecret, Label, PublicKeys, Terms, Thumbprint, Topics};
use valetkey_link::Clock;

use crate::account_file::Facts;
use crate::at_rest::{AtRestError, VaultKey};
use crate::audit::{Audit, Event};
use crate::evidence::Evidence;
use crate::health::{Announcer, Health, Update};
use crate::identity::{Identity, IdentityError};
use crate::provider::Tokens;
use crate::registry::{
    BrokerAccounts, BrokerAccountsError, DEFAULT_EXPIRY, Device, MAX_EXPIRY, Registry, RegistryError,
};
use crate::state_dir::{StateDir, StateDirError};
use crate::status::{AccountStatus, DeviceStatus, FindError, LinkStatus, Removed, Status, find};
use crate::vault::{Change, Trouble, Vault, VaultError};
use crate::{intake, progress};

/// Often enough that "not heard since" means something the same day; rare enough to be no load for a broker.
pub const DEFAULT_HEARTBEAT: SignedDuration = SignedDuration::from_hours(4);

/// How an agent is opened. [`AgentOptions::new`] gives the usual values.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Made if it is missing.
    pub state_dir: PathBuf,
    /// What people see; `None` keeps the present one.
    pub name: Option<Label>,
    pub clock: Clock,
    /// How often each device is told the state of its accounts without asking.
    pub heartbeat: SignedDuration,
    /// Seals everything that is secret at rest; see [`crate::at_rest`].
    pub vault_key: Option<VaultKey>,
}

impl AgentOptions {
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            name: None,
            clock: Clock::system(),
            heartbeat: DEFAULT_HEARTBEAT,
            vault_key: None,
        }
    }
}

/// What an invite is to ask for.
#[derive(Debug, Clone)]
pub struct InviteRequest {
    pub terms: Terms,
    /// From now; at most [`MAX_EXPIRY`].
    pub expires_in: SignedDuration,
}

impl InviteRequest {
    pub fn new(terms: Terms) -> Self {
        Self { terms, expires_in: DEFAULT_EXPIRY }
    }
}

/// Why the agent could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Broker(#[from] BrokerAccountsError),
    #[error(
        "the device is removed and not heard any more, but its login is still there: {0}; it is tried again by itself"
    )]
    LoginLeft(BrokerAccountsError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// An invite's terms name no sign-in service, tenant or capability that there is.
    #[error("these terms cannot be met: {0}")]
    Terms(String),
    #[error("an invite can be good for up to 7 days, and for more than nothing")]
    Expiry,
    #[error("there is no such account")]
    NoAccount,
    #[error("there is no such device")]
    NoDevice,
}

impl AgentError {
    /// What is wrong with the vault's key or with a sealed file, if that is what this is about.
    pub fn at_rest(&self) -> Option<&AtRestError> {
        let (Self::StateDir(dir)
        | Self::Identity(IdentityError::Dir(dir))
        | Self::Registry(RegistryError::Dir(dir))
        | Self::Vault(VaultError::Dir(dir))) = self
        else {
            return None;
        };
        match dir {
            StateDirError::AtRest(error) => Some(error),
            _ => None,
        }
    }
}

/// An open agent. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Agent(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Arc<StateDir>,
    pub(crate) identity: Identity,
    pub(crate) topics: Topics,
    pub(crate) clock: Clock,
    pub(crate) heartbeat: SignedDuration,
    pub(crate) vault: Arc<Vault>,
    pub(crate) registry: Registry,
    pub(crate) tokens: Tokens,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) refused: AtomicU64,
    pub(crate) evidence: Mutex<Evidence>,
    pub(crate) link: Mutex<LinkStatus>,
    pub(crate) heard: Mutex<HashMap<Thumbprint, Timestamp>>,
    troubles: Vec<Trouble>,
}

impl Agent {
    /// Opens the state directory and everything in it. Reads files; touches no network.
    pub fn open(options: AgentOptions) -> Result<Self, AgentError> {
        let AgentOptions { state_dir, name, clock, heartbeat, vault_key } = options;
        let now = clock.now();
        let dir = Arc::new(StateDir::open_with(state_dir, vault_key)?);
        let identity = Identity::open(&dir, name.as_ref())?;
        let (registry, registry_aside) = Registry::open(Arc::clone(&dir), now)?;
        let (vault, mut troubles) = Vault::open(Arc::clone(&dir), now)?;
        if let Some(aside) = registry_aside {
            tracing::error!(set_aside_as = aside, "the list of devices cannot be read; invite them again");
            troubles.push(Trouble {
                file: "registry.json".to_owned(),
                problem: "the list of devices cannot be read; invite them again".to_owned(),
                set_aside_as: Some(aside),
            });
        }
        let vault = Arc::new(vault);
        let audit = Arc::new(Audit::start(Arc::clone(&dir), clock.clone()));
        let announcer = Arc::new(Announcer::with(Arc::clone(&audit)));
        let http = valetkey_entra::http::client()?;
        let tokens = Tokens::new(Arc::clone(&vault), Arc::clone(&announcer), clock.clone(), http);
        let topics = Topics::new(identity.keys.thumbprint());
        Ok(Self(Arc::new(Shared {
            dir,
            identity,
            topics,
            clock,
            heartbeat,
            vault,
            registry,
            tokens,
            announcer,
            audit,
            refused: AtomicU64::new(0),
            evidence: Mutex::default(),
            link: Mutex::new(LinkStatus::Stopped),
            heard: Mutex::default(),
            troubles,
        })))
    }

    /// Its name in topics.
    pub fn id(&self) -> Thumbprint {
        self.0.topics.agent().clone()
    }

    /// What people see.
    pub fn name(&self) -> &Label {
        &self.0.identity.name
    }

    /// What devices pin. [`PublicKeys::words`] are the four words to compare.
    pub fn public_keys(&self) -> PublicKeys {
        self.0.identity.keys.public()
    }

    /// The state directory, for what a program keeps beside it.
    pub fn state_dir(&self) -> &StateDir {
        &self.0.dir
    }

    /// The topics of this agent.
    pub fn topics(&self) -> &Topics {
        &self.0.topics
    }

    /// Makes an invite. It is on disk, and its broker credential exists, before this returns.
    pub async fn invite(
        &self,
        request: InviteRequest,
        accounts: &dyn BrokerAccounts,
    ) -> Result<Invite, AgentError> {
        let InviteRequest { terms, expires_in } = request;
        if expires_in <= SignedDuration::ZERO || expires_in > MAX_EXPIRY {
            return Err(AgentError::Expiry);
        }
        terms.check()?;
        intake::check_terms(&terms).map_err(AgentError::Terms)?;
        let now = self.0.clock.now();
        let secret = InviteSecret::generate();
        let invite = Invite {
            name: self.name().clone(),
            agent: self.public_keys(),
            broker: accounts.grant(&secret.id()).await?,
            secret,
            // The link carries whole seconds.
            expires_at: Timestamp::from_second((now + expires_in).as_second()).unwrap_or(now),
            terms,
        };
        // Whatever makes it unfit for a link is found before it is stored.
        if let Err(unfit) = invite.to_link() {
            accounts.revoke(&invite.id()).await?;
            return Err(unfit.into());
        }
        let (secret, terms) = (invite.secret.clone(), invite.terms.clone());
        if let Err(unwritten) = self.0.registry.invite(secret, terms, invite.expires_at, now) {
            // What nobody knows of, nobody would ever end.
            accounts.revoke(&invite.id()).await?;
            return Err(unwritten.into());
        }
        self.0.audit.record(Event::InviteMade {
            invite: invite.id(),
            email: invite.terms.email.clone(),
            capabilities: invite.terms.capabilities.clone(),
            expires_at: invite.expires_at,
        });
        Ok(invite)
    }

    /// The paired devices.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.0
            .registry
            .devices()
            .iter()
            .map(|device| DeviceStatus::of(device, heard.get(&device.id()).copied()))
            .collect()
    }

    /// Unpairs a device: nothing it says is heard any more. Its accounts stay until they are removed.
    pub async fn remove_device(
        &self,
        device: &Thumbprint,
        accounts: &dyn BrokerAccounts,
    ) -> Result<Device, AgentError> {
        let removed = self.0.registry.remove(device)?.ok_or(AgentError::NoDevice)?;
        self.0.audit.record(Event::DeviceRemoved { device: removed.id(), name: removed.name.clone() });
        // Until the end of its login is noted, every start and every heartbeat tries to end it.
        accounts.revoke(&removed.invite).await.map_err(AgentError::LoginLeft)?;
        if let Err(problem) = self.0.registry.end(&removed.invite) {
            tracing::warn!(invite = %removed.invite, %problem, "the end of a device's login could not be noted");
        }
        Ok(removed)
    }

    /// The accounts that are there.
    pub fn accounts(&self) -> Vec<AccountStatus> {
        let live = self.0.vault.live();
        let status = |facts: &Arc<Facts>| {
            let status = AccountStatus::of(facts);
            if self.0.vault.is_failing(&facts.account) { status.unsaved() } else { status }
        };
        live.iter().map(status).collect()
    }

    /// The account that a name means: `oid.tid`, an address, or the unambiguous beginning of either.
    pub fn find_account(&self, name: &str) -> Result<AccountId, FindError> {
        let live = self.0.vault.live();
        find(live.iter().map(|facts: &Arc<Facts>| &**facts), name)
    }

    /// Deletes an account's tokens. What is left keeps its old sign-ins from coming back. Blocks for a disk write.
    pub fn remove_account(&self, account: &AccountId) -> Result<Removed, AgentError> {
        let now = self.0.clock.now();
        let removed = self.0.vault.change(account, now, |current| match current {
            Some(file) if file.facts.removed_at.is_none() => {
                let username = file.facts.username.clone();
                Change::Write(Box::new(progress::remove(file, None, now)), Some(username))
            }
            _ => Change::Leave(None),
        })?;
        let username = removed.ok_or(AgentError::NoAccount)?;
        self.0.tokens.forget(account);
        self.0.audit.record(Event::AccountRemoved { account: *account, device: None });
        self.0.announcer.tell(Update::Removed { account: *account });
        Ok(Removed { account: *account, username, revoked: false })
    }

    /// Microsoft Graph's address for this account; each cloud has its own.
    pub fn graph(&self, account: &AccountId) -> Option<Url> {
        Some(self.0.vault.facts(account)?.authority.graph().clone())
    }

    /// Waits until every refresh that has begun is saved. [`Agent::run`] does that when it ends; this is for whoever asks for
    /// tokens later than that.
    pub async fn finish(&self) {
        self.0.tokens.finish().await;
    }

    /// What happens from now on.
    pub fn updates(&self) -> broadcast::Receiver<Update> {
        self.0.announcer.subscribe()
    }

    /// Everything about the agent that may be told.
    pub fn status(&self) -> Status {
        let accounts = self.accounts();
        let mut troubles = self.0.troubles.clone();
        troubles.extend(self.0.vault.troubles());
        troubles.extend(self.0.audit.problem().map(|problem| Trouble {
            file: "audit".to_owned(),
            problem: format!("nothing can be written to it: {problem}"),
            set_aside_as: None,
        }));
        let live = self.0.vault.live();
        troubles.extend(live.iter().filter_map(|facts| Trouble::of_a_later_version(facts)));
        let count = |health: Health| accounts.iter().filter(|account| account.health == health).count();
        Status {
            name: self.name().clone(),
            id: self.id(),
            state_dir: self.0.dir.path().to_owned(),
            link: self.0.link.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            devices: self.devices(),
            open_invites: self.0.registry.open_invites(self.0.clock.now()),
            health: Health::ALL.into_iter().map(|health| (health.as_str(), count(health))).collect(),
            health_changes: self.0.announcer.changes(),
            refused_messages: self.0.refused.load(Ordering::Relaxed),
            troubles,
            accounts,
        }
    }
}
