//! How an account is, and the only place where that changes.
//!
//! It decides from outcomes; it asks nobody and sends nothing. Whoever tells the companion listens to the updates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use valetkey_entra::account::AccountId;
use valetkey_handoff::Thumbprint;

use crate::account_file::Verdict;
use crate::audit::{Audit, Event, Known};
use crate::progress::Settled;

/// Updates a slow listener may be behind before it is told that it missed some.
const UPDATES_KEPT: usize = 256;

/// The health of an account, in the order of how much it asks of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The last refresh worked.
    Connected,
    /// Microsoft could not be asked, or a new sign-in has not been tried yet. Nobody needs to do anything.
    Retrying,
    /// The person has to sign in again.
    ReconnectNeeded,
    /// An administrator or the operator has to change something.
    Blocked,
}

impl Health {
    /// All of them, for a gauge with one line each.
    pub const ALL: [Self; 4] = [Self::Connected, Self::Retrying, Self::ReconnectNeeded, Self::Blocked];

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Retrying => "retrying",
            Self::ReconnectNeeded => "reconnect_needed",
            Self::Blocked => "blocked",
        }
    }
}

/// The health with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub health: Health,
    /// A code, never a text of the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A claims challenge that the next sign-in has to carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
    /// Whose turn it is when blocked: `administrator` or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
    pub since: Timestamp,
}

/// Who has to act on a blocked account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    /// The organisation's administrator.
    Administrator,
    /// Whoever runs this agent: its configuration is wrong.
    Operator,
}

/// What an attempt with an account came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Worked,
    Transient { reason: String },
    NeedsPerson { reason: String, claims: Option<String> },
    Blocked { by: BlockedBy, reason: String },
}

impl Outcome {
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Worked => None,
            Self::Transient { reason } | Self::NeedsPerson { reason, .. } | Self::Blocked { reason, .. } => {
                Some(reason)
            }
        }
    }
}

impl Condition {
    /// A sign-in that was just stored and has not been tried.
    pub fn untried(now: Timestamp) -> Self {
        Self { health: Health::Retrying, reason: None, claims: None, blocked_by: None, since: now }
    }

    /// The condition after `outcome`, or `None` if it stays. While retrying, a new reason is no news.
    pub fn after(&self, outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let (health, reason, claims, blocked_by) = match outcome {
            Outcome::Worked => (Health::Connected, None, None, None),
            // A lapse does not end because the network went away too.
            Outcome::Transient { .. } if self.health != Health::Connected => return None,
            Outcome::Transient { reason } => (Health::Retrying, Some(reason.clone()), None, None),
            Outcome::NeedsPerson { reason, claims } => {
                (Health::ReconnectNeeded, Some(reason.clone()), claims.clone(), None)
            }
            Outcome::Blocked { by, reason } => (Health::Blocked, Some(reason.clone()), None, Some(*by)),
        };
        if (health, &reason, &claims, blocked_by)
            == (self.health, &self.reason, &self.claims, self.blocked_by)
        {
            return None;
        }
        let since = if health == self.health { self.since } else { now };
        Some(Self { health, reason, claims, blocked_by, since })
    }
}

/// A change of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthChange {
    pub account: AccountId,
    pub from: Health,
    pub to: Condition,
    /// The sign-in had worked before: the companion is told with an `auth.expired`. A new sign-in that fails at its
    /// first refresh is told by its receipt.
    pub lapsed: bool,
}

/// What a program that embeds the agent can listen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "update", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Update {
    /// A sign-in was stored. It is usable once a change to `connected` follows.
    Stored {
        account: AccountId,
    },
    HealthChanged(HealthChange),
    /// A stored sign-in has worked once, or never will.
    Settled(Settled),
    Removed {
        account: AccountId,
    },
    /// The connection to the broker came up or went down.
    Link(crate::status::LinkStatus),
    /// A device used an invite.
    Paired {
        device: Thumbprint,
    },
    /// A message was not taken; it is in quarantine if nobody answers for it.
    MessageRefused {
        reason: String,
    },
}

/// Announces changes: one log line, one count, one line in the audit, one update each.
#[derive(Debug)]
pub struct Announcer {
    updates: broadcast::Sender<Update>,
    changes: AtomicU64,
    audit: Option<Arc<Audit>>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self { updates: broadcast::Sender::new(UPDATES_KEPT), changes: AtomicU64::new(0), audit: None }
    }
}

