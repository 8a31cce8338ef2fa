//! Refusals that are listed one by one, and those that are only counted: whoever is refused can be refused again and again.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use valetkey_handoff::{InviteId, Thumbprint};

use super::Event;

/// Lines of one minute for all strangers, for each paired device, and for each invite. Anybody who reaches the broker can send
/// messages, the broker can repeat what a device once sent, and either could otherwise push everything else out of the audit.
pub(super) const LISTED_A_MINUTE: u32 = 20;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Of whose messages one was refused, where that is known. There are as many as the agent has devices and invites.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Device(Thumbprint),
    /// Whoever holds it can call himself by as many devices as he likes.
    Invite(InviteId),
}

/// What was refused in this minute.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    strangers: Minute,
    known: HashMap<Known, Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    since: Option<Timestamp>,
    listed: u32,
    unlisted: u64,
}

impl Refusals {
    /// Whether this one is listed, and the line about those before it that were not.
    pub(super) fn one_more(&mut self, of: Option<&Known>, now: Timestamp) -> (Option<Event>, bool) {
        let minute = match of {
            None => &mut self.strangers,
            Some(known) => self.known.entry(known.clone()).or_default(),
        };
        let (before, list) = minute.one_more(now);
        (more(of, before), list)
    }

    /// The lines about all that were not listed so far.
    pub(super) fn end(&mut self) -> Vec<Event> {
        let strangers = more(None, std::mem::take(&mut self.strangers.unlisted));
        let known = self.known.drain().filter_map(|(known, minute)| more(Some(&known), minute.unlisted));
        strangers.into_iter().chain(known).collect()
    }
}

fn more(of: Option<&Known>, count: u64) -> Option<Event> {
    (count > 0).then(|| match of.cloned() {
        None => Event::MoreMessagesRefused { count },
        Some(Known::Device(device)) => Event::MoreHandoffsRefused { device, count },
        Some(Known::Invite(invite)) => Event::MoreDevicesRefused { invite, count },
    })
}

impl Minute {
    /// How many were counted in a minute that is over, and whether this one is listed.
    fn one_more(&mut self, now: Timestamp) -> (u64, bool) {
        let this_minute = self.since.is_some_and(|since| since <= now && now.duration_since(since) < MINUTE);
        let before = if this_minute { 0 } else { std::mem::take(&mut self.unlisted) };
        if !this_minute {
            (self.since, self.listed) = (Some(now), 0);
        }
        let list = self.listed < LISTED_A_MINUTE;
        if list {
            self.listed += 1;
        } else {
            self.unlisted += 1;
        }
        (before, list)
    }
}

#[cfg(test)]
mod tests {
    use valetkey_handoff::{InviteSecret, Keys};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_262_400 + second).unwrap()
    }

    #[test]
    fn nobody_who_is_refused_without_end_pushes_everything_else_out() {
        let most = u64::from(LISTED_A_MINUTE);
        let device = Keys::generate().thumbprint();
        let invite = InviteSecret::generate().id();
        let counted: [(Option<Known>, Event); 3] = [
            (None, Event::MoreMessagesRefused { count: 1000 - most }),
            (Some(Known::Device(device.clone())), Event::MoreHandoffsRefused { device, count: 1000 - most }),
            (Some(Known::Invite(invite.clone())), Event::MoreDevicesRefused { invite, count: 1000 - most }),
        ];
        let mut refusals = Refusals::default();
        for (of, more) in counted {
            let of = of.as_ref();
            let listed = (0..1000).filter(|_| refusals.one_more(of, at(0)).1).count();
            assert_eq!(listed as u64, most);
            assert_eq!(refusals.one_more(of, at(60)), (Some(more), true));
            assert_eq!(refusals.one_more(of, at(61)), (None, true));
        }
        let another = Known::Device(Keys::generate().thumbprint());
        assert_eq!(refusals.one_more(Some(&another), at(0)), (None, true), "each for itself");
    }
}
