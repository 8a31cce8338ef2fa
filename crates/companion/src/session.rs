//! Being paired: the keys, the files and the connection that belong to one agent, and how they begin and end together.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use valetkey_entra::account::AccountId;
use valetkey_handoff::{Invite, Keys, Presence, Sensitive};
use valetkey_link::{Link, Password, Publish, Retain, Settings, SettingsError};

use crate::controller::Options;
use crate::courier::{Courier, Order, farewell};
use crate::device_keys::{forget_keys, keys_of, keys_problem};
use crate::held::{Held, NotHeld};
use crate::keeper::Keeper;
use crate::keystore::{EntryName, KeyStore};
use crate::outbox::{Outbox, What};
use crate::pairing::{Entry, NotifiedLapse, Pairing as Facts, PairingError, PairingFile, PinnedAccount};
use crate::policy::{Certificates, NoCertificates, Policies};
use crate::problem::{KeysProblem, Problem};
use crate::state::{Assistant, Delivery, Lapse, Pairing, Pinned};
use crate::step::Event;

pub(crate) struct Session {
    pub keeper: Arc<Keeper>,
    /// What the connection and the agent say, in order. Read only once the heart knows of this session, and never after it:
    /// what another agent said must not be taken for this one's.
    pub heard: mpsc::UnboundedReceiver<Event>,
    link: Link,
    orders: mpsc::UnboundedSender<Order>,
    /// Whoever writes to this session's files. Nobody else does before they have ended.
    at_work: TaskTracker,
    held: Held,
}

/// Reads what is on the disk and in the keyring, and connects. Without a pairing the keyring is not even asked.
pub(crate) async fn load(options: &Options) -> Result<Session, Pairing> {
    match take_up(options).await {
        Ok(Some(session)) => Ok(session),
        Ok(None) => Err(Pairing::Missing),
        Err(problem) => Err(Pairing::NoKeys { problem, since: options.clock.now() }),
    }
}

async fn take_up(options: &Options) -> Result<Option<Session>, KeysProblem> {
    let read = || {
        PairingFile::load(&options.data_dir).map_err(|error| {
            tracing::error!(%error, "the pairing cannot be used");
            KeysProblem::Unreadable
        })
    };
    // Without a pairing there is nothing to hold, and the directory is not made.
    if read()?.is_none() {
        return Ok(None);
    }
    let held = Held::take(&options.data_dir).await.map_err(|error| not_held(&error))?;
    // As it is now that nobody else changes it.
    let Some(file) = read()? else { return Ok(None) };
    if file.get().leaving {
        remove_all(&file, options.keys.as_ref()).await;
        return Ok(None);
    }
    match Policies::read(options.policy_file.as_deref()) {
        Ok(policy) if policy.allow_pairing(file.get()) => {}
        Ok(_) => return Err(KeysProblem::Forbidden),
        Err(error) => {
            tracing::error!(%error, "no assistant is served until the policy file is mended");
            return Err(KeysProblem::Forbidden);
        }
    }
    let (keys, password) = keys_of(&file.get().device, options.keys.as_ref()).await?;
    let outbox = Outbox::open(&options.data_dir).map_err(|error| {
        tracing::error!(%error, "the outbox cannot be used");
        KeysProblem::Unreadable
    })?;
    let keeper = Keeper::new(keys, file, outbox);
    Session::start(Arc::new(keeper), held, password, options).map(Some).map_err(|problem| match problem {
        Problem::Keys(problem) => problem,
        _ => KeysProblem::Unreadable,
    })
}

