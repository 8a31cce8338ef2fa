//! The companion against the practice tenant and a real broker, from the invite to "Connected" and back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use common::{Agent, Bench, CLIENT_ID, Person, account_state, terms};
use valetkey_companion::view::{ActionId, Screen, StepId};
use valetkey_companion::{Clock, Command, Outlet, Way};
use valetkey_handoff::Code;
use valetkey_handoff::ToAgent;
use valetkey_handoff::message::{AuthExpired, Health};
use valetkey_link::Event;
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{ALICE, ANA, BOB, CAROL, Tenant};

mod common;

/// Shows M4; of L2 the default scopes, of J2 S256, of J4 that the token is sealed for the agent and not on the disk, of J5 that
/// it is not connected before the receipt.
#[tokio::test]
async fn from_the_invite_to_the_assistants_receipt() {
    let mut bench = Bench::of(ANA).await;
    let url = bench.agree().await;
    let Bench { agent, person, .. } = &mut bench;
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["scope"], "User.Read Mail.Read Calendars.Read offline_access openid profile");
    assert_eq!((query["code_challenge_method"].as_str(), query["login_hint"].as_str()), ("S256", ANA.mail));

    let page = http_sign_in(url.as_str(), ANA.username).await.unwrap();
    assert!(page.status.is_success(), "{}", page.body);
    assert!(
        page.body.contains("<title>You're signed in as ana@contoso.example</title>")
            || page.body.contains("You&#39;re signed in as ana@contoso.example"),
        "{}",
        page.body
    );
    assert!(!page.url.as_str().contains("code="), "{}", page.url);

    let (header, body, _) = agent.next_handoff().await;
    assert_eq!((body.account.username.as_str(), body.client_id.as_str()), (ANA.mail, CLIENT_ID));
    assert_eq!(body.account.id.oid.to_string(), ANA.oid);
    assert_eq!((header.generation, body.tenant.as_str()), (1, ANA.tid));
    let cache: serde_json::Value = serde_json::from_str(body.cache.expose()).unwrap();
    let refresh_token = cache["RefreshToken"].as_object().unwrap().values().next().unwrap()["secret"].clone();
    assert_ne!(person.view().screen, Screen::Connected, "before the receipt");

    agent.say_stored(&header, &body);
    let view = person.until_screen(Screen::Connected).await;
    assert_eq!(view.headline, "Connected · ana@contoso.example · read-only");
    let disk = person.everything_on_disk();
    let secret = refresh_token.as_str().unwrap();
    assert!(secret.len() > 20 && !disk.contains(secret), "the computer keeps no token");
    person.stop().await;
}

/// Shows J6 but for the agent's next call, and of J7 the fresh link.
#[tokio::test]
async fn a_lapse_is_shown_once_and_reconnecting_takes_it_away() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let Bench { agent, person, .. } = &mut bench;

    for _ in 0..2 {
        agent.say(AuthExpired {
            account: body.account.id,
            reason: Code::or_unknown("revoked"),
            claims: None,
        });
    }
    let view = person.until_screen(Screen::Reconnect).await;
    assert_eq!(view.banner.unwrap().action.id, ActionId::Reconnect);
    let title = person.outlet("a notification", |outlet| match outlet {
        Outlet::Notify { title, .. } => Some(title),
        _ => None,
    });
    assert_eq!(title.await, "Microsoft needs you to sign in again");

    // Companion restarted while it is lapsed: the state tells it again, and nobody is notified twice.
    person.stop().await;
    person.start();
    agent.answer_hello(vec![account_state(&body, 1, Health::ReconnectNeeded, Some("revoked"))]).await;
    person.until_screen(Screen::Reconnect).await;
    person.send(Command::Reconnect);
    person.send(Command::Reconnect);
    let first = tokio::time::timeout(common::PATIENCE, person.outlets.recv()).await.unwrap().unwrap();
    let Outlet::OpenBrowser(url) = first else { panic!("notified twice: {first:?}") };
    let hint = url.query_pairs().find(|(name, _)| name == "login_hint").unwrap().1.into_owned();
    assert_eq!(hint, ALICE.mail);

    // A fresh link: the earlier one is refused, and the wait goes on.
    person.send(Command::CopyLink);
    let fresh = person.outlet("a fresh link", |outlet| match outlet {
        Outlet::Clipboard(text) => Some(text),
        _ => None,
    });
    let fresh = fresh.await;
    assert_ne!(fresh, url.as_str());
    let old = http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    assert_eq!(old.status.as_u16(), 400);
    assert!(old.body.contains("isn&#39;t in use any more"), "{}", old.body);
    http_sign_in(&fresh, ALICE.username).await.unwrap();

    let (header, body, _) = agent.next_handoff().await;
    assert_eq!(header.generation, 2);
    agent.say_stored(&header, &body);
    let view = person.until_screen(Screen::Connected).await;
    assert_eq!(view.banner, None);
    person.outlet("the withdrawal", |outlet| matches!(outlet, Outlet::Withdraw { .. }).then_some(())).await;
    person.stop().await;
}

