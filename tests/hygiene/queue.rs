//! A broker whose queue is full drops a handoff without a word. It is noticed end to end, and nothing is lost.

use valetkey_companion::view::{Screen, Step, StepId};
use valetkey_handoff::{Keys, Topics};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::ALICE;

use crate::support::{Desk, World};

/// Something that nobody signed reaches the agent's inbox.
async fn a_stranger_says_something(world: &World, topics: &Topics) {
    let stranger = topics.inbox(&Keys::generate().thumbprint());
    world.broker.as_ref().unwrap().publish(&stranger, b"nonsense", false).await.unwrap();
}

/// Shows of J5 that what the broker took is not called connected before the agent's receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_handoff_that_a_full_queue_dropped_is_sent_again_until_it_is_stored_exactly_once() {
    let options = BrokerOptions { more: vec!["max_queued_messages 1".into()], ..BrokerOptions::default() };
    let broker = Broker::start(options).await.unwrap();
    let world = World::with(Some(broker), ALICE.tid).await;
    let broker = world.broker.as_ref().unwrap();
    let serving = world.daemon.serve().await.unwrap();
    let status = world.daemon.ask(&["status"]).unwrap().1;
    let topics = Topics::new(status["id"].as_str().unwrap().parse().unwrap());
    let mut desk = world.desk();
    desk.accept(&world.daemon.invite(ALICE.mail).unwrap()).await;
    let url = desk.browser().await;
    desk.until("linked", |view| view.assistant.as_ref().is_some_and(|one| one.online == Some(true))).await;

    // The agent goes away, its queue fills, and the person signs in.
    serving.stop().unwrap();
    desk.until("away", |view| view.assistant.as_ref().is_some_and(|one| one.online == Some(false))).await;
    a_stranger_says_something(&world, &topics).await;
    let wire = broker.record("valetkey/v1/+/in/+").await.unwrap();
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    let delivered = |step: &Step| step.id == StepId::Delivered && step.done;
    let view = desk.until("taken by the broker", |view| view.steps.iter().any(delivered)).await;
    assert_ne!(view.screen, Screen::Connected, "nobody claims what no receipt says");
    assert!(broker.log().contains("dropped"), "mosquitto kept it after all:\n{}", broker.log());
    let sealed = waiting(&desk);

    // The control: nobody sends it again, and it is lost.
    let (dir, keys) = desk.stop().await;
    let mut serving = world.daemon.serve().await.unwrap();
    serving.event("refused").await.unwrap();
    a_stranger_says_something(&world, &topics).await;
    serving.event("refused").await.unwrap();
    assert_eq!(
        accounts(&world),
        0,
        "what the broker had kept for the agent has come, and the sign-in was not in it"
    );
    assert_eq!(handoffs_accepted(&world), 0);

    // The companion has it, and says so; then it sends the very same bytes.
    let said = valetkey_cli_doctor(&dir);
    assert!(
        said.contains("A sealed sign-in of ") && said.contains("sent again until it is confirmed"),
        "{said}"
    );
    let mut desk = Desk::start(&dir, keys);
    desk.screen(Screen::Connected).await;
    serving.event("stored").await.unwrap();
    let sent = wire.messages().into_iter().filter(|message| message.payload == sealed.as_bytes()).count();
    assert!(sent >= 2, "the same bytes, sent {sent} times");
    assert_eq!(accounts(&world), 1);

    // Once more, as a broker may do: it is stored once.
    let inbox =
        wire.messages().into_iter().find(|message| message.payload == sealed.as_bytes()).unwrap().topic;
    broker.publish(&inbox, sealed.as_bytes(), false).await.unwrap();
    a_stranger_says_something(&world, &topics).await;
    serving.event("refused").await.unwrap();
    assert_eq!(serving.count(|line| line["event"] == "stored"), 0, "after the first");
    assert_eq!(handoffs_accepted(&world), 1);
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
}

/// The one sealed message in the outbox.
fn waiting(desk: &Desk) -> String {
    let files: Vec<_> =
        std::fs::read_dir(desk.dir.join("outbox")).unwrap().map(|file| file.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let pending: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    pending["sealed"].as_str().unwrap().to_owned()
}

fn accounts(world: &World) -> usize {
    world.daemon.ask(&["accounts"]).unwrap().1.as_array().unwrap().len()
}

fn handoffs_accepted(world: &World) -> usize {
    let audit = world.daemon.ask(&["audit", "--last", "1000"]).unwrap().1;
    let events = audit["events"].as_array().unwrap().clone();
    events.iter().filter(|event| event["event"] == "handoff_accepted").count()
}

/// What `valetkey-cli doctor` says there. Its keys are elsewhere, which it says as well.
fn valetkey_cli_doctor(data_dir: &std::path::Path) -> String {
    let mut command = std::process::Command::new(valetkey_tests::program::program("valetkey-cli").unwrap());
    command.arg("--data-dir").arg(data_dir).arg("--key-file").arg(data_dir.join("none")).arg("doctor");
    let output = valetkey_tests::program::output(&mut command).unwrap();
    String::from_utf8(output.stdout).unwrap()
}
