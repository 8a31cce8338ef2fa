//! The desktop app as a person meets it: a real process on a screen, with a session bus, a keyring and a tray host.
//! The tray is read and clicked over D-Bus, the window through WebKit's driver.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use support::World;
use valetkey_handoff::{BrokerAccess, Invite, InviteSecret, Keys, Terms};
use valetkey_tests::browser::Browser;
use valetkey_tests::desktop::notifications::Toast;
use valetkey_tests::desktop::tray::Tray;
use valetkey_tests::desktop::window::Window;
use valetkey_tests::desktop::{App, Desktop, Options, binary, start_again, start_again_with};
use valetkey_tests::tenant::{ALICE, Lifetimes};

/// WebDriver's name for the key.
const ESCAPE: &str = "\u{e00c}";
/// Shorter than the agent's five minutes of caution: every call for a token is one that asks the provider.
const ALWAYS_DUE: Lifetimes = Lifetimes { access: Some(60), refresh: None, id: None, refresh_in: None };
const NOT_LINKED: &str = "Not linked to an assistant yet";

/// An invite to a broker of the test's own, which only listens.
struct Invitation {
    invite: Invite,
    link: String,
    broker: TcpListener,
}

impl Invitation {
    fn new() -> Self {
        let broker = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        broker.set_nonblocking(true).unwrap();
        let port = broker.local_addr().unwrap().port();
        let invite = Invite {
            name: "Ana's helper".parse().unwrap(),
            agent: Keys::generate().public(),
            broker: BrokerAccess {
                url: format!("mqtt://127.0.0.1:{port}").parse().unwrap(),
                username: None,
                password: None,
            },
            secret: InviteSecret::generate(),
            expires_at: Timestamp::now() + SignedDuration::from_mins(10),
            terms: Terms {
                email: Some("ana@contoso.example".into()),
                authority: format!("http://127.0.0.1:{port}"),
                graph: Some(format!("http://127.0.0.1:{port}")),
                tenant: "organizations".into(),
                client_id: "11111111-1111-4111-8111-111111111111".into(),
                capabilities: vec!["mail".into(), "calendar".into()],
            },
        };
        let link = invite.to_link().unwrap().expose().clone();
        Self { invite, link, broker }
    }

    fn was_contacted(&self) -> bool {
        self.broker.accept().is_ok()
    }
}

/// The tray says what is so and offers what can be done, and nothing that makes no sense now. No core would be left of it. Quit
/// ends the app.
#[tokio::test]
async fn a_fresh_start_sits_in_the_tray_and_says_that_nothing_is_linked() -> Result<()> {
    let desktop = Desktop::start(Options::default()).await?;
    let mut app = App::start(&desktop, &[])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    tray.first_line(|line| line == NOT_LINKED).await?;
    assert_eq!(
        tray.labels().await?,
        [NOT_LINKED, "Paste invite", "Open Valet Key", "Help", "Check my set-up", "Quit"]
    );
    let entries = tray.entries().await?;
    assert!(!entries[0].enabled, "the first line is words, not a button");
    assert!(!desktop.has_window("Valet Key").await?, "nobody asked for a window");
    // As core(5) has it for a core that is piped to a program: none at all.
    assert!(app.core_limit()? <= 1, "{} bytes", app.core_limit()?);
    assert!(!tray.heard_click(i32::MAX).await?, "what is not in the menu cannot be clicked");

    tray.click("Paste invite").await?;
    desktop.window("Valet Key").await?;
    desktop.picture("Valet Key", "desktop-not-linked").await?;
    tray.click("Quit").await?;
    assert_eq!(app.ended().await?, Some(0), "{}", app.log()?);
    Ok(())
}

