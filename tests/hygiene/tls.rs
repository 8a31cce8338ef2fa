//! TLS to a broker with an authority of the operator's own, a client certificate, and certificates that are wrong: what the
//! person and the operator are told of them.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use valetkey_companion::view::Screen;
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
