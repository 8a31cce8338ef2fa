//! The audit of a real daemon: what it holds after a journey, that it is found intact, and that it holds no secret.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::Value;
use support::{AGENT_PASSWORD, DEVICE_PASSWORD, World};
use valetkey_tests::daemon::Daemon;
use valetkey_tests::tenant::ALICE;

fn file(daemon: &Daemon) -> PathBuf {
    daemon.state_dir().join("audit/audit.jsonl")
}

fn events(daemon: &Daemon) -> Vec<Value> {
    let (code, answer) = daemon.ask(&["audit", "--last", "10000"]).unwrap();
    assert_eq!(code, 0, "{answer}");
    answer["events"].as_array().unwrap().clone()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn one<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found: Vec<&Value> = events.iter().filter(|event| event["event"] == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0]
}

/// Shows of L8 that the audit has the link created, opened and succeeded, and no token or code.
#[tokio::test(flavor = "multi_thread")]
async fn from_invite_to_removal_every_step_is_in_the_audit_in_order_and_no_secret_is() {
    let world = World::with_operators_broker().await;
    let daemon = &world.daemon;
    let serving = daemon.serve().await.unwrap();
    let link = daemon.invite(ALICE.mail).unwrap();
    world.desk().connect(&link, ALICE).await;
    assert_eq!(world.graph_me(ALICE).await, 200);
    let copy = world.folder.path().join("copy.json");
    let (code, said) = daemon.run(&["export", "--msal", copy.to_str().unwrap()]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert_eq!(daemon.run(&["remove", "--account", ALICE.mail]).unwrap().0, 0);
    let (_, devices) = daemon.ask(&["devices"]).unwrap();
    let device = devices[0]["id"].as_str().unwrap();
    let (code, said) = daemon.ask(&["devices", "--remove", &device[..12]]).unwrap();
    assert_eq!(code, 0, "{said}");

    let all = events(daemon);
    let expected = [
        "audit_begun",
        "configuration_changed",
        "invite_made",
        "invite_opened",
        "invite_used",
        "device_enrolled",
        "handoff_accepted",
        "refreshed",
        "health_changed",
        "token_served",
        "exported",
        "account_removed",
        "device_removed",
    ];
    assert_eq!(names(&all), expected);
    let account = format!("{}.{}", ALICE.oid, ALICE.tid);
    assert_eq!(one(&all, "invite_made")["email"], ALICE.mail);
    assert_eq!(one(&all, "invite_made")["invite"], one(&all, "invite_used")["invite"]);
    assert_eq!(one(&all, "device_enrolled")["device"], device);
    let accepted = one(&all, "handoff_accepted");
    assert_eq!((accepted["account"].as_str(), accepted["device"].as_str()), (Some(&*account), Some(device)));
    assert_eq!(one(&all, "health_changed")["to"], "connected");
    let served = one(&all, "token_served");
    assert_eq!((served["account"].as_str(), served["resource"].as_str()), (Some(&*account), Some("graph")));
    assert_eq!(served["capabilities"], serde_json::json!(["mail", "calendar"]));
    assert_eq!(served["caller"]["via"], "socket");
    assert_eq!(served["caller"]["uid"], fs::metadata(daemon.state_dir()).unwrap().uid());
    assert!(served["caller"]["pid"].as_i64().is_some_and(|pid| pid > 0), "{served}");

    let (code, report) = daemon.ask(&["audit", "verify"]).unwrap();
    assert_eq!((code, report["intact"].as_bool()), (0, Some(true)), "{report}");
    assert_eq!(report["lines"], expected.len());
    assert_eq!(fs::metadata(file(daemon)).unwrap().permissions().mode() & 0o7777, 0o600);

    let text = fs::read_to_string(file(daemon)).unwrap();
    let secrets = world.tenant.secrets().await.unwrap();
    let link_secret = link.rsplit('/').next().unwrap().to_owned();
    let all_secrets = [
        &secrets.codes,
        &secrets.verifiers,
        &secrets.access_tokens,
        &secrets.refresh_tokens,
        &secrets.id_tokens,
        &vec![link_secret, AGENT_PASSWORD.to_owned(), DEVICE_PASSWORD.to_owned()],
    ];
    for kind in all_secrets {
        assert!(!kind.is_empty(), "there is something to look for");
        for secret in kind {
            assert!(!text.contains(secret.as_str()), "a secret stands in the audit");
        }
    }
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_and_a_lapse_are_in_the_audit() {
    let world = World::with_operators_broker().await;
    let daemon = &world.daemon;
    let lifetimes = valetkey_tests::tenant::Lifetimes { access: Some(60), ..Default::default() };
    world.tenant.lifetimes(lifetimes).await.unwrap();
    let serving = daemon.serve().await.unwrap();
    world.desk().connect(&daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    world.tenant.revoke(ALICE).await.unwrap();
    assert!(daemon.token(ALICE.mail).is_err());

    let all = events(daemon);
    let failed = one(&all, "refresh_failed")["reason"].clone();
    let refused = one(&all, "token_refused");
    assert_eq!(
        (refused["code"].as_str(), refused["caller"]["via"].as_str()),
        (Some("auth_required"), Some("socket"))
    );
    let lapsed = all.iter().find(|event| event["to"] == "reconnect_needed").unwrap();
    assert_eq!((lapsed["from"].as_str(), &lapsed["reason"]), (Some("connected"), &failed));
    assert!(failed.is_string());
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_commands_write_the_audit_and_looking_at_it_does_not() {
    let world = World::with_own_broker().await;
    let daemon = &world.daemon;
    daemon.invite(ALICE.mail).unwrap();
    assert_eq!(names(&events(daemon)), ["audit_begun", "invite_made"]);
    let before = fs::read(file(daemon)).unwrap();
    let (code, said) = daemon.run(&["audit", "verify"]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("as it was written"), "{said}");
    assert_eq!(fs::read(file(daemon)).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_the_files_is_found_with_and_without_a_daemon() {
    let world = World::with_operators_broker().await;
    let daemon = &world.daemon;
    for _ in 0..3 {
        daemon.invite(ALICE.mail).unwrap();
    }
    let text = fs::read_to_string(file(daemon)).unwrap();
    let altered = text.replacen(ALICE.mail, "mallory@contoso.example", 1);
    assert_ne!(altered, text);
    fs::File::create(file(daemon)).unwrap().write_all(altered.as_bytes()).unwrap();

    let find = || {
        let (code, report) = daemon.ask(&["audit", "verify"]).unwrap();
        assert_eq!((code, report["intact"].as_bool()), (1, Some(false)), "{report}");
        report["problems"].as_array().unwrap().clone()
    };
    assert_eq!(find(), ["audit.jsonl, line 3: this line or the one before it was altered"]);
    let serving = daemon.serve().await.unwrap();
    assert_eq!(find().len(), 1);
    serving.stop().unwrap();
}

/// What was written stays, the half line is set aside, and the chain goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_killed_leaves_an_audit_that_is_intact_and_goes_on() {
    let world = World::with_operators_broker().await;
    let daemon = &world.daemon;
    let serving = daemon.serve().await.unwrap();
    daemon.invite(ALICE.mail).unwrap();
    let before = names(&events(daemon)).len();
    serving.kill();
    // As a crash in the middle of a write leaves it.
    fs::File::options().append(true).open(file(daemon)).unwrap().write_all(b"{\"seq\":4,").unwrap();

    let serving = daemon.serve().await.unwrap();
    let all = events(daemon);
    assert_eq!(names(&all[before..]), ["torn_line_set_aside"]);
    let aside = daemon.state_dir().join("quarantine").join(all[before]["set_aside_as"].as_str().unwrap());
    assert_eq!(fs::read(aside).unwrap(), b"{\"seq\":4,");
    assert_eq!(daemon.ask(&["audit", "verify"]).unwrap().0, 0);
    serving.stop().unwrap();
}
