//! `serve` as a process: who holds the directory, how it starts and stops, what it says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::{Home, is_alive, signal, until, write};

/// A daemon with nothing to do stops in well under this, its mosquitto included.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_second_daemon_is_told_which_process_holds_the_directory() {
    let home = Home::initialised();
    let serving = home.serve().await;
    for command in [&["serve"][..], &["init"]] {
        let ran = home.json(command);
        let (code, message) = ran.error();
        assert_eq!((ran.code, code.as_str()), (1, "held"), "{ran:?}");
        assert!(message.contains(&format!("in use by process {}", serving.pid())), "{message}");
    }
    assert_eq!(home.json(&["status"]).json()["link"]["state"], "up", "the first one is unharmed");
}

#[tokio::test]
async fn it_stops_at_once_when_asked_by_any_of_the_usual_signals_and_takes_its_mosquitto_along() {
    for name in ["TERM", "INT", "HUP"] {
        let home = Home::initialised();
        let mut serving = home.serve().await;
        let mosquitto = home.mosquitto();
        assert!(is_alive(mosquitto));
        let asked = Instant::now();
        signal(serving.pid(), name);
        let status = serving.ended().await.unwrap();
        assert!(asked.elapsed() < SOON, "SIG{name}: {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0), "SIG{name}: {}", home.log());
        assert!(!is_alive(mosquitto), "SIG{name}");
        assert!(!home.state().join("agent.sock").exists());
    }
}

#[tokio::test]
async fn a_command_that_stays_connected_does_not_keep_it_from_stopping_its_mosquitto() {
    let home = Home::initialised();
    let serving = home.serve().await;
    let mosquitto = home.mosquitto();
    let _idle = std::os::unix::net::UnixStream::connect(home.state().join("agent.sock")).unwrap();
    let asked = Instant::now();
    serving.stop().unwrap();
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(!is_alive(mosquitto));
}

/// What it began then would be cut off half-way: a refresh of which Microsoft alone knows.
#[tokio::test]
async fn a_command_that_stays_connected_is_not_answered_any_more_once_it_stops() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let mut asks = std::os::unix::net::UnixStream::connect(home.state().join("agent.sock")).unwrap();
    let mut answers = BufReader::new(asks.try_clone().unwrap()).lines();
    asks.write_all(b"{\"ask\":\"accounts\"}\n").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "{\"ok\":[]}");
    // Its broker does not end, so it is long in ending itself.
    let mosquitto = home.mosquitto();
    signal(mosquitto, "STOP");
    signal(serving.pid(), "TERM");
    until("it has begun to stop", || home.log().contains("stopping")).await;
    until("commands find it gone", || !home.state().join("agent.sock").exists()).await;
    let _ = asks.write_all(b"{\"ask\":\"accounts\"}\n");
    assert!(!matches!(answers.next(), Some(Ok(answer)) if !answer.is_empty()), "it was answered");
    assert!(is_alive(serving.pid()), "it has not ended, so it could have answered");
    signal(mosquitto, "CONT");
    assert_eq!(serving.ended().await.unwrap().code(), Some(0), "{}", home.log());
}

#[tokio::test]
async fn a_command_waits_for_a_daemon_that_starts_rather_than_fail() {
    let home = Home::initialised();
    let mut serving = home.start(&["serve", "--json"]);
    until("it has the directory", || home.state().join("agent.sock").exists()).await;
    let ran = home.json(&["invite", "--email", "ana@contoso.example"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serving.event("online").await.unwrap();
    assert_eq!(home.json(&["status"]).json()["open_invites"], 1);
}

#[tokio::test]
async fn the_log_is_on_the_error_stream_without_colours_and_the_other_has_words_for_people() {
    let home = Home::initialised();
    let mut serving = home.start(&["serve"]);
    serving.line("is running").await.unwrap();
    until("the log says so", || home.log().contains("connected to the broker")).await;
    serving.stop().unwrap();
    assert!(!home.log().contains('\u{1b}'), "{}", home.log());
}

/// Shows H8 for a corrupt file.
#[tokio::test]
async fn a_damaged_vault_file_is_set_aside_and_told() {
    let home = Home::initialised();
    home.store(&["ana@contoso.example"], "connected");
    let vault = home.state().join("vault");
    let file = fs::read_dir(&vault).unwrap().next().unwrap().unwrap().path();
    write(&file, "{ not a vault");
    let serving = home.serve().await;
    let status = home.json(&["status"]).json();
    assert_eq!(status["troubles"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(fs::read_dir(home.state().join("quarantine")).unwrap().count(), 1);
    let ran = home.json(&["token"]);
    assert_eq!((ran.code, ran.error().0.as_str()), (3, "auth_required"));
    serving.stop().unwrap();
}

#[tokio::test]
async fn the_status_code_says_who_has_to_do_something() {
    let home = Home::initialised();
    assert_eq!(home.run(&["status"]).code, 1, "nobody serves");
    assert!(home.run(&["status"]).out.contains("valetkey-agent serve"));
    for (health, code) in [("connected", 0), ("reconnect_needed", 3), ("blocked", 4)] {
        home.store(&["ana@contoso.example"], health);
        let serving = home.serve().await;
        let ran = home.json(&["status"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.json()["accounts"][0]["health"], health);
        serving.stop().unwrap();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let home = Home::initialised();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    home.configure(&format!("[own_broker]\nport = {port}\n"));
    let ran = home.json(&["serve"]);
    let (code, message) = ran.error();
    assert_eq!((ran.code, code.as_str()), (1, "broker"), "{ran:?}");
    for words in [&*format!("127.0.0.1:{port}"), "another program", "port", "[own_broker]"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_said_before_anything_starts() {
    let home = Home::new();
    let dir = home.folder.path().join("d".repeat(120));
    let dir = dir.to_str().unwrap();
    assert_eq!(home.run(&["init", "--state-dir", dir]).code, 0);
    let ran = home.json(&["serve", "--state-dir", dir]);
    assert_eq!((ran.code, ran.error().0.as_str()), (4, "configuration"));
    assert!(ran.error().1.contains("--state-dir"), "{ran:?}");
    assert_eq!(home.run(&["accounts", "--state-dir", dir]).code, 0, "commands work without a daemon");
}
