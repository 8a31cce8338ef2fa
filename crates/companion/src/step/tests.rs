use jiff::SignedDuration;

use super::*;
use crate::problem::KeysProblem;
use crate::samples::{ANA, BOB, account, assistant, heard, now, offer, paired};
use crate::texts::Language;
use crate::view::{ActionId, Screen, screen, view};

mod late;
mod replacing;

fn act(state: State, command: Command) -> (State, Vec<Effect>) {
    step(state, Event::Command(command), now())
}

fn link(state: u8) -> SignInLink {
    SignInLink::new(&format!("https://login.example/authorize?state={state}").parse().unwrap())
}

fn until() -> Timestamp {
    now() + SignedDuration::from_mins(5)
}

pub(super) fn waiting_step(then: Then) -> SignInStep {
    SignInStep::Waiting { link: link(1), until: until(), device_code: None, then }
}

fn sign_in(state: State, id: u64, step_taken: SignInStep) -> (State, Vec<Effect>) {
    step(state, Event::SignIn { id, step: step_taken }, now())
}

pub(super) fn sealed(generation: u64) -> SignInStep {
    SignInStep::Sealed { account: ANA, address: "ana@contoso.example".into(), generation }
}

pub(super) fn stored(generation: u64) -> Event {
    Event::Receipt { account: ANA, generation, outcome: Ok(now()) }
}

fn waiting() -> State {
    let (state, _) = act(paired(), Command::Connect);
    sign_in(state, 1, waiting_step(Then::Open)).0
}

fn pair() -> Effect {
    Effect::Pair { invite: offer().id, replaces: None }
}

fn not_paired(problem: Problem, goes_on: bool) -> Event {
    Event::Paired(Err(NotPaired { problem, goes_on }))
}

fn screen_of(state: &State) -> Screen {
    screen(state, now())
}

/// Shows H15 for the decision.
#[test]
fn a_double_click_on_connect_starts_one_sign_in() {
    let (state, first) = act(paired(), Command::Connect);
    assert!(matches!(first.as_slice(), [Effect::StartSignIn(Ask { id: 1, .. })]), "{first:?}");
    let (state, second) = act(state, Command::Connect);
    assert_eq!(second, []);
    let (state, opened) = sign_in(state, 1, waiting_step(Then::Open));
    assert_eq!(opened, [Effect::OpenBrowser(link(1))]);
    let (_, third) = act(state, Command::Connect);
    assert_eq!(third, []);
}

#[test]
fn agreeing_to_an_invite_pairs_once_and_goes_straight_on_to_the_browser() {
    let state = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [pair()]);
    let (state, again) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(again, []);
    let (state, effects) = step(state, Event::Paired(Ok((assistant(), None))), now());
    let Some(Effect::StartSignIn(ask)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(ask.login_hint.as_deref(), Some("ana@contoso.example"));
    assert_eq!(screen_of(&state), Screen::Waiting);
}

/// Another program may open a second link while the person reads the first.
///
/// Shows of J1 that what is confirmed is what was seen, for the decision.
#[test]
fn agreeing_is_to_the_invite_that_was_seen_and_to_no_other() {
    let missing = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
    let other = Offer { id: "another".into(), agent: "Mallory".into(), ..offer() };
    let (state, _) = step(missing, Event::InviteRead(Ok(other)), now());
    let (state, effects) = act(state, Command::AcceptInvite { invite: Some(offer().id) });
    assert_eq!((screen_of(&state), effects), (Screen::Invited, vec![]));
    let (_, effects) = act(state, Command::AcceptInvite { invite: Some("another".into()) });
    assert_eq!(effects, [Effect::Pair { invite: "another".into(), replaces: None }]);
}

