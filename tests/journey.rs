//! The whole way: from an invite to a token that works, through expiry and revocation, and back.
//!
//! Real parts throughout: the daemon as a process, a certified OpenID provider, mosquitto, Chromium.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Desk, World};
use valetkey_companion::Command;
use valetkey_companion::view::Screen;
use valetkey_tests::browser::Browser;
use valetkey_tests::http_sign_in::{http_device_sign_in, http_sign_in};
use valetkey_tests::program::{Program, program};
use valetkey_tests::tenant::{ALICE, Lifetimes};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Soon over, so that an expiry can be awaited; and within the agent's five minutes of caution, so that it renews before
/// every call.
const SHORT_LIVED: Lifetimes = Lifetimes { access: Some(3), refresh: None, id: None, refresh_in: None };

/// Shows J6, H12; of J1 who asks for what, of J2 PKCE, `state` and `nonce` in a real browser, of H4 the modes, of H5 that a
/// silent refresh rotates the file, of H9 what the error says to do.
#[tokio::test(flavor = "multi_thread")]
async fn from_a_click_to_a_working_token_through_revocation_and_back() {
    let world = World::with_operators_broker().await;
    whole_journey(world).await;
}

/// Shows the same lines.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_through_the_agents_own_broker() {
    let world = World::with_own_broker().await;
    whole_journey(world).await;
}

