//! What the link needs of an MQTT client library, so that its two protocol versions are alike from outside.

use std::time::Duration;

use crate::plan::Plan;
use crate::problem::Problem;
use crate::settings::Publish;

pub(crate) mod v311;
pub(crate) mod v5;

/// One connection, from its first packet to its end. Dropping it closes the socket.
pub(crate) trait Session: Send + Sized + 'static {
    type Requests: Requests;

    /// Nothing is sent before the first poll. `proxy` leads to the broker.
    fn open(plan: &Plan, proxy: Option<rumqttc::Proxy>) -> (Self::Requests, Self);

    /// Moves the connection on. It must not be cancelled and then polled again: a packet could be lost.
    ///
    /// The library gives a connection up when one ping was not answered before the next is due. On a slow line the ping waits
    /// behind our own data, so that is turned off: a connection is dead when nothing at all is heard on it.
    fn poll(&mut self) -> impl Future<Output = Result<Signal, Problem>> + Send;
}

/// Puts packets into the connection's channel; `false` when it is full.
pub(crate) trait Requests: Send + Sync {
    fn subscribe(&self, filters: &[String]) -> bool;
    fn publish(&self, publish: &Publish) -> bool;
    fn acknowledge(&self, packet: u16) -> bool;
    fn disconnect(&self) -> bool;
}

/// What happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Connected {
        session_present: bool,
        /// Unacknowledged publishes the broker takes at once.
        receive_maximum: Option<u16>,
        /// The largest packet the broker takes.
        max_packet: Option<u32>,
        /// As the broker wants it.
        keep_alive: Duration,
    },
    /// One entry for each filter, in order: whether it was granted.
    Subscribed {
        granted: Vec<bool>,
    },
    Message {
        topic: String,
        payload: Vec<u8>,
        retained: bool,
        packet: u16,
    },
    /// The next publish, in the order they were requested, went out under this packet id.
    Sent {
        packet: u16,
    },
    Acknowledged {
        packet: u16,
        accepted: bool,
    },
    Disconnected,
    /// Any other packet from the broker: it is alive.
    Heard,
    /// Any other packet to the broker: no proof of anything.
    Wrote,
}

impl Signal {
    /// Whether the broker itself was heard.
    pub(crate) fn is_from_broker(&self) -> bool {
        !matches!(self, Self::Sent { .. } | Self::Disconnected | Self::Wrote)
    }
}
