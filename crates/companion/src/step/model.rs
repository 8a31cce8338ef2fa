//! Every order of events: there is a way on, one sign-in at most, and no green without the assistant's word.

use std::cell::Cell;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use valetkey_tests::strangers::{explore, is_found_out};

use super::tests::{sealed, stored, waiting_step};
use super::*;
use crate::problem::{Distrust, KeysProblem};
use crate::samples::{ANA, BOB, account, assistant, now, offer};
use crate::texts::Language;
use crate::view::{Screen, view};

fn events() -> impl Strategy<Value = (Event, i64)> {
    let commands = prop_oneof![
        Just(Command::AcceptInvite { invite: None }),
        Just(Command::DeclineInvite),
        Just(Command::Connect),
        Just(Command::Cancel),
        Just(Command::OpenAgain),
        Just(Command::CopyLink),
        Just(Command::Reconnect),
        Just(Command::Disconnect { account: None }),
        Just(Command::UseDifferentAccount),
        Just(Command::Retry),
        Just(Command::Unpair),
        Just(Command::Dismiss),
    ];
    let problems = prop_oneof![
        Just(Problem::from(SignInProblem::WrongAccount { signed_in_as: "x".into() })),
        Just(SignInProblem::Administrator { reason: "admin-consent".into(), aadsts: vec![] }.into()),
        Just(SignInProblem::Untrusted(Distrust::Nonce).into()),
        Just(Problem::CannotSave),
    ];
    let steps = prop_oneof![
        Just(waiting_step(Then::Open)),
        Just(SignInStep::Returned),
        Just(SignInStep::SignedIn),
        Just(SignInStep::Checked),
        (1..4u64).prop_map(sealed),
        (1..4u64).prop_map(|generation| SignInStep::Sealed {
            account: BOB,
            address: "bob@fabrikam.example".into(),
            generation,
        }),
        Just(SignInStep::Cancelled),
        problems.prop_map(SignInStep::Failed),
    ];
    let healths = prop_oneof![
        Just(Health::Connected),
        Just(Health::Retrying),
        Just(Health::ReconnectNeeded),
        Just(Health::Blocked),
        Just(Health::Unknown),
    ];
    let refusals =
        prop::sample::select(&["damaged", "older", "revoked", "token-protection", "in-years-to-come"][..]);
    let whose = prop::sample::select(&[ANA, BOB][..]);
    let replaced = prop::option::of(Just("Old".to_owned()));
    let locked = Pairing::NoKeys { problem: KeysProblem::Locked, since: now() };
    let pairings = prop_oneof![Just(Pairing::Missing), Just(locked), Just(Pairing::Paired(assistant()))];
    let deliveries = || {
        let on_its_way =
            (prop::sample::select(&[ANA, BOB][..]), 1..4u64).prop_map(|(account, generation)| Delivery {
                account,
                address: "somebody".into(),
                generation,
                delivered: false,
            });
        prop::option::of(on_its_way)
    };
    let event = prop_oneof![
        6 => commands.prop_map(Event::Command),
        6 => (0..4u64, steps).prop_map(|(id, step)| Event::SignIn { id, step }),
        1 => (pairings, deliveries()).prop_map(|(pairing, delivery)| {
            let delivery = delivery.filter(|_| matches!(pairing, Pairing::Paired(_)));
            Event::Loaded { pairing, delivery, notified: None }
        }),
        1 => Just(Event::InviteRead(Ok(offer()))),
        1 => Just(Event::InviteRead(Err(InviteProblem::Unreadable))),
        1 => (prop::sample::select(vec![offer().id, "of-another-invite".to_owned()]), replaced)
            .prop_map(|(invite, replaces)| Event::InviteReplaces { invite, replaces }),
        2 => deliveries().prop_map(|delivery| Event::Paired(Ok((assistant(), delivery)))),
        1 => any::<bool>().prop_map(|goes_on| {
            Event::Paired(Err(NotPaired { problem: Problem::CannotSave, goes_on }))
        }),
        1 => Just(Event::LinkUp),
        1 => prop::sample::select(&[LinkProblem::Unreachable, LinkProblem::Refused][..]).prop_map(Event::LinkDown),
        1 => any::<bool>().prop_map(|online| Event::AgentPresence { online }),
        1 => Just(Event::Enrolled),
        1 => Just(Event::EnrollRefused(InviteProblem::Used)),
        2 => (1..4u64).prop_map(stored),
        1 => (whose.clone(), 1..4u64).prop_map(|(account, generation)| Event::Receipt {
            account, generation, outcome: Ok(now()),
        }),
        1 => (whose.clone(), 1..4u64, refusals).prop_map(|(account, generation, reason)| Event::Receipt {
            account, generation, outcome: Err(reason.into()),
        }),
        1 => (1..4u64).prop_map(|generation| Event::Published { generation }),
        2 => healths.prop_map(|health| Event::AgentState(vec![account(health)])),
        1 => Just(Event::AgentState(vec![])),
        1 => Just(Event::AgentState(vec![account(Health::Connected), Account { id: BOB, ..account(Health::Retrying) }])),
        1 => Just(Event::AgentState(vec![Account { id: BOB, ..account(Health::Connected) }])),
        1 => (whose, prop::option::of(Just("{}".to_owned()))).prop_map(|(account, claims)| Event::AuthExpired {
            account, reason: "revoked".into(), claims,
        }),
        1 => Just(Event::Tick),
    ];
    (event, 0..90i64)
}