#[test]
fn a_link_that_cannot_be_used_takes_no_invite_away_and_is_told_of_beside_it() {
    for problem in [InviteProblem::Unreadable, InviteProblem::Expired, InviteProblem::Forbidden] {
        let state = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
        let before = view(&state, now(), Language::English);
        let (state, _) = step(state, Event::InviteRead(Err(problem)), now());
        let after = view(&state, now(), Language::English);
        assert_eq!((after.screen, &after.invite), (Screen::Invited, &before.invite));
        assert!(after.detail.unwrap().contains("couldn't be used"));
        let (state, effects) = act(state, Command::AcceptInvite { invite: Some(offer().id) });
        assert_eq!(effects, [pair()]);
        let (state, _) = step(state, Event::InviteRead(Err(problem)), now());
        assert!(state.offer.is_some(), "agreed to, and tried again if it could not be saved");
    }
}

/// Shows of J1 that nothing begins before the person confirms, for the decision.
#[test]
fn an_invite_starts_nothing_before_somebody_agrees() {
    let state = State { pairing: Pairing::Missing, ..State::default() };
    let (state, effects) = step(state, Event::InviteRead(Ok(offer())), now());
    assert_eq!((screen_of(&state), effects), (Screen::Invited, vec![]));
    let (state, effects) = act(state, Command::DeclineInvite);
    assert_eq!((screen_of(&state), effects), (Screen::NotPaired, vec![]));
}

#[test]
fn an_invite_that_ended_while_it_was_read_is_not_shown() {
    let state = State { pairing: Pairing::Missing, ..State::default() };
    let ended = Offer { expires_at: now(), ..offer() };
    let (state, effects) = step(state, Event::InviteRead(Ok(ended)), now());
    assert_eq!(state.flow, Flow::Failed(InviteProblem::Expired.into()));
    assert_eq!((state.offer, effects), (None, vec![]));
}

#[test]
fn an_assistant_that_starts_for_the_first_time_gets_what_waits_at_once() {
    let (state, _) =
        step(State { pairing: Pairing::Paired(assistant()), ..State::default() }, Event::LinkUp, now());
    let (state, effects) = step(state, Event::AgentPresence { online: true }, now());
    assert!(effects.contains(&Effect::SendPending), "{effects:?}");
    let (_, again) = step(state, Event::AgentPresence { online: true }, now());
    assert_eq!(again, []);
}

#[test]
fn after_half_a_link_the_whole_one_is_shown() {
    let state = State { pairing: Pairing::Missing, ..State::default() };
    let (state, _) = step(state, Event::InviteRead(Err(InviteProblem::Unreadable)), now());
    assert_eq!(screen_of(&state), Screen::Error);
    let (state, _) = step(state, Event::InviteRead(Ok(offer())), now());
    assert_eq!(screen_of(&state), Screen::Invited);
}

#[test]
fn an_invite_that_runs_out_while_it_is_looked_at_cannot_be_accepted() {
    let state = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
    let late = offer().expires_at;
    assert_eq!(state.wake(now()), Some(late));
    let (state, effects) = step(state, Event::Command(Command::AcceptInvite { invite: None }), late);
    assert_eq!(effects, []);
    assert_eq!(state.flow, Flow::Failed(InviteProblem::Expired.into()));
}

#[test]
fn an_invite_that_runs_out_while_the_keys_are_saved_wakes_nobody_again_and_again() {
    let state = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
    let (state, _) = act(state, Command::AcceptInvite { invite: None });
    let late = offer().expires_at + SignedDuration::from_secs(1);
    let (state, _) = step(state, Event::Tick, late);
    assert_eq!((&state.flow, state.wake(late)), (&Flow::Pairing, None));
}

#[test]
fn an_invite_opened_while_checking_asks_before_it_replaces_what_is_then_found() {
    let state = State { offer: Some(offer()), ..State::default() };
    let pairing = Pairing::Paired(assistant());
    let (state, _) = step(state, Event::Loaded { pairing, delivery: None, notified: None }, now());
    let found = |invite: &str| Event::InviteReplaces { invite: invite.into(), replaces: Some("Old".into()) };
    let (state, _) = step(state, found("another"), now());
    assert_eq!(view(&state, now(), Language::English).actions[0].confirm, None);
    let (state, _) = step(state, found(&offer().id), now());
    assert!(view(&state, now(), Language::English).actions[0].confirm.is_some());
}