/// Shows of J5 that it is not connected before the receipt, also after a restart.
#[tokio::test]
async fn a_companion_that_ends_before_the_receipt_sends_the_same_bytes_again() {
    let mut bench = Bench::of(ALICE).await;
    let (header, body, first) = bench.hand_over().await;
    let Bench { agent, person, .. } = &mut bench;

    // As a kill would: nothing is said to anybody.
    drop(person.companion.take());
    person.start();
    let (again, _, second) = agent.next_handoff().await;
    assert_eq!((again.jti, again.generation, second), (header.jti, header.generation, first));
    let view = person.until_screen(Screen::HandingOver).await;
    assert!(view.steps.iter().take(3).all(|step| step.done), "{:?}", view.steps);
    agent.say_stored(&header, &body);
    person.until_screen(Screen::Connected).await;
    person.stop().await;
    assert!(!person.everything_on_disk().contains("sealed_at"), "the outbox is empty");
}

/// Shows J8 for an agent that is offline.
#[tokio::test]
async fn an_assistant_that_is_offline_gets_the_sign_in_when_it_is_back() {
    let mut bench = Bench::of(ALICE).await;
    let url = bench.agree().await;
    let Bench { tenant: _tenant, broker, mut agent, mut person, .. } = bench;
    // Its first hello comes after the pairing, so that what follows is only about the handoff.
    assert!(matches!(agent.next().await, (_, ToAgent::Hello(_), _)));
    let (keys, invite, device) = agent.stop().await;
    assert!(device.is_some());
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let view = person.until_screen(Screen::AgentOffline).await;
    assert_eq!(view.headline, "Your assistant is offline");
    assert!(view.detail.unwrap().contains("we'll finish"));

    let mut agent = Agent::with_keys(keys, &broker.url(), invite.terms.clone());
    agent.invite = invite;
    agent.device = device;
    let (header, body, _) = agent.next_handoff().await;
    agent.say_stored(&header, &body);
    person.until_screen(Screen::Connected).await;
    person.stop().await;
}

/// Shows M3, and of J3 the page and the button for a wrong account.
#[tokio::test]
async fn a_wrong_account_gets_its_own_page_and_its_own_button_and_binds_nothing() {
    let mut bench = Bench::of(ALICE).await;
    let url = bench.agree().await;
    let Bench { agent, person, .. } = &mut bench;
    let page = http_sign_in(url.as_str(), BOB.username).await.unwrap();
    assert!(page.body.contains("<title>That&#39;s a different account</title>"), "{}", page.body);
    let view = person.until_screen(Screen::WrongAccount).await;
    assert_eq!(view.headline, "You signed in as bob@fabrikam.example, but this is for alice@contoso.example");
    assert_eq!(view.actions[0].label, "Use a different account");
    assert!(!person.everything_on_disk().contains("sign_in"), "nothing was sealed");

    person.send(Command::UseDifferentAccount);
    let url = person.browser_opens().await;
    assert!(url.query_pairs().any(|(name, value)| name == "prompt" && value == "select_account"));
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let (header, body, _) = agent.next_handoff().await;
    assert_eq!((header.generation, body.account.username.as_str()), (1, ALICE.mail));
    person.stop().await;
}

