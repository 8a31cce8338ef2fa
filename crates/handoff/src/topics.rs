//! Where messages go: `valetkey/v1/{agent}/…`, with thumbprints for names.

use crate::invite::InviteId;
use crate::keys::Thumbprint;

const ROOT: &str = "valetkey/v1";

/// The topics of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    agent: Thumbprint,
}

/// What a topic of this agent means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// From this device to the agent.
    In(Thumbprint),
    /// From the agent to this device.
    Out(Thumbprint),
    /// From whoever holds this invite to the agent.
    Enroll(InviteId),
    /// Whether the agent or a device is connected. Retained and unsigned: a hint.
    Presence(Thumbprint),
}

/// What stands in a presence topic. Unsigned, so it is shown, never acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Online,
    Offline,
}

impl Topics {
    pub fn new(agent: Thumbprint) -> Self {
        Self { agent }
    }

    pub fn agent(&self) -> &Thumbprint {
        &self.agent
    }

    /// `…/in/{device}`: the device writes, the agent reads.
    pub fn inbox(&self, device: &Thumbprint) -> String {
        format!("{ROOT}/{}/in/{device}", self.agent)
    }

    /// `…/out/{device}`: the agent writes, the device reads.
    pub fn outbox(&self, device: &Thumbprint) -> String {
        format!("{ROOT}/{}/out/{device}", self.agent)
    }

    /// `…/enroll/{invite}`: the holder of the invite writes, the agent reads.
    pub fn enroll(&self, invite: &InviteId) -> String {
        format!("{ROOT}/{}/enroll/{invite}", self.agent)
    }

    /// `…/presence/{who}`: the agent's, or a device's.
    pub fn presence(&self, who: &Thumbprint) -> String {
        format!("{ROOT}/{}/presence/{who}", self.agent)
    }

    /// The filter for every device's inbox.
    pub fn all_inboxes(&self) -> String {
        format!("{ROOT}/{}/in/+", self.agent)
    }

    /// The filter for every invite.
    pub fn all_enrolls(&self) -> String {
        format!("{ROOT}/{}/enroll/+", self.agent)
    }

    /// The filter for everybody's presence.
    pub fn all_presences(&self) -> String {
        format!("{ROOT}/{}/presence/+", self.agent)
    }

    /// What a received topic means; `None` if it is not one of this agent's. Brokers and clients have
    /// delivered empty and foreign topics.
    pub fn parse(&self, topic: &str) -> Option<Topic> {
        let rest = topic
            .strip_prefix(ROOT)?
            .strip_prefix('/')?
            .strip_prefix(self.agent.as_str())?
            .strip_prefix('/')?;
        let (direction, name) = rest.split_once('/')?;
        match direction {
            "in" => Some(Topic::In(name.parse().ok()?)),
            "out" => Some(Topic::Out(name.parse().ok()?)),
            "enroll" => Some(Topic::Enroll(name.parse().ok()?)),
            "presence" => Some(Topic::Presence(name.parse().ok()?)),
            _ => None,
        }
    }
}

impl Presence {
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Online => b"online",
            Self::Offline => b"offline",
        }
    }

    pub fn parse(payload: &[u8]) -> Option<Self> {
        [Self::Online, Self::Offline].into_iter().find(|presence| presence.as_bytes() == payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invite::InviteSecret;
    use crate::keys::Keys;

    #[test]
    fn every_topic_is_read_back_as_what_it_was_made_of() {
        let (agent, device) = (Keys::generate().thumbprint(), Keys::generate().thumbprint());
        let invite = InviteSecret::generate().id();
        let topics = Topics::new(agent.clone());

        assert_eq!(topics.inbox(&device), format!("valetkey/v1/{agent}/in/{device}"));
        assert_eq!(topics.parse(&topics.inbox(&device)), Some(Topic::In(device.clone())));
        assert_eq!(topics.parse(&topics.outbox(&device)), Some(Topic::Out(device.clone())));
        assert_eq!(topics.parse(&topics.enroll(&invite)), Some(Topic::Enroll(invite)));
        assert_eq!(topics.parse(&topics.presence(&device)), Some(Topic::Presence(device)));
    }

    #[test]
    fn foreign_empty_and_made_up_topics_mean_nothing() {
        let (agent, device) = (Keys::generate().thumbprint(), Keys::generate().thumbprint());
        let topics = Topics::new(agent.clone());
        for topic in [
            String::new(),
            "#".to_owned(),
            topics.all_inboxes(),
            topics.inbox(&device).to_uppercase(),
            format!("/{}", topics.inbox(&device)),
            format!("{}/", topics.inbox(&device)),
            format!("{}/more", topics.inbox(&device)),
            format!("valetkey/v2/{agent}/in/{device}"),
            format!("valetkey/v1/{agent}/elsewhere/{device}"),
            format!("valetkey/v1/{agent}/in/short"),
            format!("valetkey/v1/{agent}/enroll/{device}"),
            Topics::new(device.clone()).inbox(&device),
        ] {
            assert_eq!(topics.parse(&topic), None, "{topic}");
        }
    }

    #[test]
    fn presence_is_one_of_two_words() {
        assert_eq!(Presence::parse(Presence::Online.as_bytes()), Some(Presence::Online));
        assert_eq!(Presence::parse(Presence::Offline.as_bytes()), Some(Presence::Offline));
        assert_eq!(Presence::parse(b"Online"), None);
        assert_eq!(Presence::parse(b""), None);
    }
}
