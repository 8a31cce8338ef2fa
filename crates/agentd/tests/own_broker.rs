//! The mosquitto that the agent runs itself: who may do what, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use support::{Device, Home, is_alive, signal, until, write};
use valetkey_handoff::{Keys, Sensitive};
use valetkey_link::{Event, Link, Password, Problem, Settings};
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};
use valetkey_tests::process::free_port;

async fn first_problem(settings: Settings) -> Problem {
    let (_link, mut events) = Link::start(settings).unwrap();
    support::within("an answer", async {
        match events.next().await.unwrap() {
            Event::Down { problem, .. } => problem,
            other => panic!("let in: {other:?}"),
        }
    })
    .await
}

#[tokio::test]
async fn nobody_gets_in_without_a_login() {
    let home = Home::initialised();
    let _serving = home.serve().await;
    let invite = home.invite();
    let url = invite.broker.url.as_str();
    let mut settings = Settings::new(url, "anybody").unwrap();
    assert!(matches!(first_problem(settings.clone()).await, Problem::Refused(_)));
    settings.username = Some(invite.id().as_str().to_owned());
    settings.password = Some(Password::new("guessed"));
    assert!(matches!(first_problem(settings).await, Problem::Refused(_)));
}

#[tokio::test]
async fn an_invites_login_may_enroll_with_its_own_invite_and_nothing_else() {
    let home = Home::initialised();
    let _serving = home.serve().await;
    let (invite, other) = (home.invite(), home.invite());
    let mut device = Device::connect(&invite).await;
    let (topics, me) = (device.topics.clone(), device.keys.thumbprint());
    let agent = topics.agent().clone();

    assert!(device.may_write(&topics.enroll(&invite.id())).await);
    for forbidden in [
        topics.enroll(&other.id()),
        topics.inbox(&me),
        topics.outbox(&me),
        topics.presence(&agent),
        topics.presence(&me),
        "anything/else".to_owned(),
    ] {
        assert!(!device.may_write(&forbidden).await, "{forbidden}");
    }
    if !device.heard.contains(&topics.presence(&agent)) {
        device.hears(&topics.presence(&agent)).await;
    }
}

#[tokio::test]
async fn a_paired_device_has_its_own_topics_and_no_others() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let mut ana = Device::paired(&home, &mut serving).await;
    let mut bob = Device::paired(&home, &mut serving).await;
    let topics = ana.topics.clone();
    let (me, other) = (ana.keys.thumbprint(), bob.keys.thumbprint());

    assert!(ana.may_write(&topics.presence(&me)).await);
    for forbidden in [
        topics.inbox(&other),
        topics.outbox(&me),
        topics.outbox(&other),
        topics.presence(topics.agent()),
        topics.presence(&other),
    ] {
        assert!(!ana.may_write(&forbidden).await, "{forbidden}");
    }
    // Bob talks with the agent; then Ana does, and has heard nothing of it.
    bob.greets().await;
    ana.greets().await;
    let hers = [topics.outbox(&me), topics.presence(topics.agent())];
    assert!(ana.heard.iter().all(|topic| hers.contains(topic)), "{:?}", ana.heard);
    assert!(bob.heard.contains(&topics.outbox(&other)));
}

#[tokio::test]
async fn its_files_that_others_may_have_read_are_refused_with_the_command_that_mends_them() {
    let home = Home::initialised();
    home.serve().await.stop().unwrap();
    for (name, mode) in [("broker", 0o755), ("broker/client-id", 0o644), ("broker/users.json", 0o604)] {
        fs::set_permissions(home.state().join(name), fs::Permissions::from_mode(mode)).unwrap();
        let ran = home.json(&["serve"]);
        let (code, message) = ran.error();
        assert_eq!((ran.code, code.as_str()), (1, "state_dir"), "{ran:?}");
        assert!(message.contains(&format!("{name} is open to others (mode {mode:o})")), "{message}");
        let (_, command) = message.split_once("; run: ").unwrap();
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
        home.serve().await.stop().unwrap();
    }
}