type Machine = fn(State, Event, Timestamp) -> (State, Vec<Effect>);

/// What a simple mind remembers.
struct Witness {
    machine: Machine,
    state: State,
    running: Option<u64>,
    /// Whether the assistant's last word on each account was a good one.
    said: BTreeMap<AccountId, bool>,
    /// The sign-in that is handed over, and neither confirmed nor refused nor taken back.
    pending: Option<(AccountId, u64)>,
    was_green: bool,
    waited: bool,
}

impl Witness {
    fn of(machine: Machine) -> Self {
        Self {
            machine,
            state: State::default(),
            running: None,
            said: BTreeMap::new(),
            pending: None,
            was_green: false,
            waited: false,
        }
    }

    /// Through a whole history.
    fn follow(&mut self, history: Vec<(Event, i64)>) -> Result<usize, TestCaseError> {
        let (steps, mut at) = (history.len(), now());
        for (event, seconds) in history {
            at += SignedDuration::from_secs(seconds);
            self.step(event, at)?;
        }
        Ok(steps)
    }

    fn step(&mut self, event: Event, at: Timestamp) -> TestCaseResult {
        let sealed = self.hear(&event);
        let (next, effects) = (self.machine)(std::mem::take(&mut self.state), event, at);
        for effect in effects {
            match effect {
                Effect::StartSignIn(ask) => {
                    prop_assert_eq!(self.running, None, "a second sign-in beside one that runs");
                    self.running = Some(ask.id);
                }
                Effect::OpenBrowser(_) | Effect::CopyLink(_) => {
                    prop_assert!(self.running.is_some(), "a browser for no sign-in");
                }
                Effect::StopSignIn { id } if self.running == Some(id) => self.running = None,
                Effect::HandOver { generation } => {
                    self.pending = sealed.filter(|sealed| sealed.1 == generation);
                    prop_assert!(self.pending.is_some(), "handed over, and never sealed");
                }
                // A disconnect overtakes it.
                Effect::AskDisconnect { account } => drop(self.pending.take_if(|(id, _)| *id == account)),
                Effect::Unpair { .. } => self.begin_anew(None),
                _ => {}
            }
        }
        prop_assert_eq!(self.running, next.flow.running());
        let view = view(&next, at, Language::English);
        let way_on = !view.actions.is_empty() || next.wake(at).is_some() || next.pairing == Pairing::Checking;
        prop_assert!(way_on, "stuck in {:?}", next);
        let shut_out = matches!(next.link, LinkState::Down { reason: LinkProblem::Refused, .. });
        if shut_out && view.screen == Screen::AgentOffline {
            let (_, tried) = (self.machine)(next.clone(), Event::Command(Command::Retry), at);
            prop_assert!(tried.contains(&Effect::SayHello), "\"Check again\" asks nobody in {:?}", next);
        }
        let in_silence = next.assistant().is_some() && next.heard.is_none() && next.wake(at).is_none();
        prop_assert!(!in_silence || next.away(at), "checking with no end in {:?}", next);
        let green = view.screen == Screen::Connected;
        let confirmed = !self.said.is_empty() && self.said.values().all(|good| *good);
        prop_assert!(!green || confirmed, "green without the assistant's word: {:?}", next);
        prop_assert!(!green || self.pending.is_none(), "green before {:?} has a receipt", self.pending);
        prop_assert!(!view.headline.is_empty());
        self.was_green |= green;
        self.waited |= view.screen == Screen::Waiting;
        self.state = next;
        Ok(())
    }

