//! What an organisation allows on its computers: one small TOML file that an administrator puts in place. Asked before an
//! invite is shown, so that nobody is invited to agree to what is not allowed.

use std::path::Path;

use serde::Deserialize;
use thiserror::Error;
use valetkey_handoff::{Invite, Thumbprint};

use crate::pairing::host;

/// Each list that is given is the whole of what is allowed; one that is not given allows everything.
///
/// ```toml
/// agents = ["<thumbprint as `valetkey-agent status` prints it>"]
/// brokers = ["mqtt.contoso.com"]
/// logins = ["login.microsoftonline.com"]
/// client_ids = ["11111111-1111-4111-8111-111111111111"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    agents: Option<Vec<Thumbprint>>,
    brokers: Option<Vec<String>>,
    logins: Option<Vec<String>>,
    client_ids: Option<Vec<String>>,
}

#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("the policy file cannot be read")]
    Io(#[from] std::io::Error),
    /// Fails closed: a mistyped rule must not mean that there is none.
    #[error("the policy file is not what was expected: {0}")]
    Malformed(#[from] toml::de::Error),
}

impl Policy {
    /// The file's rules; a file that is not there rules nothing.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            text => Ok(toml::from_str(&text?)?),
        }
    }

    pub fn allows(&self, invite: &Invite) -> bool {
        fn one_of<T: PartialEq>(rule: Option<&Vec<T>>, value: &T) -> bool {
            rule.is_none_or(|allowed| allowed.contains(value))
        }
        one_of(self.agents.as_ref(), &invite.agent.thumbprint())
            && one_of(self.brokers.as_ref(), &host(invite.broker.url.as_str()))
            && one_of(self.logins.as_ref(), &host(&invite.terms.authority))
            && one_of(self.client_ids.as_ref(), &invite.terms.client_id)
    }
}
