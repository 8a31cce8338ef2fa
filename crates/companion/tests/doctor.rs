//! `valetkey-cli doctor` as a process, on a computer that is linked to an assistant, and on one that is not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{Agent, PATIENCE, account_state, terms};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use valetkey_handoff::ToAgent;
use valetkey_handoff::message::{CacheUpdated, Health};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{ALICE, Tenant};

fn cli(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_valetkey-cli"));
    command.arg("--data-dir").arg(home.join("data")).arg("--key-file").arg(home.join("keys")).args(arguments);
    command.env("HOME", home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

async fn run(home: &Path, arguments: &[&str]) -> Output {
    tokio::time::timeout(PATIENCE, cli(home, arguments).output()).await.expect("the program ends").unwrap()
}

/// Its answer as it was, and the level and words of each check.
fn checks(output: &Output) -> Vec<(String, String, String)> {
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |one: &Value| {
        (text(&one["check"]), text(&one["level"]), format!("{} {}", text(&one["text"]), text(&one["action"])))
    };
    answer["findings"].as_array().unwrap().iter().map(one).collect()
}

#[track_caller]
fn assert_says(output: &Output, check: &str, level: &str, part: &str) {
    let all = checks(output);
    let fits = |one: &(String, String, String)| one.0 == check && one.1 == level && one.2.contains(part);
    assert!(all.iter().any(fits), "{check} is not {level} with {part:?}: {all:#?}");
}

/// A computer that has handed over a sign-in; its agent answers what it is asked.
async fn linked(home: &Path) -> (Tenant, Broker, Agent, CacheUpdated) {
    let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
    let (tenant, broker) = (tenant.unwrap(), broker.unwrap());
    let mut agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let link = agent.link_of_invite();
    let mut accepting = cli(home, &["accept", "--yes", "--no-browser", &link]).spawn().unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(accepting.stdout.take().unwrap()));
    let url = tokio::time::timeout(PATIENCE, async {
        loop {
            let said = lines.next_line().await.unwrap().expect("an address");
            if said.starts_with("http") {
                return said;
            }
        }
    });
    http_sign_in(&url.await.expect("an address"), ALICE.username).await.unwrap();
    let (header, body, _) = agent.next_handoff().await;
    agent.say_stored(&header, &body);
    assert_eq!(tokio::time::timeout(PATIENCE, accepting.wait()).await.unwrap().unwrap().code(), Some(0));
    (tenant, broker, agent, body)
}

#[tokio::test]
async fn a_linked_computer_is_checked_up_to_what_its_assistant_answers_and_the_report_names_nobody() {
    let home = TempDir::new().unwrap();
    let (tenant, broker, mut agent, body) = linked(home.path()).await;
    let answers = async |agent: &mut Agent, health, arguments: &[&str]| {
        let asking = tokio::spawn(cli(home.path(), arguments).output());
        while !matches!(agent.next().await, (_, ToAgent::Hello(_), _)) {}
        agent.say_state(vec![account_state(&body, 1, health, None)]);
        tokio::time::timeout(PATIENCE, asking).await.expect("the program ends").unwrap().unwrap()
    };

    let well = answers(&mut agent, Health::Connected, &["doctor", "--json"]).await;
    assert_eq!(well.status.code(), Some(0), "{:#?}", checks(&well));
    for check in [
        "loopback",
        "data_directory",
        "pairing",
        "keyring",
        "sign_in_service",
        "clock",
        "broker",
        "assistant",
    ] {
        assert_says(&well, check, "ok", "");
    }
    assert_says(&well, "account", "ok", ALICE.mail);
    assert_says(&well, "waiting", "ok", "Nothing waits");

    let lapsed = answers(&mut agent, Health::ReconnectNeeded, &["doctor"]).await;
    assert_eq!(lapsed.status.code(), Some(1));
    let said = String::from_utf8(lapsed.stdout).unwrap();
    assert!(
        said.contains("✗ Microsoft needs you to sign in again as ") && said.contains("→ Click Reconnect."),
        "{said}"
    );
    assert!(said.contains(ALICE.mail), "{said}");

    let path = home.path().join("report.txt");
    let arguments = ["doctor", "--report", path.to_str().unwrap()];
    let written = answers(&mut agent, Health::Connected, &arguments).await;
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let report = std::fs::read_to_string(&path).unwrap();
    let local = ALICE.mail.split('@').next().unwrap();
    assert!(
        !report.contains(&format!("{local}@")) && !report.contains(home.path().to_str().unwrap()),
        "{report}"
    );
    assert!(
        report.contains("person-1@contoso.example is connected") && report.contains("localhost"),
        "{report}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    // While another one runs, the connection is left to it.
    let running = std::fs::File::options().write(true).open(home.path().join("data/lock")).unwrap();
    running.lock().unwrap();
    let meanwhile = run(home.path(), &["doctor", "--json"]).await;
    assert_eq!(meanwhile.status.code(), Some(0), "{:#?}", checks(&meanwhile));
    assert_says(&meanwhile, "in_use", "note", "Another Valet Key is at work");
    drop(running);

    // An assistant that says nothing, then no server, then none of Microsoft's.
    agent.stop().await;
    let silent = run(home.path(), &["doctor", "--json"]).await;
    assert_eq!(silent.status.code(), Some(0), "nothing that a person can mend: {:#?}", checks(&silent));
    assert_says(&silent, "assistant", "warning", "");
    drop(broker);
    let gone = run(home.path(), &["doctor", "--json"]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert_says(&gone, "broker", "problem", "can't be reached");
    drop(tenant);
    let gone = run(home.path(), &["doctor", "--json"]).await;
    assert_says(&gone, "sign_in_service", "problem", "can't be reached");
}

/// Three days of heartbeats: a broker has no more than twenty under way to one reader, and the answer is behind them.
#[tokio::test]
async fn an_answer_behind_all_that_was_kept_for_this_computer_is_heard() {
    let home = TempDir::new().unwrap();
    let (_tenant, _broker, mut agent, body) = linked(home.path()).await;
    for _ in 0..60 {
        agent.say_state(vec![account_state(&body, 1, Health::Connected, None)]);
    }
    let mut asking = tokio::spawn(cli(home.path(), &["doctor", "--json"]).output());
    let asked = loop {
        tokio::select! {
            asked = &mut asking => break asked.unwrap().unwrap(),
            // The first may be one that the linking has left.
            (_, message, _) = agent.next() => if matches!(message, ToAgent::Hello(_)) {
                agent.say_state(vec![account_state(&body, 1, Health::Connected, None)]);
            },
        }
    };
    assert_says(&asked, "assistant", "ok", "");
    assert_says(&asked, "account", "ok", ALICE.mail);
}

#[tokio::test]
async fn what_waits_for_a_receipt_is_said_with_since_when() {
    let home = TempDir::new().unwrap();
    let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
    let (tenant, broker) = (tenant.unwrap(), broker.unwrap());
    // Nobody ever answers the wish to be linked.
    let agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let link = agent.link_of_invite();
    agent.stop().await;
    let mut accepting = cli(home.path(), &["accept", "--yes", "--no-browser", &link]).spawn().unwrap();
    let outbox = home.path().join("data/outbox");
    let is_sealed = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with("sealed.json"))
    };
    tokio::time::timeout(PATIENCE, async {
        while !std::fs::read_dir(&outbox).is_ok_and(|mut entries| entries.any(is_sealed)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the wish is kept");
    accepting.kill().await.unwrap();
    let asked = run(home.path(), &["doctor", "--json"]).await;
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    assert_says(&asked, "waiting", "warning", &day);
    assert_says(&asked, "pairing", "warning", "not confirmed");
}

#[tokio::test]
async fn on_a_computer_that_is_not_linked_nobody_is_asked_and_nothing_is_made() {
    let home = TempDir::new().unwrap();
    let output = run(home.path(), &["doctor", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_says(&output, "pairing", "note", "invite link");
    assert!(
        !checks(&output).iter().any(|one| ["sign_in_service", "broker", "keyring"].contains(&one.0.as_str()))
    );
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
