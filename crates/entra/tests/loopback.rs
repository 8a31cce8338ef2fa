//! The sign-in listener against real sockets: a polite browser, a confused one, and a hostile neighbour.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode, redirect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use valetkey_entra::loopback::{Callback, Loopback, LoopbackError, Outcome, Page, STOP_TIMEOUT};
use valetkey_entra::secret::Secret;

const STATE: &str = "state-of-this-sign-in";
const CODE: &str = "CANARY-code";
const PAGE: &str = "<!doctype html><title>Connected</title><p>You can close this tab.";
/// Most of these tests end in a fraction of a second; this is for a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows no redirect by itself and keeps no connection.
fn browser() -> Client {
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn at(loopback: &Loopback, path: &str) -> String {
    format!("http://localhost:{}{path}", loopback.port())
}

fn callback_url(loopback: &Loopback) -> String {
    at(loopback, &format!("/?code={CODE}&state={STATE}"))
}

async fn get(url: String) -> Response {
    browser().get(url).send().await.unwrap()
}

fn page() -> Page {
    Page { status: 200, html: PAGE.into() }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

/// The whole sign-in as a browser does it, beside the listener that waits for it.
async fn sign_in(loopback: &mut Loopback) -> Response {
    expect(loopback).await;
    let (url, done) = (callback_url(loopback), at(loopback, "/done"));
    let visit = tokio::spawn(async move {
        let redirect = get(url).await;
        assert_eq!(redirect.status(), StatusCode::SEE_OTHER);
        assert_eq!(header(&redirect, "location"), "/done");
        get(done).await
    });
    let callback = next(loopback).await;
    assert_eq!(callback.outcome, Outcome::Code(Secret::new(CODE)));
    callback.answer(page());
    visit.await.unwrap()
}

/// Tells the listener the state and leaves it waiting.
async fn expect(loopback: &mut Loopback) {
    let given_up = tokio::time::timeout(Duration::ZERO, loopback.next(&Secret::new(STATE))).await;
    assert!(given_up.is_err());
}

async fn next(loopback: &mut Loopback) -> Callback {
    tokio::time::timeout(PATIENCE, loopback.next(&Secret::new(STATE))).await.expect("a callback").unwrap()
}

/// What comes while the listener waits, and is not the callback.
async fn meanwhile<T>(loopback: &mut Loopback, requests: impl Future<Output = T>) -> T {
    let state = Secret::new(STATE);
    tokio::select! {
        biased;
        callback = loopback.next(&state) => panic!("taken for the callback: {callback:?}"),
        done = requests => done,
    }
}

#[tokio::test]
async fn a_callback_is_handed_over_and_its_page_shown_at_an_address_without_the_code() {
    let mut loopback = Loopback::bind().unwrap();
    assert_eq!(loopback.redirect_uri().as_str(), format!("http://localhost:{}", loopback.port()));
    let shown = sign_in(&mut loopback).await;
    assert_eq!(shown.status(), StatusCode::OK);
    assert_eq!(header(&shown, "cache-control"), "no-store");
    assert_eq!(header(&shown, "referrer-policy"), "no-referrer");
    assert!(
        header(&shown, "content-security-policy")
            .starts_with("default-src 'none'; style-src 'unsafe-inline'")
    );
    assert_eq!(shown.text().await.unwrap(), PAGE);
    loopback.stop().await;
}

#[tokio::test]
async fn a_posted_form_is_a_callback_too_with_its_issuer() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    let form = [("code", CODE), ("state", STATE), ("iss", "https://login.example/tenant/v2.0")];
    let answer = browser().post(at(&loopback, "/")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(next(&mut loopback).await.iss.as_deref(), Some("https://login.example/tenant/v2.0"));
}

#[tokio::test]
async fn a_refusal_is_handed_over_decoded_and_never_reflected() {
    let mut loopback = Loopback::bind().unwrap();
    let script = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%26lt%3B";
    let stranger = at(&loopback, &format!("/?error={script}&error_description={script}&state={script}"));
    let refused = meanwhile(&mut loopback, get(stranger)).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(!refused.text().await.unwrap().contains("script"));

    let url = at(&loopback, &format!("/?error=access_denied&error_description={script}&state={STATE}"));
    assert!(!get(url).await.text().await.unwrap().contains("script"));
    let callback = next(&mut loopback).await;
    let Outcome::Refused { error, error_description, .. } = &callback.outcome else { panic!("{callback:?}") };
    assert_eq!(error, "access_denied");
    assert_eq!(error_description.as_deref(), Some("<script>alert(1)</script>&lt;"));
}

/// Shows M10 for a favicon.
#[tokio::test]
async fn a_favicon_and_strangers_are_refused_and_the_callback_still_comes() {
    let mut loopback = Loopback::bind().unwrap();
    loopback.refuse_with("<p>Not here.");
    for (path, status) in [
        ("/favicon.ico", 404),
        ("/done", 404),
        ("/", 400),
        ("/?code=c", 400),
        ("/?code=c&state=", 400),
        ("/?code=c&state=forged", 400),
        ("/?error=access_denied&state=forged", 400),
        ("/?state=state-of-this-sign-in", 400),
        ("/?code=c&state=state-of-this-sign-in&state=state-of-this-sign-in", 400),
        ("/?code=c&error=e&state=state-of-this-sign-in", 400),
    ] {
        let url = at(&loopback, path);
        let answer = meanwhile(&mut loopback, get(url)).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(answer.text().await.unwrap(), "<p>Not here.");
    }
    assert_eq!(sign_in(&mut loopback).await.text().await.unwrap(), PAGE);
}

#[tokio::test]
async fn another_name_for_this_computer_is_refused() {
    let mut loopback = Loopback::bind().unwrap();
    let port = loopback.port();
    for host in ["evil.example".to_owned(), format!("evil.example:{port}"), format!("localhost:{}", port ^ 1)]
    {
        let rebound = browser().get(callback_url(&loopback)).header("host", &host).send();
        let answer = meanwhile(&mut loopback, rebound).await.unwrap();
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    assert_eq!(sign_in(&mut loopback).await.status(), StatusCode::OK);
}

/// Shows M10 for the browser's retries.
#[tokio::test]
async fn duplicates_of_the_callback_see_the_remembered_page_and_are_never_handed_over() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    // Ten at once, before there is a page: the browser's impatience.
    let visits: Vec<_> = (0..10)
        .map(|_| {
            let (url, done) = (callback_url(&loopback), at(&loopback, "/done"));
            tokio::spawn(async move {
                assert_eq!(get(url).await.status(), StatusCode::SEE_OTHER);
                get(done).await.text().await.unwrap()
            })
        })
        .collect();
    next(&mut loopback).await.answer(page());
    for visit in visits {
        assert_eq!(visit.await.unwrap(), PAGE);
    }
    // And later, with another code under the same state.
    let again = get(at(&loopback, &format!("/?code=other&state={STATE}"))).await;
    assert_eq!(again.status(), StatusCode::SEE_OTHER);
    assert_eq!(get(at(&loopback, "/done")).await.text().await.unwrap(), PAGE);
    assert!(matches!(loopback.next(&Secret::new(STATE)).await, Err(LoopbackError::Used)));
}

#[tokio::test]
async fn waiting_can_be_given_up_and_taken_up_again_without_losing_the_callback() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    // It comes while nobody waits.
    assert_eq!(get(callback_url(&loopback)).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(next(&mut loopback).await.outcome, Outcome::Code(Secret::new(CODE)));
}

#[tokio::test]
async fn a_fresh_link_makes_the_earlier_one_void_even_if_its_callback_has_just_come() {
    let mut loopback = Loopback::bind().unwrap();
    let earlier = Secret::new("earlier");
    assert!(tokio::time::timeout(Duration::ZERO, loopback.next(&earlier)).await.is_err());
    let old_url = at(&loopback, "/?code=old&state=earlier");
    assert_eq!(get(old_url.clone()).await.status(), StatusCode::SEE_OTHER);
    // "Open again": the person starts over with a new state.
    expect(&mut loopback).await;
    assert_eq!(get(old_url).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(sign_in(&mut loopback).await.text().await.unwrap(), PAGE);
}

#[tokio::test]
async fn a_callback_before_anything_is_expected_is_refused() {
    let loopback = Loopback::bind().unwrap();
    assert_eq!(get(callback_url(&loopback)).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_callback_dropped_without_an_answer_ends_the_browsers_wait() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    get(callback_url(&loopback)).await;
    let visit = tokio::spawn(get(at(&loopback, "/done")));
    drop(next(&mut loopback).await);
    assert_eq!(visit.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn both_ipv4_and_ipv6_localhost_are_ours() {
    let mut loopback = Loopback::bind().unwrap();
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, loopback.port()))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::LOCALHOST, loopback.port()).into());
    }
    for address in addresses {
        assert!(TcpListener::bind(address).is_err(), "somebody else could listen on {address}");
        let host = format!("localhost:{}", loopback.port());
        let request = browser().get(format!("http://{address}/favicon.ico")).header("host", host).send();
        assert_eq!(
            meanwhile(&mut loopback, request).await.unwrap().status(),
            StatusCode::NOT_FOUND,
            "{address}"
        );
    }
}

/// Shows of M18 that a busy port fails fast.
#[tokio::test]
async fn a_busy_port_fails_at_once_and_names_the_program_that_has_it() {
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()] {
        let Ok(taken) = TcpListener::bind(address) else { continue };
        let port = taken.local_addr().unwrap().port();
        match Loopback::bind_port(port) {
            Err(LoopbackError::PortTaken { port: named, by }) => {
                assert_eq!(named, port);
                if cfg!(target_os = "linux") {
                    assert_eq!(by.unwrap().pid, std::process::id());
                }
            }
            other => panic!("{address}: {other:?}"),
        }
        drop(taken);
        Loopback::bind_port(port).unwrap().stop().await;
    }
}

