//! Does what the heart decided: keys, files, the broker, sign-ins, and what only the shell can do.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::TaskTracker;
use valetkey_entra::person::Expected;
use valetkey_handoff::Invite;

use crate::controller::Options;
use crate::courier::Order;
use crate::outlet::Outlet;
use crate::problem::{InviteProblem, Problem};
use crate::session::{self, Session};
use crate::shown::unmarked;
use crate::sign_in::SignIn;
use crate::state::{Health, Offer, Pairing};
use crate::step::{Ask, Effect, Event, NotPaired, Then};
use crate::texts::{Text, say};
use crate::view::View;
use crate::{invite, session::Pair};

/// Name of the one notification there is.
const LAPSE: &str = "lapse";

/// What a task of the hands brings back to them.
pub(crate) enum Done {
    Loaded(Result<Session, Pairing>),
    InviteRead(Result<Box<(Invite, Offer)>, InviteProblem>),
    Paired(Result<Session, (Problem, Option<Session>)>),
}

impl Done {
    fn into_session(self) -> Option<Session> {
        match self {
            Self::Loaded(Ok(session)) | Self::Paired(Ok(session) | Err((_, Some(session)))) => Some(session),
            _ => None,
        }
    }
}

pub(crate) struct Hands {
    options: Options,
    events: mpsc::UnboundedSender<Event>,
    done: mpsc::UnboundedSender<Done>,
    /// The invite on show; its secret never leaves here.
    offered: Option<Invite>,
    session: Option<Session>,
    loading: bool,
    pairing: bool,
    /// What was agreed to while the disk was still being read.
    agreed: Option<Agreed>,
    /// A pairing that has ended and is being removed; nothing else begins on the disk before that.
    leaving: TaskTracker,
    sign_in: Option<RunningSignIn>,
    /// What brings a [`Done`].
    at_work: JoinSet<()>,
}

/// An invite, and whose place it takes as far as the person was told.
struct Agreed {
    invite: String,
    replaces: Option<String>,
}

struct RunningSignIn {
    id: u64,
    renew: mpsc::UnboundedSender<Then>,
    task: AbortHandle,
}

impl Drop for RunningSignIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hands {
    pub fn new(
        options: Options,
        events: mpsc::UnboundedSender<Event>,
        done: mpsc::UnboundedSender<Done>,
    ) -> Self {
        Self {
            options,
            events,
            done,
            offered: None,
            session: None,
            loading: false,
            pairing: false,
            agreed: None,
            leaving: nobody(),
            sign_in: None,
            at_work: JoinSet::new(),
        }
    }

    /// Reads the disk and, if there is a pairing, the keyring; unless that has been done.
    pub fn load(&mut self) {
        if let Some(session) = &self.session {
            let _ = self.events.send(session.facts());
        } else if !self.loading && !self.pairing {
            self.loading = true;
            let (options, leaving) = (self.options.clone(), self.leaving.clone());
            self.spawn(async move {
                leaving.wait().await;
                Done::Loaded(session::load(&options).await)
            });
        }
    }

