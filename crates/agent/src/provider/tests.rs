//! Time is virtual here, and nothing asks the network.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::SignedDuration;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::health::Update;
use crate::state_dir::StateDir;

const ACCOUNT: &str = "0a11ce00-0000-4000-8000-000000000001.aaaaaaaa-0000-4000-8000-00000000c070";

/// Counts what the operator is told.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicUsize>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let told = String::from_utf8_lossy(line).contains("an account cannot be refreshed");
        self.0.fetch_add(usize::from(told), Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// An account that is due, by its file.
fn account(resources: &[&str]) -> serde_json::Value {
    let facts = json!({
        "format": 1,
        "account": ACCOUNT.parse::<AccountId>().unwrap(),
        "username": "alice@contoso.example",
        "authority": { "cloud": { "login": "https://login.microsoftonline.com/" },
                       "tenant": "aaaaaaaa-0000-4000-8000-00000000c070" },
        "client_id": "11111111-1111-4111-8111-111111111111",
        "capabilities": ["mail"],
        "resources": resources,
        "scopes": [],
        "device": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "seen": {},
        "expires_at": "2026-01-01T13:00:00Z",
        "refresh_at": "2026-01-01T12:50:00Z",
        "condition": { "health": "connected", "since": "2026-01-01T12:00:00Z" },
        "stored_at": "2026-01-01T12:00:00Z",
        "refreshed_at": "2026-01-01T12:00:00Z",
    });
    json!({ "ValetKey": facts })
}

/// A token endpoint that answers when the test does.
struct Endpoint(TcpListener);

impl Endpoint {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn origin(&self) -> Url {
        format!("http://{}/", self.0.local_addr().unwrap()).parse().unwrap()
    }

    /// The next one that asks, and the refresh token it shows.
    async fn asked(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut text = String::new();
        loop {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                let form = url::form_urlencoded::parse(body.as_bytes());
                let shown = form.into_owned().find(|(name, _)| name == "refresh_token").unwrap().1;
                return (stream, shown);
            }
        }
    }
}