/// Shows of M10 that shutdown is bounded.
#[tokio::test]
async fn it_stops_within_a_second_with_idle_connections_open_and_frees_its_port() {
    let mut loopback = Loopback::bind().unwrap();
    let port = loopback.port();
    let mut idle = connect(port, 20).await;
    sign_in(&mut loopback).await;
    idle.extend(connect(port, 20).await);
    let started = Instant::now();
    loopback.stop().await;
    assert!(started.elapsed() < STOP_TIMEOUT + Duration::from_millis(100), "{:?}", started.elapsed());
    for mut connection in idle {
        assert!(is_closed(&mut connection).await);
    }
    Loopback::bind_port(port).unwrap();
}

#[tokio::test]
async fn a_page_answered_just_before_the_stop_is_still_shown() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    let done = at(&loopback, "/done");
    assert_eq!(get(callback_url(&loopback)).await.status(), StatusCode::SEE_OTHER);
    next(&mut loopback).await.answer(page());
    let ((), shown) = tokio::join!(loopback.stop(), get(done));
    assert_eq!(shown.text().await.unwrap(), PAGE);
}

/// Shows of M10 that shutdown is bounded.
#[tokio::test]
async fn with_nobody_coming_it_is_given_up_and_stopped_at_once() {
    let mut loopback = Loopback::bind().unwrap();
    let port = loopback.port();
    expect(&mut loopback).await;
    let started = Instant::now();
    loopback.stop().await;
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

/// Shows of M10 that a browser's idle connections do not block.
#[tokio::test]
async fn more_idle_connections_than_there_is_room_for_do_not_keep_the_browser_out() {
    let mut loopback = Loopback::bind().unwrap();
    let mut silent = connect(loopback.port(), 300).await;
    let started = Instant::now();
    let shown = sign_in(&mut loopback).await;
    assert_eq!(shown.text().await.unwrap(), PAGE);
    assert!(is_closed(&mut silent[0]).await, "the oldest made room");
    assert!(started.elapsed() < Duration::from_secs(4), "nobody waited for the idle to time out");
}

#[tokio::test]
async fn a_connection_that_drips_or_says_nothing_is_closed_within_its_time() {
    let loopback = Loopback::bind().unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", loopback.port())).await.unwrap();
    let mut slow = TcpStream::connect(("127.0.0.1", loopback.port())).await.unwrap();
    let started = Instant::now();
    let dripped = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        // Until the other side has had enough.
        while slow.write_all(b"x").await.is_ok() {
            every.tick().await;
        }
    };
    let (closed, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(is_closed(&mut silent), dripped) })
            .await
            .expect("both are closed");
    assert!(closed);
    assert!(
        started.elapsed() >= Duration::from_secs(4),
        "a slow browser has its time: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_request_line_or_form_of_a_mebibyte_is_refused_and_the_callback_still_comes() {
    let mut loopback = Loopback::bind().unwrap();
    let mut greedy = TcpStream::connect(("127.0.0.1", loopback.port())).await.unwrap();
    let flood = async {
        let _ = greedy.write_all(b"GET /?code=").await;
        // It may be cut off in the middle, which is the point.
        let _ = greedy.write_all(&vec![b'a'; 1024 * 1024]).await;
        is_closed(&mut greedy).await
    };
    assert!(meanwhile(&mut loopback, flood).await);
    let form = browser().post(at(&loopback, "/")).form(&[("code", "a".repeat(1024 * 1024))]).send();
    match meanwhile(&mut loopback, form).await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE),
        // The refusal may be lost when the connection is closed over unread bytes.
        Err(error) => assert!(error.is_request(), "{error:?}"),
    }
    assert_eq!(sign_in(&mut loopback).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_as_large_as_a_developers_cookies_is_taken() {
    let mut loopback = Loopback::bind().unwrap();
    expect(&mut loopback).await;
    let request = browser().get(callback_url(&loopback)).header("cookie", "a".repeat(40 * 1024));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_at_the_state_change_nothing() {
    let mut loopback = Loopback::bind().unwrap();
    let port = loopback.port();
    let guesses = async {
        let guessers: Vec<_> = (0..20).map(|guesser| tokio::spawn(guess(port, guesser * 500, 500))).collect();
        for guesser in guessers {
            guesser.await.unwrap();
        }
    };
    meanwhile(&mut loopback, guesses).await;
    assert_eq!(sign_in(&mut loopback).await.text().await.unwrap(), PAGE);
}

async fn guess(port: u16, first: usize, count: usize) {
    for guess in first..first + count {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET /?code=c&state={STATE}{guess} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

async fn connect(port: u16, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    connections
}

/// Reads what is left; both an orderly end and a reset are an end.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await.is_ok()
}