    /// What the present session's connection brings: nothing of a session that is not known here yet, or not any more.
    pub async fn heard(&mut self) -> Event {
        let next = match &mut self.session {
            Some(session) => session.heard.recv().await,
            None => None,
        };
        match next {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Takes in what a task brought, and says what that means to the heart, if anything.
    pub fn absorb(&mut self, done: Done) -> Option<Event> {
        Some(match done {
            Done::Loaded(loaded) => {
                self.loading = false;
                let event = match (loaded, &self.session) {
                    (Err(pairing), _) => Event::Loaded { pairing, delivery: None, notified: None },
                    (Ok(loaded), None) => {
                        let facts = loaded.facts();
                        // An invite that was opened before this was known.
                        if let Some(invite) = &self.offered {
                            let (invite, replaces) = (invite.id().to_string(), loaded.replaced_by(invite));
                            let _ = self.events.send(Event::InviteReplaces { invite, replaces });
                        }
                        self.session = Some(loaded);
                        facts
                    }
                    // Paired anew in the meantime; two connections of one device would push each other out.
                    (Ok(loaded), Some(session)) => {
                        tokio::spawn(async move { loaded.end().await });
                        session.facts()
                    }
                };
                match (self.agreed.take(), &event) {
                    // As if it had been known before the person agreed.
                    (Some(_), Event::Loaded { pairing: Pairing::NoKeys { problem, .. }, .. })
                        if problem.may_pass() =>
                    {
                        let _ = self.events.send(self.not_paired((*problem).into()));
                    }
                    (Some(agreed), _) => self.pair(agreed),
                    (None, _) => {}
                }
                event
            }
            Done::InviteRead(Err(problem)) => Event::InviteRead(Err(problem)),
            // As the heart would say a moment later: what is on show is what is here.
            Done::InviteRead(Ok(read)) if read.1.expires_at <= self.options.clock.now() => {
                Event::InviteRead(Err(InviteProblem::Expired))
            }
            Done::InviteRead(Ok(_)) if self.pairing || self.agreed.is_some() => {
                tracing::info!("an invite that came while another is agreed to is not shown");
                return None;
            }
            Done::InviteRead(Ok(read)) => {
                let (invite, mut offer) = *read;
                offer.replaces = self.session.as_ref().and_then(|session| session.replaced_by(&invite));
                self.offered = Some(invite);
                Event::InviteRead(Ok(offer))
            }
            Done::Paired(Err((problem, before))) => {
                self.pairing = false;
                // Agreeing has given up the sign-in that ran.
                before.iter().for_each(Session::discard_on_hold);
                self.session = before;
                self.not_paired(problem)
            }
            Done::Paired(Ok(session)) => {
                self.pairing = false;
                self.offered = None;
                let paired = session.paired();
                self.session = Some(session);
                Event::Paired(Ok(paired))
            }
        })
    }

    pub fn perform(&mut self, effect: Effect, view: &View) {
        match effect {
            Effect::Load => self.load(),
            Effect::ReadInvite(link) => {
                let (clock, policy) = (self.options.clock.clone(), self.options.policy_file.clone());
                self.spawn(async move {
                    Done::InviteRead(invite::read(link, policy, clock.now()).await.map(Box::new))
                });
            }
            Effect::Pair { invite, replaces } => self.pair(Agreed { invite, replaces }),
            Effect::GiveUpPairing => {
                self.agreed = None;
                // What there is goes on, and the heart hears of it.
                self.load();
            }
            Effect::StartSignIn(ask) => self.start_sign_in(ask),
            Effect::RenewSignIn { id, then } => {
                if let Some(running) = self.sign_in.as_ref().filter(|running| running.id == id) {
                    let _ = running.renew.send(then);
                }
            }
            Effect::StopSignIn { id } => {
                self.sign_in.take_if(|running| running.id == id);
            }
            Effect::OpenBrowser(link) => self.shell(link.url().map(Outlet::OpenBrowser)),
            Effect::CopyLink(link) => self.shell(link.url().map(|url| Outlet::Clipboard(url.into()))),
            Effect::CopyRequest => self.shell(view.copy_text.clone().map(Outlet::Clipboard)),
            Effect::NotifyLapse { address, health } => self.notify(&address, health),
            Effect::WithdrawLapse => self.shell(Some(Outlet::Withdraw { id: LAPSE.into() })),
            Effect::SayHello => self.order(Order::SayHello),
            Effect::SendPending => self.order(Order::SendPending),
            Effect::HandOver { generation } => self.with_session(|session| session.hand_over(generation)),
            Effect::Unpair { tell } => self.unpair(tell),
            Effect::Discard { generation } => self.with_session(|session| session.discard(generation)),
            Effect::AskDisconnect { account } => self.with_session(|session| {
                session.disconnect(account, self.options.clock.now());
            }),
            Effect::SaveEnrolled => self.with_session(|session| {
                session.change(|pairing| pairing.enrolled = true);
                session.order(Order::Enrolled);
            }),
            Effect::SavePinned(pinned) => self.with_session(|s| s.change(|p| p.pinned = Some(pinned.into()))),
            Effect::SaveLapse(lapse) => {
                self.with_session(|s| s.change(|p| p.notified = lapse.map(Into::into)));
            }
        }
    }

    /// For a check: changes nothing of what is shown, unless the answer does.
    pub fn ask_the_assistant(&self) {
        self.order(Order::SayHello);
    }

    /// Nothing that was sealed is lost: it is in the outbox. What is being begun is given up, as it is when the power fails: a
    /// connection that came after this would be nobody's, and push the next start's out for ever.
    pub async fn stop(mut self, mut brought: mpsc::UnboundedReceiver<Done>) {
        let given_up = self.sign_in.take().is_none();
        self.at_work.shutdown().await;
        let begun = std::iter::from_fn(|| brought.try_recv().ok()).filter_map(Done::into_session);
        for session in begun.chain(self.session.take()) {
            session.end().await;
            // Sealed in the moment of giving it up; the next start would send it.
            if given_up {
                session.discard_on_hold();
            }
        }
        self.leaving.wait().await;
    }

    fn pair(&mut self, agreed: Agreed) {
        if self.pairing {
            return;
        }
        let Some(invite) = self.offered.clone().filter(|invite| invite.id().as_str() == agreed.invite) else {
            tracing::error!("the invite that was agreed to is not the one that is here");
            let _ = self.events.send(self.not_paired(InviteProblem::Unreadable.into()));
            return;
        };
        let replaces = self.session.as_ref().and_then(|session| session.replaced_by(&invite));
        if replaces.is_some() && replaces != agreed.replaces {
            // Found only after the person was asked: then the question was another one.
            let _ = self.events.send(Event::InviteReplaces { invite: agreed.invite, replaces });
            return;
        }
        if self.loading {
            self.agreed = Some(agreed);
            return;
        }
        self.pairing = true;
        self.sign_in = None;
        let before = self.session.take();
        let pair = Pair { invite, before, options: self.options.clone() };
        let leaving = self.leaving.clone();
        self.spawn(async move {
            leaving.wait().await;
            Done::Paired(pair.run().await)
        });
    }

    fn not_paired(&self, problem: Problem) -> Event {
        Event::Paired(Err(NotPaired { problem, goes_on: self.session.is_some() }))
    }

    /// On the disk at once, and then done in the background: the agent, the broker and the keyring take their time.
    fn unpair(&mut self, tell: Vec<valetkey_entra::account::AccountId>) {
        self.sign_in = None;
        if let Some(session) = self.session.take() {
            session.change(|pairing| pairing.leaving = true);
            let before = std::mem::replace(&mut self.leaving, nobody());
            let keys = Arc::clone(&self.options.keys);
            self.leaving.spawn(async move {
                before.wait().await;
                session.forget(tell, keys).await;
            });
        }
    }

    fn start_sign_in(&mut self, ask: Ask) {
        let Some(session) = &self.session else { return };
        let id = ask.id;
        let (renew, renewals) = mpsc::unbounded_channel();
        let sign_in = {
            let kept = session.keeper.kept();
            let pairing = kept.pairing.get();
            let pinned = pairing.pinned.as_ref();
            SignIn {
                ask,
                terms: pairing.terms.clone(),
                expected: Expected {
                    email: pairing.terms.email.clone(),
                    account: pinned.map(|pinned| pinned.id),
                },
                wanted: pinned.map(|pinned| pinned.address.clone()).or_else(|| pairing.terms.email.clone()),
                way: self.options.sign_in,
                clock: self.options.clock.clone(),
                language: self.options.language,
                keeper: Arc::clone(&session.keeper),
                events: self.events.clone(),
                at_work: session.at_work(),
            }
        };
        let task = session.spawn(sign_in.run(renewals));
        self.sign_in = Some(RunningSignIn { id, renew, task });
    }

    fn notify(&self, address: &str, health: Health) {
        let address = &unmarked(address);
        let (title, body) = match health {
            Health::Blocked => (Text::BlockedTitle, Text::BlockedBody { address }),
            _ => (Text::LapseTitle, Text::LapseBody { address }),
        };
        let language = self.options.language;
        let (title, body) = (say(language, title), say(language, body));
        self.shell(Some(Outlet::Notify { id: LAPSE.into(), title, body }));
    }

    fn order(&self, order: Order) {
        self.with_session(|session| session.order(order));
    }

    fn with_session(&self, act: impl FnOnce(&Session)) {
        if let Some(session) = &self.session {
            act(session);
        }
    }

    fn shell(&self, outlet: Option<Outlet>) {
        if let Some(outlet) = outlet {
            // A shell that is gone has nobody to show anything to.
            let _ = self.options.outlets.send(outlet);
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        while self.at_work.try_join_next().is_some() {}
        let done = self.done.clone();
        self.at_work.spawn(async move {
            let _ = done.send(work.await);
        });
    }
}

/// Its wait is over as soon as all of its tasks are.
fn nobody() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}

#[cfg(test)]
mod tests;
