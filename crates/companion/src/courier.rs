//! Carries between the outbox and the broker, and from the broker to the heart. It opens what the agent sends and decides
//! nothing about it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;
use valetkey_entra::account::AccountId;
use valetkey_handoff::message::{AccountRef, Health as WireHealth, Outcome, Receipt, State};
use valetkey_handoff::{Presence, PublicKeys, ToDevice, Topic, Topics, open};
use valetkey_link::{self as link, Clock, Link, PublishId, Retain};

use crate::currency::Currency;
use crate::keeper::Keeper;
use crate::outbox::{Pending, What};
use crate::problem::InviteProblem;
use crate::shown::shown;
use crate::state::{Account, Health, LinkProblem};
use crate::step::Event;

/// How long an answer may take once the broker has an `enroll` whose invite is over. The agent may have taken it in time, and
/// what it said then waits at the broker for a computer that slept; a round trip takes well under a second.
const ENROLL_PATIENCE: Duration = Duration::from_secs(30);
/// How long somebody who unpairs waits for the last messages to reach the broker.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);

/// Others can give reason to ask or to send again (presence is anybody's to write). However often they do, each is done once
/// in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// What the courier is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    SayHello,
    SendPending,
    /// The agent knows this device now, also if that could not be saved.
    Enrolled,
    /// Ask the agent to give up these accounts, and answer when the broker has it, or after a while.
    Farewell(Vec<AccountId>, oneshot::Sender<()>),
}

pub(crate) struct Courier {
    keeper: Arc<Keeper>,
    agent: PublicKeys,
    topics: Topics,
    link: Link,
    clock: Clock,
    heart: mpsc::UnboundedSender<Event>,
    up: bool,
    /// The agent knows this device. The file may be the last one to hear of it.
    enrolled: bool,
    /// Since when, on this connection, the broker has had an `enroll` that came after its invite's end.
    late_since: Option<Instant>,
    /// With the link and not yet with the broker.
    in_flight: HashMap<PublishId, Uuid>,
    currency: Currency,
    /// How many messages for this device were not the agent's.
    unread: u64,
    hello: Paced,
    wake: Paced,
    farewell: Option<oneshot::Sender<()>>,
}

impl Courier {
    pub fn new(keeper: Arc<Keeper>, link: Link, clock: Clock, heart: mpsc::UnboundedSender<Event>) -> Self {
        let (agent, topics, enrolled) = {
            let pairing = &keeper.kept().pairing;
            (pairing.get().agent.clone(), pairing.get().topics(), pairing.get().enrolled)
        };
        Self {
            keeper,
            agent,
            topics,
            enrolled,
            link,
            clock,
            heart,
            up: false,
            late_since: None,
            in_flight: HashMap::new(),
            currency: Currency::default(),
            unread: 0,
            hello: Paced::default(),
            wake: Paced::default(),
            farewell: None,
        }
    }