/// Shows J7 for the decision: opened again, copied fresh, cancelled; and cancelling is not an error.
#[test]
fn a_wait_gives_fresh_links_and_can_be_cancelled() {
    let (state, effects) = act(waiting(), Command::OpenAgain);
    assert_eq!(effects, [Effect::RenewSignIn { id: 1, then: Then::Open }]);
    let (state, effects) = act(state, Command::CopyLink);
    assert_eq!(effects, [Effect::RenewSignIn { id: 1, then: Then::Copy }]);
    let fresh = SignInStep::Waiting { link: link(2), until: until(), device_code: None, then: Then::Copy };
    let (state, effects) = sign_in(state, 1, fresh);
    assert_eq!(effects, [Effect::CopyLink(link(2))]);
    let (state, effects) = act(state, Command::Cancel);
    assert_eq!(effects, [Effect::StopSignIn { id: 1 }]);
    assert_eq!(screen_of(&state), Screen::NotConnected);
    let (state, _) = sign_in(waiting(), 1, SignInStep::Cancelled);
    assert_eq!(screen_of(&state), Screen::NotConnected);
}

/// Shows of M18 that the flow times out, for the decision.
#[test]
fn nobody_waits_for_ever() {
    let state = waiting();
    assert_eq!(state.wake(now()), Some(until()));
    let (state, effects) = step(state, Event::Tick, until());
    assert_eq!(effects, [Effect::StopSignIn { id: 1 }]);
    assert_eq!(state.flow, Flow::Failed(SignInProblem::TimedOut.into()));
    let (_, effects) = act(state, Command::Retry);
    assert!(matches!(effects.as_slice(), [Effect::StartSignIn(_)]), "{effects:?}");
}

#[test]
fn a_sign_in_sealed_in_the_moment_of_cancelling_is_never_sent() {
    let (state, _) = act(waiting(), Command::Cancel);
    let (state, effects) = sign_in(state, 1, sealed(1));
    assert_eq!(effects, [Effect::Discard { generation: 1 }]);
    assert_eq!(state.delivery, None);
}

/// Shows J5 for the decision.
#[test]
fn it_is_connected_only_when_the_assistant_has_said_so() {
    let (state, _) = sign_in(waiting(), 1, SignInStep::Returned);
    let (state, _) = sign_in(state, 1, SignInStep::SignedIn);
    let (state, _) = sign_in(state, 1, SignInStep::Checked);
    let (state, effects) = sign_in(state, 1, sealed(1));
    assert_eq!(effects, [Effect::HandOver { generation: 1 }]);
    let (state, _) = step(state, Event::Published { generation: 1 }, now());
    assert_eq!(screen_of(&state), Screen::HandingOver);
    let (state, _) = step(state, stored(2), now());
    assert_eq!(screen_of(&state), Screen::HandingOver, "a receipt for something else");
    let (state, effects) = step(state, stored(1), now());
    assert_eq!(screen_of(&state), Screen::Connected);
    assert!(matches!(effects.as_slice(), [Effect::SavePinned(pinned)] if pinned.id == ANA), "{effects:?}");
}

/// Shows J5 for the decision: stored is not enough, it must have been refreshed once.
#[test]
fn an_assistant_that_is_still_trying_has_not_confirmed_anything() {
    let (state, _) = sign_in(waiting(), 1, sealed(1));
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Retrying)]), now());
    assert_eq!(screen_of(&state), Screen::HandingOver);
    let (state, effects) = step(state, Event::AgentState(vec![account(Health::Connected)]), now());
    assert_eq!(screen_of(&state), Screen::Connected, "the state says what the lost receipt said");
    assert!(effects.contains(&Effect::Discard { generation: 1 }), "{effects:?}");
}

/// Shows of J5, for the decision, that an older sign-in confirms no newer one, which goes on waiting to be sent.
#[test]
fn an_older_sign_in_that_works_says_nothing_of_a_newer_one() {
    let (state, _) = sign_in(waiting(), 1, sealed(2));
    let (state, effects) = step(state, Event::AgentState(vec![account(Health::Connected)]), now());
    assert!(state.delivery.is_some(), "{state:?}");
    assert!(!effects.contains(&Effect::Discard { generation: 2 }), "{effects:?}");
}

