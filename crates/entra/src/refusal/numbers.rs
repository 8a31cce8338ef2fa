//! What the AADSTS numbers mean, where they say more than the protocol's own error codes.
//!
//! Source: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>. Microsoft may add numbers at any
//! time, and asks programs to decide on `error` and `suberror`; so one that is missing here is no fault.

use super::Reason;

/// The reason a number stands for, if it is one of those known.
pub(super) fn reason(number: u32) -> Option<Reason> {
    Some(match number {
        50_196 => Reason::RequestLoop,

        50_072 | 50_074 | 50_076 | 50_078 | 50_079 => Reason::Mfa,
        50_132 | 50_133 => Reason::PasswordChanged,
        50_055 => Reason::PasswordExpired,
        50_173 | 70_000 => Reason::Revoked,
        50_089 | 70_008 | 700_082 | 700_084 => Reason::Expired,
        70_043 => Reason::SignInFrequency,
        65_001 => Reason::Consent,
        65_004 => Reason::Declined,
        50_085 | 700_020 => Reason::InteractionRequired,

        53_000 | 53_001 | 50_097 => Reason::Device,
        53_002 | 53_003 | 530_032 => Reason::ConditionalAccess,
        1_002 | 1_008 => Reason::TokenProtection,
        50_105 => Reason::NotAssigned,
        50_057 => Reason::UserBlocked,
        90_094 => Reason::AdminConsent,
        650_052 | 500_011 => Reason::ServiceNotEnabled,

        7_000_215 | 7_000_222 => Reason::ClientSecret,
        50_194 | 700_016 | 7_000_218 | 700_025 | 9_001_023 | 9_002_332 | 65_002 => {
            Reason::ClientMisconfigured
        }
        650_057 | 70_011 | 901_002 | 9_010_010 => Reason::Scope,

        90_055 => Reason::Throttled,
        50_033 | 50_087 | 90_006 | 90_012 | 90_024 | 90_033 | 70_012 | 40_010 => Reason::Unavailable,
        _ => return None,
    })
}
