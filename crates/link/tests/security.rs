//! TLS, WebSocket, credentials and proxies, each against a real mosquitto, and each failure told by its kind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{BOTH, broker_of_ana, connect, first_problem, message, settings, subscribed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use valetkey_link::{ClientCertificate, Link, Password, Problem, Proxy, Refusal, Retain, Settings};
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};
use valetkey_tests::process::free_port;

async fn tls_broker(certificate: Certificate) -> Broker {
    Broker::start(BrokerOptions { tls: Some(certificate), ..BrokerOptions::default() }).await.unwrap()
}

async fn says_hello_to_itself(settings: Settings) {
    let (link, mut events) = connect(settings).await;
    link.publish("to/me", *b"hello", Retain::No).unwrap();
    let delivery = message(&mut events).await;
    assert_eq!(delivery.payload, b"hello");
    link.ack(delivery);
    link.stop().await;
}

#[tokio::test]
async fn tls_with_ones_own_authority_works_in_both_versions() {
    let broker = tls_broker(Certificate::Valid).await;
    assert!(broker.url().starts_with("mqtts://"));
    for version in BOTH {
        let mut settings = subscribed(&broker, "me", "to/me");
        settings.version = version;
        says_hello_to_itself(settings).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_as_such() {
    let broker = tls_broker(Certificate::WrongName).await;
    for version in BOTH {
        let mut settings = settings(&broker, "me");
        settings.version = version;
        assert_eq!(first_problem(settings).await, Problem::TlsWrongName, "{version:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_as_such() {
    let broker = tls_broker(Certificate::Expired).await;
    assert_eq!(first_problem(settings(&broker, "me")).await, Problem::TlsExpired);
}

#[tokio::test]
async fn an_authority_that_the_system_does_not_know_is_not_trusted() {
    let broker = tls_broker(Certificate::Valid).await;
    let mut settings = settings(&broker, "me");
    settings.ca_file = None;
    assert_eq!(first_problem(settings).await, Problem::TlsUntrusted);
}

#[tokio::test]
async fn a_broker_that_asks_for_a_client_certificate_lets_in_who_has_one() {
    let options = BrokerOptions {
        tls: Some(Certificate::Valid),
        require_client_certificate: true,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    assert_eq!(first_problem(settings(&broker, "me")).await, Problem::Refused(Refusal::ClientCertificate));

    let files = broker.client_certificate().unwrap();
    let mut settings = subscribed(&broker, "me", "to/me");
    settings.client_certificate = Some(ClientCertificate { certificate: files.certificate, key: files.key });
    says_hello_to_itself(settings).await;
}

#[tokio::test]
async fn websocket_works_with_and_without_tls_in_both_versions() {
    for tls in [None, Some(Certificate::Valid)] {
        let options = BrokerOptions { websocket: true, tls, ..BrokerOptions::default() };
        let broker = Broker::start(options).await.unwrap();
        for version in BOTH {
            let mut settings = subscribed(&broker, "me", "to/me");
            settings.version = version;
            says_hello_to_itself(settings).await;
        }
    }
}

#[tokio::test]
async fn websocket_tells_an_untrusted_and_a_wrongly_named_certificate_apart() {
    let options =
        BrokerOptions { websocket: true, tls: Some(Certificate::WrongName), ..BrokerOptions::default() };
    let broker = Broker::start(options).await.unwrap();
    let mut settings = settings(&broker, "me");
    assert_eq!(first_problem(settings.clone()).await, Problem::TlsWrongName);
    settings.ca_file = None;
    assert_eq!(first_problem(settings).await, Problem::TlsUntrusted);
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_and_the_right_one_is_not() {
    let broker = broker_of_ana().await;
    for version in BOTH {
        let mut settings = settings(&broker, "ana");
        settings.version = version;
        settings.username = Some("ana".into());
        settings.password = Some(Password::new("wrong"));
        assert_eq!(
            first_problem(settings.clone()).await,
            Problem::Refused(Refusal::NotAuthorized),
            "{version:?}"
        );
        settings.password = Some(Password::new("right"));
        let (link, _events) = connect(settings).await;
        link.stop().await;
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_and_a_name_that_does_not_exist_are_told_apart() {
    let closed = format!("mqtt://127.0.0.1:{}", free_port().unwrap());
    for (url, problem) in [(&*closed, Problem::Unreachable), ("mqtt://broker.invalid", Problem::NameNotFound)]
    {
        let mut settings = Settings::new(url, "me").unwrap();
        settings.proxy = Proxy::Off;
        assert_eq!(first_problem(settings).await, problem, "{url}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_breaks_the_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: 400\r\n\r\n{}", "x".repeat(400));
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let mut settings = Settings::new(&format!("mqtt://127.0.0.1:{port}"), "me").unwrap();
    settings.proxy = Proxy::Off;
    assert_eq!(first_problem(settings).await, Problem::ProtocolError);
}

#[tokio::test]
async fn tls_to_a_broker_without_tls_is_no_certificate_problem() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let mut settings = Settings::new(&broker.url().replace("mqtt:", "mqtts:"), "me").unwrap();
    settings.proxy = Proxy::Off;
    assert_eq!(first_problem(settings).await, Problem::ClosedByBroker);
}

#[tokio::test]
async fn the_broker_is_reached_through_an_http_proxy() {
    for options in [
        BrokerOptions::default(),
        BrokerOptions { tls: Some(Certificate::Valid), ..BrokerOptions::default() },
        BrokerOptions { websocket: true, ..BrokerOptions::default() },
    ] {
        let broker = Broker::start(options).await.unwrap();
        let (proxy, used) = connect_proxy().await;
        let mut settings = subscribed(&broker, "me", "to/me");
        settings.proxy = Proxy::Http(proxy);
        says_hello_to_itself(settings).await;
        assert_eq!(used.load(Ordering::Relaxed), 1, "{}", broker.url());
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_as_the_proxys_problem() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    for version in BOTH {
        let mut settings = settings(&broker, "me");
        settings.version = version;
        settings.proxy =
            Proxy::Http(Url::parse(&format!("http://127.0.0.1:{}", free_port().unwrap())).unwrap());
        assert_eq!(first_problem(settings).await, Problem::Proxy, "{version:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_do_not_start() {
    for url in ["https://localhost", "mqtt://user:password@localhost"] {
        assert!(Settings::new(url, "me").is_err(), "{url}");
    }
    let mut settings = Settings::new("mqtt://localhost", "me").unwrap();
    settings.ca_file = Some("/nonexistent/ca.pem".into());
    assert!(Link::start(settings).is_err());
    assert!(Link::start(Settings::new("mqtt://localhost", "").unwrap()).is_err());
}

#[test]
fn a_password_is_not_shown() {
    let mut settings = Settings::new("mqtt://localhost", "me").unwrap();
    settings.password = Some(Password::new("CANARY"));
    settings.proxy = Proxy::Http(Url::parse("http://ana:CANARY@proxy.example").unwrap());
    assert!(!format!("{settings:?}").contains("CANARY"));
}

/// A proxy that knows `CONNECT` and counts; one line of an answer is enough for any client.
async fn connect_proxy() -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let used = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&used);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target =
                head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("CONNECT");
            let mut broker = TcpStream::connect(target).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    (url, used)
}
