//! `doctor` on an operator's machine: what it says of a daemon that runs, that does not, and of what is wrong around it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use support::{Home, Ran, mode, write};
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};
use valetkey_tests::process::free_port;

/// A home whose sign-in service is a port where nobody listens: no test here asks Microsoft.
fn home(more: &str) -> Home {
    let home = Home::initialised();
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    home.configure(&format!(
        "cloud = \"custom\"\nlogin_url = \"{nobody}\"\ngraph_url = \"{nobody}\"\n{more}"
    ));
    home
}

fn own_broker() -> String {
    format!("[own_broker]\nport = {}\n", free_port().unwrap())
}

#[track_caller]
fn found<'a>(answer: &'a Value, check: &str) -> (&'a str, String) {
    let findings = answer["findings"].as_array().unwrap();
    let one = findings.iter().find(|finding| finding["check"] == check);
    let one = one.unwrap_or_else(|| panic!("{check}: {answer:#}"));
    (one["level"].as_str().unwrap(), format!("{} {}", one["text"], one["action"]))
}

fn doctor(home: &Home) -> (i32, Value) {
    let ran = home.json(&["doctor"]);
    (ran.code, ran.json())
}

#[tokio::test]
async fn a_daemon_that_runs_with_its_own_broker_is_well_but_for_the_sign_in_service() {
    let home = home(&own_broker());
    let serving = home.serve().await;
    home.invite();
    let (code, answer) = doctor(&home);
    assert_eq!(code, 1, "{answer:#}");
    for check in ["state_directory", "disk", "configuration", "agent", "mosquitto", "broker", "audit"] {
        assert_eq!(found(&answer, check).0, "ok", "{answer:#}");
    }
    let pid = serving.pid().to_string();
    assert!(found(&answer, "agent").1.contains(&pid), "{answer:#}");
    assert!(found(&answer, "mosquitto").1.contains("mosquitto 2."), "its version: {answer:#}");
    assert!(found(&answer, "broker_queue").1.contains("up to 1000"), "{answer:#}");
    let configured = fs::read_to_string(home.state().join("broker/mosquitto.conf")).unwrap();
    assert!(configured.contains("max_queued_messages 1000\n"), "the limit is the one in force: {configured}");
    assert_eq!(found(&answer, "invites").0, "note");
    let (level, said) = found(&answer, "sign_in_service");
    assert_eq!(level, "problem");
    assert!(said.contains("cannot be reached"), "{said}");
    // In words, for a person.
    let Ran { out, code, .. } = home.run(&["doctor"]);
    assert_eq!(code, 1);
    assert!(out.contains("✓ Connected to the broker since ") && out.contains("\n    → "), "{out}");
}

#[tokio::test]
async fn without_a_daemon_the_operators_broker_is_tried_and_nothing_is_taken_from_it() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let home = home(&format!("[broker]\nurl = \"{}\"\n", broker.url()));
    // A daemon that was here: what is said to it meanwhile waits at the broker.
    let serving = home.serve().await;
    let agent = home.json(&["status"]).json()["id"].as_str().unwrap().to_owned();
    serving.stop().unwrap();
    let stranger = valetkey_handoff::Keys::generate().thumbprint();
    broker.publish(&format!("valetkey/v1/{agent}/in/{stranger}"), b"waits", false).await.unwrap();

    for _ in 0..2 {
        let (code, answer) = doctor(&home);
        assert_eq!(code, 1, "{answer:#}");
        assert_eq!(found(&answer, "agent").0, "problem");
        assert_eq!(found(&answer, "broker"), ("ok", "\"The broker lets the agent in.\" null".into()));
    }
    let mut serving = home.start(&["serve", "--json"]);
    serving.event("refused").await.unwrap();
    drop(serving);

    let port = broker.port();
    drop(broker);
    let (_, answer) = doctor(&home);
    let (level, said) = found(&answer, "broker");
    assert_eq!(level, "problem", "{port}: {answer:#}");
    assert!(said.contains("the broker cannot be reached") && said.contains("firewall"), "{said}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_for_another_name_or_expired_is_each_said_with_what_to_do() {
    for (certificate, knows_ca, says, advises) in [
        (Certificate::Valid, false, "not of a trusted authority", "ca_file"),
        (
            Certificate::WrongName,
            true,
            "for another name",
            "Use the name that is in the broker's certificate",
        ),
        (Certificate::Expired, true, "not valid at this time", "Renew the broker's certificate"),
    ] {
        let broker = Broker::start(BrokerOptions { tls: Some(certificate), ..BrokerOptions::default() })
            .await
            .unwrap();
        let ca = if knows_ca {
            format!("ca_file = \"{}\"\n", broker.ca_file().unwrap().display())
        } else {
            String::new()
        };
        let home = home(&format!("[broker]\nurl = \"{}\"\n{ca}", broker.url()));
        let before = doctor(&home).1;
        let mut serving = home.start(&["serve", "--json"]);
        let down = serving.event("offline").await.unwrap();
        assert!(down["problem"].as_str().unwrap().contains(says), "{down}");
        let while_it_runs = doctor(&home).1;
        for answer in [before, while_it_runs] {
            let (level, said) = found(&answer, "broker");
            assert_eq!(level, "problem", "{answer:#}");
            assert!(said.contains(says) && said.contains(advises), "{said}");
        }
        // The same in `status`, in words.
        let status = home.run(&["status"]);
        assert_eq!(status.code, 5, "{status:?}");
        assert!(status.out.contains(says), "{status:?}");
    }
}

