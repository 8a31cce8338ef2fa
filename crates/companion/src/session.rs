//! Being paired: the keys, the files and the connection that belong to one agent, and how they begin and end together.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use valetkey_entra::account::AccountId;
use valetkey_handoff::{Invite, Keys, Presence, Sensitive};
use valetkey_link::{Link, Password, Publish, Retain, Settings};

use crate::controller::Options;
use crate::courier::{Courier, Order, farewell};
use crate::keeper::Keeper;
use crate::keystore::{KeyStore, KeyStoreError};
use crate::outbox::{Outbox, What};
use crate::pairing::{Entry, NotifiedLapse, Pairing as Facts, PairingError, PairingFile, PinnedAccount};
use crate::policy::Policies;
use crate::problem::{KeysProblem, Problem};
use crate::state::{Delivery, Lapse, Pairing, Pinned};
use crate::step::Event;

pub(crate) struct Session {
    pub keeper: Arc<Keeper>,
    /// What the connection and the agent say, in order. Read only once the heart knows of this session, and never after it:
    /// what another agent said must not be taken for this one's.
    pub heard: mpsc::UnboundedReceiver<Event>,
    link: Link,
    orders: mpsc::UnboundedSender<Order>,
}

/// Reads what is on the disk and in the keyring, and connects. Without a pairing the keyring is not even asked.
pub(crate) async fn load(options: &Options) -> Result<Session, Pairing> {
    let failed = |problem| Pairing::NoKeys { problem, since: options.clock.now() };
    let file = match PairingFile::load(&options.data_dir) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(Pairing::Missing),
        Err(error) => {
            tracing::error!(%error, "the pairing cannot be used");
            return Err(failed(KeysProblem::Unreadable));
        }
    };
    match Policies::read(options.policy_file.as_deref()) {
        Ok(policy) if policy.allow_pairing(file.get()) => {}
        Ok(_) => return Err(failed(KeysProblem::Forbidden)),
        Err(error) => {
            tracing::error!(%error, "no assistant is served until the policy file is mended");
            return Err(failed(KeysProblem::Forbidden));
        }
    }
    let entry = options.keys.load().await.map_err(|error| failed(keys_problem(error)))?;
    let (keys, password) = entry.as_ref().and_then(Entry::open).ok_or(failed(KeysProblem::Unreadable))?;
    if keys.thumbprint() != file.get().device {
        return Err(failed(KeysProblem::Unreadable));
    }
    let outbox = Outbox::open(&options.data_dir).map_err(|error| {
        tracing::error!(%error, "the outbox cannot be used");
        failed(KeysProblem::Unreadable)
    })?;
    let keeper = Keeper::new(keys, file, outbox);
    Session::start(keeper, password, options).map_err(|_| failed(KeysProblem::Unreadable))
}

/// Pairing with the agent of an invite that the person has agreed to.
pub(crate) struct Pair {
    pub invite: Invite,
    /// What was there until now; it ends only when the new keys are safe.
    pub before: Option<Session>,
    pub options: Options,
}

impl Pair {
    /// New keys for every pairing: a device is known to one agent only. When it fails early, what was there before goes on.
    pub async fn run(self) -> Result<Session, (Problem, Option<Session>)> {
        let keys = Keys::generate();
        let stored = match Entry::new(&keys, &self.invite.broker).to_secret() {
            Some(entry) => self.options.keys.store(entry).await.map_err(|error| keys_problem(error).into()),
            None => Err(Problem::CannotSave),
        };
        match stored {
            Ok(()) => self.replace(keys).await.map_err(|problem| (problem, None)),
            Err(problem) => Err((problem, self.before)),
        }
    }

    async fn replace(self, keys: Keys) -> Result<Session, Problem> {
        let Self { invite, before, options } = self;
        if let Some(before) = before {
            let accounts = before.keeper.pairing().get().given_up_for(&invite);
            before.leave(accounts).await;
        }
        let files = || -> Result<Keeper, Box<dyn std::error::Error>> {
            let mut outbox = Outbox::open(&options.data_dir)?;
            outbox.clear()?;
            let file = PairingFile::create(&options.data_dir, &invite, &keys)?;
            let keeper = Keeper::new(keys, file, outbox);
            keeper.keep_enroll(&invite, &options.device_name, options.clock.now())?;
            Ok(keeper)
        };
        let keeper = files().map_err(|error| {
            tracing::error!(%error, "the pairing could not be saved");
            Problem::CannotSave
        })?;
        Session::start(keeper, invite.broker.password.clone(), &options)
    }
}

