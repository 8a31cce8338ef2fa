//! TLS to a broker with an authority of the operator's own, a client certificate, and certificates that are wrong: what the
//! person and the operator are told of them.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use valetkey_companion::view::Screen;
use valetkey_companion::{Command, InviteLink};
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};
use valetkey_tests::daemon::Daemon;
use valetkey_tests::http_sign_in;
use valetkey_tests::program::Program;
use valetkey_tests::tenant::{ALICE, CLIENT_ID, Tenant};

use crate::support::{Desk, World};

/// A daemon that reaches the broker by its plain listener unless `broker` says otherwise; devices are told its TLS address.
async fn world(options: BrokerOptions, section: impl Fn(&Broker) -> String) -> World {
    let folder = TempDir::with_prefix("hygiene-").unwrap();
    let broker = Broker::start(options).await.unwrap();
    let tenant = Tenant::start().await.unwrap();
    let section = format!("[broker]\n{}", section(&broker));
    let daemon = Daemon::init(folder.path(), &tenant.origin, ALICE.tid, CLIENT_ID, &section).unwrap();
    World { tenant, broker: Some(broker), daemon, folder }
}

fn shows(certificate: Certificate) -> BrokerOptions {
    BrokerOptions { tls: Some(certificate), ..BrokerOptions::default() }
}

fn ca(world: &World) -> Option<PathBuf> {
    world.broker.as_ref().unwrap().ca_file()
}

fn desk(world: &World, ca: Option<PathBuf>) -> Desk {
    Desk::start_trusting(&world.folder.path().join("desk"), Arc::default(), ca)
}