    /// What was sealed just now, if anything.
    fn hear(&mut self, event: &Event) -> Option<(AccountId, u64)> {
        match event {
            Event::Receipt { account, generation, outcome } => {
                let answered = self.pending.take_if(|pending| *pending == (*account, *generation));
                if answered.is_some() && outcome.is_ok() {
                    self.said.insert(*account, true);
                }
            }
            Event::AgentState(all) => {
                let good = |account: &Account| matches!(account.health, Health::Connected | Health::Retrying);
                self.said = all.iter().map(|account| (account.id, good(account))).collect();
                let tells = |account: &Account| !matches!(account.health, Health::Retrying | Health::Unknown);
                self.pending.take_if(|(id, generation)| {
                    all.iter().any(|one| one.id == *id && one.generation >= *generation && tells(one))
                });
            }
            Event::AuthExpired { account, .. } => {
                if let Some(good) = self.said.get_mut(account) {
                    *good = false;
                }
            }
            Event::Loaded { delivery, .. }
                if matches!(self.state.pairing, Pairing::Checking | Pairing::NoKeys { .. }) =>
            {
                self.pending = delivery.as_ref().map(|delivery| (delivery.account, delivery.generation));
            }
            Event::Paired(Ok((_, delivery))) => self.begin_anew(delivery.as_ref()),
            Event::Paired(Err(NotPaired { goes_on: false, .. })) => self.begin_anew(None),
            Event::SignIn { id, step } => {
                let ended =
                    matches!(step, SignInStep::Sealed { .. } | SignInStep::Cancelled | SignInStep::Failed(_));
                let running = self.running.take_if(|running| ended && running == id);
                if let SignInStep::Sealed { account, generation, .. } = step {
                    return running.map(|_| (*account, *generation));
                }
            }
            _ => {}
        }
        None
    }

    /// Another assistant, or none: nothing that was said before counts.
    fn begin_anew(&mut self, delivery: Option<&Delivery>) {
        self.said.clear();
        self.pending = delivery.map(|delivery| (delivery.account, delivery.generation));
    }
}

fn histories() -> impl Strategy<Value = Vec<(Event, i64)>> {
    prop::collection::vec(events(), 0..60)
}

/// Shows J5 and H15 for the decision, in every order of events.
#[test]
fn there_is_always_a_way_on_one_sign_in_at_most_and_no_unfounded_green() {
    let (green, waited) = (Cell::new(0_usize), Cell::new(0_usize));
    explore("the state machine", 2000, &histories(), |history| {
        let mut witness = Witness::of(step);
        let steps = witness.follow(history)?;
        green.set(green.get() + usize::from(witness.was_green));
        waited.set(waited.get() + usize::from(witness.waited));
        Ok(steps)
    });
    println!("states: {} histories saw a sign-in, {} green", waited.get(), green.get());
    assert!(green.get() > 100 && waited.get() > 100, "the interesting states were hardly reached");
}

/// The controls of the model: green at the broker's word, also where an older one was good; two sign-ins at once; and no way on.
#[test]
fn a_state_machine_that_does_what_it_must_not_is_found_out() {
    let green_too_early: Machine = |state, event, now| {
        let published = matches!(event, Event::Published { .. });
        let (mut state, effects) = step(state, event, now);
        if published && state.assistant().is_some() {
            state.heard = Some(vec![account(Health::Connected)]);
        }
        (state, effects)
    };
    let forgets_what_waits: Machine = |state, event, now| {
        let published = matches!(event, Event::Published { .. });
        let (mut state, effects) = step(state, event, now);
        if published {
            state.delivery = None;
        }
        (state, effects)
    };
    let two_at_once: Machine = |mut state, event, now| {
        if matches!(event, Event::Command(Command::Connect)) {
            state.flow = Flow::Idle;
        }
        step(state, event, now)
    };
    let waits_for_ever: Machine = |mut state, event, now| {
        state.pairing = match state.pairing {
            Pairing::NoKeys { problem, .. } => Pairing::NoKeys { problem, since: now },
            other => other,
        };
        let (mut state, effects) = step(state, event, now);
        state.hello_since = None;
        (state, effects)
    };
    let broken = [
        ("green too early", green_too_early),
        ("forgets what waits", forgets_what_waits),
        ("two at once", two_at_once),
        ("waits for ever", waits_for_ever),
    ];
    for (name, broken) in broken {
        let found = is_found_out(2000, &histories(), |history| Witness::of(broken).follow(history));
        assert!(found, "{name}");
    }
}
