//! Which of the agent's words are news. A broker can keep a genuine message and deliver it later, or over and over, to
//! bring a banner back or to hide a lapse; a signature says who, not when.
//!
//! Current is an answer to a question of this run, and from the first such answer on whatever the agent said later than
//! all that was heard. Only the agent's own clock is compared with itself, and a fresh answer overrules even that: one that came
//! before anything else the agent has said since the question.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use uuid::Uuid;
use valetkey_handoff::Header;

/// Questions without an answer that are remembered; one is asked on each connect.
const MAX_ASKED: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Currency {
    /// Each `hello` of this run that is not answered yet, oldest first.
    asked: VecDeque<Uuid>,
    /// When the newest current message was issued, in whole seconds; nothing is current before a first answer.
    newest: Option<Timestamp>,
    /// What was heard of that very second: each only once.
    in_that_second: HashSet<Uuid>,
}

impl Currency {
    /// A `hello` went out under this name.
    pub fn asked(&mut self, hello: Uuid) {
        self.asked.push_back(hello);
        if self.asked.len() > MAX_ASKED {
            self.asked.pop_front();
        }
    }

    /// Something was heard that is news by itself. An answer that has not come until now is older than that: a broker may have
    /// kept it back.
    pub fn forget_asked(&mut self) {
        self.asked.clear();
    }

    /// Whether a verified message is current; `answers` is the `hello` it says it answers.
    pub fn judge(&mut self, header: &Header, answers: Option<Uuid>) -> bool {
        let question = answers.and_then(|hello| self.asked.iter().position(|asked| *asked == hello));
        let is_answer = question.is_some();
        match self.newest {
            None if !is_answer => return false,
            Some(newest) if header.issued_at == newest => {}
            Some(newest) if header.issued_at < newest && !is_answer => return false,
            _ => {
                self.newest = Some(header.issued_at);
                self.in_that_second.clear();
            }
        }
        let is_news = self.in_that_second.insert(header.jti);
        match question {
            // An answer to an earlier question that comes after this one is an old one.
            Some(question) => drop(self.asked.drain(..=question)),
            None if is_news => self.forget_asked(),
            None => {}
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use valetkey_handoff::message::State;
    use valetkey_handoff::{Facts, Keys, ToDevice, open, seal};

    use super::*;

    /// The header of a message that the agent issued at this second.
    fn header(second: i64) -> Header {
        let (agent, device) = (Keys::generate(), Keys::generate());
        let at = Timestamp::from_second(second).unwrap();
        let state = State { accounts: Vec::new(), at, answers: None };
        let sealed = seal(&agent, &device.public(), &Facts::new(0, at), &ToDevice::from(state)).unwrap();
        open::<ToDevice>(sealed.as_bytes(), &agent.public(), &device, at).unwrap().header
    }

    fn answered_at(second: i64) -> Currency {
        let mut currency = Currency::default();
        let hello = Uuid::new_v4();
        currency.asked(hello);
        assert!(currency.judge(&header(second), Some(hello)));
        currency
    }

    #[test]
    fn nothing_is_current_before_an_answer_to_a_question_of_this_run() {
        let mut currency = Currency::default();
        currency.asked(Uuid::new_v4());
        assert!(!currency.judge(&header(1000), None));
        assert!(
            !currency.judge(&header(1000), Some(Uuid::new_v4())),
            "an answer to an earlier run's question"
        );
    }

    #[test]
    fn after_it_what_is_newer_is_current_and_what_is_older_or_comes_again_is_not() {
        let mut currency = answered_at(1000);
        let (same, newer) = (header(1000), header(1001));
        assert!(currency.judge(&same, None));
        assert!(!currency.judge(&same, None), "twice in one second");
        assert!(currency.judge(&newer, None));
        assert!(!currency.judge(&newer, None));
        assert!(!currency.judge(&same, None));
        assert!(!currency.judge(&header(1000), None), "kept back until now");
    }

    #[test]
    fn an_answer_counts_once_and_ends_the_questions_before_it() {
        let mut currency = Currency::default();
        let hellos = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        for hello in hellos {
            currency.asked(hello);
        }
        let (first, second) = (header(1000), header(1001));
        assert!(currency.judge(&second, Some(hellos[1])));
        assert!(!currency.judge(&first, Some(hellos[0])), "kept back until a later one had come");
        assert!(!currency.judge(&second, Some(hellos[1])));
        assert!(currency.judge(&header(1002), Some(hellos[2])));
    }

    /// The broker keeps one answer back, delivers a lapse and what came after it, and then the answer.
    #[test]
    fn an_answer_that_was_kept_back_until_the_agent_had_said_more_counts_no_longer() {
        let mut currency = answered_at(1000);
        let hello = Uuid::new_v4();
        currency.asked(hello);
        let kept_back = header(1001);
        assert!(currency.judge(&header(1002), None));
        assert!(!currency.judge(&kept_back, Some(hello)));
        let next = Uuid::new_v4();
        currency.asked(next);
        assert!(currency.judge(&header(1003), Some(next)), "and the next question has its answer");
    }

    #[test]
    fn an_answer_that_comes_after_a_heartbeat_of_the_same_second_or_an_earlier_one_counts() {
        for second in [1002, 1003] {
            let mut currency = answered_at(1000);
            let hello = Uuid::new_v4();
            currency.asked(hello);
            assert!(currency.judge(&header(1002), None));
            assert!(currency.judge(&header(second), Some(hello)));
        }
    }

    /// The same with a receipt, which counts before anything else has been heard in a run.
    #[test]
    fn an_answer_that_was_kept_back_until_a_receipt_had_come_counts_no_longer() {
        let mut currency = Currency::default();
        let hello = Uuid::new_v4();
        currency.asked(hello);
        currency.forget_asked();
        assert!(!currency.judge(&header(1000), Some(hello)));
    }

    #[test]
    fn an_agent_whose_clock_was_put_back_is_believed_as_soon_as_it_answers() {
        let mut currency = answered_at(1_000_000);
        assert!(!currency.judge(&header(1000), None));
        let hello = Uuid::new_v4();
        currency.asked(hello);
        assert!(currency.judge(&header(1000), Some(hello)));
        assert!(currency.judge(&header(1001), None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut currency = Currency::default();
        (0..10 * MAX_ASKED).for_each(|_| currency.asked(Uuid::new_v4()));
        assert_eq!(currency.asked.len(), MAX_ASKED);
    }
}
