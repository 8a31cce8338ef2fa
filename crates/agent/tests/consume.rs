//! The example is short, and does what it says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Stdio;

use support::World;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::ALICE;

const SOURCE: &str = include_str!("../examples/consume.rs");

#[test]
fn the_example_has_fewer_than_25_lines() {
    let lines =
        SOURCE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines < 25, "{lines}");
}

#[tokio::test]
async fn the_example_takes_a_sign_in_and_reads_mail_with_it() {
    let world = World::new().await;
    let agent = world.open();
    let invite = world.invite(&agent, ALICE).await;
    drop(agent);
    // Cargo builds examples beside the tests.
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.set_file_name("examples");
    program.push("consume");
    let mut child = tokio::process::Command::new(program)
        .arg(world.state_dir())
        .arg(world.broker.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    let mut device = support::Device::new(&invite).await;
    // As a companion does: again until it is answered, for the example may not be listening yet.
    let again = std::time::Duration::from_millis(500);
    support::within("the pairing", async {
        loop {
            device.enroll(&invite);
            if tokio::time::timeout(again, device.next()).await.is_ok() {
                return;
            }
        }
    })
    .await;
    device.hand_over(&world.sign_in(ALICE).await);

    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    let line = support::within("the example's line", lines.next_line()).await.unwrap().unwrap();
    let (account, mail) = line.split_once(": ").unwrap();
    assert_eq!(account, support::id(ALICE).to_string());
    let mail: serde_json::Value = serde_json::from_str(mail).unwrap();
    assert!(mail["value"].is_array(), "{mail}");
}
