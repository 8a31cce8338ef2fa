//! What the environment says, in a process of its own: the system's authorities and its proxy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use common::connect;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use valetkey_link::Settings;
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};

const URL: &str = "LINK_TEST_URL";

/// The other process. It has nothing but the environment to go by.
#[tokio::test]
#[ignore = "started by the tests below"]
async fn child() {
    let (link, _events) = connect(Settings::new(&std::env::var(URL).unwrap(), "child").unwrap()).await;
    link.stop().await;
}

async fn connects(url: &str, environment: &[(&str, &str)]) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored"]).env(URL, url);
    for name in
        ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"]
    {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap().status.success()).await.unwrap()
}

#[tokio::test]
async fn an_authority_that_the_system_knows_is_trusted() {
    let options = BrokerOptions { tls: Some(Certificate::Valid), ..BrokerOptions::default() };
    let broker = Broker::start(options).await.unwrap();
    let ca_file = broker.ca_file().unwrap();
    assert!(connects(&broker.url(), &[("SSL_CERT_FILE", ca_file.to_str().unwrap())]).await);
}

/// Only the proxy can find this broker.
#[tokio::test]
async fn the_systems_proxy_leads_to_the_broker() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let port = broker.port();
    let asked = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let mut broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
        String::from_utf8(head).unwrap()
    });
    assert!(connects("mqtt://broker.invalid:1234", &[("HTTPS_PROXY", &proxy)]).await);
    assert!(asked.await.unwrap().starts_with("CONNECT broker.invalid:1234 HTTP/1.1\r\n"));
}