impl Announcer {
    pub(crate) fn with(audit: Arc<Audit>) -> Self {
        Self { audit: Some(audit), ..Self::default() }
    }

    /// For the audit alone.
    pub(crate) fn record(&self, event: Event) {
        if let Some(audit) = &self.audit {
            audit.record(event);
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Update> {
        self.updates.subscribe()
    }

    /// How often any account's health has changed since the start.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, update: Update) {
        if let Update::HealthChanged(change) = &update {
            self.changes.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                account = %change.account,
                from = change.from.as_str(),
                to = change.to.health.as_str(),
                reason = change.to.reason.as_deref().unwrap_or("none"),
                "health of an account changed"
            );
            self.record(Event::HealthChanged {
                account: change.account,
                from: change.from,
                to: change.to.health,
                reason: change.to.reason.clone(),
            });
        }
        if let Update::Settled(settled) = &update
            && let Verdict::Refused { reason } = &settled.verdict
            && let Some(audit) = &self.audit
        {
            let device = settled.device.clone();
            let refused = Event::HandoffRefused {
                account: settled.account,
                device: device.clone(),
                generation: settled.generation,
                reason: reason.clone(),
            };
            audit.refused(&Known::Device(device), [refused]);
        }
        // Nobody listening is fine.
        let _ = self.updates.send(update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_262_400 + seconds).unwrap()
    }

    fn person(reason: &str) -> Outcome {
        Outcome::NeedsPerson { reason: reason.into(), claims: None }
    }

    fn connected() -> Condition {
        Condition::untried(at(0)).after(&Outcome::Worked, at(1)).unwrap()
    }

    #[test]
    fn the_same_outcome_again_is_no_change() {
        let lapsed = connected().after(&person("expired"), at(2)).unwrap();
        assert_eq!(lapsed.health, Health::ReconnectNeeded);
        assert_eq!(lapsed.after(&person("expired"), at(3)), None);
        assert_eq!(connected().after(&Outcome::Worked, at(3)), None);
    }

    /// Shows J8 (no network) for the decision.
    #[test]
    fn no_network_is_retrying_and_neither_makes_nor_ends_a_lapse() {
        let offline = Outcome::Transient { reason: "unavailable".into() };
        let retrying = connected().after(&offline, at(2)).unwrap();
        assert_eq!(retrying.health, Health::Retrying);
        assert_eq!(retrying.after(&Outcome::Transient { reason: "throttled".into() }, at(3)), None);
        let lapsed = connected().after(&person("revoked"), at(2)).unwrap();
        assert_eq!(lapsed.after(&offline, at(3)), None);
        assert_eq!(retrying.after(&Outcome::Worked, at(4)).unwrap().health, Health::Connected);
    }

    /// Shows of H11 the one log line with its reason.
    #[test]
    fn a_change_is_one_log_line_with_its_reason_one_count_and_one_update() {
        #[derive(Clone, Default)]
        struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let announcer = Announcer::default();
        let mut updates = announcer.subscribe();
        let account = AccountId { tid: uuid::Uuid::nil(), oid: uuid::Uuid::max() };
        let change = HealthChange {
            account,
            from: Health::Connected,
            to: connected().after(&person("sign-in-frequency"), at(2)).unwrap(),
            lapsed: true,
        };

        tracing::subscriber::with_default(subscriber, || {
            announcer.tell(Update::HealthChanged(change.clone()));
            announcer.tell(Update::Removed { account });
        });

        let lines = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        for part in [account.to_string().as_str(), "connected", "reconnect_needed", "sign-in-frequency"] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
        assert_eq!(announcer.changes(), 1);
        assert_eq!(updates.try_recv().unwrap(), Update::HealthChanged(change));
    }

    #[test]
    fn a_new_reason_is_a_change_that_began_when_the_health_did() {
        let lapsed = connected().after(&person("expired"), at(2)).unwrap();
        let again = lapsed.after(&person("mfa"), at(9)).unwrap();
        assert_eq!((again.reason.as_deref(), again.since), (Some("mfa"), at(2)));
    }
}
