//! What an incoming message is: verified under the pinned key of its topic, then opened, then told apart. Nothing is
//! changed here.

use jiff::Timestamp;
use valetkey_handoff::message::{AccessSet, AccountDisconnect, CacheUpdated};
use valetkey_handoff::{
    Enrolment, InviteId, Keys, OpenError, Opened, Thumbprint, ToAgent, Topic, Topics, open, open_enroll,
};

use crate::progress::Mark;
use crate::registry::{Device, Registry};

/// A message that is what it says, and what it asks for.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// With the message's name, for the answer.
    Hello(Device, uuid::Uuid),
    Cache(Device, Mark, Box<CacheUpdated>),
    Access(Device, Mark, AccessSet),
    Disconnect(Device, Mark, AccountDisconnect),
    Enrol(InviteId, Box<Enrolment>),
}

/// Why a message is set aside unanswered: nobody who may be answered has sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the topic is none of this agent's")]
    Topic,
    #[error("the device is not paired")]
    NotPaired(Thumbprint),
    #[error("the invite is not known")]
    UnknownInvite,
    #[error(transparent)]
    Message(#[from] OpenError),
}

/// Reads one message as it came from the broker.
pub(crate) fn read(
    topics: &Topics,
    registry: &Registry,
    keys: &Keys,
    topic: &str,
    bytes: &[u8],
    now: Timestamp,
) -> Result<Incoming, Refused> {
    match topics.parse(topic) {
        Some(Topic::In(id)) => {
            let device = registry.device(&id).ok_or(Refused::NotPaired(id))?;
            let opened = open::<ToAgent>(bytes, &device.keys, keys, now)?;
            Ok(sort(device, opened))
        }
        Some(Topic::Enroll(id)) => {
            let invited = registry.invited(&id).ok_or(Refused::UnknownInvite)?;
            // An enrolment carries its invite's expiry. Told apart from a wrong one by the registry, so that the
            // late device hears of it.
            let enrolment =
                open_enroll(bytes, &invited.secret, keys, now.min(just_before(invited.expires_at)))?;
            Ok(Incoming::Enrol(id, Box::new(enrolment)))
        }
        Some(Topic::Out(_) | Topic::Presence(_)) | None => Err(Refused::Topic),
    }
}

fn sort(device: Device, opened: Opened<ToAgent>) -> Incoming {
    let mark = Mark {
        device: device.id(),
        generation: opened.header.generation,
        digest: opened.digest,
        jti: opened.header.jti,
    };
    match opened.message {
        ToAgent::Hello(_) => Incoming::Hello(device, opened.header.jti),
        ToAgent::CacheUpdated(body) => Incoming::Cache(device, mark, Box::new(body)),
        ToAgent::AccessSet(body) => Incoming::Access(device, mark, body),
        ToAgent::AccountDisconnect(body) => Incoming::Disconnect(device, mark, body),
    }
}

fn just_before(at: Timestamp) -> Timestamp {
    at.saturating_sub(jiff::SignedDuration::from_secs(1)).unwrap_or(at)
}
