//! "Check my set-up" from inside the app that runs: by its own data directory, its own keyring and its own connection.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Bench, PATIENCE, Person, account_state};
use valetkey_checkup::Level;
use valetkey_companion::doctor::Sheet;
use valetkey_companion::view::Screen;
use valetkey_companion::{Command, Outlet};
use valetkey_handoff::message::Health;
use valetkey_tests::tenant::ALICE;

const PROGRAM: &str = "valet-key";

#[track_caller]
fn assert_says(sheet: &Sheet, level: Level, part: &str) {
    let fits = sheet.lines.iter().any(|line| line.level == level && line.text.contains(part));
    assert!(fits, "{part:?} is not {level:?} in {sheet:#?}");
}

async fn examine(person: &Person) -> Sheet {
    let doctor = person.doctor();
    tokio::time::timeout(PATIENCE, doctor.examine(PROGRAM)).await.expect("a check ends")
}

#[tokio::test]
async fn the_app_that_runs_asks_over_its_own_connection_and_says_what_the_assistant_answers_now() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let doctor = bench.person.doctor();
    let asking = tokio::spawn({
        let doctor = doctor.clone();
        async move { doctor.examine(PROGRAM).await }
    });
    bench.agent.answer_hello(vec![account_state(&body, 1, Health::Connected, None)]).await;
    let sheet = tokio::time::timeout(PATIENCE, asking).await.expect("a check ends").unwrap();
    assert_eq!(sheet.headline, "Nothing is wrong", "{sheet:#?}");
    for part in [
        "keys are where they belong",
        "where you sign in, answers",
        "lets this computer in",
        "answered just now",
        &format!("{} is connected", ALICE.mail),
        "Nothing waits",
    ] {
        assert_says(&sheet, Level::Ok, part);
    }

    // What is copied is what was shown, and names nobody.
    let local = ALICE.mail.split('@').next().unwrap();
    assert!(!sheet.report.contains(&format!("{local}@")), "{}", sheet.report);
    doctor.copy_report();
    let copied = bench.person.outlet("the report", |outlet| match outlet {
        Outlet::Clipboard(text) => Some(text),
        _ => None,
    });
    assert_eq!(copied.await, sheet.report);

    // A server that is gone is said, and nobody is signed out by looking.
    drop(bench.broker);
    let sheet = examine(&bench.person).await;
    assert_says(&sheet, Level::Problem, "can't be reached");
    assert_ne!(bench.person.view().screen, Screen::Reconnect);
}

#[tokio::test]
async fn an_assistant_that_says_nothing_is_a_warning_and_not_a_failure() {
    let mut bench = Bench::of(ALICE).await;
    bench.connect().await;
    let Bench { agent, person, broker: _broker, tenant: _tenant, .. } = bench;
    agent.stop().await;
    let sheet = examine(&person).await;
    assert_says(&sheet, Level::Warning, "Your assistant ");
    assert!(!sheet.lines.iter().any(|line| line.text.contains("is connected")), "said long ago: {sheet:#?}");
}

#[tokio::test]
async fn before_anybody_is_linked_nobody_is_asked_and_a_check_changes_nothing() {
    let mut person = Person::new();
    person.start();
    person.until_screen(Screen::NotPaired).await;
    let sheet = examine(&person).await;
    assert_says(&sheet, Level::Note, "not linked to an assistant yet");
    assert_eq!(sheet.lines[0].text, "This computer is not linked to an assistant yet.", "first of all");
    person.send(Command::Retry);
    assert_eq!(person.view().screen, Screen::NotPaired);
}
