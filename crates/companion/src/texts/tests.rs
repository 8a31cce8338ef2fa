use std::collections::HashSet;

use valetkey_entra::refusal::Reason;

use super::*;
use crate::problem::InviteProblem;

/// Every code that the agent itself puts into a receipt for a sign-in, a disconnect or a change of access.
const OF_THE_AGENT: [&str; 12] = [
    "no-refresh-token",
    "damaged",
    "account-mismatch",
    "terms-mismatch",
    "capabilities-mismatch",
    "generation-conflict",
    "older",
    "not-yours",
    "removed",
    "wrong-account",
    "too-many-accounts",
    "unsupported",
];

fn english(text: Text<'_>) -> String {
    say(Language::English, text)
}

fn remedy(code: &str) -> String {
    english(Text::ProblemRemedy(&Problem::HandoffRefused(code.into())))
}

#[test]
fn every_reason_there_is_has_words_of_its_own() {
    let unknown = english(Text::Reason("in-years-to-come"));
    for reason in Reason::ALL {
        let words = english(Text::Reason(reason.as_str()));
        assert_ne!(words, unknown, "{reason}");
        assert!(
            !words.contains(reason.as_str()) || !reason.as_str().contains('-'),
            "a code is no word: {words}"
        );
    }
    println!("{} reasons have words", Reason::ALL.len());
}

#[test]
fn every_code_of_the_agents_receipts_has_words_of_its_own() {
    let unknown = |code: &str| remedy("in-years-to-come").replace("in-years-to-come", code);
    assert!(
        remedy("in-years-to-come").contains("in-years-to-come"),
        "an unknown code can be told to somebody"
    );
    for code in OF_THE_AGENT.into_iter().chain(Reason::ALL.iter().map(|reason| reason.as_str())) {
        let words = remedy(code);
        assert_ne!(words, unknown(code), "{code}");
        assert!(words.matches('.').count() <= 2, "two sentences at most: {words}");
    }
    println!("{} receipt codes have words", OF_THE_AGENT.len() + Reason::ALL.len());
}

/// `invite-unknown` is told as used or withdrawn: to the person it is the same.
#[test]
fn what_is_wrong_with_an_invite_has_words_each() {
    let all = [
        InviteProblem::Unreadable,
        InviteProblem::Expired,
        InviteProblem::Forbidden,
        InviteProblem::Elsewhere,
        InviteProblem::Certificates,
        InviteProblem::Used,
    ]
    .map(Problem::from);
    let what: HashSet<String> = all.iter().map(|problem| english(Text::ProblemWhat(problem))).collect();
    let how: HashSet<String> = all.iter().map(|problem| english(Text::ProblemRemedy(problem))).collect();
    assert_eq!((what.len(), how.len()), (all.len(), all.len()));
}
