//! A broker of the operator's: by flag, by file, and with a command that makes the devices' logins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{Device, Home, write};
use valetkey_tests::broker::{Broker, BrokerOptions, User};

/// A broker user for the agent, one for devices, and a home whose configuration names them.
async fn with_users(more: &str) -> (Broker, Home) {
    let users = vec![
        User::new("agent", "agent-password", &["topic readwrite valetkey/v1/#"]),
        User::new("device", "device-password", &["topic readwrite valetkey/v1/#"]),
    ];
    let broker = Broker::start(BrokerOptions { users, ..BrokerOptions::default() }).await.unwrap();
    let home = Home::initialised();
    let password = home.folder.path().join("agent-password");
    write(&password, "agent-password\n");
    home.configure(&format!(
        "[broker]\nurl = \"{}\"\nusername = \"agent\"\npassword_file = \"{}\"\n{more}",
        broker.url(),
        password.display()
    ));
    (broker, home)
}

#[tokio::test]
async fn the_flag_and_the_variable_name_a_broker_and_no_mosquitto_is_run() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let home = Home::initialised();
    let mut serving = home.start(&["serve", "--json", "--broker", &broker.url()]);
    serving.event("online").await.unwrap();
    assert_eq!(home.invite().broker.url.as_str(), broker.url());
    Device::paired(&home, &mut serving).await;
    assert!(!home.state().join("broker").exists());
    serving.stop().unwrap();

    let ran = home.command(&["invite", "--json"]).env("VALETKEY_BROKER", broker.url()).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let invite = valetkey_handoff::Invite::parse(answer["link"].as_str().unwrap()).unwrap();
    assert_eq!(invite.broker.url.as_str(), broker.url(), "also without a daemon");
}

#[tokio::test]
async fn one_login_for_all_devices_is_in_every_invite() {
    let (_broker, home) = with_users("").await;
    let device = home.folder.path().join("device-password");
    write(&device, "device-password\n");
    let config = fs::read_to_string(home.config()).unwrap();
    write(
        &home.config(),
        &format!("{config}device_username = \"device\"\ndevice_password_file = \"{}\"\n", device.display()),
    );
    let mut serving = home.serve().await;
    Device::paired(&home, &mut serving).await;

    fs::remove_file(&device).unwrap();
    serving.stop().unwrap();
    let ran = home.json(&["serve"]);
    assert_eq!((ran.code, ran.error().0.as_str()), (4, "configuration"));
    assert!(ran.error().1.contains(device.to_str().unwrap()), "{ran:?}");
}

/// The access list in docs/operating.md, for this agent: the lines of each user.
fn documented(agent: &str) -> Vec<(String, Vec<String>)> {
    let text = include_str!("../../../docs/operating.md");
    let (_, list) = text.split_once("```acl\n").unwrap();
    let (list, _) = list.split_once("```").unwrap();
    let list = list.replace("{agent}", agent);
    let users = list.split("user ").filter(|part| !part.trim().is_empty());
    users
        .map(|part| {
            let mut lines = part.lines().filter(|line| !line.is_empty()).map(str::to_owned);
            (lines.next().unwrap(), lines.collect())
        })
        .collect()
}

