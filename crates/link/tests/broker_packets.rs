//! What a broker may send, valid and not: mosquitto's own packet sequences for client libraries. Each is fed to a living
//! link, in the protocol version it was made for and in the other one, and after each the link must do its work at a good
//! broker again.
//!
//! The packet language: `iN` one byte; `HN`, `kN`, `mN`, `sN` two; `LN` four; `rN`, `vN` a variable byte integer, over-long
//! ones too; `'text'`; and bytes in hexadecimal.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use valetkey_link::{Event, Events, Link, Problem, Proxy, Publish, Retain, Settings, Version};

const FILES: [&str; 13] = [
    include_str!("../../../tests/vectors/mosquitto/AUTH.json"),
    include_str!("../../../tests/vectors/mosquitto/CONNACK.json"),
    include_str!("../../../tests/vectors/mosquitto/CONNECT.json"),
    include_str!("../../../tests/vectors/mosquitto/DISCONNECT.json"),
    include_str!("../../../tests/vectors/mosquitto/FORBIDDEN.json"),
    include_str!("../../../tests/vectors/mosquitto/PINGREQ.json"),
    include_str!("../../../tests/vectors/mosquitto/PINGRESP.json"),
    include_str!("../../../tests/vectors/mosquitto/PUBACK.json"),
    include_str!("../../../tests/vectors/mosquitto/PUBLISH.json"),
    include_str!("../../../tests/vectors/mosquitto/PUBREC.json"),
    include_str!("../../../tests/vectors/mosquitto/SUBSCRIBE.json"),
    include_str!("../../../tests/vectors/mosquitto/UNSUBACK.json"),
    include_str!("../../../tests/vectors/mosquitto/UNSUBSCRIBE.json"),
];

/// Links at work at once.
const LINKS: usize = 16;

/// For one sequence and the good broker after it. It takes milliseconds; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(10);

/// Where the link breaks off and mosquitto's client does not, with how many sequences each line is about.
const STRICTER: &[(&str, usize, &str)] = &[
    ("v3.1.1 PUBACK unsolicited", 1, "acknowledges what was never published"),
    ("v3.1.1 PUBREC unsolicited", 1, "acknowledges what was never published"),
    ("v5.0   PUBACK unsolicited", 5, "acknowledges what was never published"),
    ("v5.0   PUBREC unsolicited", 5, "acknowledges what was never published"),
    ("v5.0   UNSUBACK", 6, "answers what was never asked: a link does not unsubscribe"),
];

/// Where the link goes on and mosquitto's client breaks off. None of it reaches anybody but a message on a topic that was
/// subscribed, and its owner believes nothing of one before it is verified.
const LAXER: &[(&str, usize, &str)] = &[
    ("v3.1.1 CONNACK", 13, "reserved bits and bytes too many are passed over"),
    ("v3.1.1 PINGRESP", 5, "reserved bits and bytes too many are passed over"),
    ("v3.1.1 PUBACK", 5, "reserved bits and bytes too many are passed over"),
    ("v3.1.1 PUBLISH", 9, "odd topics are their owner's to refuse"),
    ("v3.1.1 PUBREC", 5, "reserved bits and bytes too many are passed over"),
    ("v3.1.1 UNSUBACK", 8, "reserved bits are passed over"),
    ("v5.0   CONNACK", 17, "reserved bits, limits of zero and another client id are passed over"),
    ("v5.0   DISCONNECT", 44, "with whatever reason: the link takes it as the end, which it is"),
    ("v5.0   PINGRESP", 5, "reserved bits and bytes too many are passed over"),
    ("v5.0   PUBACK", 6, "reserved bits, bytes too many and a doubled text are passed over"),
    ("v5.0   PUBLISH", 30, "odd topics are their owner's to refuse, and properties are not looked at"),
    ("v5.0   PUBREC", 6, "reserved bits, bytes too many and a doubled text are passed over"),
    ("v5.0   SUBSCRIBE", 1, "two bytes of a packet that no broker sends are passed over"),
    ("v5.0   UNSUBACK", 2, "a list of answers may be empty"),
];

/// The broker takes packets of a few bytes only: whether the link notices that or the closed connection first is chance.
const CHANCE: &str = "CONNACK ALLOWED PROPERTIES VALID: 20 with maximum-packet-size";