#[tokio::test]
async fn without_a_display_it_says_so_and_ends() -> Result<()> {
    let output =
        std::process::Command::new(binary()?).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output()?;
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr)?;
    assert!(words.contains("there is no display"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    Ok(())
}

#[tokio::test]
async fn where_no_tray_is_shown_the_window_opens() -> Result<()> {
    let desktop = Desktop::start(Options { tray_host: false, ..Options::default() }).await?;
    let _app = App::start(&desktop, &[])?;
    desktop.window("Valet Key").await?;
    Ok(())
}

/// A link from a chat starts the app a second time: that one hands the link over and ends. The invite is shown, and
/// before the person agrees nothing is contacted, no browser is opened and no key is made.
///
/// Shows J1 (up to the confirmation).
#[tokio::test]
async fn a_second_start_hands_its_invite_over_and_nothing_happens_before_consent() -> Result<()> {
    let invitation = Invitation::new();
    let desktop = Desktop::start(Options::default()).await?;
    let mut app = App::start(&desktop, &[])?;
    let host = desktop.tray_host.as_ref().unwrap();
    let tray = host.tray().await?;
    tray.first_line(|line| line == NOT_LINKED).await?;

    let second = start_again(&desktop, &[&invitation.link]).await?;
    assert!(second.status.success(), "{second:?}");
    tray.first_line(|line| line == "Ana's helper asks to read your Microsoft 365").await?;
    desktop.window("Valet Key").await?;
    assert_eq!(host.count(), 1, "one app, one icon");
    assert!(!invitation.was_contacted(), "the broker was contacted before consent");
    assert!(desktop.keyring.as_ref().unwrap().entries().await?.is_empty(), "keys were made before consent");
    assert!(app.is_running()?);
    assert!(!app.log()?.contains(&invitation.link["valetkey://invite/".len()..]), "the invite is in the log");
    Ok(())
}

/// As above, with the link on the standard input of the second start: in no command line.
///
/// Shows J1 (up to the confirmation).
#[tokio::test]
async fn a_second_start_hands_over_the_invite_on_its_input_and_shows_it_to_nobody_else() -> Result<()> {
    let invitation = Invitation::new();
    let desktop = Desktop::start(Options::default()).await?;
    let mut app = App::start(&desktop, &[])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    tray.first_line(|line| line == NOT_LINKED).await?;

    let second = start_again_with(&desktop, &["-"], &format!("{}\n", invitation.link)).await?;
    assert!(second.status.success(), "{second:?}");
    tray.first_line(|line| line == "Ana's helper asks to read your Microsoft 365").await?;
    desktop.window("Valet Key").await?;
    assert_eq!(desktop.tray_host.as_ref().unwrap().count(), 1, "one app, one icon");
    assert!(!invitation.was_contacted(), "the broker was contacted before consent");
    assert!(app.is_running()?);
    let secret = &invitation.link["valetkey://invite/".len()..];
    assert!(!app.command_line()?.contains(secret) && !app.log()?.contains(secret));
    assert!(!String::from_utf8_lossy(&second.stderr).contains(secret), "the invite is in the second's log");
    Ok(())
}

#[tokio::test]
async fn a_link_for_an_app_that_hangs_is_not_waited_with_for_ever() -> Result<()> {
    let invitation = Invitation::new();
    let desktop = Desktop::start(Options::default()).await?;
    let app = App::start(&desktop, &[])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    tray.first_line(|line| line == NOT_LINKED).await?;
    app.freeze()?;
    let second = start_again_with(&desktop, &["-"], &format!("{}\n", invitation.link)).await?;
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && words.contains("does not answer"), "{second:?}");
    Ok(())
}

/// Its one-time secret and the login at the broker are for nobody else on this computer.
#[tokio::test]
async fn a_link_that_starts_the_app_does_not_stay_in_its_command_line() -> Result<()> {
    let invitation = Invitation::new();
    let desktop = Desktop::start(Options::default()).await?;
    let app = App::start(&desktop, &[&invitation.link])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    tray.first_line(|line| line == "Ana's helper asks to read your Microsoft 365").await?;
    let shown = app.command_line()?;
    assert!(shown.contains("--data-dir") && !shown.contains("valetkey://"), "{shown}");
    Ok(())
}