/// The daemon says where it has its key from; the doctor has none of its own.
#[tokio::test]
async fn a_sealed_vault_and_where_the_daemon_has_its_key_from_are_said() {
    let home = home(&own_broker());
    assert_eq!(found(&doctor(&home).1, "vault").0, "note");
    let key = home.folder.path().join("vault-key");
    assert_eq!(home.run(&["vault", "keygen", "--out", key.to_str().unwrap()]).code, 0);
    let with_key = fs::read_to_string(home.config()).unwrap() + &format!("[vault]\nkey_file = {key:?}\n");
    write(&home.config(), &with_key);
    assert_eq!(home.run(&["vault", "seal"]).code, 0);
    let serving = home.serve().await;
    let answer = doctor(&home).1;
    let (level, said) = found(&answer, "vault");
    assert!(level == "ok" && said.contains(&format!("its key is in {}", key.display())), "{said}");
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    for printed in [home.run(&["doctor"]), home.json(&["doctor"]), home.run(&["doctor", "--report", "-"])] {
        assert!(printed.out.contains("sealed at rest") && !printed.out.contains(secret), "{printed:?}");
    }
    serving.stop().unwrap();
}

#[test]
fn what_is_wrong_with_the_directory_or_the_configuration_comes_with_what_mends_it() {
    let home = home("");
    write(&home.config(), "nmae = \"x\"\n");
    let (code, answer) = doctor(&home);
    assert_eq!(code, 1);
    assert!(found(&answer, "configuration").1.contains("nmae"), "{answer:#}");

    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, answer) = doctor(&home);
    assert_eq!(code, 1);
    let (level, said) = found(&answer, "state_directory");
    let command = format!("chmod 700 {}", home.state().display());
    assert_eq!(level, "problem");
    assert!(said.contains("mode 755") && said.contains(&command), "{said}");
    assert_eq!(mode(&home.state()), 0o755, "a doctor changes nothing");

    let nothing = Home::new();
    let (code, answer) = doctor(&nothing);
    assert_eq!((code, answer["findings"].as_array().unwrap().len()), (1, 1), "{answer:#}");
    assert!(found(&answer, "state_directory").1.contains("valetkey-agent init"));
    assert!(!nothing.state().exists(), "a doctor changes nothing");
}

#[test]
fn a_report_is_for_its_owner_goes_over_no_file_and_names_nobody() {
    let home = home(&own_broker());
    home.store(&["ana@contoso.example"], "reconnect_needed");
    let report = home.folder.path().join("report.txt");
    let path = report.to_str().unwrap();
    let ran = home.run(&["doctor", "--report", path]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("Read it before you send it"), "{ran:?}");
    assert_eq!(mode(&report), 0o600);
    let text = fs::read_to_string(&report).unwrap();
    for part in
        ["person-1@contoso.example must sign in again (revoked)", "valetkey-agent 0.", "~/.local/state"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // The search for it would have found it: the doctor's words to the operator have it.
    assert!(home.run(&["doctor"]).out.contains("ana@contoso.example"));
    assert!(!text.contains("ana@") && !text.contains(home.folder.path().to_str().unwrap()), "{text}");

    let again = home.json(&["doctor", "--report", path]);
    assert_eq!((again.code, again.error().0.as_str()), (1, "failed"), "{again:?}");
    assert_eq!(home.run(&["doctor", "--report", "-"]).out.lines().next(), text.lines().next());
}