/// What is on this computer of a pairing that has ended.
async fn remove_all(file: &PairingFile, store: &dyn KeyStore) {
    let removed = Outbox::open(file.dir()).and_then(|mut outbox| outbox.clear());
    if let Err(error) = removed.map_err(PairingError::from).and_then(|()| file.forget()) {
        tracing::error!(%error, "not everything of the pairing could be removed");
    }
    forget_keys(vec![EntryName::Device(file.get().device.clone()), EntryName::Unnamed], store).await;
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
    pub async fn run(mut self) -> Result<Session, (Problem, Option<Session>)> {
        if let Err(problem) = Certificates::of(&self.options) {
            return Err((unusable(&problem).into(), self.before));
        }
        if let Some(before) = self.before.take_if(|before| before.is_from(&self.invite)) {
            return before.anew(&self.invite, &self.options).await.map_err(|problem| (problem, None));
        }
        let held = match &self.before {
            Some(_) => None,
            None => match Held::take(&self.options.data_dir).await {
                Ok(held) => Some(held),
                Err(error) => return Err((in_the_way(&error), None)),
            },
        };
        let keys = Keys::generate();
        let name = EntryName::Device(keys.thumbprint());
        let stored = match Entry::new(&keys, &self.invite.broker).to_secret() {
            Some(entry) => {
                self.options.keys.store(name, entry).await.map_err(|error| keys_problem(error).into())
            }
            None => Err(Problem::CannotSave),
        };
        match stored {
            Ok(()) => self.replace(held, keys).await.map_err(|problem| (problem, None)),
            Err(problem) => Err((problem, self.before)),
        }
    }

    async fn replace(self, held: Option<Held>, keys: Keys) -> Result<Session, Problem> {
        let Self { invite, before, options } = self;
        let mut held = held;
        if let Some(before) = before {
            let accounts = before.keeper.kept().given_up_for(&invite);
            held = Some(before.leave(accounts).await);
        }
        let held = held.ok_or(Problem::CannotSave)?;
        let earlier = PairingFile::load(&options.data_dir).ok().flatten();
        let earlier = earlier.map(|file| EntryName::Device(file.get().device.clone()));
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
        // From here on the pairing file names the new keys. A keyring that hangs now keeps nobody waiting.
        let (store, unused) =
            (Arc::clone(&options.keys), earlier.into_iter().chain([EntryName::Unnamed]).collect());
        tokio::spawn(async move { forget_keys(unused, store.as_ref()).await });
        Session::start(Arc::new(keeper), held, invite.broker.password.clone(), &options)
    }
}

impl Session {
    fn start(
        keeper: Arc<Keeper>,
        held: Held,
        password: Option<Sensitive<String>>,
        options: &Options,
    ) -> Result<Self, Problem> {
        let certificates = Certificates::of(options).map_err(|problem| unusable(&problem))?;
        let settings = settings(&keeper, password, certificates);
        let (link, link_events) = settings.and_then(Link::start).map_err(|error| not_startable(&error))?;
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let courier = Courier::new(Arc::clone(&keeper), link.clone(), options.clock.clone(), tell);
        let at_work = TaskTracker::new();
        at_work.spawn(courier.run(link_events, taken));
        Ok(Self { keeper, heard, link, orders, at_work, held })
    }

    /// What is waited for when the session ends.
    pub fn at_work(&self) -> TaskTracker {
        self.at_work.clone()
    }