/// Closing the window leaves the tray, and the window comes back when the app is started again.
#[tokio::test]
async fn closing_the_window_leaves_the_tray() -> Result<()> {
    let desktop = Desktop::start(Options::default()).await?;
    let mut app = App::start(&desktop, &["--open"])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    desktop.close_window("Valet Key").await?;
    assert!(app.is_running()?);
    tray.first_line(|line| line == NOT_LINKED).await?;

    start_again(&desktop, &[]).await?;
    desktop.window("Valet Key").await?;
    Ok(())
}

/// A keyring that is locked says nothing about whether anybody is signed in; once it opens, all is as it was.
///
/// Shows J8 (keyring locked).
#[tokio::test]
async fn a_locked_keyring_is_never_shown_as_signed_out() -> Result<()> {
    let desktop = Desktop::start(Options::default()).await?;
    link_and_quit(&desktop, &Invitation::new()).await?;
    let keyring = desktop.keyring.as_ref().unwrap();
    let host = desktop.tray_host.as_ref().unwrap();
    keyring.lock().await?;

    let _app = App::start(&desktop, &[])?;
    let tray = host.tray_of_start(2).await?;
    let line = tray.first_line(|line| line != "Checking…").await?;
    assert!(line.contains("keyring"), "{line}");
    assert_eq!(keyring.entries().await?.len(), 1, "the entry is still there");

    keyring.unlock().await?;
    assert_ne!(try_again(&tray).await?, NOT_LINKED);
    Ok(())
}

/// As when both are started at log-in, and the app is the faster one.
///
/// Shows J8 (keyring not there yet).
#[tokio::test]
async fn a_keyring_that_is_started_after_the_app_is_found_and_nobody_is_shown_as_signed_out() -> Result<()> {
    let mut desktop = Desktop::start(Options::default()).await?;
    link_and_quit(&desktop, &Invitation::new()).await?;
    desktop.stop_keyring().await?;

    let _app = App::start(&desktop, &[])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray_of_start(2).await?;
    let line = tray.first_line(|line| line != "Checking…").await?;
    assert!(line.contains("keyring"), "{line}");

    desktop.start_keyring().await?;
    assert_ne!(try_again(&tray).await?, NOT_LINKED);
    Ok(())
}

/// What the app says of a keyring that can be had by now.
async fn try_again(tray: &Tray) -> Result<String> {
    // It also tries by itself, and may be faster.
    let clicked = tray.click("Try again").await;
    let known = tray.first_line(|line| !line.contains("keyring") && line != "Checking…").await;
    known.with_context(|| format!("“Try again” was clicked: {clicked:?}"))
}

/// Agrees to the invite in the window, and ends the app when the keys are in the keyring.
async fn link_and_quit(desktop: &Desktop, invitation: &Invitation) -> Result<()> {
    let window = Window::open(desktop, &[&invitation.link]).await?;
    window.headline(|line| line == "Ana's helper asks to read your Microsoft 365").await?;
    window.click("[data-action=accept_invite]:enabled").await?;
    desktop.keyring.as_ref().unwrap().wait_for_entry().await?;
    window.text("#assistant .name").await?;
    let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
    tray.click("Quit").await?;
    tray.gone().await
}