/// The users are written by then, and only mosquitto has not been told: there is no news the second time.
#[tokio::test]
async fn a_device_whose_topics_could_not_be_opened_has_them_when_it_asks_again() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let mut device = Device::connect(&home.invite()).await;
    let acl = home.state().join("broker/acl");
    fs::remove_file(&acl).unwrap();
    fs::create_dir(&acl).unwrap();
    device.enroll();
    serving.event("paired").await.unwrap();
    until("that is told", || home.log().contains("a device has no way into the broker")).await;
    fs::remove_dir(&acl).unwrap();

    device.enroll();

    let answer = device.topics.outbox(&device.keys.thumbprint());
    device.hears(&answer).await;
}

#[tokio::test]
async fn whoever_takes_the_agents_name_as_client_id_does_not_throw_it_out() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let invite = home.invite();
    let mut settings = Settings::new(invite.broker.url.as_str(), invite.agent.thumbprint().as_str()).unwrap();
    settings.username.clone_from(&invite.broker.username);
    settings.password =
        invite.broker.password.as_ref().map(|p: &Sensitive<String>| Password::new(p.expose().as_str()));
    let (_link, mut events) = Link::start(settings).unwrap();
    support::within("let in", async { while !matches!(events.next().await.unwrap(), Event::Up { .. }) {} })
        .await;
    // The agent still answers over the broker, and was never away.
    Device::paired(&home, &mut serving).await;
    assert_eq!(serving.count(|line| line["event"] == "offline"), 0);
}

