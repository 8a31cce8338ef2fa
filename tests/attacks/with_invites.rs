//! Attacks with invites: used, expired and altered ones, a stranger's enrolment, and links from a web page.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use valetkey_companion::view::{Screen, View};
use valetkey_companion::{
    Clock, Command, Companion, Handle, InviteLink, Language, MemoryKeyStore, Options, Way,
};
use valetkey_handoff::message::Enroll;
use valetkey_handoff::{BrokerAccess, Facts, Invite, InviteSecret, Keys, Label, Terms, seal_enroll};
use valetkey_tests::http_sign_in;
use valetkey_tests::program::PATIENCE;
use valetkey_tests::tenant::{ALICE, CLIENT_ID};

use crate::forge::{altered, b64, handoffs, parts, refusal, signing_of, status, topics, unb64, vault};
use crate::support::{Desk, World};

const LINK: &str = "valetkey://invite/";

/// The link with something else in it: anybody who has one can make this.
fn rewritten(link: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut invite: Value = serde_json::from_slice(&unb64(link.strip_prefix(LINK).unwrap())).unwrap();
    change(&mut invite);
    format!("{LINK}{}", b64(invite.to_string()))
}

fn desk(world: &World, name: &str) -> Desk {
    Desk::start(&world.folder.path().join(name), Arc::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_cannot_prove_the_secret_does_not_enrol_and_does_not_use_the_invite_up() {
    let mut world = World::with_operators_broker().await;
    let mut serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let invite = Invite::parse(&link).unwrap();
    let (topics, stranger) = (topics(&world), Keys::generate());
    let topic = topics.enroll(&invite.id());

    // He knows all but the secret: the topic is to be seen at the broker, the agent's keys are public.
    let guessed = Invite { secret: InviteSecret::generate(), ..invite.clone() };
    let enroll = Enroll { device_name: Label::tidy("Alice's computer") };
    let forged = seal_enroll(&stranger, &guessed, &Facts::new(0, Timestamp::now()), enroll).unwrap();
    let forged = forged.as_bytes();
    let named = |member: &str, value: Value| {
        let mut claim = parts(forged).0["enroll"].clone();
        claim[member] = value;
        altered(forged, json!({"enroll": claim}), &signing_of(&stranger))
    };
    for (name, topic, bytes, why) in [
        ("an invite of his own", topics.enroll(&guessed.id()), forged.to_vec(), "the invite is not known"),
        ("his own at Alice's", topic.clone(), forged.to_vec(), "for another invite"),
        (
            "with her invite's name",
            topic.clone(),
            named("invite", json!(invite.id())),
            "proof of the invite's secret",
        ),
        ("nonsense", topic.clone(), b"nonsense".to_vec(), "not a signed message"),
        ("too large", topic.clone(), vec![b'x'; 300 * 1024], "more than"),
    ] {
        let reason = refusal(&mut world, &mut serving, &topic, &bytes).await;
        assert!(reason.contains(why), "{name}: {reason}");
    }
    // Planted for whenever the daemon connects.
    world.broker().publish(&topic, &named("invite", json!(invite.id())), true).await.unwrap();
    serving.stop().unwrap();
    let mut serving = world.daemon.serve().await.unwrap();
    let planted = serving.event("refused").await.unwrap();
    assert!(planted["reason"].as_str().unwrap().contains("proof"), "{planted}");
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1, json!([]));
    assert_eq!(status(&world)["open_invites"], 1);

    let mut alice = world.desk();
    alice.connect(&link, ALICE).await;
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(), 1);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_computers_that_race_with_one_invite_one_wins_and_both_know() {
    let mut world = World::with_operators_broker().await;
    let serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/+/enroll/+").await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let (mut first, mut second) = (desk(&world, "first"), desk(&world, "second"));
    tokio::join!(first.accept(&link), second.accept(&link));
    let over = |view: &View| view.code.as_deref() == Some("invite-used");
    let loser = tokio::select! {
        view = first.until("being told", over) => view,
        view = second.until("being told", over) => view,
    };
    assert_eq!(loser.screen, Screen::Error);
    let mut winner = if over(&first.view()) { second } else { first };
    let url = winner.browser().await;
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    winner.screen(Screen::Connected).await;

    // Both enrolments again, by a broker that kept them: one device, and it stays connected.
    for message in wire.messages() {
        world.broker().publish(&message.topic, &message.payload, false).await.unwrap();
    }
    assert_eq!(world.graph_me(ALICE).await, 200);
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1.as_array().unwrap().len(), 1);
    assert_eq!(winner.view().screen, Screen::Connected);
    serving.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_or_expired_invite_never_leads_to_a_handoff_that_is_stored() {
    let mut world = World::with_operators_broker().await;
    let mut serving = world.daemon.serve().await.unwrap();
    let wire = world.broker().record("valetkey/v1/#").await.unwrap();
    let genuine = world.daemon.invite(ALICE.mail).unwrap();
    let brief = world.daemon.ask(&["invite", "--email", ALICE.mail, "--expires", "1s"]).unwrap().1;
    let thief = Keys::generate();
    let accept = async |name: &str, link: &str| {
        let mut desk = desk(&world, name);
        desk.accept(link).await;
        let url = desk.browser().await;
        http_sign_in(url.as_str(), ALICE.username).await.unwrap();
        desk
    };

    // Sealed to the thief, under the name of the real agent: it cannot confirm the pairing, so nothing is sent.
    let to_thief = rewritten(&genuine, |invite| invite["agent"]["age"] = json!(thief.public().recipient()));
    let mut first = accept("sealed-to-a-thief", &to_thief).await;
    let reason = serving.event("refused").await.unwrap();
    assert!(reason["reason"].as_str().unwrap().contains("cannot be decrypted"), "{reason}");
    first.until("a sealed sign-in that waits", |view| view.steps.iter().any(|step| step.done)).await;

    // Another secret: another invite, which nobody made.
    let guessed = rewritten(&genuine, |invite| invite["secret"] = json!(b64([7; 16])));
    let mut second = accept("another-secret", &guessed).await;
    serving.next("the refusal", |line| line["reason"] == "the invite is not known").await.unwrap();
    second.until("a sealed sign-in that waits", |view| view.steps.iter().any(|step| step.done)).await;
    let all = wire.messages();
    let inbox = |message: &&valetkey_tests::broker::Recorded| message.topic.contains("/in/");
    assert!(all.iter().filter(inbox).all(|message| message.payload.len() < 3000), "a sign-in was sent");
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1, json!([]));

    // A longer life than the agent gave it.
    let ends = brief["expires_at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    Clock::system().sleep_until(ends).await;
    let longer = rewritten(brief["link"].as_str().unwrap(), |invite| {
        invite["exp"] = json!((Timestamp::now() + SignedDuration::from_hours(1)).as_second());
    });
    let mut third = desk(&world, "longer");
    third.accept(&longer).await;
    third.until("being told", |view| view.code.as_deref() == Some("invite-expired")).await;
    assert_eq!(world.daemon.ask(&["devices"]).unwrap().1, json!([]));

    // More than the operator asked for: the agent holds the device to what it wrote down itself.
    let greedy = rewritten(&genuine, |invite| {
        invite["terms"]["capabilities"] = json!(["mail", "calendar", "mail-send"]);
    });
    let mut fourth = accept("greedy", &greedy).await;
    let refused = |view: &View| view.code.as_deref() == Some("handoff-refused-capabilities-mismatch");
    fourth.until("the refusal", refused).await;
    assert_eq!(vault(&world).len(), 0);
    let id = status(&world)["devices"][0]["id"].as_str().map(str::to_owned);
    let inbox = topics(&world).inbox(&id.expect("a device").parse().unwrap());
    assert_eq!(handoffs(&mut world, &wire, &inbox).await.len(), 1, "what was refused had arrived");
    serving.stop().unwrap();
}

/// A server that only counts who comes.
async fn counting() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (port, visits) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&visits);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (port, visits)
}

