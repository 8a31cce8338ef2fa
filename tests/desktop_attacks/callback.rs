//! At the callback: the port, its path, a state that is guessed or read, codes of a stranger's own.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;
use valetkey_tests::http_sign_in::{http_sign_in, http_sign_in_up_to_redirect};
use valetkey_tests::tenant::{ALICE, ANA, User};

use crate::person::{Person, address};
use crate::support::World;

const EXCHANGED: &str = "token:authorization_code";
/// Of PKCE, made by the stranger: 43 characters that no verifier of ours fits.
const STRANGERS_CHALLENGE: &str = "c3RyYW5nZXJzLW93bi1jaGFsbGVuZ2UtMzItYnl0ZXM";

/// Shows of M10 that duplicates of a callback block nobody, and of L5 that a code is exchanged once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_guesses_the_callback_exchanges_nothing_and_the_real_sign_in_succeeds() {
    let world = World::with_operators_broker().await;
    let person = Person::new();
    let mut companion = person.accepts(&world.daemon.invite(ALICE.mail).unwrap(), &[]);
    let url = address(&mut companion).await;
    let port = port_of(&url);
    let state = parameter(&url, "state");
    let code = strangers_code(&url).await;
    let (host, right) = (format!("localhost:{port}"), format!("code={code}&state={state}"));
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let form = |kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let guesses = [
        ("a code, no state", get(&format!("/?code={code}"), &host), 400),
        ("an empty state", get(&format!("/?code={code}&state="), &host), 400),
        ("a state of its own", get(&format!("/?code={code}&state=of-the-stranger"), &host), 400),
        ("nearly the state", get(&format!("/?{right}x"), &host), 400),
        ("an error under another state", get("/?error=access_denied&state=other", &host), 400),
        ("the state twice", get(&format!("/?{right}&state={state}"), &host), 400),
        ("another path", get(&format!("/callback?{right}"), &host), 404),
        ("the page's path", get(&format!("/done?{right}"), &host), 404),
        ("another name", get(&format!("/?{right}"), "evil.example"), 421),
        ("another name on our port", get(&format!("/?{right}"), &format!("evil.example:{port}")), 421),
        ("another target", get(&format!("http://evil.example/?{right}"), &host), 421),
        ("no name", format!("GET /?{right} HTTP/1.1\r\n\r\n"), 421),
        ("another method", get(&format!("/?{right}"), &host).replacen("GET", "PUT", 1), 405),
        ("only the head", get(&format!("/?{right}"), &host).replacen("GET", "HEAD", 1), 405),
        ("no form", form("application/json", &right), 415),
        (
            "a form under another state",
            form("application/x-www-form-urlencoded", &format!("code={code}&state=x")),
            400,
        ),
    ];
    for (guess, request, status) in guesses {
        assert_eq!(ask(port, &request).await, Some(status), "{guess}");
    }
    assert_eq!(world.tenant.count(EXCHANGED).await.unwrap(), 0, "nothing was exchanged");
    assert_eq!(companion.count(|line| line.as_str().is_some_and(|line| line.contains("Signed in"))), 0);

    // The real answer, and then at once the stranger's code under the right state.
    let back = http_sign_in_up_to_redirect(url.as_str(), ALICE.username).await.unwrap();
    let real = format!("/?{}", back.query().unwrap());
    assert_eq!(ask(port, &get(&real, &host)).await, Some(303));
    let second = get(&format!("/?{right}"), &host);
    assert_eq!(ask(port, &second).await, Some(303), "shown the page of the first");
    assert_eq!(ask(port, &get("/done", &host)).await, Some(200));
    companion.line("offline").await.unwrap();
    // The listener has ended, or remembers.
    let late = ask(port, &second).await;
    assert!(matches!(late, None | Some(303 | 410)), "{late:?}");

    let serving = world.daemon.serve().await.unwrap();
    companion.line("Connected").await.unwrap();
    assert!(companion.ended().await.unwrap().success(), "{}", person.said());
    assert_eq!(world.tenant.count(EXCHANGED).await.unwrap(), 1, "one code, once");
    assert_eq!(accounts(&world), [ALICE.mail]);
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Who sees the browser's command line sees the address, with the state in it; PKCE, the issuer and the invite's address stand.
///
/// Shows of J3 that a sign-in is verified before anything is sent, and M3 for one that is good and somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_has_read_the_address_can_spoil_a_sign_in_and_never_put_his_own_in_its_place() {
    let world = World::with_operators_broker().await;
    let serving = world.daemon.serve().await.unwrap();
    let person = Person::new();

    // Mix-up: the very code, said to be of another service.
    let mut companion = person.accepts(&world.daemon.invite(ALICE.mail).unwrap(), &[]);
    let url = address(&mut companion).await;
    let mut back = http_sign_in_up_to_redirect(url.as_str(), ALICE.username).await.unwrap();
    back.query_pairs_mut().append_pair("iss", "https://login.evil.example/v2.0");
    bring(&back).await;
    assert_eq!(companion.ended().await.unwrap().code(), Some(1), "{}", person.said());
    assert!(person.said().contains("another sign-in service"), "{}", person.said());
    assert_eq!(world.tenant.count(EXCHANGED).await.unwrap(), 0, "an issuer's code went to no other");

    // Login CSRF with a code of the stranger's: the right state, but made for another challenge.
    let mut companion = person.connects(&[]);
    let url = address(&mut companion).await;
    let injected = format!("/?code={}&state={}", strangers_code(&url).await, parameter(&url, "state"));
    bring(&Url::parse(&format!("http://localhost:{}", port_of(&url))).unwrap().join(&injected).unwrap())
        .await;
    assert_eq!(companion.ended().await.unwrap().code(), Some(1), "{}", person.said());
    let log = world.tenant.log().await.unwrap();
    let exchange = log.iter().rfind(|line| line.endpoint == "token").unwrap();
    assert_eq!(exchange.status, 400, "the provider saw another verifier: {exchange:?}");

    // With challenge, state and nonce as they were read: a sign-in that is good, and somebody else's.
    let mut companion = person.connects(&[]);
    let url = address(&mut companion).await;
    bring(&sign_in_instead(&url, ANA).await).await;
    assert_eq!(companion.ended().await.unwrap().code(), Some(4), "{}", person.said());
    assert_eq!(accounts(&world), Vec::<String>::new(), "nothing was handed over");

    let mut companion = person.connects(&[]);
    let url = address(&mut companion).await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    companion.line("Connected").await.unwrap();
    assert_eq!(accounts(&world), [ALICE.mail]);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_took_first_is_never_named_to_the_browser() {
    let world = World::with_operators_broker().await;
    let person = Person::new();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut first = true;
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        // Without IPv6 nobody can take it there.
        let Ok(taken) = TcpListener::bind(loopback) else { continue };
        taken.set_nonblocking(true).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let args = ["--port", port.as_str()];
        let mut companion =
            if std::mem::take(&mut first) { person.accepts(&link, &args) } else { person.connects(&args) };
        assert_eq!(companion.ended().await.unwrap().code(), Some(1), "{}", person.said());
        assert!(person.said().contains("Your browser has no way back"), "{}", person.said());
        let said = companion.count(|line| line.as_str().is_some_and(|line| line.contains("authorize")));
        assert_eq!(said, 0, "the browser was sent nowhere");
        assert!(taken.accept().is_err(), "and nobody came to the thief");
        drop(taken);
        // The same port is good once it is free.
        let mut companion = person.connects(&args);
        assert_eq!(port_of(&address(&mut companion).await).to_string(), port);
        companion.stop().unwrap();
    }
    assert_eq!(world.tenant.count("authorize").await.unwrap(), 0);
}