/// Shows of J5, for the decision, that the same link once more does not make a sign-in that is on its way a confirmed one.
#[test]
fn a_pairing_taken_up_again_still_waits_for_the_receipt() {
    let (state, _) = sign_in(waiting(), 1, sealed(1));
    let delivery = state.delivery.clone();
    let state = State { offer: Some(offer()), ..state };
    let (state, _) = act(state, Command::AcceptInvite { invite: None });
    let (state, effects) = step(state, Event::Paired(Ok((assistant(), delivery))), now());
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StartSignIn(_))), "{effects:?}");
    let (state, _) = step(state, Event::LinkUp, now());
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Retrying)]), now());
    assert_eq!(screen_of(&state), Screen::HandingOver);
    let (state, _) = step(state, stored(1), now());
    assert_eq!(screen_of(&state), Screen::Connected);
}

#[test]
fn a_receipt_for_another_account_confirms_nothing() {
    let (state, _) = sign_in(waiting(), 1, sealed(1));
    let account = AccountId { oid: uuid::Uuid::max(), ..ANA };
    let (state, _) = step(state, Event::Receipt { account, generation: 1, outcome: Ok(now()) }, now());
    assert_eq!(screen_of(&state), Screen::HandingOver);
}

#[test]
fn whoever_is_enrolled_is_not_unpaired_by_a_late_refusal() {
    let enrolled = Pairing::Paired(assistant());
    let state = State { pairing: enrolled.clone(), ..State::default() };
    let (state, effects) = step(state, Event::EnrollRefused(InviteProblem::Used), now());
    assert_eq!((state.pairing, effects), (enrolled, vec![]));
}

/// Shows of J8, for the decision, that a presence is a hint: anybody may have written it.
#[test]
fn an_assistant_that_went_away_is_back_when_it_says_so_itself() {
    let (state, _) = step(heard(Health::Connected), Event::AgentPresence { online: true }, now());
    let (state, _) = step(state, Event::AgentPresence { online: false }, now());
    let (state, _) = step(state, Event::AgentPresence { online: true }, now());
    assert_eq!(state.agent_online, Some(false));
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Connected)]), now());
    assert_eq!(state.agent_online, Some(true));
}

/// Shows J6 for the decision, but for the agent's next call.
#[test]
fn a_lapse_brings_one_banner_and_one_notification_and_both_go_by_themselves() {
    let connected = heard(Health::Connected);
    let claims = Some(r#"{"access_token":{}}"#.to_owned());
    let expired = Event::AuthExpired { account: ANA, reason: "revoked".into(), claims: claims.clone() };
    let (state, effects) = step(connected, expired.clone(), now());
    let notified =
        |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::NotifyLapse { .. }));
    assert!(notified(&effects));
    assert_eq!(screen_of(&state), Screen::Reconnect);
    assert_eq!(view(&state, now(), Language::English).banner.unwrap().action.id, ActionId::Reconnect);

    let (state, effects) = step(state, expired, now());
    assert!(!notified(&effects), "delivered twice");
    let lapsed = Account { claims: claims.clone(), ..account(Health::ReconnectNeeded) };
    let (state, effects) = step(state, Event::AgentState(vec![lapsed]), now());
    assert!(!notified(&effects), "and said again as state");

    let (state, effects) = act(state, Command::Reconnect);
    let [Effect::StartSignIn(ask)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(ask.login_hint.as_deref(), Some("ana@contoso.example"));
    assert_eq!(ask.claims, claims);

    let (state, _) = sign_in(state, 1, sealed(2));
    let (state, effects) = step(state, stored(2), now());
    assert!(effects.contains(&Effect::WithdrawLapse));
    assert_eq!(screen_of(&state), Screen::Connected);
    assert_eq!(view(&state, now(), Language::English).banner, None);
}