async fn whole_journey(world: World) {
    world.tenant.lifetimes(SHORT_LIVED).await.unwrap();
    let mut serving = world.daemon.serve().await.unwrap();
    let (code, invite) = world.daemon.ask(&["invite", "--email", ALICE.mail]).unwrap();
    assert_eq!(code, 0, "{invite}");
    let mut desk = world.desk();

    // The person sees who asks, and the same four words as the operator. Nothing was contacted yet.
    let link = invite["link"].as_str().unwrap();
    let asked = desk.accept(link).await.invite.expect("the invite is shown");
    assert_eq!(asked.agent, "Practice assistant");
    assert_eq!(asked.email.as_deref(), Some(ALICE.mail));
    let words: Vec<&str> =
        invite["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(asked.words.iter().map(String::as_str).collect::<Vec<_>>(), words);

    // A real browser at the real form.
    let url = desk.browser().await;
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert!(!query["state"].is_empty() && !query["nonce"].is_empty());
    let browser = Browser::start().await.unwrap();
    let page = browser.sign_in(url.as_str(), ALICE.username).await.unwrap();
    assert!(page.text.contains(ALICE.mail), "{}", page.text);
    assert!(page.url.query().is_none(), "the code stays in the address bar: {}", page.url);
    let connected = desk.screen(Screen::Connected).await;
    assert!(connected.accounts.iter().any(|account| account.address == ALICE.mail), "{connected:?}");
    // "Connected" stands for the agent's receipt, which it sends after it has stored and refreshed once.
    serving.event("stored").await.unwrap();
    assert!(world.tenant.count("token:refresh_token").await.unwrap() >= 1);

    // Stored for its owner alone.
    let file = world.daemon.vault_file().unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(world.daemon.state_dir()), 0o700);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    // A token works until it expires; then the next one is got silently, and the file has rotated.
    let token = world.daemon.token(ALICE.mail).unwrap();
    assert_eq!(world.graph_me_with(&token).await, 200);
    while world.graph_me_with(&token).await == 200 {
        // The provider's own clock ends it; nothing announces that.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let before = world.refresh_token();
    let refreshes = world.tenant.count("token:refresh_token").await.unwrap();
    assert_eq!(world.graph_me(ALICE).await, 200);
    assert!(world.tenant.count("token:refresh_token").await.unwrap() > refreshes);
    assert_ne!(world.refresh_token(), before, "the rotated refresh token is on disk");

    // Revoked: the program is told whose turn it is, and the person is asked once.
    world.tenant.revoke(ALICE).await.unwrap();
    for _ in 0..3 {
        let (code, answer) = world.daemon.ask(&["token", "--account", ALICE.mail]).unwrap();
        assert_ne!(code, 0);
        assert_eq!(answer["error"]["code"], "auth_required", "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("Reconnect"), "{answer}");
    }
    let asks = desk.screen(Screen::Reconnect).await;
    let banner = asks.banner.expect("a banner");
    assert_eq!(banner.text, "Microsoft needs you to sign in again");
    assert_eq!(asks.detail.as_deref(), Some("Your earlier sign-in was ended by you or an administrator."));
    let lapse = serving.next("a lapse", |line| line["lapsed"] == true).await.unwrap();
    assert_eq!(lapse["reason"], "revoked", "{lapse}");
    assert_eq!(serving.count(|line| line["lapsed"] == true), 0, "exactly one");
    assert_eq!(desk.notices().len(), 1, "one notification a lapse");
    let (code, status) = world.daemon.ask(&["status"]).unwrap();
    assert_eq!(code, 3, "a person is needed: {status}");

    // One click, with the address filled in, and the very next call works.
    desk.click(Command::Reconnect);
    let url = desk.browser().await;
    assert!(url.query_pairs().any(|(name, value)| name == "login_hint" && value == ALICE.username), "{url}");
    browser.sign_in(url.as_str(), ALICE.username).await.unwrap();
    let well = desk.screen(Screen::Connected).await;
    assert!(well.banner.is_none(), "{well:?}");
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
    desk.stop().await;
}

/// Shows J8 for an agent that is offline.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_offline_gets_the_sign_in_when_it_is_back() {
    let world = World::with_operators_broker().await;
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut desk = world.desk();
    desk.accept(&link).await;
    let url = desk.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    desk.screen(Screen::AgentOffline).await;

    let serving = world.daemon.serve().await.unwrap();
    desk.screen(Screen::Connected).await;
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_restarted_in_the_middle_loses_nothing() {
    let mut world = World::with_operators_broker().await;
    let mut serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut desk = world.desk();
    desk.accept(&link).await;
    let url = desk.browser().await;
    world.broker().kill();
    serving.event("offline").await.unwrap();
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    world.broker().restart().await.unwrap();
    desk.screen(Screen::Connected).await;
    serving.event("stored").await.unwrap();
    assert_eq!(serving.count(|line| line["event"] == "stored"), 0, "stored once");
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Shows J8 for an agent that is offline.
#[tokio::test(flavor = "multi_thread")]
async fn a_companion_that_stops_before_the_receipt_finishes_when_it_is_back_and_nothing_is_doubled() {
    let world = World::with_operators_broker().await;
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut desk = world.desk();
    desk.accept(&link).await;
    let url = desk.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    desk.screen(Screen::AgentOffline).await;
    // Ended with the sealed sign-in in its outbox and no receipt.
    let (dir, keys) = desk.stop().await;

    let mut serving = world.daemon.serve().await.unwrap();
    let mut desk = Desk::start(&dir, keys);
    desk.screen(Screen::Connected).await;
    serving.event("stored").await.unwrap();
    assert_eq!(serving.count(|line| line["event"] == "stored"), 0, "stored once");
    assert_eq!(world.tenant.count("token:authorization_code").await.unwrap(), 1, "signed in once");
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// The terminal's companion, as a process.
fn terminal(world: &World, args: &[&str]) -> Program {
    let mut command = std::process::Command::new(program("valetkey-cli").unwrap());
    command.arg("--data-dir").arg(world.folder.path().join("terminal"));
    command.arg("--key-file").arg(world.folder.path().join("terminal.key")).args(args);
    Program::start(&mut command, &world.folder.path().join("terminal.log")).unwrap()
}

async fn sign_in_where_it_says(companion: &mut Program) {
    let line = companion.line("/oauth2/v2.0/authorize?").await.unwrap();
    let address = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    http_sign_in(address, ALICE.username).await.unwrap();
}

/// The address that is printed really completes.
///
/// Shows of M18 that the printed address really completes; and J8, in a terminal, for an agent that is offline.
#[tokio::test(flavor = "multi_thread")]
async fn a_companion_killed_before_the_receipt_has_lost_nothing() {
    let world = World::with_operators_broker().await;
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut companion = terminal(&world, &["accept", "--yes", "--no-browser", &link]);
    sign_in_where_it_says(&mut companion).await;
    companion.line("offline").await.unwrap();
    companion.kill();

    let mut serving = world.daemon.serve().await.unwrap();
    let mut again = terminal(&world, &["connect", "--no-browser"]);
    again.line("Connected").await.unwrap();
    assert!(again.ended().await.unwrap().success());
    serving.event("stored").await.unwrap();
    assert_eq!(serving.count(|line| line["event"] == "stored"), 0, "stored once");
    assert_eq!(world.tenant.count("token:authorization_code").await.unwrap(), 1, "signed in once");
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// Shows H20.
#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_signs_in_by_device_code_when_asked_to_and_warns() {
    let world = World::with_operators_broker().await;
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut companion = terminal(&world, &["accept", "--yes", "--device-code", &link]);
    let words = companion.line("Enter the code").await.unwrap();
    let code =
        words.split_whitespace().find(|word| word.len() >= 8 && word.chars().all(|c| c.is_ascii_uppercase()));
    let warning = companion.line("is weaker than in your own browser").await.unwrap();
    let page = warning.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    http_device_sign_in(page, code.expect("a code"), ALICE.username).await.unwrap();
    companion.line("Connected").await.unwrap();
    assert!(companion.ended().await.unwrap().success());
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// The second computer is told, also by the agent's own broker, which lets each read its own answers only.
#[tokio::test(flavor = "multi_thread")]
async fn two_computers_race_with_one_invite_and_the_one_that_loses_is_told() {
    let world = World::with_own_broker().await;
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut first = world.desk();
    first.connect(&link, ALICE).await;
    let mut second = Desk::start(&world.folder.path().join("second"), std::sync::Arc::default());
    second.accept(&link).await;
    let told = second.screen(Screen::Error).await;
    assert!(told.headline.contains("used"), "{told:?}");
    assert_eq!(first.view().screen, Screen::Connected);
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(), 1);
    serving.stop().unwrap();
}