/// Shows J8 for a locked keyring, which here is the test's own.
#[tokio::test]
async fn a_locked_keyring_loses_nothing() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let Bench { agent, person, .. } = &mut bench;
    person.stop().await;

    person.keys.lock(true);
    person.start();
    let view = person.until_screen(Screen::Error).await;
    assert_eq!(
        (view.headline.as_str(), view.code.as_deref()),
        ("Your keyring is locked", Some("keyring-locked"))
    );
    person.keys.lock(false);
    person.send(Command::Retry);
    agent.answer_hello(vec![account_state(&body, 1, Health::Connected, None)]).await;
    person.until_screen(Screen::Connected).await;
    person.stop().await;
}

/// Shows of H20 the warning.
#[tokio::test]
async fn a_device_code_is_shown_with_its_warning_and_can_be_cancelled() {
    let mut person = Person::new();
    person.way = Way::DeviceCode;
    let mut bench = Bench::with(ALICE, person).await;
    let page = bench.agree().await;
    let Bench { tenant, person, .. } = &mut bench;
    assert!(page.as_str().starts_with(&tenant.origin), "{page}");
    let view = person.until_screen(Screen::Waiting).await;
    assert!(view.headline.starts_with("Enter the code "), "{}", view.headline);
    assert!(view.detail.unwrap().contains("many organisations block it"));
    person.send(Command::Cancel);
    person.until_screen(Screen::NotConnected).await;
    person.stop().await;
}

#[tokio::test]
async fn unpairing_tells_the_assistant_and_leaves_nothing() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let Bench { agent, person, .. } = &mut bench;
    person.send(Command::Unpair);
    person.until_screen(Screen::NotPaired).await;
    loop {
        if let (header, ToAgent::AccountDisconnect(gone), _) = agent.next().await {
            assert_eq!((gone.account, header.generation), (body.account.id, 2));
            break;
        }
    }
    person.stop().await;
    assert!(!person.everything_on_disk().contains(ALICE.mail));
    person.start();
    person.until_screen(Screen::NotPaired).await;
    person.stop().await;
}

/// The broker has the sign-in, and the assistant takes it from there only when it is back.
#[tokio::test]
async fn unpairing_takes_back_a_sign_in_that_is_on_its_way() {
    let mut bench = Bench::of(ALICE).await;
    let url = bench.agree().await;
    let Bench { tenant: _tenant, broker, mut agent, mut person, .. } = bench;
    assert!(matches!(agent.next().await, (_, ToAgent::Hello(_), _)));
    person.until("enrolled", |view| view.assistant.as_ref().is_some_and(|one| one.enrolled)).await;
    let (keys, invite, device) = agent.stop().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let delivered = |view: &valetkey_companion::View| {
        view.steps.iter().any(|step| step.id == StepId::Delivered && step.done)
    };
    person.until("the broker has it", delivered).await;
    person.send(Command::Unpair);
    person.until_screen(Screen::NotPaired).await;
    person.stop().await;
    assert!(!person.everything_on_disk().contains(ALICE.mail));

    let mut agent = Agent::again(keys, invite, &broker.url());
    agent.device = device;
    let (header, body, _) = agent.next_handoff().await;
    let (gone_header, gone) = loop {
        if let (header, ToAgent::AccountDisconnect(gone), _) = agent.next().await {
            break (header, gone);
        }
    };
    assert_eq!((gone.account, header.generation, gone_header.generation), (body.account.id, 1, 2));
}