#[test]
fn a_lapse_that_was_notified_in_an_earlier_run_is_not_notified_again() {
    let lapse = Lapse { account: ANA, generation: 1 };
    let loaded =
        Event::Loaded { pairing: heard(Health::Connected).pairing, delivery: None, notified: Some(lapse) };
    let (state, _) = step(State::default(), loaded, now());
    let (state, effects) = step(state, Event::AgentState(vec![account(Health::ReconnectNeeded)]), now());
    assert_eq!(effects, []);
    let next = Account { generation: 2, ..account(Health::ReconnectNeeded) };
    let (_, effects) = step(state, Event::AgentState(vec![next]), now());
    assert!(matches!(effects.as_slice(), [Effect::NotifyLapse { .. }, Effect::SaveLapse(_)]), "{effects:?}");
}

/// Shows of J3, for the decision, the button of its own for a wrong account; and of M3 that it binds nothing.
#[test]
fn a_wrong_account_offers_the_choice_of_another_and_fills_in_nothing() {
    let wrong = SignInProblem::WrongAccount { signed_in_as: "bob@fabrikam.example".into() };
    let (state, effects) = sign_in(waiting(), 1, SignInStep::Failed(wrong.into()));
    assert_eq!((screen_of(&state), effects), (Screen::WrongAccount, vec![]));
    let (_, effects) = act(state, Command::UseDifferentAccount);
    let [Effect::StartSignIn(ask)] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(ask.choose_account && ask.login_hint.is_none());
}

#[test]
fn a_locked_keyring_is_tried_again_and_never_replaced() {
    let locked = Pairing::NoKeys { problem: KeysProblem::Locked, since: now() };
    let state = State { pairing: locked, offer: Some(offer()), ..State::default() };
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [], "new keys would lose those behind the lock");
    let (state, effects) = act(state, Command::Dismiss);
    assert_eq!(effects, []);
    let (_, effects) = step(state, Event::Tick, now() + crate::state::KEYS_RETRY);
    assert_eq!(effects, [Effect::Load]);
}

#[test]
fn an_assistant_that_does_not_answer_is_offline_and_greeted_again_when_it_is_back() {
    let (state, effects) = step(heard(Health::Connected), Event::LinkUp, now());
    assert_eq!(effects, [Effect::SayHello, Effect::SendPending]);
    let later = now() + crate::state::HELLO_PATIENCE;
    assert_eq!(state.wake(now()), Some(later));
    assert_eq!(screen(&state, later), Screen::AgentOffline);
    let (state, _) = step(state, Event::AgentPresence { online: false }, later);
    let (state, effects) = step(state, Event::AgentPresence { online: true }, later);
    assert_eq!(effects, [Effect::SayHello, Effect::SendPending]);
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Connected)]), later);
    assert_eq!(screen(&state, later), Screen::Connected);
}

fn loaded() -> Event {
    Event::Loaded { pairing: heard(Health::Connected).pairing, delivery: None, notified: None }
}

#[test]
fn a_connection_that_is_up_before_the_pairing_is_known_is_asked_all_the_same() {
    let (state, _) = step(State::default(), Event::LinkUp, now());
    let (state, effects) = step(state, loaded(), now());
    assert_eq!((screen_of(&state), effects), (Screen::Checking, vec![Effect::SayHello]));
    assert_eq!(state.wake(now()), Some(now() + crate::state::HELLO_PATIENCE));
}

#[test]
fn a_connection_that_never_says_a_word_is_not_waited_for_in_silence() {
    for first in [loaded(), Event::Paired(Ok((assistant(), None)))] {
        let (state, _) = step(State::default(), first, now());
        let later = state.wake(now()).unwrap();
        assert!(state.away(later), "{state:?}");
    }
}

#[test]
fn a_question_that_got_lost_is_asked_again_and_not_for_ever() {
    let (state, _) = step(State::default(), loaded(), now());
    let (mut state, _) = step(state, Event::LinkUp, now());
    let (mut asked, mut at) = (0, now());
    while let Some(next) = state.wake(at) {
        let (ticked, effects) = step(state, Event::Tick, next);
        asked += usize::from(effects == [Effect::SayHello]);
        (state, at) = (ticked, next);
    }
    assert_eq!(asked, crate::state::HELLO_AGAIN.len());
    assert_eq!(screen(&state, at), Screen::AgentOffline);
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Connected)]), now());
    assert_eq!(screen_of(&state), Screen::Connected);
}