    /// For what writes to this session's files as well. To be aborted before the session ends.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.at_work.spawn(work).abort_handle()
    }

    /// Whether it began with this very invite. An agent knows the device by then, and refuses another one as too late.
    fn is_from(&self, invite: &Invite) -> bool {
        self.keeper.kept().pairing.get().invite.as_deref() == Some(invite.id().as_str())
    }

    /// The same pairing on a new connection. An `enroll` that a crash or a full disk kept from being kept is made up for.
    async fn anew(self, invite: &Invite, options: &Options) -> Result<Self, Problem> {
        self.end().await;
        self.discard_on_hold();
        let is_lost = {
            let kept = self.keeper.kept();
            !kept.pairing.get().enrolled && kept.outbox.enrolment().is_none()
        };
        if is_lost {
            let kept = self.keeper.keep_enroll(invite, &options.device_name, options.clock.now());
            kept.map_err(|error| {
                tracing::error!(%error, "the pairing could not be saved");
                Problem::CannotSave
            })?;
        }
        Self::start(self.keeper, self.held, invite.broker.password.clone(), options)
    }

    /// What the heart must know of it.
    pub fn facts(&self) -> Event {
        let (assistant, delivery) = self.paired();
        let notified = self.keeper.kept().pairing.get().lapse();
        Event::Loaded { pairing: Pairing::Paired(assistant), delivery, notified }
    }

    /// With whom, and what is on its way there.
    pub fn paired(&self) -> (Assistant, Option<Delivery>) {
        let kept = self.keeper.kept();
        let delivery = kept.outbox.under_way().filter_map(|pending| delivery(&pending.what)).last();
        (kept.pairing.get().assistant(), delivery)
    }

    pub fn order(&self, order: Order) {
        // The courier ends only with the link.
        let _ = self.orders.send(order);
    }

    /// The name of the agent that agreeing to `invite` would replace; pairing again with the same one replaces nobody.
    pub fn replaced_by(&self, invite: &Invite) -> Option<String> {
        let kept = self.keeper.kept();
        let pairing = kept.pairing.get();
        (pairing.agent != invite.agent).then(|| pairing.name.clone())
    }

    pub fn change(&self, change: impl FnOnce(&mut Facts)) {
        if let Err(error) = self.keeper.kept().pairing.change(change) {
            tracing::error!(%error, "the pairing file could not be changed; the next start will not know");
        }
    }

    pub fn discard(&self, generation: u64) {
        let outbox = &mut self.keeper.kept().outbox;
        let jti = outbox.find(generation).map(|pending| pending.jti);
        if let Some(Err(error)) = jti.map(|jti| outbox.remove(jti)) {
            tracing::warn!(%error, "a message that is not needed any more could not be removed");
        }
    }

    /// Sign-ins that were given up just when they were sealed, and that nobody could be told of.
    pub fn discard_on_hold(&self) {
        let outbox = &mut self.keeper.kept().outbox;
        for jti in outbox.on_hold() {
            if let Err(error) = outbox.remove(jti) {
                tracing::warn!(%error, "a sign-in that was given up could not be removed");
            }
        }
    }

    pub fn hand_over(&self, generation: u64) {
        self.keeper.kept().outbox.release(generation);
        self.order(Order::SendPending);
    }

    pub fn disconnect(&self, account: AccountId, now: jiff::Timestamp) {
        match self.keeper.keep_disconnect(account, now) {
            Ok(_) => self.order(Order::SendPending),
            Err(error) => tracing::error!(%error, "could not ask for the account to be given up"),
        }
    }

    async fn leave(self, accounts: Vec<AccountId>) -> Held {
        farewell(&self.orders, accounts).await;
        self.end().await;
        self.held
    }

    /// Leaves the broker in an orderly way. From then on nobody touches its files: a courier that a slow disk has kept would
    /// write the old pairing over a new one.
    pub async fn end(&self) {
        self.link.stop().await;
        self.at_work.close();
        self.at_work.wait().await;
    }

    /// Leaves nothing behind on this computer; the agent is asked, as far as it can be reached now. Only after
    /// [`Pairing::leaving`](Facts::leaving) is on the disk: should the program end meanwhile, the next start goes on.
    pub async fn forget(self, mut accounts: Vec<AccountId>, keys: Arc<dyn KeyStore>) {
        let keeper = Arc::clone(&self.keeper);
        let mut handed_over = keeper.kept().handed_over();
        handed_over.retain(|id| !accounts.contains(id));
        accounts.extend(handed_over);
        let _held = self.leave(accounts).await;
        let file = keeper.kept().pairing.clone();
        remove_all(&file, keys.as_ref()).await;
    }
}

pub(crate) fn settings(
    keeper: &Keeper,
    password: Option<Sensitive<String>>,
    certificates: Certificates,
) -> Result<Settings, SettingsError> {
    let kept = keeper.kept();
    let pairing = kept.pairing.get();
    let (topics, device) = (pairing.topics(), keeper.keys.thumbprint());
    let presence =
        |presence: Presence| Publish::new(topics.presence(&device), presence.as_bytes(), Retain::Yes);
    let mut settings = Settings::new(pairing.broker_url.as_str(), device.as_str())?;
    settings.username.clone_from(&pairing.broker_username);
    settings.password = password.map(|password| Password::new(password.expose().as_str()));
    certificates.apply_to(&mut settings);
    settings.subscriptions = vec![topics.outbox(&device), topics.presence(topics.agent())];
    settings.birth = Some(presence(Presence::Online));
    settings.last_will = Some(presence(Presence::Offline));
    Ok(settings)
}

/// There is no connection without them.
fn unusable(problem: &NoCertificates) -> KeysProblem {
    tracing::error!(%problem, "no assistant is served until that is mended");
    match problem {
        NoCertificates::Policy(_) => KeysProblem::Forbidden,
        NoCertificates::Files(_) => KeysProblem::Certificates,
    }
}

