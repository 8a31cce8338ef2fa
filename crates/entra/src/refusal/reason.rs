//! The closed set of reasons, and the class that each belongs to. A reason travels as its code; a person reads words
//! that somebody else makes of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who can do something about it. Each class has one behaviour, whatever the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nobody needs to: try again later, and keep what is there.
    Transient,
    /// The person signs in again.
    Reconnect,
    /// An administrator of the organisation allows something.
    Administrator,
    /// Whoever runs this program corrects its configuration.
    Operator,
    /// The account has no licence for what was asked. Trying again changes nothing.
    Licence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason known to this version")]
pub struct UnknownReason;

macro_rules! reasons {
    ($($(#[$doc:meta])* $class:ident $variant:ident = $code:literal,)+) => {
        /// Why something was refused. As text and in serde it is a short code, see [`Reason::as_str`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }

            /// The code that travels and is logged; it never changes once released.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }
    };
}

reasons! {
    /// Asked too often.
    Transient Throttled = "throttled",
    /// The service is out of order, or something that is not the service answered in its place.
    Transient Unavailable = "unavailable",
    /// The person has not finished on the other device yet.
    Transient AuthorizationPending = "authorization-pending",
    /// The same, and we ask too often.
    Transient SlowDown = "slow-down",

    /// `invalid_grant` and nothing more. It may be that another process has used the refresh token: read the store
    /// again, and use what is there if it has changed; otherwise try once more; only then is the sign-in over.
    Reconnect InvalidGrant = "invalid-grant",
    /// The sign-in has been inactive for too long, or has reached its end.
    Reconnect Expired = "expired",
    /// Ended on purpose: by the person, by an administrator, or because it was presented twice.
    Reconnect Revoked = "revoked",
    Reconnect PasswordChanged = "password-changed",
    Reconnect PasswordExpired = "password-expired",
    /// A second factor is asked for.
    Reconnect Mfa = "mfa",
    /// The organisation wants people to sign in every so many hours.
    Reconnect SignInFrequency = "sign-in-frequency",
    /// The person has not consented to something asked for.
    Reconnect Consent = "consent",
    /// The person said no, or went back.
    Reconnect Declined = "declined",
    /// Nobody finished the sign-in in time.
    Reconnect TimedOut = "timed-out",
    /// The refresh token belongs to another client id; the next sign-in yields one of the right client.
    Reconnect ClientMismatch = "client-mismatch",
    /// A resource asks for more than the token shows (a claims challenge).
    Reconnect ClaimsChallenge = "claims-challenge",
    /// A resource does not take the token. To be believed only after one forced refresh.
    Reconnect Unauthorized = "unauthorized",
    /// A person is needed, for a reason not given.
    Reconnect InteractionRequired = "interaction-required",

    Administrator ConditionalAccess = "conditional-access",
    /// The organisation admits known devices only.
    Administrator Device = "device-not-allowed",
    /// The organisation binds tokens to the device they were made on, so that one can never be handed over.
    Administrator TokenProtection = "token-protection",
    Administrator AdminConsent = "admin-consent",
    Administrator UserBlocked = "user-blocked",
    /// The application admits assigned people only, and this is not one of them.
    Administrator NotAssigned = "not-assigned",
    /// The organisation does not have the service asked for.
    Administrator ServiceNotEnabled = "service-not-enabled",
    /// A resource says that this account may not do this.
    Administrator Forbidden = "forbidden",

    Operator ClientMisconfigured = "client-misconfigured",
    /// A client secret that is wrong or has expired.
    Operator ClientSecret = "client-secret",
    /// A scope or resource that does not exist, or that the registration does not list.
    Operator Scope = "scope",
    /// The answer holds permissions that were not asked for: what this client id has been allowed besides.
    Operator GrantedMore = "granted-more",
    /// The provider found us asking in a loop. Stop, and look why.
    Operator RequestLoop = "request-loop",
    /// An error that this version does not know.
    Operator Unrecognised = "unrecognised",

    Licence NoLicence = "no-licence",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == code).ok_or(UnknownReason)
    }
}

impl TryFrom<String> for Reason {
    type Error = UnknownReason;

    fn try_from(code: String) -> Result<Self, UnknownReason> {
        code.parse()
    }
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_that_reads_back() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), *reason);
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{reason}");
        }
        assert_eq!("anything else".parse::<Reason>(), Err(UnknownReason));
    }
}
