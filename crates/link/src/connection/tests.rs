//! What no real broker can be brought to do on time: a scripted session under paused time.

use std::cell::RefCell;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::backoff::{FIRST_CEILING, LONGEST_CEILING, STABLE_AFTER};
use crate::link::{Event, Shared};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::run::run;
use crate::session::{Requests, Session, Signal};
use crate::settings::{Publish, Retain, Settings};

/// What a scripted connection does next.
enum Step {
    Signal(Signal),
    Wait(Duration),
    Fail(Problem),
    /// Goes on only once so many requests were made.
    Requests(usize),
}

type Log = Arc<Mutex<Vec<String>>>;

thread_local! {
    /// The scripts of the connections to come. Tokio's test runtime has one thread.
    static SCRIPTS: RefCell<(Vec<Vec<Step>>, Log)> = RefCell::default();
}

struct Scripted {
    steps: std::vec::IntoIter<Step>,
    log: Log,
}

struct Recording(Log);

impl Session for Scripted {
    type Requests = Recording;

    fn open(_plan: &Plan, _proxy: Option<rumqttc::Proxy>) -> (Recording, Self) {
        SCRIPTS.with_borrow_mut(|(scripts, log)| {
            let steps = if scripts.is_empty() { Vec::new() } else { scripts.remove(0) };
            (Recording(Arc::clone(log)), Self { steps: steps.into_iter(), log: Arc::clone(log) })
        })
    }