#[tokio::test]
async fn the_documented_access_list_is_enough_and_no_more() {
    let home = Home::initialised();
    let agent = home.json(&["status"]).json()["id"].as_str().unwrap().to_owned();
    let users: Vec<User> = documented(&agent)
        .into_iter()
        .map(|(name, acl)| User { password: format!("{name}-password"), name, acl })
        .collect();
    assert_eq!(users.len(), 2);
    let broker = Broker::start(BrokerOptions { users, ..BrokerOptions::default() }).await.unwrap();
    let file = |name: &str| home.folder.path().join(name).display().to_string();
    write(file("agent").as_ref(), "valetkey-agent-password\n");
    write(file("device").as_ref(), "valetkey-device-password\n");
    home.configure(&format!(
        "[broker]\nurl = \"{}\"\nusername = \"valetkey-agent\"\npassword_file = \"{}\"\n\
         device_username = \"valetkey-device\"\ndevice_password_file = \"{}\"\n",
        broker.url(),
        file("agent"),
        file("device")
    ));
    let mut serving = home.serve().await;
    let mut device = Device::paired(&home, &mut serving).await;
    device.greets().await;
    let (topics, me) = (device.topics.clone(), device.keys.thumbprint());
    assert!(device.may_write(&topics.presence(&me)).await);
    let of_another_agent = topics.inbox(&me).replace(&agent, me.as_str());
    for forbidden in
        [&topics.outbox(&me), &of_another_agent, &format!("{}/x", topics.inbox(&me)), "anything/else"]
    {
        assert!(!device.may_write(forbidden).await, "{forbidden}");
    }
    assert!(
        device.may_write(&topics.presence(topics.agent())).await,
        "as the document says, it can spoil the hint"
    );
    // It has asked for everything there is, and its own enrol, hello and presence were to be had.
    device.greets().await;
    let others = topics.outbox(&me).replace(me.as_str(), "");
    let readable = |topic: &String| topic.starts_with(&others) || *topic == topics.presence(topics.agent());
    assert!(device.heard.iter().all(readable), "{:?}", device.heard);
    assert!(device.heard.iter().any(|topic| *topic == topics.presence(topics.agent())), "{:?}", device.heard);
    assert!(!home.log().contains("does not allow"), "{}", home.log());
}

#[tokio::test]
async fn a_command_is_told_of_every_invite_and_device_and_its_login_is_used() {
    let script = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/calls\"\n\
                  [ \"$2\" = grant ] && echo '{\"username\": \"device\", \"password\": \"device-password\"}'\nexit 0\n";
    let (_broker, home) = with_users("").await;
    let command = home.folder.path().join("broker-users");
    write(&command, script);
    fs::set_permissions(&command, fs::Permissions::from_mode(0o700)).unwrap();
    let config = fs::read_to_string(home.config()).unwrap();
    let line = format!("{config}device_credential_command = [\"{}\", \"--mine\"]\n", command.display());
    write(&home.config(), &line);

    let mut serving = home.serve().await;
    let device = Device::paired(&home, &mut serving).await;
    assert_eq!(home.json(&["devices", "--remove", &device.id()]).code, 0);
    let calls = fs::read_to_string(home.folder.path().join("calls")).unwrap();
    let calls: Vec<Vec<&str>> = calls.lines().map(|line| line.split(' ').collect()).collect();
    let invite = calls[0][2];
    assert_eq!(calls[0], ["--mine", "grant", invite]);
    assert_eq!(calls[1], ["--mine", "enrolled", invite, &device.id()]);
    assert_eq!(calls[2], ["--mine", "revoke", invite]);
    assert_eq!(calls.len(), 3);
}

#[tokio::test]
async fn a_command_that_fails_or_prints_nonsense_makes_no_invite_and_its_secret_is_not_repeated() {
    for (script, says) in [
        ("echo 'no room' >&2; exit 1", "no room"),
        ("echo '{\"username\": \"device\", \"passwort\": \"hunter2\"}'", "did not print"),
    ] {
        let home = Home::initialised();
        home.configure(&format!(
            "[broker]\nurl = \"mqtt://broker.example\"\ndevice_credential_command = [\"sh\", \"-c\", {}]\n",
            toml::Value::from(script)
        ));
        let ran = home.json(&["invite", "--email", "ana@contoso.example"]);
        assert_eq!((ran.code, ran.error().0.as_str()), (1, "broker"), "{ran:?}");
        assert!(ran.error().1.contains(says) && !ran.out.contains("hunter2"), "{ran:?}");
        assert_eq!(home.json(&["status"]).json()["open_invites"], 0);
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_agent_is_told_by_status_and_can_be_retried_later() {
    let (_broker, home) = with_users("").await;
    write(&home.folder.path().join("agent-password"), "wrong\n");
    let mut serving = home.start(&["serve", "--json"]);
    let down = serving.event("offline").await.unwrap();
    let ran = home.json(&["status"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(ran.json()["link"]["problem"], down["problem"]);
    serving.stop().unwrap();
}