/// The disk was full in the moment in which the assistant made this computer known.
#[tokio::test]
async fn an_enrolment_that_could_not_be_noted_holds_no_sign_in_back() {
    let mut bench = Bench::of(ALICE).await;
    let Bench { tenant: _tenant, broker, agent, person, .. } = &mut bench;
    let link = agent.link_of_invite();
    let terms = agent.invite.terms.clone();
    let stopped = std::mem::replace(agent, Agent::start(&broker.url(), terms));
    let (keys, invite, _) = stopped.stop().await;
    person.agree_to(&link).await;
    let url = person.browser_opens().await;
    // What is not a file cannot be replaced by one.
    let file = person.dir.path().join("pairing.json");
    let aside = person.dir.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    *agent = Agent::again(keys, invite, &broker.url());
    assert!(matches!(agent.next().await, (_, ToAgent::Hello(_), _)));
    person.until("enrolled", |view| view.assistant.as_ref().is_some_and(|one| one.enrolled)).await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let (header, body, _) = agent.next_handoff().await;
    agent.say_stored(&header, &body);
    person.until_screen(Screen::Connected).await;
    person.stop().await;
}

/// Shows C12 for a personal account: it is at home at `consumers`, wherever the invite sends people first.
#[tokio::test]
async fn a_personal_account_that_came_through_common_is_handed_over_as_consumers_and_signs_in_there_again() {
    let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
    let (tenant, broker) = (tenant.unwrap(), broker.unwrap());
    let mut agent = Agent::start(&broker.url(), terms(&tenant.origin, "common", CAROL.mail));
    let mut person = Person::new();
    person.start();
    person.agree_to(&agent.link_of_invite()).await;
    let url = person.browser_opens().await;
    assert!(url.path().starts_with("/common/"), "{url}");
    http_sign_in(url.as_str(), CAROL.username).await.unwrap();
    let (header, body, _) = agent.next_handoff().await;
    assert_eq!(body.tenant, "consumers");
    let cache: serde_json::Value = serde_json::from_str(body.cache.expose()).unwrap();
    let refresh_token = cache["RefreshToken"].as_object().unwrap().values().next().unwrap()["secret"].clone();
    // What the agent does first, and the control: what it must not do.
    let http = valetkey_entra::http::client().unwrap();
    let refresh = async |tenant_name: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("scope", "User.Read Mail.Read Calendars.Read offline_access openid profile"),
            ("refresh_token", refresh_token.as_str().unwrap()),
        ];
        let url = format!("{}/{tenant_name}/oauth2/v2.0/token", tenant.origin);
        http.post(url).form(&form).send().await.unwrap().status().as_u16()
    };
    assert_eq!((refresh("common").await, refresh(&body.tenant).await), (400, 200));

    agent.say_stored(&header, &body);
    person.until_screen(Screen::Connected).await;
    agent.say(AuthExpired { account: body.account.id, reason: Code::or_unknown("revoked"), claims: None });
    person.until_screen(Screen::Reconnect).await;
    person.send(Command::Reconnect);
    let url = person.browser_opens().await;
    assert!(url.path().starts_with("/consumers/"), "{url}");
    http_sign_in(url.as_str(), CAROL.username).await.unwrap();
    let (header, ..) = agent.next_handoff().await;
    assert_eq!(header.generation, 2);
    person.stop().await;
}