#[derive(Deserialize)]
struct Group {
    #[serde(rename = "group")]
    name: String,
    ver: u8,
    connack: Option<bool>,
    /// What mosquitto's client does first; ours has its birth message under way in any case.
    command: Option<String>,
    expect_disconnect: Option<bool>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    ver: Option<u8>,
    connack: Option<bool>,
    expect_disconnect: Option<bool>,
    msgs: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

#[derive(Clone)]
struct Sequence {
    name: String,
    version: Version,
    /// Sent to a client that is connected and subscribed, or else in place of the broker's first packet.
    connected: bool,
    /// The packet id 1 is of a publish, or else of the subscription.
    publishing: bool,
    expect_disconnect: bool,
    bytes: Vec<u8>,
}

fn sequences() -> Vec<Sequence> {
    let mut all = Vec::new();
    for file in FILES {
        for group in serde_json::from_str::<Vec<Group>>(file).unwrap() {
            for test in group.tests {
                let sent = test.msgs.iter().filter(|message| message.kind == "send");
                all.push(Sequence {
                    name: format!("{}: {}", group.name, test.name),
                    version: if test.ver.unwrap_or(group.ver) == 5 { Version::V5 } else { Version::V311 },
                    connected: test.connack.or(group.connack).unwrap_or(true),
                    publishing: group.command.as_deref().is_some_and(|does| does.starts_with("publish")),
                    expect_disconnect: test.expect_disconnect.or(group.expect_disconnect).unwrap_or(true),
                    bytes: sent.flat_map(|message| packet(&message.payload)).collect(),
                });
            }
        }
    }
    all
}

fn packet(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '\'' => {
                let end = rest[1..].find('\'').unwrap() + 2;
                rest.split_at(end)
            }
            _ => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        rest = after.trim_start();
        let number = || token[1..].parse::<u64>().unwrap();
        match first {
            '\'' => bytes.extend(token[1..token.len() - 1].bytes()),
            'i' => bytes.push(u8::try_from(number()).unwrap()),
            'H' | 'k' | 'm' | 's' => bytes.extend(u16::try_from(number()).unwrap().to_be_bytes()),
            'L' => bytes.extend(u32::try_from(number()).unwrap().to_be_bytes()),
            'r' | 'v' => bytes.extend(variable(number())),
            _ => bytes.extend(hex(token)),
        }
    }
    bytes
}

fn hex(token: &str) -> impl Iterator<Item = u8> {
    assert!(token.len().is_multiple_of(2), "{token}");
    (0..token.len()).step_by(2).map(|at| u8::from_str_radix(&token[at..at + 2], 16).unwrap())
}

fn variable(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number % 128).unwrap();
        number /= 128;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A broker that obeys: each connection either gets a sequence and is then closed, or is served well.
struct Broker {
    listener: TcpListener,
    version: Version,
}

impl Broker {
    async fn start(version: Version) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), version }
    }

    fn settings(&self, subscriptions: Vec<String>) -> Settings {
        let url = format!("mqtt://{}", self.listener.local_addr().unwrap());
        let mut settings = Settings::new(&url, "me").unwrap();
        settings.version = self.version;
        settings.proxy = Proxy::Off;
        settings.keep_alive = Duration::from_secs(5);
        settings.subscriptions = subscriptions;
        settings.birth = Some(Publish::new("to/all", *b"here", Retain::Yes));
        settings
    }

    /// Sends the sequence and closes its half, so that the link has read all of it when it notices the end.
    async fn misbehave(&self, sequence: &Sequence) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        read_packet(&mut stream).await;
        if sequence.connected {
            stream.write_all(self.connack()).await.unwrap();
            loop {
                let Some((kind, body)) = read_packet(&mut stream).await else { return };
                match kind >> 4 {
                    8 => stream.write_all(&self.suback(&body)).await.unwrap(),
                    3 => break,
                    _ => {}
                }
            }
        }
        // The link may have left in the middle of it.
        if stream.write_all(&sequence.bytes).await.is_ok() && stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    }

    /// Acknowledges everything until the client leaves or `enough` publishes were taken.
    async fn behave(&self, enough: usize) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut taken = 0;
        while taken < enough {
            let (kind, body) = read_packet(&mut stream).await.expect("the link hung up on a good broker");
            match kind >> 4 {
                1 => stream.write_all(self.connack()).await.unwrap(),
                8 => stream.write_all(&self.suback(&body)).await.unwrap(),
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let (high, low) = (body[2 + topic], body[3 + topic]);
                    stream.write_all(&[0x40, 2, high, low]).await.unwrap();
                    taken += 1;
                }
                _ => {}
            }
        }
        stream
    }

    fn connack(&self) -> &'static [u8] {
        match self.version {
            Version::V5 => &[0x20, 3, 0, 0, 0],
            Version::V311 => &[0x20, 2, 0, 0],
        }
    }

    fn suback(&self, subscribe: &[u8]) -> Vec<u8> {
        let (high, low) = (subscribe[0], subscribe[1]);
        match self.version {
            Version::V5 => vec![0x90, 4, high, low, 0, 1],
            Version::V311 => vec![0x90, 3, high, low, 1],
        }
    }
}

/// First byte and body; `None` at the end.
async fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// One link and its broker, through many sequences.
struct Trial {
    broker: Broker,
    link: Link,
    events: Events,
}

