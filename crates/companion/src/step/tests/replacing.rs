//! An invite from another assistant, while the present one's keys cannot be had: no link ends without its question.

use super::*;
use crate::problem::{Holder, Program};
use crate::state::KEYS_RETRY;

fn no_keys(problem: KeysProblem) -> State {
    let pairing = Pairing::NoKeys { problem, since: now() };
    State { pairing, offer: Some(offer()), ..State::default() }
}

fn replaces_old() -> Event {
    Event::InviteReplaces { invite: offer().id, replaces: Some("Old".into()) }
}

fn question(state: &State) -> Option<String> {
    view(state, now(), Language::English).actions[0].confirm.clone()
}

#[test]
fn an_invite_refused_for_keys_that_are_out_of_reach_is_shown_again_with_its_question_once_they_are_there() {
    use KeysProblem::{Certificates, InUse, Locked, Unavailable};
    let holder = Holder { program: Program::App, pid: 1 };
    for problem in [Locked, Unavailable, Certificates, InUse(Some(holder))] {
        let (state, effects) = act(no_keys(problem), Command::AcceptInvite { invite: None });
        assert_eq!((&state.flow, effects), (&Flow::Failed(problem.into()), vec![]));
        let (state, _) = step(state, loaded(), now());
        let (state, _) = step(state, replaces_old(), now());
        assert_eq!(screen_of(&state), Screen::Invited, "{problem}");
        assert!(question(&state).is_some(), "{problem}");
    }
}

#[test]
fn an_invite_that_was_refused_says_why_it_still_is() {
    let (state, _) = act(no_keys(KeysProblem::Locked), Command::AcceptInvite { invite: None });
    let (state, effects) = step(state, Event::Tick, now() + KEYS_RETRY);
    assert_eq!(effects, [Effect::Load]);
    let pairing = Pairing::NoKeys { problem: KeysProblem::Unavailable, since: now() };
    let (state, _) = step(state, Event::Loaded { pairing, delivery: None, notified: None }, now());
    assert_eq!(state.flow, Flow::Failed(KeysProblem::Unavailable.into()));
}

/// The look at the disk that follows a failure says nothing of the failure.
#[test]
fn somebody_without_any_link_sees_why_the_first_one_could_not_be_made() {
    let state = State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() };
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [pair()]);
    let (state, _) = step(state, not_paired(KeysProblem::Unavailable.into(), false), now());
    let missing = Event::Loaded { pairing: Pairing::Missing, delivery: None, notified: None };
    let (state, _) = step(state, missing, now());
    assert_eq!(state.flow, Flow::Failed(KeysProblem::Unavailable.into()));
    let (_, effects) = act(state, Command::Retry);
    assert_eq!(effects, [pair()]);
}

#[test]
fn trying_again_to_replace_somebody_asks_again() {
    let replacing = Offer { replaces: Some("Old".into()), ..offer() };
    let state = State { offer: Some(replacing), ..paired() };
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [Effect::Pair { invite: offer().id, replaces: Some("Old".into()) }]);
    let (state, _) = step(state, not_paired(Problem::CannotSave, true), now());
    let (state, _) = step(state, loaded(), now());
    let (state, effects) = act(state, Command::Retry);
    assert_eq!((screen_of(&state), effects), (Screen::Invited, vec![]));
    assert!(question(&state).is_some());
}

#[test]
fn an_assistant_that_is_found_after_the_click_is_asked_about_before_anything_begins() {
    let (state, effects) =
        act(no_keys(KeysProblem::Unreadable), Command::AcceptInvite { invite: Some(offer().id) });
    assert_eq!(effects, [pair()]);
    let (state, _) = step(state, loaded(), now());
    let (state, _) = step(state, replaces_old(), now());
    assert_eq!(screen_of(&state), Screen::Invited);
    assert!(question(&state).is_some());
    let (state, effects) = act(state, Command::AcceptInvite { invite: None });
    assert_eq!(effects, [Effect::Pair { invite: offer().id, replaces: Some("Old".into()) }]);
    let (state, _) = step(state, replaces_old(), now());
    assert_eq!(state.flow, Flow::Pairing, "what was agreed to");
}

#[test]
fn cancelling_gives_up_a_pairing_that_has_not_begun() {
    let (state, _) = act(no_keys(KeysProblem::Unreadable), Command::AcceptInvite { invite: None });
    let (state, effects) = act(state, Command::Cancel);
    assert_eq!((state.offer, effects), (None, vec![Effect::GiveUpPairing]));
}

#[test]
fn what_one_assistant_said_last_is_not_taken_for_the_word_of_another() {
    let agreed = |state: State| {
        let state = State { offer: Some(Offer { replaces: Some("Old".into()), ..offer() }), ..state };
        act(state, Command::AcceptInvite { invite: None }).0
    };
    let connected = || step(heard(Health::Connected), Event::LinkUp, now()).0;
    assert_eq!(screen_of(&connected()), Screen::Connected);
    for (goes_on, expected) in [(true, Screen::Connected), (false, Screen::Checking)] {
        let (state, effects) = step(agreed(connected()), not_paired(Problem::CannotSave, goes_on), now());
        assert_eq!(effects, [Effect::Load]);
        let (state, _) = step(state, loaded(), now());
        let (state, _) = act(state, Command::DeclineInvite);
        let (state, _) = act(state, Command::Dismiss);
        assert_eq!(screen_of(&state), expected);
        assert_eq!(state.link == LinkState::Up, goes_on, "a new session says itself when it is connected");
    }
}