fn invite(agent: &Keys, broker: u16, login: u16) -> Invite {
    Invite {
        name: Label::tidy("Microsoft Support"),
        agent: agent.public(),
        broker: BrokerAccess {
            url: format!("mqtt://127.0.0.1:{broker}").parse().unwrap(),
            username: None,
            password: None,
        },
        secret: InviteSecret::generate(),
        expires_at: Timestamp::now() + SignedDuration::from_mins(10),
        terms: Terms {
            email: Some(ALICE.mail.into()),
            authority: format!("http://127.0.0.1:{login}"),
            graph: Some(format!("http://127.0.0.1:{login}")),
            tenant: ALICE.tid.into(),
            client_id: CLIENT_ID.into(),
            capabilities: vec!["mail".into()],
        },
    }
}

fn companion(dir: &Path, keys: &MemoryKeyStore, policy_file: Option<PathBuf>) -> Handle {
    Companion::start(Options {
        data_dir: dir.to_owned(),
        keys: Arc::new(keys.clone()),
        outlets: tokio::sync::mpsc::unbounded_channel().0,
        clock: Clock::system(),
        language: Language::English,
        device_name: "Alice's computer".into(),
        sign_in: Way::Browser { port: None },
        policy_file,
        broker_ca: None,
    })
}

async fn until(handle: &Handle, wanted: impl Fn(&View) -> bool) -> View {
    let mut views = handle.views();
    let found = tokio::time::timeout(PATIENCE, views.wait_for(|view| wanted(view))).await;
    found.unwrap_or_else(|_| panic!("in vain; shown is {:#?}", *handle.views().borrow())).unwrap().clone()
}