/// An assistant that has been taken over writes names as it likes.
#[tokio::test]
async fn what_the_assistant_calls_an_account_is_cleaned_before_anybody_sees_it() {
    let mut bench = Bench::of(ALICE).await;
    let (_, body) = bench.connect().await;
    let Bench { agent, person, .. } = &mut bench;
    let name = "<a href=\"https://evil.example\">x</a>\u{202E}\u{1b}[2J\n\u{9b}";
    let mut lapsed = account_state(&body, 1, Health::ReconnectNeeded, Some("revoked"));
    lapsed.username = format!("{name}{}", "y".repeat(10_000));
    lapsed.capabilities = vec!["\u{202E}mail".into()];
    person.send(Command::Retry);
    agent.answer_hello(vec![lapsed]).await;
    let view = person.until_screen(Screen::Reconnect).await;
    let body = person.outlet("a notification", |outlet| match outlet {
        Outlet::Notify { body, .. } => Some(body),
        _ => None,
    });
    let body = body.await;
    assert!(!body.contains(['<', '>', '&']), "markup in a notification: {body}");
    let shown = format!("{body} {}", serde_json::to_string(&view).unwrap());
    for bad in ["\u{202E}", "\u{1b}", "\\u001b", "\u{9b}", "\\n\u{9b}"] {
        assert!(!shown.contains(bad), "{bad:?} in {shown}");
    }
    assert!(view.accounts[0].address.chars().count() < 300, "{}", view.accounts[0].address);
    person.stop().await;
}

/// Whoever could not sign in at first clicks the link once more: the agent would refuse new keys, as the invite is used up.
#[tokio::test]
async fn the_same_link_once_more_goes_on_with_the_pairing_that_it_began() {
    let mut bench = Bench::of(ALICE).await;
    bench.agree().await;
    bench.agent.answer_hello(Vec::new()).await;
    bench.person.send(Command::Cancel);
    bench.person.until_screen(Screen::NotConnected).await;
    let device = bench.agent.device.as_ref().unwrap().thumbprint();

    bench.connect().await;

    assert_eq!(bench.agent.device.as_ref().unwrap().thumbprint(), device);
    bench.person.stop().await;
    bench.person.start();
    bench.agent.answer_hello(Vec::new()).await;
    bench.person.stop().await;
}

/// A broker may refuse a device's presence until the agent has enrolled it.
#[tokio::test]
async fn once_enrolled_the_device_says_again_that_it_is_online() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let mut agent = Agent::start(&broker.url(), terms("http://localhost:1", "organizations", ANA.mail));
    let (_watcher, mut presences) = agent.watch_presences(&broker.url());
    let mut person = Person::new();
    person.start();
    person.agree_to(&agent.link_of_invite()).await;
    // The hello that follows the enrolment; by then `enrolled` was read.
    let _ = agent.next().await;
    let mine = agent.presence_of_device();
    for time in ["at first", "once enrolled"] {
        let said = async {
            loop {
                let event = presences.next().await.expect("the watcher's link has ended");
                if matches!(event, Event::Message(delivery) if delivery.topic == mine) {
                    return;
                }
            }
        };
        tokio::time::timeout(common::PATIENCE, said).await.expect(time);
    }
    person.stop().await;
}

/// The computer slept past the invite's end, and the assistant may well have taken the enrolment in time.
///
/// Shows of J8 that a computer that slept does not lose its pairing by it.
#[tokio::test]
async fn after_a_sleep_an_enrolment_is_not_given_up_before_the_assistant_could_answer() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let agent = Agent::start(&broker.url(), terms("http://localhost:1", "organizations", ANA.mail));
    let link = agent.link_of_invite();
    let (keys, invite, _) = agent.stop().await;
    let mut person = Person::with_clock(Clock::tokio_from(jiff::Timestamp::now()));
    person.start();
    person.agree_to(&link).await;
    person.until("the pairing", |view| view.assistant.is_some()).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_mins(20)).await;
    tokio::time::resume();
    let mut agent = Agent::again(keys, invite, &broker.url());
    let (_, message, _) = agent.next().await;
    assert!(matches!(message, ToAgent::Hello(_)), "what a device says that has read its enrolment");
    let heard =
        |view: &valetkey_companion::View| view.assistant.as_ref().is_some_and(|one| one.online == Some(true));
    person.until("the assistant's answer", heard).await;
    person.stop().await;
}