/// Over TLS with the operator's own authority on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_handed_over_through_a_broker_with_an_authority_of_the_operators_own() {
    let own_ca = |broker: &Broker| {
        format!("url = \"{}\"\nca_file = \"{}\"\n", broker.url(), broker.ca_file().unwrap().display())
    };
    let world = world(shows(Certificate::Valid), own_ca).await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = desk(&world, ca(&world));
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_for_a_client_certificate_lets_the_agent_in_that_has_one_and_status_says_what_is_missing()
 {
    let options = BrokerOptions { require_client_certificate: true, ..shows(Certificate::Valid) };
    let with_certificate = |broker: &Broker| {
        let client = broker.client_certificate().unwrap();
        format!(
            "url = \"{}\"\ndevice_url = \"{}\"\nca_file = \"{}\"\nclient_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n",
            broker.url(),
            broker.plain_url(),
            broker.ca_file().unwrap().display(),
            client.certificate.display(),
            client.key.display()
        )
    };
    let world = world(options, with_certificate).await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = desk(&world, None);
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    serving.stop().unwrap();

    // The same without one.
    let path = world.daemon.state_dir().join("agent.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let without: String = config
        .lines()
        .filter(|line| !line.starts_with("client_certificate") && !line.starts_with("client_key"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), without.as_bytes()).unwrap();
    let mut serving = start(&world);
    let down = serving.event("offline").await.unwrap();
    assert!(
        down["problem"].as_str().unwrap().contains("client certificate missing or not accepted"),
        "{down}"
    );
    let (code, doctor) = world.daemon.run(&["doctor"]).unwrap();
    assert_eq!(code, 1, "{doctor}");
    assert!(doctor.contains("→ Give client_certificate_file and client_key_file"), "{doctor}");
    serving.stop().unwrap();
}

fn start(world: &World) -> Program {
    let mut serve = world.daemon.command(&["serve", "--json"]).unwrap();
    Program::start(&mut serve, &world.folder.path().join("agent.log")).unwrap()
}

/// A broker that asks everybody's computer for a certificate, an agent that is let in by another door, and the rules of the
/// person's organisation for it.
async fn world_with_certificates() -> World {
    let options = BrokerOptions { require_client_certificate: true, ..shows(Certificate::Valid) };
    let plain_for_the_agent =
        |broker: &Broker| format!("url = \"{}\"\ndevice_url = \"{}\"\n", broker.plain_url(), broker.url());
    world(options, plain_for_the_agent).await
}

fn rules(world: &World, more: &str) -> PathBuf {
    let broker = world.broker.as_ref().unwrap();
    let path = world.folder.path().join("policy.toml");
    let text = format!(
        "brokers = [\"{}\"]\n[broker]\nca_file = \"{}\"\n{more}",
        broker.url(),
        broker.ca_file().unwrap().display()
    );
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
    path
}

fn own_certificate(world: &World) -> String {
    let client = world.broker.as_ref().unwrap().client_certificate().unwrap();
    format!(
        "client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n",
        client.certificate.display(),
        client.key.display()
    )
}

fn ruled(world: &World, more: &str) -> Desk {
    Desk::start_ruled(&world.folder.path().join("desk"), Arc::default(), rules(world, more))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_for_a_client_certificate_lets_the_computer_in_that_its_organisation_gave_one() {
    let world = world_with_certificates().await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = ruled(&world, &own_certificate(&world));
    desk.connect(&world.daemon.invite(ALICE.mail).unwrap(), ALICE).await;
    assert_eq!(world.graph_me(ALICE).await, 200);

    // The next day the files are gone. It is not tried without them.
    let (dir, keys) = desk.stop().await;
    let gone = "client_certificate_file = \"/nonexistent/c.pem\"\nclient_key_file = \"/nonexistent/k.pem\"\n";
    let clients =
        |world: &World| world.broker.as_ref().unwrap().log().matches("New client connected").count();
    let before = clients(&world);
    let mut desk = Desk::start_ruled(&dir, keys, rules(&world, gone));
    let view = desk.screen(Screen::Error).await;
    assert_eq!(view.headline, "A certificate this computer needs can't be used");
    assert_eq!(
        view.detail.as_deref(),
        Some(
            "Without it nothing is sent to your assistant. Ask your administrator to put it right; this goes on by itself then."
        )
    );
    let sheet = desk.doctor().examine("a test").await;
    let named = |line: &valetkey_companion::doctor::Line| {
        line.text.contains("The certificate in /nonexistent/c.pem can't be used")
    };
    assert!(sheet.lines.iter().any(named), "{sheet:#?}");
    assert_eq!(clients(&world), before, "nobody connected");

    // The administrator puts them right.
    rules(&world, &own_certificate(&world));
    desk.click(Command::Retry);
    desk.screen(Screen::Connected).await;
    serving.stop().unwrap();
}

/// Shows J8 of it: nobody is shown as signed out.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_the_person_is_told_that_one_is_asked_for() {
    let world = world_with_certificates().await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = ruled(&world, "");
    desk.accept(&world.daemon.invite(ALICE.mail).unwrap()).await;
    let url = desk.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let view = desk.until("no connection", |view| view.headline == "No connection to your assistant").await;
    assert_eq!(view.screen, Screen::AgentOffline);
    assert_eq!(
        view.detail.as_deref(),
        Some(
            "The server between you and your assistant lets in only computers with a certificate, and this one has none \
             that it accepts. Tell your administrator."
        )
    );
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(), 0);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_not_shown_while_the_certificate_for_its_broker_cannot_be_used() {
    let world = world_with_certificates().await;
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let empty = world.folder.path().join("no-certificate.pem");
    std::fs::File::create(&empty).unwrap();
    let garbage = format!("client_certificate_file = \"{0}\"\nclient_key_file = \"{0}\"\n", empty.display());
    let mut desk = ruled(&world, &garbage);
    desk.screen(Screen::NotPaired).await;
    desk.click(Command::PasteInvite { link: InviteLink::new(link) });
    let view = desk.screen(Screen::Error).await;
    assert_eq!(view.headline, "A certificate this computer needs can't be used");
    assert!(!desk.dir.exists(), "nothing was stored");
    serving.stop().unwrap();
}

/// What a person is shown whose computer meets this certificate. Shows J8 of it: nobody is shown as signed out.
async fn shown_to_the_person(certificate: Certificate, trusted: bool) -> String {
    let plain_for_the_agent =
        |broker: &Broker| format!("url = \"{}\"\ndevice_url = \"{}\"\n", broker.plain_url(), broker.url());
    let world = world(shows(certificate), plain_for_the_agent).await;
    let serving = world.daemon.serve().await.unwrap();
    let mut desk = desk(&world, ca(&world).filter(|_| trusted));
    desk.accept(&world.daemon.invite(ALICE.mail).unwrap()).await;
    let url = desk.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let view = desk.until("no connection", |view| view.headline == "No connection to your assistant").await;
    assert_eq!(view.screen, Screen::AgentOffline);
    desk.stop().await;
    // Nothing has crossed: the agent was never asked to pair.
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(), 0);
    serving.stop().unwrap();
    view.detail.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_in_plain_words_which_way_a_servers_certificate_is_wrong() {
    let said = [
        shown_to_the_person(Certificate::WrongName, true).await,
        shown_to_the_person(Certificate::Expired, true).await,
        shown_to_the_person(Certificate::Valid, false).await,
    ];
    assert_eq!(
        said,
        [
            "Another server answers in its place: its certificate is for another name. Nothing was sent; tell whoever \
             runs your assistant.",
            "The certificate of the server in between is not valid at this time. Check this computer's date and time; \
             if they are right, tell whoever runs your assistant.",
            "A secure connection could not be made. If your company's network checks secure traffic, its certificate \
             must be installed on this computer.",
        ]
    );
}