    async fn poll(&mut self) -> Result<Signal, Problem> {
        loop {
            match self.steps.next() {
                Some(Step::Signal(signal)) => return Ok(signal),
                Some(Step::Fail(problem)) => return Err(problem),
                Some(Step::Wait(time)) => tokio::time::sleep(time).await,
                Some(Step::Requests(wanted)) => {
                    while self.log.lock().unwrap().len() < wanted {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                None => pending().await,
            }
        }
    }
}

impl Recording {
    fn note(&self, request: String) -> bool {
        self.0.lock().unwrap().push(request);
        true
    }
}

impl Requests for Recording {
    fn subscribe(&self, filters: &[String]) -> bool {
        self.note(format!("subscribe {filters:?}"))
    }

    fn publish(&self, publish: &Publish) -> bool {
        self.note(format!("publish {}", publish.topic))
    }

    fn acknowledge(&self, packet: u16) -> bool {
        self.note(format!("ack {packet}"))
    }

    fn disconnect(&self) -> bool {
        self.note("disconnect".into())
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(40);

fn connected() -> Step {
    connected_with(None, None)
}

fn connected_with(receive_maximum: Option<u16>, max_packet: Option<u32>) -> Step {
    let signal =
        Signal::Connected { session_present: false, receive_maximum, max_packet, keep_alive: KEEP_ALIVE };
    Step::Signal(signal)
}

fn incoming(topic: &str, packet: u16) -> Step {
    let topic = topic.into();
    Step::Signal(Signal::Message { topic, payload: Vec::new(), retained: false, packet })
}

struct Fixture {
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    log: Log,
}

impl Fixture {
    fn start(settings: Settings, scripts: Vec<Vec<Step>>) -> Self {
        let log = Log::default();
        SCRIPTS.set((scripts, Arc::clone(&log)));
        let (sender, events) = mpsc::channel(64);
        let shared = Arc::new(Shared::new(settings.max_packet));
        let done = shared.done.clone().drop_guard();
        tokio::spawn(run::<Scripted>(Plan::new(settings).unwrap(), Arc::clone(&shared), sender, done));
        Self { shared, events, log }
    }

    async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap()
    }

    fn publish(&self, payload: &[u8]) {
        self.shared.queue().push(Publish::new("t", payload, Retain::No), u32::MAX).unwrap();
        self.shared.work.notify_one();
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn settings() -> Settings {
    Settings::new("mqtt://127.0.0.1", "me").unwrap()
}

#[tokio::test(start_paused = true)]
async fn silence_for_two_and_a_half_keep_alives_is_a_stall_however_much_we_write() {
    let wrote = || [Step::Wait(KEEP_ALIVE), Step::Signal(Signal::Wrote)];
    let script = [connected(), Step::Wait(KEEP_ALIVE), Step::Signal(Signal::Heard)]
        .into_iter()
        .chain((0..9).flat_map(|_| wrote()))
        .collect();
    let mut link = Fixture::start(settings(), vec![script]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    let up = Instant::now();
    assert!(matches!(link.next().await, Event::Down { problem: Problem::Stalled, .. }));
    let stalled = up.elapsed().as_secs();
    assert_eq!(stalled, 40 + 100, "one keep-alive until the last word, and 2.5 of silence");
}

#[tokio::test(start_paused = true)]
async fn a_library_that_never_finishes_connecting_is_given_up() {
    let mut link = Fixture::start(settings(), vec![vec![]]);
    assert!(matches!(link.next().await, Event::Down { problem: Problem::Stalled, .. }));
}

#[tokio::test(start_paused = true)]
async fn waits_grow_until_a_connection_has_lasted() {
    let failing = || vec![Step::Fail(Problem::Unreachable)];
    let mut scripts: Vec<_> = (0..20).map(|_| failing()).collect();
    scripts.push(vec![connected(), Step::Wait(STABLE_AFTER), Step::Fail(Problem::ClosedByBroker)]);
    let mut link = Fixture::start(settings(), scripts);
    let mut longest = Duration::ZERO;
    loop {
        match link.next().await {
            Event::Down { problem: Problem::Unreachable, retry_in } => longest = longest.max(retry_in),
            Event::Up { .. } => {}
            Event::Down { problem, retry_in } => {
                assert_eq!(problem, Problem::ClosedByBroker);
                assert!(retry_in <= FIRST_CEILING, "{retry_in:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // Thirteen draws below a minute: all within the first second happens once in 60^13 runs.
    assert!(longest > Duration::from_secs(1) && longest <= LONGEST_CEILING, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_can_be_cut_short() {
    let scripts = (0..9).map(|_| vec![Step::Fail(Problem::Unreachable)]).chain([vec![connected()]]).collect();
    let mut link = Fixture::start(settings(), scripts);
    let started = Instant::now();
    loop {
        match link.next().await {
            Event::Down { .. } => link.shared.retry.notify_one(),
            Event::Up { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_topic_is_dropped_and_not_left_to_block_the_rest() {
    let mut settings = settings();
    settings.subscriptions = vec!["#".into()];
    let granted = Step::Signal(Signal::Subscribed { granted: vec![true] });
    let script = vec![connected(), granted, incoming("", 7), incoming("t", 8)];
    let mut link = Fixture::start(settings, vec![script]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    let Event::Message(delivery) = link.next().await else { panic!("a message") };
    assert_eq!(delivery.topic, "t");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(link.log(), ["subscribe [\"#\"]", "ack 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_granted_is_told() {
    let mut settings = settings();
    settings.subscriptions = vec!["mine".into(), "yours".into()];
    let answer = Step::Signal(Signal::Subscribed { granted: vec![true, false] });
    let mut link = Fixture::start(settings, vec![vec![connected(), answer]]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    assert!(matches!(link.next().await, Event::Refused { topic, id: None } if topic == "yours"));
}

/// A broker may open a topic only when its reader is known.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_granted_is_asked_for_again_until_it_is() {
    let mut settings = settings();
    settings.subscriptions = vec!["mine".into(), "yours".into(), "theirs".into()];
    let answer = |granted: &[bool]| Step::Signal(Signal::Subscribed { granted: granted.to_vec() });
    let script = vec![
        connected(),
        answer(&[true, false, false]),
        Step::Requests(2),
        answer(&[false, false]),
        Step::Requests(3),
        answer(&[true, false]),
        Step::Requests(4),
        answer(&[true]),
    ];
    let mut link = Fixture::start(settings, vec![script]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    assert!(matches!(link.next().await, Event::Refused { topic, .. } if topic == "yours"));
    assert!(matches!(link.next().await, Event::Refused { topic, .. } if topic == "theirs"));
    // Refused once more: that is no news.
    assert!(matches!(link.next().await, Event::Up { session_present: false }));
    assert!(matches!(link.next().await, Event::Refused { topic, .. } if topic == "theirs"));
    assert!(matches!(link.next().await, Event::Up { session_present: false }));
    tokio::time::sleep(LONGEST_CEILING * 2).await;
    let asked = [
        "subscribe [\"mine\", \"yours\", \"theirs\"]",
        "subscribe [\"yours\", \"theirs\"]",
        "subscribe [\"yours\", \"theirs\"]",
        "subscribe [\"theirs\"]",
    ];
    assert_eq!(link.log(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_grants_it_never_is_asked_ever_more_rarely() {
    let mut settings = settings();
    settings.subscriptions = vec!["yours".into()];
    let no = || Step::Signal(Signal::Subscribed { granted: vec![false] });
    let mut script = vec![connected(), no()];
    for asked in 2..100 {
        script.extend([Step::Requests(asked), no(), Step::Signal(Signal::Heard)]);
    }
    let mut link = Fixture::start(settings, vec![script]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    assert!(matches!(link.next().await, Event::Refused { .. }));
    tokio::time::sleep(LONGEST_CEILING * 3).await;
    assert!((5..100).contains(&link.log().len()), "{} in three minutes", link.log().len());
}

/// A message that the broker cannot take would otherwise end each connection, for ever.
#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_broker_takes_is_refused_and_the_next_one_sent() {
    let mut link = Fixture::start(settings(), vec![vec![connected_with(None, Some(100))]]);
    link.publish(&[0; 101]);
    link.publish(b"small");
    assert!(matches!(link.next().await, Event::Up { .. }));
    assert!(matches!(link.next().await, Event::Refused { id: Some(_), .. }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(link.log(), ["publish t"]);
}

/// At its limit the library would hold back acknowledgements as well.
#[tokio::test(start_paused = true)]
async fn fewer_are_in_flight_than_the_broker_allows() {
    let acknowledged = Signal::Acknowledged { packet: 1, accepted: true };
    let script = vec![
        connected_with(Some(3), None),
        Step::Requests(2),
        Step::Signal(Signal::Sent { packet: 1 }),
        Step::Signal(Signal::Sent { packet: 2 }),
        Step::Wait(Duration::from_secs(10)),
        Step::Signal(acknowledged),
    ];
    let mut link = Fixture::start(settings(), vec![script]);
    for _ in 0..5 {
        link.publish(b"");
    }
    assert!(matches!(link.next().await, Event::Up { .. }));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(link.log().len(), 2);
    assert!(matches!(link.next().await, Event::Published { .. }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(link.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_farewell_but_not_for_ever() {
    let mut settings = settings();
    settings.last_will = Some(Publish::new("presence", *b"offline", Retain::Yes));
    let answers = vec![
        connected(),
        Step::Requests(1),
        Step::Signal(Signal::Sent { packet: 1 }),
        Step::Signal(Signal::Acknowledged { packet: 1, accepted: true }),
        Step::Requests(2),
        Step::Signal(Signal::Disconnected),
    ];
    let mut polite = Fixture::start(settings.clone(), vec![answers]);
    assert!(matches!(polite.next().await, Event::Up { .. }));
    polite.shared.stop.cancel();
    polite.shared.done.cancelled().await;
    assert_eq!(polite.log(), ["publish presence", "disconnect"]);

    let mut silent = Fixture::start(settings, vec![vec![connected()]]);
    assert!(matches!(silent.next().await, Event::Up { .. }));
    let started = Instant::now();
    silent.shared.stop.cancel();
    silent.shared.done.cancelled().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_just_before_stopping_is_still_told() {
    let mut settings = settings();
    settings.subscriptions = vec!["t".into()];
    let granted = Step::Signal(Signal::Subscribed { granted: vec![true] });
    let mut link = Fixture::start(settings, vec![vec![connected(), granted, incoming("t", 9)]]);
    assert!(matches!(link.next().await, Event::Up { .. }));
    let Event::Message(delivery) = link.next().await else { panic!("a message") };
    link.shared.acknowledge(delivery.connection, delivery.packet);
    link.shared.stop.cancel();
    link.shared.done.cancelled().await;
    assert_eq!(link.log()[1..], ["ack 9", "disconnect"]);
}
