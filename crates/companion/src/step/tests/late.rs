//! What comes late, or is said again: questions that a broker refused, answers to a dialog that was open, clocks put back.

use super::*;

/// Its connection stays up, and nothing but a question can show that it lets this device in again.
#[test]
fn a_question_that_the_broker_refused_once_is_asked_again_by_itself_and_by_the_button() {
    let (state, _) = step(heard(Health::Connected), Event::LinkUp, now());
    let (state, _) = step(state, Event::LinkDown(LinkProblem::Refused), now());
    let due = state.hello_due().unwrap();
    let (state, effects) = step(state, Event::Tick, due);
    assert_eq!(effects, [Effect::SayHello]);
    let (state, effects) = step(state, Event::Command(Command::Retry), due);
    assert_eq!(effects, [Effect::SayHello, Effect::SendPending]);
    let (state, _) = step(state, Event::AgentState(vec![account(Health::Connected)]), due);
    assert_eq!(screen(&state, due + crate::state::LINK_GRACE), Screen::Connected);

    let (state, _) = step(heard(Health::Connected), Event::LinkDown(LinkProblem::Unreachable), now());
    let (_, effects) = act(state, Command::Retry);
    assert_eq!(effects, [Effect::SendPending], "there is nobody to ask");
}

fn disconnect() -> Command {
    Command::Disconnect { account: None }
}

#[test]
fn an_account_given_up_while_it_is_signed_in_to_again_is_not_brought_back() {
    let (state, _) = act(heard(Health::ReconnectNeeded), Command::Reconnect);
    let id = state.flow.running().unwrap();
    let (state, _) = sign_in(state, id, waiting_step(Then::Open));
    let (state, effects) = act(state, disconnect());
    assert_eq!(effects, [Effect::StopSignIn { id }, Effect::AskDisconnect { account: ANA }]);
    let (_, effects) = sign_in(state, id, sealed(2));
    assert_eq!(effects, [Effect::Discard { generation: 2 }]);
}

#[test]
fn an_account_given_up_while_its_sign_in_is_on_its_way_is_not_waited_for() {
    let signed_in = || {
        let (state, _) = act(heard(Health::ReconnectNeeded), Command::Reconnect);
        let id = state.flow.running().unwrap();
        sign_in(state, id, sealed(2)).0
    };
    assert_eq!(screen_of(&signed_in()), Screen::HandingOver);
    let (state, effects) = act(signed_in(), disconnect());
    assert_eq!(effects, [Effect::AskDisconnect { account: ANA }]);
    assert_eq!(state.delivery, None);
    let (state, _) = step(state, Event::AgentState(vec![]), now());
    assert_eq!(screen_of(&state), Screen::NotConnected);

    let delivery = signed_in().delivery.map(|delivery| Delivery { account: BOB, ..delivery });
    let (state, _) = act(State { delivery, ..signed_in() }, disconnect());
    assert!(state.delivery.is_some(), "another account's");
}

#[test]
fn a_clock_that_was_put_back_makes_nobody_wait_longer_for_the_browser() {
    let earlier = now() - SignedDuration::from_hours(24);
    let (state, _) = step(waiting(), Event::Tick, earlier);
    assert_eq!(state.wake(earlier), Some(earlier + SIGN_IN_TIMEOUT));
    let (state, _) = step(state, Event::Tick, earlier + SIGN_IN_TIMEOUT);
    assert_eq!(state.flow, Flow::Failed(SignInProblem::TimedOut.into()));
}