impl Session {
    fn start(
        keeper: Keeper,
        password: Option<Sensitive<String>>,
        options: &Options,
    ) -> Result<Self, Problem> {
        let keeper = Arc::new(keeper);
        let settings = settings(&keeper, password, options.broker_ca.as_deref());
        let (link, link_events) = settings.and_then(Link::start).map_err(|error| {
            tracing::error!(%error, "the broker's address cannot be used");
            crate::problem::InviteProblem::Unreadable
        })?;
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let courier = Courier::new(Arc::clone(&keeper), link.clone(), options.clock.clone(), tell);
        tokio::spawn(courier.run(link_events, taken));
        Ok(Self { keeper, heard, link, orders })
    }

    /// What the heart must know of it.
    pub fn facts(&self) -> Event {
        let file = self.keeper.pairing();
        let delivery = self.keeper.outbox().all().filter_map(|pending| delivery(&pending.what)).last();
        let pairing = Pairing::Paired(file.get().assistant());
        Event::Loaded { pairing, delivery, notified: file.get().lapse() }
    }

    pub fn order(&self, order: Order) {
        // The courier ends only with the link.
        let _ = self.orders.send(order);
    }

    /// The name of the agent that agreeing to `invite` would replace; pairing again with the same one replaces nobody.
    pub fn replaced_by(&self, invite: &Invite) -> Option<String> {
        let file = self.keeper.pairing();
        let pairing = file.get();
        (pairing.agent != invite.agent).then(|| pairing.name.clone())
    }

    pub fn change(&self, change: impl FnOnce(&mut Facts)) {
        if let Err(error) = self.keeper.pairing().change(change) {
            tracing::error!(%error, "the pairing file could not be changed; the next start will not know");
        }
    }

    pub fn discard(&self, generation: u64) {
        let mut outbox = self.keeper.outbox();
        let jti = outbox.find(generation).map(|pending| pending.jti);
        if let Some(Err(error)) = jti.map(|jti| outbox.remove(jti)) {
            tracing::warn!(%error, "a message that is not needed any more could not be removed");
        }
    }

    pub fn disconnect(&self, account: AccountId, now: jiff::Timestamp) {
        match self.keeper.keep_disconnect(account, now) {
            Ok(_) => self.order(Order::SendPending),
            Err(error) => tracing::error!(%error, "could not ask for the account to be given up"),
        }
    }

    /// Leaves the broker in an orderly way.
    pub async fn stop(self) {
        self.link.stop().await;
    }

    async fn leave(self, accounts: Vec<AccountId>) {
        farewell(&self.orders, accounts).await;
        self.link.stop().await;
    }

    /// Leaves nothing behind on this computer; the agent is asked, as far as it can be reached now.
    pub async fn forget(self, accounts: Vec<AccountId>, keys: &dyn KeyStore) {
        let keeper = Arc::clone(&self.keeper);
        self.leave(accounts).await;
        let forgotten =
            keeper.outbox().clear().map_err(PairingError::from).and_then(|()| keeper.pairing().forget());
        if let Err(error) = forgotten {
            tracing::error!(%error, "not everything of the pairing could be removed");
        }
        if let Err(error) = keys.delete().await {
            tracing::error!(%error, "the keys could not be removed from the keyring");
        }
    }
}

fn settings(
    keeper: &Keeper,
    password: Option<Sensitive<String>>,
    ca_file: Option<&Path>,
) -> Result<Settings, valetkey_link::SettingsError> {
    let file = keeper.pairing();
    let pairing = file.get();
    let (topics, device) = (pairing.topics(), keeper.keys.thumbprint());
    let presence =
        |presence: Presence| Publish::new(topics.presence(&device), presence.as_bytes(), Retain::Yes);
    let mut settings = Settings::new(pairing.broker_url.as_str(), device.as_str())?;
    settings.username.clone_from(&pairing.broker_username);
    settings.password = password.map(|password| Password::new(password.expose().as_str()));
    settings.ca_file = ca_file.map(Path::to_owned);
    settings.subscriptions = vec![topics.outbox(&device), topics.presence(topics.agent())];
    settings.birth = Some(presence(Presence::Online));
    settings.last_will = Some(presence(Presence::Offline));
    Ok(settings)
}

fn keys_problem(error: KeyStoreError) -> KeysProblem {
    match error {
        KeyStoreError::Locked => KeysProblem::Locked,
        KeyStoreError::Unavailable => KeysProblem::Unavailable,
        KeyStoreError::Unusable => KeysProblem::Unreadable,
    }
}

fn delivery(what: &What) -> Option<Delivery> {
    match what {
        What::SignIn { account, address, generation } => Some(Delivery {
            account: *account,
            address: address.clone(),
            generation: *generation,
            delivered: false,
        }),
        _ => None,
    }
}

impl From<Pinned> for PinnedAccount {
    fn from(pinned: Pinned) -> Self {
        Self { id: pinned.id, address: pinned.address }
    }
}

impl From<Lapse> for NotifiedLapse {
    fn from(lapse: Lapse) -> Self {
        Self { account: lapse.account, generation: lapse.generation }
    }
}