impl Trial {
    async fn start(version: Version, publishing: bool) -> Self {
        let broker = Broker::start(version).await;
        let subscriptions = if publishing { Vec::new() } else { vec!["#".to_owned()] };
        let (link, events) = Link::start(broker.settings(subscriptions)).unwrap();
        Self { broker, link, events }
    }

    /// What the link thought of it, once it has been well served again.
    async fn run(&mut self, sequence: &Sequence) -> Problem {
        let (problem, ()) = tokio::join!(down(&mut self.events), self.broker.misbehave(sequence));
        // No wait is due: there is reason to believe that it works now.
        self.link.retry_now();
        let sent = self.link.publish("to/one", *b"still here", Retain::No).unwrap();
        let (stream, ()) = tokio::join!(self.broker.behave(2), async {
            wait(&mut self.events, |event| match event {
                Event::Published { id, .. } if id == sent => Some(()),
                Event::Down { problem, .. } => panic!("{problem} at a good broker"),
                _ => None,
            })
            .await;
        });
        drop(stream);
        down(&mut self.events).await;
        self.link.retry_now();
        problem
    }
}

async fn down(events: &mut Events) -> Problem {
    wait(events, |event| match event {
        Event::Down { problem, .. } => Some(problem),
        _ => None,
    })
    .await
}

async fn wait<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        // A panic in the link's task ends its events.
        if let Some(found) = pick(events.next().await.expect("the link is dead")) {
            return found;
        }
    }
}

#[test]
fn the_packet_language_is_read() {
    assert_eq!(packet("30 r14 s5 'topic' 'payload'"), b"\x30\x0e\x00\x05topicpayload");
    assert_eq!(packet("C0 r268435456"), [0xc0, 0x80, 0x80, 0x80, 0x80, 0x01]);
    assert_eq!(packet("29 02 0001 L1 i255 v128 ''"), [0x29, 2, 0, 1, 0, 0, 0, 1, 255, 0x80, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sequence_of_packets_from_a_broker_ends_a_link() {
    let started = Instant::now();
    let all = Arc::new(sequences());
    assert_eq!(all.len(), 1523);
    let mut tasks = tokio::task::JoinSet::new();
    for version in [Version::V5, Version::V311] {
        for publishing in [false, true] {
            let all = Arc::clone(&all);
            let mine: Arc<Vec<usize>> =
                Arc::new((0..all.len()).filter(|at| all[*at].publishing == publishing).collect());
            let next = Arc::new(AtomicUsize::new(0));
            for _ in 0..LINKS / 4 {
                let (all, mine, next) = (Arc::clone(&all), Arc::clone(&mine), Arc::clone(&next));
                tasks.spawn(async move {
                    let mut trial = Trial::start(version, publishing).await;
                    let mut outcomes = Vec::new();
                    while let Some(at) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (sequence, began) = (&all[*at], Instant::now());
                        let problem = timeout(BOUND, trial.run(sequence))
                            .await
                            .unwrap_or_else(|_| panic!("no end to {}", sequence.name));
                        outcomes.push((version, *at, problem, began.elapsed()));
                    }
                    trial.link.stop().await;
                    outcomes
                });
            }
        }
    }
    let outcomes: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();

    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut stricter, mut laxer) = (Vec::new(), Vec::new());
    for (version, at, problem, _) in &outcomes {
        let sequence = &all[*at];
        let whose = if *version == sequence.version { "their own version" } else { "the other version" };
        *counts.entry(format!("{version:?}, sequences of {whose}: {problem:?}")).or_default() += 1;
        if *version != sequence.version || sequence.name.contains(CHANCE) {
            continue;
        }
        match (sequence.expect_disconnect, *problem == Problem::ClosedByBroker) {
            (false, false) => stricter.push(&*sequence.name),
            (true, true) => laxer.push(&*sequence.name),
            _ => {}
        }
    }
    let slowest = outcomes.iter().map(|(.., took)| *took).max().unwrap();
    let (runs, took) = (outcomes.len(), started.elapsed());
    println!("{} sequences, {runs} runs in {took:?}, the slowest {slowest:?}: no panic", all.len());
    println!("against mosquitto's client: stricter {}, laxer {}", stricter.len(), laxer.len());
    println!("{counts:#?}");
    assert_eq!(runs, 2 * all.len());
    assert_listed(stricter, STRICTER);
    assert_listed(laxer, LAXER);
}

fn assert_listed(mut differences: Vec<&str>, listed: &[(&str, usize, &str)]) {
    for (prefix, expected, _) in listed {
        let found = differences.extract_if(.., |name| name.starts_with(prefix)).count();
        assert_eq!(found, *expected, "{prefix}");
    }
    assert!(differences.is_empty(), "in no list: {differences:#?}");
}
