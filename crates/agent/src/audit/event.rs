//! What is worth a line in the audit. No event has a field that could hold a token, a code, a key or a mail.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use valetkey_handoff::{InviteId, Label, Thumbprint};

use crate::health::Health;
use crate::registry::Enrolment;

/// Who asks for a token or a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "via", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Caller {
    /// The program that has this crate in it.
    Library,
    /// A command that ran without a daemon.
    Command,
    /// A process on this machine, as the kernel names it. The pid can belong to another process by now.
    Socket {
        uid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
}

/// Long enough for every address there is; what a device says of itself is cut to it.
const MAX_TEXT: usize = 320;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The first line of all.
    AuditBegun,
    InviteMade {
        invite: InviteId,
        email: Option<String>,
        capabilities: Vec<String>,
        expires_at: Timestamp,
    },
    /// Somebody has agreed to it there and its secret has come back. A link that is only looked at tells nobody.
    InviteOpened {
        invite: InviteId,
        device: Thumbprint,
    },
    InviteUsed {
        invite: InviteId,
        device: Thumbprint,
    },
    InviteExpired {
        invite: InviteId,
        expires_at: Option<Timestamp>,
    },
    DeviceEnrolled {
        device: Thumbprint,
        name: Label,
        invite: InviteId,
    },
    /// It held a real invite, and came too late.
    DeviceRefused {
        device: Thumbprint,
        invite: InviteId,
        reason: &'static str,
    },
    DeviceRemoved {
        device: Thumbprint,
        name: Label,
    },
    /// Stored, and about to be tried.
    HandoffAccepted {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        username: String,
        device: Thumbprint,
        #[serde(rename = "gen")]
        generation: u64,
    },
    /// A known device's message was not taken, or its sign-in did not work when it was first tried.
    HandoffRefused {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        device: Thumbprint,
        #[serde(rename = "gen")]
        generation: u64,
        reason: String,
    },
    /// A message that nobody answers for. `digest` is in the name of the file in `quarantine/`.
    MessageRefused {
        reason: String,
        digest: String,
    },
    /// More such messages than are listed one by one.
    MoreMessagesRefused {
        count: u64,
    },
    /// More of this device's messages were not taken than are listed one by one.
    MoreHandoffsRefused {
        device: Thumbprint,
        count: u64,
    },
    /// More devices came with this invite and were refused than are listed one by one.
    MoreDevicesRefused {
        invite: InviteId,
        count: u64,
    },
    AccountRemoved {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        /// The device that asked; `None`: the operator.
        device: Option<Thumbprint>,
    },
    Refreshed {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        resource: Resource,
    },
    RefreshFailed {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        reason: String,
    },
    HealthChanged {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        from: Health,
        to: Health,
        reason: Option<String>,
    },
    TokenServed {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        resource: Resource,
        /// Those of the account that the token is for.
        capabilities: Vec<&'static str>,
        caller: Caller,
    },
    TokenRefused {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        resource: Resource,
        caller: Caller,
        code: &'static str,
    },
    Exported {
        #[serde(serialize_with = "as_text")]
        account: AccountId,
        caller: Caller,
    },
    /// The SHA-256 of the configuration in effect, and of the one before.
    ConfigurationChanged {
        digest: String,
        before: Option<String>,
    },
    /// The vault is sealed from now on.
    VaultSealed,
    VaultUnsealed,
    VaultKeyChanged,
    /// A crash left half a line. It is in `quarantine/` under this name.
    TornLineSetAside {
        set_aside_as: String,
        bytes: usize,
    },
    /// Found at a start: these lines had been on disk and are not there.
    LinesLost {
        from: u64,
        to: u64,
    },
    /// Found at a start: this line had been on disk and is another one now.
    LineAltered {
        altered: u64,
    },
    /// Found at a start: what remembers the end of the audit was missing or damaged.
    HeadLost,
    /// The disk refused for so long that these could not be kept either.
    EventsMissed {
        count: u64,
    },
    /// The oldest files went to make room; the audit begins with this line now.
    Trimmed {
        first: u64,
    },
}

impl Event {
    /// A device that comes again because its answer was lost makes none.
    pub(crate) fn of_enrolment(invite: &InviteId, device: &Thumbprint, enrolment: &Enrolment) -> Vec<Self> {
        let (invite, device) = (invite.clone(), device.clone());
        let opened = Self::InviteOpened { invite: invite.clone(), device: device.clone() };
        match enrolment {
            Enrolment::Paired(paired) => vec![
                opened,
                Self::InviteUsed { invite: invite.clone(), device: device.clone() },
                Self::DeviceEnrolled { device, name: paired.name.clone(), invite },
            ],
            Enrolment::Refused(why) => {
                vec![opened, Self::DeviceRefused { device, invite, reason: why.code() }]
            }
            Enrolment::Again(_) => Vec::new(),
        }
    }

    /// Whether the line is to be on disk within milliseconds. The others follow within [`super::SYNC_WITHIN`]: they come
    /// often, or say what the vault knows as well, or come from anybody.
    pub(crate) fn is_urgent(&self) -> bool {
        !matches!(
            self,
            Self::TokenServed { .. }
                | Self::TokenRefused { .. }
                | Self::Refreshed { .. }
                | Self::RefreshFailed { .. }
                | Self::HealthChanged { .. }
                | Self::MessageRefused { .. }
                | Self::MoreMessagesRefused { .. }
                | Self::MoreHandoffsRefused { .. }
                | Self::MoreDevicesRefused { .. }
        )
    }
}

/// Text from a device, cut.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn as_text<S: Serializer>(account: &AccountId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(account)
}