fn not_startable(error: &SettingsError) -> Problem {
    tracing::error!(%error, "the broker cannot be connected to");
    match error {
        SettingsError::CaFile(_) | SettingsError::ClientCertificate(_) | SettingsError::SystemRoots => {
            KeysProblem::Certificates.into()
        }
        _ => crate::problem::InviteProblem::Unreadable.into(),
    }
}

fn not_held(error: &NotHeld) -> KeysProblem {
    match error {
        NotHeld::By(holder) => KeysProblem::InUse(*holder),
        NotHeld::Io(error) => {
            tracing::error!(%error, "the data directory cannot be used");
            KeysProblem::Unreadable
        }
    }
}

/// For somebody who has no pairing yet.
fn in_the_way(error: &NotHeld) -> Problem {
    match not_held(error) {
        problem @ KeysProblem::InUse(_) => problem.into(),
        _ => Problem::CannotSave,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use valetkey_link::PublishError;

    use super::*;
    use crate::keystore::MemoryKeyStore;
    use crate::samples::{invite, pairing_with};

    /// A connection that nobody knows of would push the next one of the same device out, and be pushed out by it, for ever.
    #[tokio::test]
    async fn a_session_that_nobody_wants_takes_its_connection_along() {
        let dir = tempfile::tempdir().unwrap();
        let (_, options) = pairing_with("Rocky", dir.path()).await;
        let Ok(session) = load(&options).await else { panic!("no session") };
        let link = session.link.clone();
        drop(session);
        let ended = async {
            while link.publish("a/topic", "a message", Retain::No) != Err(PublishError::Stopped) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the connection goes on");
    }

    /// Agrees to an invite of a broker that is not there, but for the `enroll`: the power fails before that is kept.
    async fn cut_short(dir: &std::path::Path) -> (Invite, Options, Session) {
        let (invite, options) = pairing_with("Rocky", dir).await;
        let Ok(session) = load(&options).await else { panic!("no session") };
        (invite, options, session)
    }

    #[tokio::test]
    async fn a_pairing_that_was_cut_short_before_its_enrolment_was_kept_is_finished_by_the_same_link() {
        let dir = tempfile::tempdir().unwrap();
        let (invite, options, session) = cut_short(dir.path()).await;
        let device = session.keeper.keys.thumbprint();
        assert_eq!(session.keeper.kept().outbox.enrolment(), None);
        let mut session = Some(session);
        let mut enrolments = Vec::new();
        for _ in 0..2 {
            let pair = Pair { invite: invite.clone(), before: session.take(), options: options.clone() };
            let Ok(next) = pair.run().await else { panic!("not paired") };
            enrolments.push(next.keeper.kept().outbox.enrolment().expect("an enrolment"));
            assert_eq!(next.keeper.keys.thumbprint(), device);
            session = Some(next);
        }
        assert_eq!(enrolments[0], enrolments[1], "one that waits is let be");
        let session = session.unwrap();
        session.keeper.kept().outbox.clear().unwrap();
        session.change(|pairing| pairing.enrolled = true);
        let Ok(session) = session.anew(&invite, &options).await else { panic!("no session") };
        assert_eq!(session.keeper.kept().outbox.enrolment(), None, "an agent that knows it needs none");
    }

    /// Whoever still has the files when others begin on them writes the old pairing over the new one.
    #[tokio::test]
    async fn who_leaves_has_ended_whatever_writes_to_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let (_, _, session) = cut_short(dir.path()).await;
        let keeper = Arc::clone(&session.keeper);
        let used = Arc::clone(&session.keeper);
        let sign_in = session.spawn(async move {
            std::future::pending::<()>().await;
            drop(used);
        });
        sign_in.abort();
        drop(session.leave(Vec::new()).await);
        assert_eq!(Arc::strong_count(&keeper), 1);
    }

    #[tokio::test]
    async fn keys_that_are_not_this_devices_are_not_used() {
        let (device, other) = (Keys::generate(), Keys::generate());
        let broker = invite("Rocky", Keys::generate().public()).broker;
        for (keys, taken) in [(&device, true), (&other, false)] {
            let store = MemoryKeyStore::default();
            let entry = Entry::new(keys, &broker).to_secret().unwrap();
            store.store(EntryName::Device(device.thumbprint()), entry).await.unwrap();
            assert_eq!(keys_of(&device.thumbprint(), &store).await.is_ok(), taken);
        }
    }
}
