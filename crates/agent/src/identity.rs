//! Who this agent is: its name and keys, made once and kept for good. Devices pin these keys.

use serde::{Deserialize, Serialize};
use valetkey_handoff::{Keys, Label, Sensitive};

use crate::state_dir::{StateDir, StateDirError};

pub(crate) const FILE: &str = "agent.json";
const FORMAT: u32 = 1;

/// The agent's own name and keys.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub name: Label,
    pub keys: Keys,
}

/// Why there is no identity. A new one is never made in the place of a damaged one: every device would have to be
/// paired again, and the operator may have a copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    #[error(transparent)]
    Dir(#[from] StateDirError),
    #[error(
        "agent.json holds this agent's keys and cannot be read; put a copy back, or move it away to begin anew"
    )]
    Damaged,
    #[error("agent.json has format {found}; this version reads up to {FORMAT}")]
    Newer { found: u32 },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    name: Label,
    /// The JSON of [`Keys::to_secret_json`], as a text.
    keys: Sensitive<String>,
}

impl Identity {
    /// Reads the identity, or makes one. A `name` that is given and differs is written down.
    pub(crate) fn open(dir: &StateDir, name: Option<&Label>) -> Result<Self, IdentityError> {
        let found = dir.read(FILE)?.map(|bytes| Self::parse(&bytes)).transpose()?;
        let identity = match (found, name) {
            (Some(found), Some(name)) if found.name != *name => Self { name: name.clone(), ..found },
            (Some(found), _) => return Ok(found),
            (None, name) => Self {
                name: name.cloned().unwrap_or_else(|| Label::tidy("Assistant")),
                keys: Keys::generate(),
            },
        };
        let stored =
            Stored { format: FORMAT, name: identity.name.clone(), keys: identity.keys.to_secret_json() };
        let bytes = serde_json::to_vec_pretty(&stored).map_err(|_| IdentityError::Damaged)?;
        dir.replace(FILE, &zeroize::Zeroizing::new(bytes))?;
        Ok(identity)
    }

    fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        #[derive(Deserialize)]
        struct Outer {
            format: u32,
        }
        let Outer { format } = serde_json::from_slice(bytes).map_err(|_| IdentityError::Damaged)?;
        if format > FORMAT {
            return Err(IdentityError::Newer { found: format });
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| IdentityError::Damaged)?;
        let keys = Keys::from_secret_json(stored.keys.expose()).map_err(|_| IdentityError::Damaged)?;
        Ok(Self { name: stored.name, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_made_once_kept_and_never_replaced_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let dir = StateDir::open(home.path().join("state")).unwrap();
        let first = Identity::open(&dir, Some(&Label::tidy("Workit"))).unwrap();
        let again = Identity::open(&dir, None).unwrap();
        assert_eq!((again.name.as_str(), again.keys.public()), ("Workit", first.keys.public()));
        let renamed = Identity::open(&dir, Some(&Label::tidy("Rocky"))).unwrap();
        assert_eq!((renamed.name.as_str(), renamed.keys.public()), ("Rocky", first.keys.public()));

        dir.replace(FILE, b"{").unwrap();
        assert!(matches!(Identity::open(&dir, None), Err(IdentityError::Damaged)));
        assert_eq!(dir.read(FILE).unwrap().unwrap().as_slice(), b"{");
    }
}
