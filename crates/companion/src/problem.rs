//! Everything that can go wrong where a person sees it, as closed codes. Words are in [`crate::texts`].

use thiserror::Error;

/// What ended an attempt. `Display` is the code, for logs and reports; it holds nothing personal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error(transparent)]
    Invite(#[from] InviteProblem),
    #[error(transparent)]
    Keys(#[from] KeysProblem),
    #[error(transparent)]
    SignIn(#[from] SignInProblem),
    /// The assistant opened the handoff and did not take it; its reason code.
    #[error("handoff-refused-{0}")]
    HandoffRefused(String),
    /// This computer could not save what it must save before sending.
    #[error("cannot-save")]
    CannotSave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InviteProblem {
    #[error("invite-unreadable")]
    Unreadable,
    #[error("invite-expired")]
    Expired,
    /// The organisation's policy file does not allow this assistant, broker or registration.
    #[error("invite-forbidden")]
    Forbidden,
    /// It wants a sign-in that is not Microsoft's, and no organisation has named that place.
    #[error("invite-elsewhere")]
    Elsewhere,
    /// The policy file names certificates for the broker, and they cannot be used.
    #[error("invite-certificates")]
    Certificates,
    /// The agent has given this invite to another device, or no longer knows it.
    #[error("invite-used")]
    Used,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeysProblem {
    /// The keyring did not open in time. The keys in it are fine.
    #[error("keyring-locked")]
    Locked,
    /// No keyring on this computer.
    #[error("keyring-unavailable")]
    Unavailable,
    /// The entry is there and is not ours, or the pairing file is damaged.
    #[error("keys-unreadable")]
    Unreadable,
    /// The organisation's policy file does not allow the assistant of the pairing; the keys are not even asked for.
    #[error("pairing-forbidden")]
    Forbidden,
    /// The certificates that were named for the broker cannot be used, and there is no connection without them.
    #[error("broker-certificates")]
    Certificates,
    /// Another companion works with the same data directory; who, where that can be read.
    #[error("in-use")]
    InUse(Option<Holder>),
}

impl KeysProblem {
    /// The keys are well, as far as known, and can be had later: who makes new ones now loses the pairing that they stand for.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Locked | Self::Unavailable | Self::Certificates | Self::InUse(_) => true,
            Self::Unreadable | Self::Forbidden => false,
        }
    }
}

/// The companion that holds a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub program: Program,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    App,
    Terminal,
}

/// Why a sign-in ended without a handoff. Cancelling, and saying no on the consent page, are not among them: they are not
/// errors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignInProblem {
    #[error("timed-out")]
    TimedOut,
    /// No local port for the browser to come back to; which program has the one that was asked for, where that is known.
    #[error("port-busy")]
    PortBusy { by: Option<String> },
    #[error("no-network")]
    NoNetwork,
    /// Something in between shows a certificate that this computer does not trust, or one whose time is not now.
    #[error("not-secure")]
    NotSecure { expired: bool },
    /// Microsoft answers, but not now.
    #[error("provider-unavailable")]
    ProviderUnavailable,
    /// An answer that no well-behaved provider gives, before any sign-in was believed.
    #[error("provider-malformed")]
    ProviderMalformed,
    #[error("untrusted-{0}")]
    Untrusted(Distrust),
    /// The proof of sign-in is from the future or already over: this computer's clock is the likely cause.
    #[error("clock-wrong")]
    ClockWrong { behind_minutes: Option<i64> },
    #[error("wrong-tenant")]
    WrongTenant,
    #[error("wrong-account")]
    WrongAccount { signed_in_as: String },
    /// The address differs, and the mailbox could not be asked whose it is.
    #[error("person-unconfirmed")]
    PersonUnconfirmed,
    /// Microsoft gave access for an hour only.
    #[error("no-lasting-access")]
    NoLastingAccess,
    #[error("access-missing")]
    AccessMissing { permissions: Vec<String> },
    /// Microsoft gave more than was asked for; the permissions in its own words.
    #[error("access-exceeded")]
    AccessExceeded { permissions: Vec<String> },
    /// An administrator must allow something first; the reason code.
    #[error("administrator-{reason}")]
    Administrator { reason: String, aadsts: Vec<u32> },
    /// The registration of the assistant at Microsoft is wrong; whoever runs it must mend it.
    #[error("operator-{reason}")]
    Operator { reason: String, aadsts: Vec<u32> },
    #[error("no-licence")]
    NoLicence,
    /// Microsoft asks the person for something more; the reason code.
    #[error("refused-{0}")]
    Refused(String),
}

/// What about the proof of sign-in was not right. One code each, because support must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Distrust {
    #[error("signature")]
    Signature,
    #[error("algorithm")]
    Algorithm,
    #[error("audience")]
    Audience,
    #[error("issuer")]
    Issuer,
    #[error("nonce")]
    Nonce,
    #[error("claims")]
    Claims,
    /// The browser's answer names another provider (RFC 9207).
    #[error("mixed-up")]
    MixedUp,
}
