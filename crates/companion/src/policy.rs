//! What an organisation allows on its computers: one small TOML file that an administrator puts in place. Asked before an
//! invite is shown, so that nobody is invited to agree to what is not allowed.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use url::Url;
use valetkey_handoff::{Invite, Terms, Thumbprint};

use crate::pairing::{Pairing, host};

/// Where an administrator puts the organisation's rules on this system; only here may there be none.
pub fn policy_file() -> Option<PathBuf> {
    let path = if cfg!(windows) {
        PathBuf::from(std::env::var_os("ProgramData")?).join("Valet Key\\policy.toml")
    } else if cfg!(target_os = "macos") {
        PathBuf::from("/Library/Application Support/Valet Key/policy.toml")
    } else {
        PathBuf::from("/etc/valet-key/policy.toml")
    };
    Some(path)
}

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
    /// The file's rules. [`policy_file`] need not be there, and then rules nothing; a file that was named must be.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        match std::fs::read_to_string(path) {
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && policy_file().as_deref() == Some(path) =>
            {
                Ok(Self::default())
            }
            text => Self::parse(&text?),
        }
    }

    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(toml::from_str(text)?)
    }

    /// The rules of `file`, or none where the companion was given no file.
    pub(crate) fn of(file: Option<&Path>) -> Result<Self, PolicyError> {
        file.map_or_else(|| Ok(Self::default()), Self::read)
    }

    pub fn allows(&self, invite: &Invite) -> bool {
        self.allow(&invite.agent.thumbprint(), &invite.broker.url, &invite.terms)
    }

    /// Whether a pairing that was made before may go on.
    pub fn allows_pairing(&self, pairing: &Pairing) -> bool {
        self.allow(&pairing.agent.thumbprint(), &pairing.broker_url, &pairing.terms)
    }

    fn allow(&self, agent: &Thumbprint, broker: &Url, terms: &Terms) -> bool {
        fn one_of<T: PartialEq>(rule: Option<&Vec<T>>, value: &T) -> bool {
            rule.is_none_or(|allowed| allowed.contains(value))
        }
        one_of(self.agents.as_ref(), agent)
            && one_of(self.brokers.as_ref(), &host(broker.as_str()))
            && one_of(self.logins.as_ref(), &host(&terms.authority))
            && one_of(self.client_ids.as_ref(), &terms.client_id)
    }
}