/// The window shows who asks, for whom, for what and until when, and the four words of the agent's keys. A whole pasted
/// message will do, with the link broken over lines. Esc says no.
///
/// Shows J1 (pasting).
#[tokio::test]
async fn a_pasted_message_shows_who_asks_for_what_and_escape_declines() -> Result<()> {
    let invitation = Invitation::new();
    let desktop = Desktop::start(Options::default()).await?;
    let window = Window::open(&desktop, &[]).await?;
    window.headline(|line| line == NOT_LINKED).await?;

    let (start, end) = invitation.link.split_at(70);
    let message = format!("Hi Ana,\nhere is the link:\n{start}\n{end}\nBest, Tom");
    window.run("document.getElementById('link').value = arguments[0]", vec![message.into()]).await?;
    window.click("#paste button").await?;
    window.headline(|line| line == "Ana's helper asks to read your Microsoft 365").await?;
    let card = window.text("#invite").await?;
    for shown in ["ana@contoso.example", "Read your mail", "Read your calendar", "127.0.0.1"]
        .into_iter()
        .chain(invitation.invite.agent.words())
    {
        assert!(card.contains(shown), "“{shown}” is missing in {card}");
    }
    desktop.picture("Valet Key", "desktop-invited").await?;

    window.type_into("body", ESCAPE).await?;
    window.headline(|line| line == NOT_LINKED).await?;
    assert!(!invitation.was_contacted());
    Ok(())
}

/// By the app's own data directory, at the foot of the window and in the tray's menu; and all of it can be read.
#[tokio::test]
async fn check_my_set_up_says_in_the_window_what_is_well_and_what_is_to_be_done() -> Result<()> {
    let desktop = Desktop::start(Options::default()).await?;
    let window = Window::open(&desktop, &[]).await?;
    window.headline(|line| line == NOT_LINKED).await?;
    window.click("#open-check-up").await?;
    window.text("#check-up-lines li").await?;
    let said = window.text("#check-up").await?;
    for sentence in [
        "Nothing is wrong",
        "This computer is not linked to an assistant yet.",
        "Ask whoever runs your assistant for an invite link.",
        "Your browser can be opened.",
    ] {
        assert!(said.contains(sentence), "“{sentence}” is not in {said}");
    }
    desktop.picture("Valet Key", "desktop-check-up").await?;
    let report = window.run("return document.getElementById('check-up-text').textContent", vec![]).await?;
    let report = report.as_str().unwrap();
    assert!(report.contains("valet-key 0.") && report.contains("\"pairing\": \"missing\""), "{report}");
    window.click("#check-up-copy").await?;
    assert_eq!(window.text("#check-up-said").await?, "Copied");

    window.type_into("body", ESCAPE).await?;
    window.text("body:not(:has(dialog[open]))").await?;
    desktop.tray_host.as_ref().unwrap().tray().await?.click("Check my set-up").await?;
    window.text("#check-up[open]").await?;
    Ok(())
}