fn opened(handle: &Handle, link: &str) {
    handle.send(Command::PasteInvite { link: InviteLink::new(link) });
}

/// Shows of J1 who asks for what, and that nothing happens before the person confirms.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_a_web_page_contacts_nobody_and_leaves_nothing_until_the_person_agrees() {
    let ((broker, at_broker), (login, at_login)) = (counting().await, counting().await);
    let visits = || (at_broker.load(Ordering::SeqCst), at_login.load(Ordering::SeqCst));
    let home = tempfile::tempdir().unwrap();
    let (dir, keys, agent) = (home.path().join("companion"), MemoryKeyStore::default(), Keys::generate());
    let invite = invite(&agent, broker, login);
    let link = invite.to_link().unwrap().expose().clone();
    let companion = companion(&dir, &keys, None);
    until(&companion, |view| view.screen == Screen::NotPaired).await;

    opened(&companion, &link);
    let asked = until(&companion, |view| view.screen == Screen::Invited).await.invite.unwrap();
    assert_eq!((asked.agent.as_str(), asked.email.as_deref()), ("Microsoft Support", Some(ALICE.mail)));
    assert_eq!((asked.broker_host.as_str(), asked.login_host.as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_eq!(asked.reads.len(), 1);
    assert_eq!(asked.words, agent.public().words(), "the words of the keys that would be trusted");
    companion.send(Command::DeclineInvite);
    until(&companion, |view| view.screen == Screen::NotPaired).await;

    // What a page could try besides: each is refused at a glance.
    let hostile: [fn(&mut Value); 8] = [
        |invite| invite["terms"]["authority"] = json!("http://login.evil.example"),
        |invite| invite["terms"]["authority"] = json!("file:///etc/passwd"),
        |invite| invite["broker"]["url"] = json!("http://127.0.0.1/"),
        |invite| invite["broker"]["url"] = json!("mqtt://user:word@127.0.0.1"),
        |invite| invite["terms"]["tenant"] = json!("../../evil"),
        |invite| invite["terms"]["email"] = json!("alice@contoso.example\u{202E}"),
        |invite| invite["name"] = json!("Your bank\nsays: agree"),
        |invite| invite["v"] = json!(2),
    ];
    let mut links: Vec<String> = hostile.iter().map(|change| rewritten(&link, change)).collect();
    links.extend([
        LINK.to_owned(),
        format!("{LINK}x"),
        link[..link.len() / 2].to_owned(),
        "x".repeat(1 << 20),
    ]);
    links.push(format!("https://evil.example/?next={link}"));
    for link in links {
        opened(&companion, &link);
        let view = until(&companion, |view| view.code.is_some()).await;
        assert_eq!(view.code.as_deref(), Some("invite-unreadable"), "{link}");
        companion.send(Command::Dismiss);
        until(&companion, |view| view.screen == Screen::NotPaired).await;
    }
    assert_eq!(visits(), (0, 0), "somebody was contacted");
    assert!(!dir.exists(), "something was stored");
    assert!(keys.entries().is_empty(), "keys were made");

    // The same link, agreed to, does reach both: so these counters count.
    opened(&companion, &link);
    until(&companion, |view| view.screen == Screen::Invited).await;
    companion.send(Command::AcceptInvite { invite: None });
    until(&companion, |view| view.screen == Screen::Error).await;
    let met = async {
        while visits().0 == 0 || visits().1 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("both are contacted after agreeing");
    assert!(dir.join("pairing.json").exists() && !keys.entries().is_empty());
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_pins_agents_brokers_logins_and_client_ids() {
    let ((broker, at_broker), (login, at_login)) = (counting().await, counting().await);
    let home = tempfile::tempdir().unwrap();
    let (dir, policy, agent) =
        (home.path().join("companion"), home.path().join("policy.toml"), Keys::generate());
    let link = invite(&agent, broker, login).to_link().unwrap().expose().clone();
    let keys = MemoryKeyStore::default();
    let companion = companion(&dir, &keys, Some(policy.clone()));
    until(&companion, |view| view.screen == Screen::NotPaired).await;
    let pinned = format!(
        "agents = [\"{} {}\"]\nbrokers = [\"mqtt://127.0.0.1:{broker}\"]\nlogins = [\"http://127.0.0.1:{login}\"]\n\
         graphs = [\"http://127.0.0.1:{login}\"]\nclient_ids = [\"{CLIENT_ID}\"]\n",
        agent.thumbprint(),
        agent.public().recipient()
    );
    let other = Keys::generate();
    for rule in [
        pinned.replace(agent.thumbprint().as_str(), other.thumbprint().as_str()),
        // The name of the one, and the key to decrypt with of another.
        pinned.replace(&agent.public().recipient(), &other.public().recipient()),
        pinned.replace(&format!("mqtt://127.0.0.1:{broker}"), "mqtt.contoso.example"),
        // Its name, and that means: securely.
        pinned.replace(&format!("mqtt://127.0.0.1:{broker}"), "127.0.0.1"),
        pinned.replace(&format!("mqtt://127.0.0.1:{broker}"), &format!("mqtt://127.0.0.1:{login}")),
        pinned.replace(
            &format!("logins = [\"http://127.0.0.1:{login}"),
            "logins = [\"login.microsoftonline.com",
        ),
        // Whoever is Graph gets the tokens.
        pinned.replace(
            &format!("graphs = [\"http://127.0.0.1:{login}"),
            "graphs = [\"https://graph.microsoft.com",
        ),
        pinned.replace("graphs", "#graphs"),
        pinned.replace(CLIENT_ID, "22222222-2222-4222-8222-222222222222"),
        "agents = []".to_owned(),
        // Fails closed: a mistyped rule is not no rule.
        pinned.replace("agents", "agent"),
        "not toml [".to_owned(),
    ] {
        put(&policy, &rule);
        opened(&companion, &link);
        let view = until(&companion, |view| view.code.is_some()).await;
        assert_eq!((view.code.as_deref(), &view.invite), (Some("invite-forbidden"), &None), "{rule}");
        // There is nothing to agree to.
        companion.send(Command::AcceptInvite { invite: None });
        companion.send(Command::Dismiss);
        until(&companion, |view| view.screen == Screen::NotPaired).await;
    }
    assert_eq!((at_broker.load(Ordering::SeqCst), at_login.load(Ordering::SeqCst)), (0, 0));
    assert!(!dir.exists() && keys.entries().is_empty());

    put(&policy, &pinned);
    opened(&companion, &link);
    until(&companion, |view| view.screen == Screen::Invited).await;
    companion.stop().await;
}

fn put(path: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}
