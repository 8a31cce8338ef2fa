//! What is to be published and not yet acknowledged by the broker, in order.
//!
//! An entry leaves only when the broker has acknowledged it, so a lost connection loses nothing: the next one
//! starts again at the front. (The client library drops its own queue when the broker has lost the session.)

use std::collections::VecDeque;

use crate::settings::Publish;
use crate::topic;

/// Most messages waiting at once: a `state` for each of a thousand devices.
pub const MAX_QUEUED: usize = 1024;

/// Most payload bytes waiting at once; bounds memory where [`MAX_QUEUED`] large ones would not.
pub const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// Names one queued message in later events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublishId(u64);

/// Why a message was not queued. Nothing of it will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    #[error("the queue to the broker is full")]
    Full,
    #[error("the message is larger than the packets this link sends")]
    TooLarge,
    #[error("not a topic")]
    Topic,
    #[error("the link is stopped")]
    Stopped,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<(PublishId, Publish)>,
    /// The first so many entries are with the present connection.
    handed: usize,
    bytes: usize,
    last: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, publish: Publish, max_packet: u32) -> Result<PublishId, PublishError> {
        if !topic::is_topic(&publish.topic) {
            return Err(PublishError::Topic);
        }
        if packet_size(&publish) > u64::from(max_packet) {
            return Err(PublishError::TooLarge);
        }
        if self.entries.len() >= MAX_QUEUED || self.bytes + publish.payload.len() > MAX_QUEUED_BYTES {
            return Err(PublishError::Full);
        }
        self.last += 1;
        self.bytes += publish.payload.len();
        self.entries.push_back((PublishId(self.last), publish));
        Ok(PublishId(self.last))
    }

    /// The first entry that the present connection has not got.
    pub(crate) fn next(&self) -> Option<&(PublishId, Publish)> {
        self.entries.get(self.handed)
    }

    /// The entry shown by [`Queue::next`] is with the connection now.
    pub(crate) fn hand_over(&mut self) {
        self.handed = (self.handed + 1).min(self.entries.len());
    }

    /// A new connection has nothing yet.
    pub(crate) fn rewind(&mut self) {
        self.handed = 0;
    }

    /// Nothing is to be sent any more of what is here now.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.handed = 0;
        self.bytes = 0;
    }

    /// Acknowledged, or given up.
    pub(crate) fn remove(&mut self, id: PublishId) -> Option<Publish> {
        let index = self.entries.iter().position(|(entry, _)| *entry == id)?;
        let (_, publish) = self.entries.remove(index)?;
        self.bytes -= publish.payload.len();
        if index < self.handed {
            self.handed -= 1;
        }
        Some(publish)
    }
}

/// An upper bound of the packet's size in bytes: fixed header, topic and its length, packet id, empty properties.
pub(crate) fn packet_size(publish: &Publish) -> u64 {
    const HEADERS: usize = 5 + 2 + 2 + 1;
    u64::try_from(HEADERS + publish.topic.len() + publish.payload.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DEFAULT_MAX_PACKET, Retain};

    fn message(payload: &[u8]) -> Publish {
        Publish::new("t", payload, Retain::No)
    }

    fn push(queue: &mut Queue, payload: &[u8]) -> PublishId {
        queue.push(message(payload), DEFAULT_MAX_PACKET).unwrap()
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_in_order() {
        let mut queue = Queue::default();
        let ids = [b"1", b"2", b"3"].map(|payload| push(&mut queue, payload));
        queue.hand_over();
        queue.hand_over();
        queue.remove(ids[1]);
        assert_eq!(queue.next().map(|entry| entry.0), Some(ids[2]));
        queue.rewind();
        assert_eq!(queue.next().map(|entry| entry.0), Some(ids[0]));
    }

    #[test]
    fn it_is_bounded_by_number_and_by_bytes() {
        let mut queue = Queue::default();
        for _ in 0..MAX_QUEUED {
            push(&mut queue, b"");
        }
        assert_eq!(queue.push(message(b""), DEFAULT_MAX_PACKET), Err(PublishError::Full));

        let mut queue = Queue::default();
        let large = vec![0; MAX_QUEUED_BYTES / 64];
        let first = push(&mut queue, &large);
        for _ in 1..64 {
            push(&mut queue, &large);
        }
        assert_eq!(queue.push(message(b"x"), DEFAULT_MAX_PACKET), Err(PublishError::Full));
        queue.remove(first);
        push(&mut queue, b"x");
    }

    #[test]
    fn what_could_never_be_sent_is_not_queued() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(message(&[0; 100]), 100), Err(PublishError::TooLarge));
        let wildcard = Publish::new("a/#", *b"", Retain::No);
        assert_eq!(queue.push(wildcard, 100), Err(PublishError::Topic));
        assert!(queue.next().is_none());
    }

    #[test]
    fn what_was_taken_back_is_not_sent_and_makes_room() {
        let mut queue = Queue::default();
        let half = vec![0; MAX_QUEUED_BYTES / 2];
        for _ in 0..2 {
            queue.push(message(&half), u32::MAX).unwrap();
        }
        queue.hand_over();
        assert_eq!(queue.push(message(&half), u32::MAX), Err(PublishError::Full));
        queue.clear();
        assert!(queue.next().is_none());
        let id = queue.push(message(&half), u32::MAX).unwrap();
        assert_eq!(queue.next().map(|(next, _)| *next), Some(id));
    }
}