/// The whole way by tray and browser: linked in the window, connected by a click in the tray's menu and a real Chromium,
/// lapsed after a revocation with one notification, and well again after "Reconnect". Pictures land in `target/screens/`.
///
/// Shows J1, J6, J7 (cancelling), H12; of H14 that the app listens only while somebody signs in; of J2 the tray and the system browser; of L8 that no code or token is in the app's log.
#[tokio::test(flavor = "multi_thread")]
async fn connect_is_clicked_in_the_tray_and_reconnect_after_a_revocation() -> Result<()> {
    let world = World::with_own_broker().await;
    world.tenant.lifetimes(ALWAYS_DUE).await?;
    let mut serving = world.daemon.serve().await?;
    let link = world.daemon.invite(ALICE.mail)?;
    let mut desktop = Desktop::start(Options::default()).await?;
    let bus = desktop.listen_in().await?;
    let browser = Browser::start().await?;
    let connected = format!("Connected · {} · read-only", ALICE.mail);

    // The invite opens the window. Agreeing opens the browser at once; cancelling there is not an error.
    {
        let window = Window::open(&desktop, &[&link]).await?;
        window.headline(|line| line == "Practice assistant asks to read your Microsoft 365").await?;
        desktop.picture("Valet Key", "desktop-journey-1-invited").await?;
        window.click("[data-action=accept_invite]:enabled").await?;
        window.headline(|line| line == "Finish signing in in your browser").await?;
        desktop.next_opened().await?;
        desktop.picture("Valet Key", "desktop-journey-2-waiting").await?;
        window.type_into("body", ESCAPE).await?;
        window.headline(|line| line == "Microsoft 365 isn't connected").await?;
        desktop.picture("Valet Key", "desktop-journey-3-not-connected").await?;
        let tray = desktop.tray_host.as_ref().unwrap().tray().await?;
        tray.click("Quit").await?;
        tray.gone().await?;
    }

    // The next day: one click in the tray's menu, and a sign-in in the person's own browser.
    let mut app = App::start(&desktop, &[])?;
    let tray = desktop.tray_host.as_ref().unwrap().tray_of_start(2).await?;
    tray.first_line(|line| line == "Microsoft 365 isn't connected").await?;
    app.listens_nowhere().await?;
    tray.click("Connect Microsoft 365").await?;
    let address = desktop.next_opened().await.with_context(|| app.log().unwrap_or_default())?;
    tray.first_line(|line| line.starts_with("Finish signing in")).await?;
    // The browser comes back to this port, and to nothing else of the app's; before and after, nobody can reach it.
    let back = address.query_pairs().find(|(name, _)| name == "redirect_uri").context("no way back")?.1;
    let port = url::Url::parse(&back)?.port().context("no port")?;
    assert_eq!(app.listens_at()?, BTreeSet::from([format!("tcp {port}")]));
    let page = browser.sign_in(address.as_str(), ALICE.username).await?;
    assert!(page.text.contains(ALICE.mail), "{}", page.text);
    tray.first_line(|line| line == connected).await?;
    serving.event("stored").await?;
    assert_eq!(world.graph_me(ALICE).await, 200);
    app.listens_nowhere().await?;
    tray.click("Open Valet Key").await?;
    desktop.picture("Valet Key", "desktop-journey-4-connected").await?;
    desktop.close_window("Valet Key").await?;

    // The provider takes the sign-in back: a notification, and "Reconnect" is the one action.
    assert_eq!(desktop.notifications.so_far(), [], "nothing was to be done so far");
    world.tenant.revoke(ALICE).await?;
    assert_ne!(world.daemon.ask(&["token", "--account", ALICE.mail])?.0, 0);
    tray.first_line(|line| line == "Microsoft needs you to sign in again").await?;
    let Toast::Shown { id, title, .. } = desktop.notifications.next().await? else {
        panic!("nothing was shown")
    };
    assert_eq!(title, "Microsoft needs you to sign in again");
    assert_eq!(tray.labels().await?[1], "Reconnect");
    tray.click("Open Valet Key").await?;
    desktop.picture("Valet Key", "desktop-journey-5-reconnect").await?;
    desktop.close_window("Valet Key").await?;

    // One click, with the address filled in; then the notification is taken back, and the next call works.
    tray.click("Reconnect").await?;
    let address = desktop.next_opened().await?;
    assert!(
        address.query_pairs().any(|(name, value)| name == "login_hint" && value == ALICE.username),
        "{address}"
    );
    browser.sign_in(address.as_str(), ALICE.username).await?;
    tray.first_line(|line| line == connected).await?;
    let last = desktop.notifications.next().await.with_context(|| app.log().unwrap_or_default())?;
    assert_eq!(last, Toast::TakenBack { id });
    assert_eq!(desktop.notifications.so_far(), [], "one notification a lapse");
    assert_eq!(world.graph_me(ALICE).await, 200);

    tray.click("Quit").await?;
    assert_eq!(app.ended().await?, Some(0), "{}", app.log()?);

    // All of it went over the session bus in front of a listener: the tray's words, and nothing secret.
    let heard = bus.text()?;
    assert!(heard.contains(&connected), "the listener is deaf");
    let secrets = world.tenant.secrets().await?;
    assert!(secrets.all().count() > 10, "{secrets:?}");
    for secret in secrets.all() {
        assert!(!heard.contains(secret), "a secret was said on the session bus");
        assert!(!app.log()?.contains(secret), "a secret is in the app's log");
    }
    serving.stop()
}
