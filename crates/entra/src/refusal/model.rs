//! Any answer in any wording: one class each, that of its reason, and never one that the table does not stand for.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::json;
use valetkey_tests::strangers::{explore, is_found_out};

use super::tests::{ADMINISTRATOR, OPERATOR, RECONNECT, TRANSIENT};
use super::*;

/// What the protocol leaves to the number.
const COARSE: [&str; 4] = ["invalid_grant", "invalid_scope", "invalid_request", "never_heard_of"];
const SAID: [&str; 8] = [
    "temporarily_unavailable",
    "interaction_required",
    "consent_required",
    "authorization_pending",
    "expired_token",
    "access_denied",
    "invalid_client",
    "server_error",
];
const SUBERRORS: [&str; 6] =
    ["basic_action", "message_only", "consent_required", "bad_token", "token_expired", "never_heard_of"];

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    error: Option<&'static str>,
    suberror: Option<&'static str>,
    numbers: Vec<u32>,
    /// Whether the numbers stand in the description only.
    described: bool,
}

impl Answer {
    fn body(&self) -> ErrorBody {
        let mut body = json!({});
        let members = [("error", self.error), ("suberror", self.suberror)];
        for (name, value) in members.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            body[name] = value.into();
        }
        if self.described {
            let said: Vec<_> =
                self.numbers.iter().map(|number| format!("AADSTS{number}: so it is.")).collect();
            body["error_description"] = said.join(" ").into();
        } else {
            body["error_codes"] = self.numbers.clone().into();
        }
        ErrorBody::parse(body.to_string().as_bytes())
    }
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let listed: Vec<u32> = [RECONNECT, ADMINISTRATOR, OPERATOR, TRANSIENT].concat();
    let number = prop_oneof![3 => prop::sample::select(listed), 1 => 0..10_000_000_u32];
    let answer = (
        prop_oneof![4 => Just(400), 1 => prop::sample::select(vec![401, 403, 408, 429, 500, 502, 503])],
        prop::option::of(prop_oneof![prop::sample::select(&COARSE[..]), prop::sample::select(&SAID[..])]),
        prop::option::weighted(0.3, prop::sample::select(&SUBERRORS[..])),
        prop::collection::vec(number, 0..3),
        any::<bool>(),
    );
    let answer = answer.prop_map(|(status, error, suberror, numbers, described)| Answer {
        status,
        error,
        suberror,
        numbers,
        described,
    });
    prop::collection::vec(answer, 0..60)
}

fn class_of(number: u32) -> Option<Class> {
    let lists = [
        (RECONNECT, Class::Reconnect),
        (ADMINISTRATOR, Class::Administrator),
        (OPERATOR, Class::Operator),
        (TRANSIENT, Class::Transient),
    ];
    lists.into_iter().find(|(list, _)| list.contains(&number)).map(|(_, class)| class)
}

type Table = fn(u16, &ErrorBody) -> Refusal;

fn holds(table: Table, answers: &[Answer]) -> Result<usize, TestCaseError> {
    answers.iter().try_for_each(|answer| one_holds(table, answer))?;
    Ok(answers.len())
}

fn one_holds(table: Table, answer: &Answer) -> TestCaseResult {
    let refusal = table(answer.status, &answer.body());
    prop_assert_eq!(refusal.class, refusal.reason.class());
    if answer.numbers.contains(&50_196) {
        prop_assert_eq!(refusal.class, Class::Operator, "told to stop: {:?}", answer);
        return Ok(());
    }
    if matches!(answer.status, 408 | 429 | 500..) {
        prop_assert_eq!(refusal.class, Class::Transient, "a busy service ends no sign-in: {:?}", answer);
        return Ok(());
    }
    let classes: Vec<_> = answer.numbers.iter().filter_map(|number| class_of(*number)).collect();
    if classes.is_empty() {
        let unnumbered = table(answer.status, &Answer { numbers: Vec::new(), ..answer.clone() }.body());
        prop_assert_eq!(refusal.class, unnumbered.class, "what nobody knows changes nothing: {:?}", answer);
        if answer.error.is_none() && answer.suberror.is_none_or(|said| said == "never_heard_of") {
            prop_assert_eq!(refusal.class, Class::Transient, "no answer of the protocol: {:?}", answer);
        }
    } else if answer.suberror.is_none() && answer.error.is_none_or(|error| COARSE.contains(&error)) {
        prop_assert_eq!(refusal.class, classes[0], "{:?}", answer);
    }
    Ok(())
}

#[test]
fn every_answer_has_one_class_and_a_busy_service_ends_no_sign_in() {
    explore("the error table", 1000, &answers(), |answers| {
        holds(|status, body| classify(status, body, None), &answers)
    });
}

/// The controls: a number that is not known ends a sign-in, and a service that is out of order does.
#[test]
fn an_error_table_that_ends_what_it_must_not_is_found_out() {
    let by_any_number: Table = |status, body| {
        let refusal = classify(status, body, None);
        let unknown = body.aadsts.iter().any(|number| class_of(*number).is_none());
        if unknown && refusal.class == Class::Transient { Refusal::new(Reason::Expired) } else { refusal }
    };
    let whatever_the_status: Table = |_, body| classify(400, body, None);
    for broken in [by_any_number, whatever_the_status] {
        assert!(is_found_out(1000, &answers(), |answers| holds(broken, &answers)));
    }
}