    /// Runs until the link is stopped, or nobody is left to give orders; then the link ends with it.
    pub async fn run(mut self, mut events: link::Events, mut orders: mpsc::UnboundedReceiver<Order>) {
        let clock = self.clock.clone();
        loop {
            let due = if self.up { self.keeper.kept().outbox.next_due(self.held()) } else { None };
            let timer = async {
                match due {
                    // Looked at again meanwhile: the clock may have been put back.
                    Some(at) => drop(tokio::time::timeout(link::RECHECK, clock.sleep_until(at)).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.link_event(event),
                    None => return,
                },
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                () = timer => self.send_due(),
                () = at(self.late_since.map(|since| since + ENROLL_PATIENCE)) => self.drop_late_enroll(),
                () = paced(self.up, [&self.hello, &self.wake]) => {}
            }
            self.do_paced();
            if self.in_flight.is_empty()
                && let Some(done) = self.farewell.take()
            {
                let _ = done.send(());
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::SayHello => self.hello.wanted = true,
            Order::SendPending => {
                self.wake.wanted = true;
                self.send_due();
            }
            Order::Enrolled => self.enrolled = true,
            Order::Farewell(accounts, done) => {
                for account in accounts {
                    if let Err(error) = self.keeper.keep_disconnect(account, self.clock.now()) {
                        tracing::warn!(%error, "could not ask for an account to be given up");
                    }
                }
                self.send_due();
                self.farewell = self.up.then_some(done);
            }
        }
    }

    fn do_paced(&mut self) {
        if !self.up {
            return;
        }
        let now = Instant::now();
        if self.hello.take(now) {
            self.say_hello();
        }
        if self.wake.take(now) {
            self.keeper.kept().outbox.wake();
            self.send_due();
        }
    }

    fn say_hello(&mut self) {
        match self.keeper.hello(self.clock.now()) {
            Ok(sealed) => {
                self.currency.asked(sealed.jti);
                // Not kept: the next connection says it again.
                let sent = self.link.publish(self.keeper.inbox_topic(), sealed.text, Retain::No);
                if let Err(error) = sent {
                    tracing::warn!(%error, "could not say hello");
                }
            }
            Err(error) => tracing::error!(%error, "could not seal a hello"),
        }
    }

    fn send_due(&mut self) {
        if !self.up {
            return;
        }
        let due = self.keeper.kept().outbox.due(self.clock.now(), self.held());
        for pending in due {
            match self.link.publish(pending.topic, pending.sealed, Retain::No) {
                Ok(id) => {
                    self.in_flight.insert(id, pending.jti);
                }
                Err(error) => tracing::warn!(%error, "a sealed message waits for the next try"),
            }
        }
    }

    /// What is not to be sent now: it is being sent; or, until the agent knows this device, nobody but it may write to its inbox,
    /// and nobody would read it.
    fn held(&self) -> impl Fn(&Pending) -> bool + use<> {
        let on_its_way: HashSet<Uuid> = self.in_flight.values().copied().collect();
        let enrolled = self.enrolled;
        move |pending| {
            on_its_way.contains(&pending.jti) || !(enrolled || matches!(pending.what, What::Enroll { .. }))
        }
    }

    /// An agent refuses an `enroll` whose invite is over, and cannot tell a device it does not know.
    fn drop_late_enroll(&mut self) {
        self.late_since = None;
        let jti = self.keeper.kept().outbox.enrolment();
        if let Some(jti) = jti
            && self.answered(jti).is_some()
        {
            self.tell(Event::EnrollRefused(InviteProblem::Expired));
        }
    }

    fn link_event(&mut self, event: link::Event) {
        match event {
            link::Event::Up { session_present } => {
                self.up = true;
                if !session_present {
                    self.keeper.kept().outbox.begin_anew();
                }
                self.tell(Event::LinkUp);
            }
            link::Event::Down { problem, retry_in } => {
                tracing::debug!(%problem, ?retry_in, "not connected to the broker");
                self.up = false;
                self.late_since = None;
                self.farewell = None;
                self.begin_anew_if_cut_off();
                self.tell(Event::LinkDown(link_problem(problem)));
            }
            link::Event::Published { id, .. } => {
                if let Some(jti) = self.in_flight.remove(&id) {
                    self.published(jti);
                }
            }
            link::Event::Refused { topic, id } => {
                let kept = id.and_then(|id| self.in_flight.remove(&id)).is_some();
                let presence = self.presence_topic();
                if is_shut_out(&presence, &topic, kept || id.is_none(), self.enrolled) {
                    tracing::warn!(topic, "the broker does not let this device in there");
                    self.tell(Event::LinkDown(LinkProblem::Refused));
                }
            }
            link::Event::Message(delivery) => {
                match self.topics.parse(&delivery.topic) {
                    Some(Topic::Presence(who)) if who == *self.topics.agent() => {
                        if let Some(presence) = Presence::parse(&delivery.payload) {
                            self.tell(Event::AgentPresence { online: presence == Presence::Online });
                        }
                    }
                    Some(Topic::Out(device)) if device == self.keeper.keys.thumbprint() => {
                        self.open(&delivery.payload);
                    }
                    _ => tracing::debug!("a message on a topic that was not asked for"),
                }
                self.link.ack(delivery);
            }
            _ => {}
        }
    }

    /// A broker that was killed forgets what it has acknowledged last. The link would go on after that; sent again from the
    /// first on, what waits keeps its order.
    fn begin_anew_if_cut_off(&mut self) {
        if !self.in_flight.is_empty() {
            self.link.withdraw_all();
            self.in_flight.clear();
            self.keeper.kept().outbox.begin_anew();
        }
    }

    fn published(&mut self, jti: Uuid) {
        self.keeper.kept().outbox.delivered(jti, self.clock.now());
        let what = self.keeper.kept().outbox.all().find(|p| p.jti == jti).map(|p| p.what.clone());
        match what {
            Some(What::SignIn { generation, .. }) => self.tell(Event::Published { generation }),
            Some(What::Enroll { expires_at }) if expires_at < self.clock.now() => {
                self.late_since.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }

    fn open(&mut self, bytes: &[u8]) {
        let opened = match open::<ToDevice>(bytes, &self.agent, &self.keeper.keys, self.clock.now()) {
            Ok(opened) => opened,
            Err(error) => {
                self.unread += 1;
                // Whoever can write here can write very many.
                if self.unread.is_power_of_two() {
                    let unread = self.unread;
                    tracing::warn!(%error, unread, "a message for this device was not the agent's, and was left unread");
                }
                return;
            }
        };
        let answers = match &opened.message {
            ToDevice::State(state) => state.answers,
            _ => None,
        };
        let current = self.currency.judge(&opened.header, answers);
        match opened.message {
            // These two answer what is waiting in the outbox, or nothing.
            ToDevice::Receipt(receipt) => self.receipt(receipt),
            ToDevice::Enrolled(_) => self.enrolled(),
            ToDevice::State(state) if current => {
                self.enrolled();
                self.tell(Event::AgentState(accounts(state)));
            }
            ToDevice::AuthExpired(expired) if current => self.tell(Event::AuthExpired {
                account: account(expired.account),
                reason: expired.reason.as_str().to_owned(),
                claims: expired.claims,
            }),
            ToDevice::State(_) | ToDevice::AuthExpired(_) => {
                tracing::debug!("a message that may be an old one; asking how things are");
                self.hello.wanted = true;
            }
        }
    }

    fn enrolled(&self) {
        let jti = self.keeper.kept().outbox.enrolment();
        if let Some(jti) = jti
            && self.answered(jti).is_some()
        {
            self.known_now();
        }
    }

    /// The agent knows this device, and its broker lets it in from now on.
    fn known_now(&self) {
        // The one of the connection's beginning was refused, if the broker opens topics for enrolled devices only.
        if let Err(error) = self.link.publish(self.presence_topic(), Presence::Online.as_bytes(), Retain::Yes)
        {
            tracing::warn!(%error, "could not say that this device is online");
        }
        self.tell(Event::Enrolled);
    }

    fn presence_topic(&self) -> String {
        self.topics.presence(&self.keeper.keys.thumbprint())
    }

    fn receipt(&mut self, receipt: Receipt) {
        match (self.answered(receipt.of), receipt.outcome) {
            (Some(What::SignIn { account, generation, .. }), outcome) => {
                let outcome = match outcome {
                    Outcome::Stored { refreshed_at } => Ok(refreshed_at),
                    Outcome::Refused { reason } => Err(reason.as_str().to_owned()),
                    // Not an answer to a sign-in; better asked again than believed.
                    Outcome::Done => Err("unexpected".to_owned()),
                };
                self.currency.forget_asked();
                self.tell(Event::Receipt { account, generation, outcome });
            }
            (Some(What::Enroll { .. }), Outcome::Refused { reason }) => {
                let problem = match reason.as_str() {
                    "invite-expired" => InviteProblem::Expired,
                    _ => InviteProblem::Used,
                };
                self.tell(Event::EnrollRefused(problem));
            }
            (Some(What::Enroll { .. }), _) => self.known_now(),
            (Some(What::Disconnect { .. }), _) => self.hello.wanted = true,
            // A receipt that comes twice, or for what a newer sign-in has overtaken.
            (None, _) => {}
        }
    }

    fn answered(&self, jti: Uuid) -> Option<What> {
        self.keeper.kept().outbox.remove(jti).unwrap_or_else(|error| {
            tracing::warn!(%error, "an answered message could not be removed and will be sent once more");
            None
        })
    }

    fn tell(&self, event: Event) {
        // Nobody listens only when the companion has stopped.
        let _ = self.heart.send(event);
    }
}

/// Whether a refusal at `topic` means that this device cannot do its work. `needed`: a subscription, or a message that is
/// kept until it is answered. Until the agent has enrolled the device its broker need not know it, and presence is a hint.
fn is_shut_out(presence: &str, topic: &str, needed: bool, enrolled: bool) -> bool {
    topic != presence && (needed || enrolled)
}

/// Something that is done when wanted, but not more than once in [`PAUSE`].
#[derive(Debug, Default)]
struct Paced {
    wanted: bool,
    not_before: Option<Instant>,
}

impl Paced {
    fn take(&mut self, now: Instant) -> bool {
        let due = self.wanted && self.not_before.is_none_or(|at| at <= now);
        if due {
            *self = Self { wanted: false, not_before: Some(now + PAUSE) };
        }
        due
    }
}

/// Returns when one that is wanted may be done.
async fn paced(up: bool, all: [&Paced; 2]) {
    let wanted = all.into_iter().filter(|one| up && one.wanted);
    at(wanted.filter_map(|one| one.not_before).min()).await;
}

async fn at(time: Option<Instant>) {
    match time {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ends a link politely; asks first for `accounts` to be given up, as far as that can be done now.
pub(crate) async fn farewell(orders: &mpsc::UnboundedSender<Order>, accounts: Vec<AccountId>) {
    let (done, waiting) = oneshot::channel();
    if !accounts.is_empty() && orders.send(Order::Farewell(accounts, done)).is_ok() {
        // Dropped at once when there is no connection, and this returns.
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, waiting).await;
    }
}

fn link_problem(problem: link::Problem) -> LinkProblem {
    match problem {
        link::Problem::TlsUntrusted => LinkProblem::NotSecure,
        link::Problem::TlsWrongName => LinkProblem::WrongName,
        link::Problem::TlsExpired => LinkProblem::Expired,
        link::Problem::Refused(link::Refusal::ClientCertificate) => LinkProblem::NoCertificate,
        link::Problem::Refused(link::Refusal::Unavailable) => LinkProblem::Unreachable,
        link::Problem::Refused(_) => LinkProblem::Refused,
        _ => LinkProblem::Unreachable,
    }
}

fn account(id: AccountRef) -> AccountId {
    AccountId { tid: id.tid, oid: id.oid }
}

pub(crate) fn accounts(state: State) -> Vec<Account> {
    let health = |health| match health {
        WireHealth::Connected => Health::Connected,
        WireHealth::Retrying => Health::Retrying,
        WireHealth::ReconnectNeeded => Health::ReconnectNeeded,
        WireHealth::Blocked => Health::Blocked,
        WireHealth::Unknown => Health::Unknown,
    };
    state
        .accounts
        .into_iter()
        .map(|one| Account {
            id: account(one.account),
            address: shown(&one.username),
            health: health(one.health),
            reason: one.reason.map(|reason| reason.as_str().to_owned()),
            claims: one.claims,
            generation: one.generation,
            checked_at: one.checked_at,
            capabilities: one.capabilities.iter().map(|capability| shown(capability)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first pairing through a broker that opens topics for enrolled devices only.
    #[test]
    fn a_refused_birth_or_early_hello_is_no_harm_and_a_refused_subscription_is() {
        let (presence, inbox, outbox) = ("vk/presence/me", "vk/in/me", "vk/out/me");
        for enrolled in [false, true] {
            assert!(!is_shut_out(presence, presence, true, enrolled), "a birth has no id, as a subscription");
            assert!(!is_shut_out(presence, presence, false, enrolled), "presence said again");
            assert!(is_shut_out(presence, outbox, true, enrolled), "a subscription");
            assert!(is_shut_out(presence, inbox, true, enrolled), "a message that waits for its answer");
        }
        assert!(!is_shut_out(presence, inbox, false, false), "a hello before the agent knows this device");
        assert!(is_shut_out(presence, inbox, false, true));
    }
}