#[tokio::test]
async fn a_removed_device_is_thrown_out_and_does_not_get_in_again() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let mut device = Device::paired(&home, &mut serving).await;
    let listed = home.json(&["devices"]).json();
    assert_eq!(listed[0]["id"], device.id().as_str());
    assert!(home.run(&["devices"]).out.contains("Ana's computer"));

    let beginning = &device.id()[..8];
    let removed = home.json(&["devices", "--remove", beginning]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(removed.json()["removed"], device.id().as_str());
    device.is_thrown_out().await;
    assert_eq!(home.json(&["devices"]).json().as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_login_made_or_ended_without_a_daemon_holds_when_it_runs() {
    let home = Home::initialised();
    let invite = home.invite();
    let mut serving = home.serve().await;
    Device::connect(&invite).await;
    let device = Device::paired(&home, &mut serving).await;
    serving.stop().unwrap();
    assert_eq!(home.json(&["devices", "--remove", &device.id()]).code, 0);
    let users = fs::read_to_string(home.state().join("broker/users.json")).unwrap();
    assert!(!users.contains(&device.id()) && users.contains(invite.id().as_str()), "{users}");
}

#[tokio::test]
async fn invites_made_at_the_same_time_all_work() {
    let home = Home::initialised();
    let _serving = home.serve().await;
    let invites: Vec<_> = std::thread::scope(|scope| {
        let making: Vec<_> = (0..6).map(|_| scope.spawn(|| home.invite())).collect();
        making.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for invite in &invites {
        Device::connect(invite).await;
    }
}

#[tokio::test]
async fn a_mosquitto_that_dies_is_started_again_and_the_agent_is_back() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    let before = home.mosquitto();
    signal(before, "KILL");
    serving.event("offline").await.unwrap();
    serving.event("online").await.unwrap();
    assert_ne!(home.mosquitto(), before);
    // Its users are still known, and new ones can be made.
    Device::paired(&home, &mut serving).await;
}

/// It must not matter how many of the daemon's own threads have come and gone.
#[tokio::test]
async fn a_daemon_that_is_killed_leaves_no_mosquitto_and_what_that_held_is_there_again() {
    let home = Home::initialised();
    let mut serving = home.serve().await;
    // One that was started again by the daemon is no exception.
    signal(home.mosquitto(), "KILL");
    serving.event("offline").await.unwrap();
    serving.event("online").await.unwrap();
    let device = Device::paired(&home, &mut serving).await;
    let mosquitto = home.mosquitto();
    assert!(is_alive(mosquitto));
    serving.kill();
    until("its mosquitto ends", || !is_alive(mosquitto)).await;
    let mut serving = home.serve().await;
    assert_eq!(home.json(&["devices"]).json()[0]["id"], device.id().as_str());
    Device::paired(&home, &mut serving).await;
    serving.stop().unwrap();
}

/// As on systems whose kernel does not end it with the daemon.
#[tokio::test]
async fn a_mosquitto_left_over_from_a_killed_daemon_makes_way_for_the_next() {
    let home = Home::initialised();
    home.serve().await.stop().unwrap();
    let configuration = home.state().join("broker/mosquitto.conf").canonicalize().unwrap();
    // As the daemon starts one: what it makes is its owner's alone.
    let mut left = Command::new("sh")
        .args(["-c", "umask 077; exec mosquitto -c \"$0\""])
        .arg(configuration)
        .spawn()
        .unwrap();
    let left_over = left.id();
    until("it runs", || home.state().join("broker/pid").exists()).await;
    assert!(is_alive(left_over) && home.mosquitto() == left_over);
    // Named in another way this time, and by a link.
    let link = home.folder.path().join("link");
    std::os::unix::fs::symlink(home.state(), &link).unwrap();
    let mut serving = home.start(&["serve", "--json", "--state-dir", &format!("{}/.", link.display())]);
    serving.event("online").await.unwrap();
    assert!(!is_alive(left_over));
    left.wait().unwrap();
    assert!(is_alive(home.mosquitto()));
    serving.stop().unwrap();
}

#[tokio::test]
async fn another_process_with_a_left_over_pid_is_left_alone() {
    let home = Home::initialised();
    home.serve().await.stop().unwrap();
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    write(&home.state().join("broker/pid"), &format!("{}\n", bystander.id()));
    home.serve().await.stop().unwrap();
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn damaged_users_are_said_with_what_to_do() {
    let home = Home::initialised();
    home.invite();
    let users = home.state().join("broker/users.json");
    write(&users, "{");
    let ran = home.json(&["serve"]);
    assert_eq!(ran.code, 1);
    assert!(ran.error().1.contains(users.canonicalize().unwrap().to_str().unwrap()), "{ran:?}");
}

#[tokio::test]
async fn with_a_certificate_devices_get_tls_and_the_agent_reaches_it_all_the_same() {
    let home = Home::initialised();
    // For its files: a certificate for localhost of a CA of its own.
    let other = Broker::start(BrokerOptions { tls: Some(Certificate::Valid), ..BrokerOptions::default() })
        .await
        .unwrap();
    let ca = other.ca_file().unwrap();
    let certificates = ca.parent().unwrap();
    let port = free_port().unwrap();
    home.configure(&format!(
        "[own_broker]\nport = {port}\ndevice_url = \"mqtts://localhost:{port}\"\n\
         certificate_file = \"{}\"\nkey_file = \"{}\"\n",
        certificates.join("valid.pem").display(),
        certificates.join("valid.key").display()
    ));
    let _serving = home.serve().await;
    let invite = home.invite();
    assert_eq!(invite.broker.url.scheme(), "mqtts");
    let mut settings =
        Settings::new(invite.broker.url.as_str(), Keys::generate().thumbprint().as_str()).unwrap();
    settings.username.clone_from(&invite.broker.username);
    settings.password =
        invite.broker.password.as_ref().map(|p: &Sensitive<String>| Password::new(p.expose().as_str()));
    settings.ca_file = Some(ca);
    let (_link, mut events) = Link::start(settings.clone()).unwrap();
    support::within("over TLS", async { while !matches!(events.next().await.unwrap(), Event::Up { .. }) {} })
        .await;
    settings.url.set_scheme("mqtt").unwrap();
    first_problem(settings).await;
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_cleared() {
    let home = Home::initialised();
    let left = home.state().join("broker/.new-abc");
    home.serve().await.stop().unwrap();
    write(&left, "name:a password in clear");
    home.serve().await.stop().unwrap();
    until("cleared", || !left.exists()).await;
}