#[test]
fn a_clock_that_was_put_back_ten_years_does_not_make_a_wait_of_ten_years() {
    let (state, _) = step(State::default(), loaded(), now());
    let (state, _) = step(state, Event::LinkUp, now());
    let before = now() - SignedDuration::from_hours(24 * 3650);
    let (state, _) = step(state, Event::Tick, before);
    assert_eq!(state.wake(before), Some(before + crate::state::HELLO_PATIENCE));
}

/// A broker may refuse a message once and take it the next time, on the same connection.
#[test]
fn a_refusal_is_forgotten_when_the_assistant_is_heard() {
    for heard in [stored(1), Event::AgentState(vec![account(Health::Connected)])] {
        let (state, _) = sign_in(waiting(), 1, sealed(1));
        let (state, _) = step(state, Event::LinkDown(LinkProblem::Refused), now());
        let later = now() + crate::state::LINK_GRACE;
        assert_eq!(screen(&state, later), Screen::AgentOffline);
        let (state, _) = step(state, heard, later);
        assert_eq!(screen(&state, later + crate::state::LINK_GRACE), Screen::Connected);
    }
    let (state, _) = step(heard(Health::Connected), Event::LinkDown(LinkProblem::Unreachable), now());
    let (state, _) = step(state, stored(1), now());
    assert_ne!(state.link, LinkState::Up, "what had come before the connection went says nothing of it");
}

#[test]
fn an_invite_taken_by_somebody_else_ends_the_pairing_and_the_sign_in() {
    let state = waiting();
    let unknown = State { pairing: Pairing::Paired(Assistant { enrolled: false, ..assistant() }), ..state };
    let (state, effects) = step(unknown, Event::EnrollRefused(InviteProblem::Used), now());
    assert_eq!(effects, [Effect::StopSignIn { id: 1 }, Effect::Unpair { tell: vec![] }]);
    assert_eq!(state.flow, Flow::Failed(InviteProblem::Used.into()));
}

#[test]
fn what_only_an_administrator_can_change_at_the_assistants_end_is_shown_as_such() {
    let (state, _) = sign_in(waiting(), 1, sealed(1));
    let refused = Event::Receipt { account: ANA, generation: 1, outcome: Err("token-protection".into()) };
    let (state, _) = step(state, refused, now());
    assert_eq!(screen_of(&state), Screen::Blocked);
}

#[test]
fn a_refusal_that_comes_while_another_invite_is_agreed_to_does_not_keep_its_sign_in_from_beginning() {
    for reason in ["token-protection", "revoked"] {
        let (state, _) = sign_in(waiting(), 1, sealed(1));
        let (state, _) = act(State { offer: Some(offer()), ..state }, Command::AcceptInvite { invite: None });
        let refused = Event::Receipt { account: ANA, generation: 1, outcome: Err(reason.into()) };
        let (state, _) = step(state, refused, now());
        assert_eq!(state.flow, Flow::Pairing, "{reason}");
        let (_, effects) = step(state, Event::Paired(Ok((assistant(), None))), now());
        assert!(matches!(effects.last(), Some(Effect::StartSignIn(_))), "{reason}: {effects:?}");
    }
}

/// Found by the model, in one history of a few hundred thousand.
#[test]
fn no_sign_in_goes_on_unseen_when_the_keys_cannot_be_had_any_more() {
    let (state, effects) = step(waiting(), not_paired(Problem::CannotSave, true), now());
    assert_eq!(effects, [Effect::StopSignIn { id: 1 }, Effect::Load]);
    assert_eq!(state.flow, Flow::Idle);

    let locked = Pairing::NoKeys { problem: KeysProblem::Locked, since: now() };
    let state = State { pairing: locked, offer: Some(offer()), ..waiting() };
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [Effect::StopSignIn { id: 1 }]);
    assert_eq!(state.flow, Flow::Failed(KeysProblem::Locked.into()));
}