/// What the daemon has.
fn accounts(world: &World) -> Vec<String> {
    let (_, accounts) = world.daemon.ask(&["accounts"]).unwrap();
    let text = accounts.to_string();
    [ALICE.mail, ANA.mail].into_iter().filter(|mail| text.contains(mail)).map(str::to_owned).collect()
}

/// A code that is good and not for this sign-in: for a challenge of the stranger's, under an account of his.
async fn strangers_code(url: &Url) -> String {
    let own = replaced(url, &[("state", "of-the-stranger"), ("code_challenge", STRANGERS_CHALLENGE)]);
    parameter(&sign_in_instead(&own, ANA).await, "code")
}

async fn sign_in_instead(url: &Url, user: User) -> Url {
    let own = replaced(url, &[("login_hint", user.username)]);
    http_sign_in_up_to_redirect(own.as_str(), user.username).await.unwrap()
}

fn replaced(url: &Url, values: &[(&str, &str)]) -> Url {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| values.iter().all(|(changed, _)| name != changed))
        .collect();
    let mut other = url.clone();
    other.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(values);
    other
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn port_of(url: &Url) -> u16 {
    Url::parse(&parameter(url, "redirect_uri")).unwrap().port().unwrap()
}

/// As a browser: the callback, and the page that it leads to.
async fn bring(callback: &Url) {
    let port = callback.port().unwrap();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    let target = format!("/?{}", callback.query().unwrap());
    assert_eq!(ask(port, &get(&target)).await, Some(303));
    assert!(ask(port, &get("/done")).await.is_some());
}

/// The status that is answered; `None` if nobody listens any more.
async fn ask(port: u16, request: &str) -> Option<u16> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A refusal may come before all is read, and end in a reset.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).split_whitespace().nth(1)?.parse().ok()
}