async fn answer(mut stream: TcpStream, status: u16, body: &serde_json::Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

/// Personal accounts and providers that rotate take a refresh token twice for a theft.
#[tokio::test]
async fn a_sign_in_after_a_disconnect_is_presented_once_and_after_what_was_under_way_before_it() {
    let (endpoint, home) = (Endpoint::open().await, tempfile::tempdir().unwrap());
    let dir = Arc::new(StateDir::open(home.path().join("state")).unwrap());
    let name = format!("{ACCOUNT}.json");
    let signed_in = |refresh_token: &str| {
        let mut file = account(&["graph"]);
        let origin = endpoint.origin();
        file["ValetKey"]["authority"]["cloud"] = json!({ "login": origin, "graph": origin });
        file["RefreshToken"] = json!({ "one": {
            "credential_type": "RefreshToken", "home_account_id": ACCOUNT, "environment": "login.example",
            "client_id": "11111111-1111-4111-8111-111111111111", "secret": refresh_token,
        } });
        dir.replace_account(&name, file.to_string().as_bytes()).unwrap();
    };
    signed_in("first");
    let clock = Clock::tokio_from("2026-01-02T00:00:00Z".parse().unwrap());
    let (vault, troubles) = Vault::open(Arc::clone(&dir), clock.now()).unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    let http = valetkey_entra::http::client().unwrap();
    let tokens = Tokens::new(Arc::new(vault), Arc::default(), clock, http);
    let account: AccountId = ACCOUNT.parse().unwrap();
    let authority = tokens.0.vault.facts(&account).unwrap().authority.clone();
    tokens.0.remember_token_url(&authority, endpoint.origin());

    tokens.prove(account);
    let (under_way, shown) = endpoint.asked().await;
    assert_eq!(shown, "first");
    tokens.forget(&account);
    signed_in("second");
    tokens.prove_new(account);
    let granted = json!({
        "token_type": "Bearer", "access_token": "t", "refresh_token": "rotated", "expires_in": 3600,
        "scope": "https://graph.microsoft.com/Mail.Read",
    });
    let over =
        json!({ "error": "interaction_required", "error_codes": [50_076], "suberror": "basic_action" });
    let mut shown = Vec::new();
    tokio::select! {
        asked = endpoint.asked() => panic!("{} beside the one under way", asked.1),
        // All that can be done without an answer is done when an empty task has had its turn, many times over.
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    answer(under_way, 200, &granted).await;
    let finished = tokens.finish();
    tokio::pin!(finished);
    loop {
        tokio::select! {
            () = &mut finished => break,
            (stream, token) = endpoint.asked() => {
                shown.push(token);
                answer(stream, 400, &over).await;
            }
        }
    }
    assert_eq!(shown, ["second"]);
    assert!(tokens.0.held(&account, Resource::Graph).is_none());
}

/// It would be looked at every second otherwise, and many accounts refreshed at one time.
#[tokio::test]
async fn a_stored_token_is_served_after_a_restart_and_renewed_when_it_was_drawn_to_be() {
    let (endpoint, home) = (Endpoint::open().await, tempfile::tempdir().unwrap());
    let dir = Arc::new(StateDir::open(home.path().join("state")).unwrap());
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let origin = endpoint.origin();
    let mut file = account(&["graph"]);
    file["ValetKey"]["authority"]["cloud"] = json!({ "login": origin, "graph": origin });
    file["ValetKey"]["refresh_at"] = json!(now - SignedDuration::from_secs(1));
    let entry = |kind: &str, secret: &str| {
        json!({
            "credential_type": kind, "home_account_id": ACCOUNT, "environment": "login.example",
            "client_id": "11111111-1111-4111-8111-111111111111", "secret": secret,
        })
    };
    file["RefreshToken"] = json!({ "one": entry("RefreshToken", "renewing") });
    let mut stored = entry("AccessToken", "stored");
    stored["realm"] = "aaaaaaaa-0000-4000-8000-00000000c070".into();
    stored["target"] = "https://graph.microsoft.com/Mail.Read".into();
    stored["cached_at"] = (now.as_second() - 1800).to_string().into();
    stored["expires_on"] = (now.as_second() + 1800).to_string().into();
    file["AccessToken"] = json!({ "one": stored });
    dir.replace_account(&format!("{ACCOUNT}.json"), file.to_string().as_bytes()).unwrap();
    let (vault, troubles) = Vault::open(dir, now).unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    let http = valetkey_entra::http::client().unwrap();
    let tokens = Tokens::new(Arc::new(vault), Arc::default(), Clock::tokio_from(now), http);
    let account: AccountId = ACCOUNT.parse().unwrap();
    let authority = tokens.0.vault.facts(&account).unwrap().authority.clone();
    tokens.0.remember_token_url(&authority, origin);

    let served = tokens.token(&account, Resource::Graph, None).await.unwrap();
    assert_eq!(served.secret.expose(), "stored");
    let stop = CancellationToken::new();
    tokio::select! {
        () = tokens.keep_fresh(&stop) => panic!("it goes on"),
        (_, shown) = endpoint.asked() => assert_eq!(shown, "renewing"),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it is due, and is not renewed"),
    }
}

/// The folder of the accounts cannot be synced when the lapse is in its place already.
#[cfg(target_os = "linux")]
#[test]
fn a_lapse_that_is_in_the_file_is_told_although_its_write_failed() {
    const INSIDE: &str = "VALETKEY_TEST_PROVIDER";
    if let Some(path) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(lapse(path.as_ref()));
    }
    let home = tempfile::tempdir().unwrap();
    let (state, log) = (home.path().join("state"), home.path().join("calls"));
    drop(StateDir::open(&state).unwrap());
    let inside = std::process::Command::new("strace")
        // The first one of each thread.
        .args(["-f", "-y", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "-o"])
        .arg(&log)
        .arg("-P")
        .arg(state.join("vault"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "provider::tests::a_lapse_that_is_in_the_file_is_told_although_its_write_failed"])
        .env(INSIDE, &state)
        .output()
        .unwrap();
    assert!(inside.status.success(), "{inside:?}");
    assert!(fs::read_to_string(log).unwrap().contains("EIO"), "nothing has failed");
}

#[cfg(target_os = "linux")]
async fn lapse(path: &std::path::Path) {
    let endpoint = Endpoint::open().await;
    let dir = Arc::new(StateDir::open(path).unwrap());
    let mut file = account(&["graph"]);
    let origin = endpoint.origin();
    file["ValetKey"]["authority"]["cloud"] = json!({ "login": origin, "graph": origin });
    file["RefreshToken"] = json!({ "one": {
        "credential_type": "RefreshToken", "home_account_id": ACCOUNT, "environment": "login.example",
        "client_id": "11111111-1111-4111-8111-111111111111", "secret": "revoked",
    } });
    dir.replace_account(&format!("{ACCOUNT}.json"), file.to_string().as_bytes()).unwrap_err();
    let clock = Clock::tokio_from("2026-01-02T00:00:00Z".parse().unwrap());
    let (vault, troubles) = Vault::open(dir, clock.now()).unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    let announcer = Arc::new(Announcer::default());
    let mut updates = announcer.subscribe();
    let tokens = Tokens::new(Arc::new(vault), announcer, clock, valetkey_entra::http::client().unwrap());
    let account: AccountId = ACCOUNT.parse().unwrap();
    let authority = tokens.0.vault.facts(&account).unwrap().authority.clone();
    tokens.0.remember_token_url(&authority, origin);

    tokens.prove(account);
    let over =
        json!({ "error": "interaction_required", "error_codes": [50_076], "suberror": "basic_action" });
    answer(endpoint.asked().await.0, 400, &over).await;
    tokens.finish().await;

    let Ok(Update::HealthChanged(change)) = updates.try_recv() else { panic!("nobody is told") };
    assert!(change.lapsed && change.to.health == Health::ReconnectNeeded, "{change:?}");
    assert!(updates.try_recv().is_err(), "once");
    assert!(!tokens.0.vault.troubles().is_empty(), "and the operator of the disk");
}

/// How often an account is looked at in two hours; the careless one forgets to wait.
async fn looks(tokens: &Tokens, careless: bool) -> usize {
    let told = Lines::default();
    let log = tracing_subscriber::fmt().with_writer(told.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    let stop = CancellationToken::new();
    let forgets = async {
        loop {
            tokio::time::sleep(BREATH).await;
            if careless {
                tokens.0.slots().values_mut().for_each(Slot::let_go);
                tokens.0.changed.notify_one();
            }
        }
    };
    tokio::select! {
        () = tokens.keep_fresh(&stop) => panic!("it goes on"),
        () = forgets => {}
        () = tokio::time::sleep(Duration::from_secs(2 * 3600)) => {}
    }
    told.0.load(Ordering::Relaxed)
}

/// A file of a later version in its place, one that cannot be read, and an account whose resource nobody here knows.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_refreshed_is_tried_again_ever_more_rarely_and_callers_do_not_wait_for_that() {
    for broken in ["newer", "unreadable", "uncovered"] {
        let home = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(home.path().join("state")).unwrap());
        let name = format!("{ACCOUNT}.json");
        let due = account(if broken == "uncovered" { &["tomorrow"] } else { &["graph"] });
        dir.replace_account(&name, due.to_string().as_bytes()).unwrap();
        let clock = Clock::tokio_from("2026-01-02T00:00:00Z".parse().unwrap());
        let (vault, troubles) = Vault::open(Arc::clone(&dir), clock.now()).unwrap();
        assert_eq!((vault.live().len(), troubles.len()), (1, 0), "{troubles:?}");
        let http = valetkey_entra::http::client().unwrap();
        let tokens = Tokens::new(Arc::new(vault), Arc::default(), clock, http);
        let path = dir.path().join("vault").join(&name);
        match broken {
            "newer" => {
                let mut newer = due.clone();
                newer["ValetKey"]["format"] = 2.into();
                dir.replace_account(&name, newer.to_string().as_bytes()).unwrap();
            }
            "unreadable" => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            _ => {}
        }
        // 5, 10, 20 … 600 seconds, up to half less each. Once a second would be 7200.
        let looks = looks(&tokens, false).await;
        assert!((8..=45).contains(&looks), "{broken}: {looks} looks in two hours");
        let account = ACCOUNT.parse().unwrap();
        let failure = tokens.token(&account, Resource::Graph, None).await.unwrap_err();
        let code = match broken {
            "newer" => "auth_required",
            "unreadable" => "storage",
            _ => "not_covered",
        };
        assert_eq!(failure.code(), code, "{failure:?}");
        let before = tokens.0.clock.now();
        tokens.finish().await;
        assert!(tokens.0.clock.now().duration_since(before) < SignedDuration::from_secs(1));
        if broken == "uncovered" {
            let careless = self::looks(&tokens, true).await;
            assert!(careless > 1000, "the count sees a loop in which nobody waits: {careless}");
        }
    }
}
