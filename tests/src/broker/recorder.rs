//! A second client that writes down every message it sees, byte for byte.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

/// No message of a test takes this long to arrive.
const WAIT: Duration = Duration::from_secs(30);

/// Marks our lines among the debug lines of `mosquitto_sub -d`, which tell when it is subscribed.
const MARK: &str = "RECORDED";

/// Seconds for which the broker keeps messages for a recorder that is reconnecting.
const SESSION_EXPIRY: &str = "600";

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// One message as the broker delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub topic: String,
    pub payload: Vec<u8>,
    /// Delivered from the broker's store of retained messages, not as it was published.
    pub retained: bool,
}

/// A running `mosquitto_sub`; it ends when dropped. It connects again after the broker was away; a broker with
/// persistence then delivers what was published meanwhile, and may deliver a message twice.
#[derive(Debug)]
pub struct Recorder {
    seen: watch::Receiver<Vec<Recorded>>,
    _child: Child,
}

impl Recorder {
    pub(super) async fn start(arguments: &[String], topic_filter: &str) -> Result<Self> {
        let id = format!("recorder-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Into a pipe, mosquitto_sub says that it is subscribed only with the first message, unless by lines.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub"])
            .args(arguments)
            .args(["-i", &id, "-c", "-x", SESSION_EXPIRY])
            .args(["-d", "-q", "1", "-F", &format!("{MARK} %r %t %x"), "-t", topic_filter])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("mosquitto_sub")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        loop {
            match lines.next_line().await? {
                Some(line) if line.starts_with("Subscribed") => break,
                Some(_) => {}
                None => bail!("mosquitto_sub ended before it was subscribed"),
            }
        }
        let (sender, seen) = watch::channel(Vec::new());
        tokio::spawn(collect(lines, sender));
        Ok(Self { seen, _child: child })
    }

    /// Everything seen so far, in order.
    pub fn messages(&self) -> Vec<Recorded> {
        self.seen.borrow().clone()
    }

    /// Waits until a message, of those seen or still to come, fits.
    pub async fn wait_for(&self, fits: impl Fn(&Recorded) -> bool) -> Result<Recorded> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(WAIT, seen.wait_for(|all| all.iter().any(&fits)))
            .await
            .with_context(|| format!("not recorded; seen: {:?}", self.topics()))??
            .iter()
            .find(|message| fits(message))
            .cloned();
        found.context("found a moment ago")
    }

    fn topics(&self) -> Vec<String> {
        self.seen.borrow().iter().map(|message| message.topic.clone()).collect()
    }
}

async fn collect(mut lines: Lines<BufReader<ChildStdout>>, sender: watch::Sender<Vec<Recorded>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(message) = parse(&line) {
            sender.send_modify(|all| all.push(message));
        }
    }
}

/// `RECORDED {0|1} {topic} {hex}`; a topic may hold spaces, the hex may be empty.
fn parse(line: &str) -> Option<Recorded> {
    let (retained, rest) = line.strip_prefix(MARK)?.trim_start().split_once(' ')?;
    let (topic, hex) = rest.rsplit_once(' ')?;
    let payload = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    Some(Recorded { topic: topic.into(), payload, retained: retained == "1" })
}

#[cfg(test)]
mod tests {
    use crate::broker::{Broker, BrokerOptions};

    #[tokio::test]
    async fn a_recorder_sees_what_was_published_while_it_was_connecting_again() {
        let options = BrokerOptions { persistence: true, ..BrokerOptions::default() };
        let mut broker = Broker::start(options).await.unwrap();
        let recorder = broker.record("#").await.unwrap();
        broker.publish("a b/c", &[0, 255], true).await.unwrap();
        let first = recorder.wait_for(|message| message.topic == "a b/c").await.unwrap();
        assert_eq!((first.payload, first.retained), (vec![0, 255], false));
        broker.saved().await.unwrap();
        broker.restart().await.unwrap();
        broker.publish("after", b"", false).await.unwrap();
        recorder.wait_for(|message| message.topic == "after" && message.payload.is_empty()).await.unwrap();
    }
}
