//! The facts of the pairing that are not secret, in one small file; and the two secrets, in one entry of the key store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability;
use valetkey_entra::cloud::Cloud;
use valetkey_entra::secret::Secret;
use valetkey_handoff::{BrokerAccess, Invite, Keys, PublicKeys, Sensitive, Terms, Thumbprint, Topics};

use crate::durable;
use crate::state::{Assistant, Lapse, Pinned};

const FILE: &str = "pairing.json";
const VERSION: u32 = 1;

#[derive(Debug, Error)]
pub enum PairingError {
    /// Not ours, of a newer version, readable by others, or cut short.
    #[error("the pairing file cannot be used")]
    Unusable,
    #[error("the pairing file cannot be read or written")]
    Io(#[from] std::io::Error),
}

/// Whom this computer is paired with, and how many sign-ins it has sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    v: u32,
    /// Whose keys belong to it; others in the key store are of another pairing.
    pub device: Thumbprint,
    pub agent: PublicKeys,
    pub name: String,
    pub broker_url: Url,
    pub broker_username: Option<String>,
    pub terms: Terms,
    /// Names the invite that it began with.
    #[serde(default)]
    pub invite: Option<String>,
    /// Whether the agent has confirmed the pairing.
    pub enrolled: bool,
    pub pinned: Option<PinnedAccount>,
    /// Counted up, durably, before anything is sealed that changes an account.
    generation: u64,
    /// The lapse that the person was notified of.
    pub notified: Option<NotifiedLapse>,
    /// The person has ended it. Whatever is left of it is removed, now or at the next start.
    #[serde(default)]
    pub leaving: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedAccount {
    pub id: AccountId,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedLapse {
    pub account: AccountId,
    pub generation: u64,
}

/// The pairing and the file it is kept in: what is in memory is on the disk.
#[derive(Clone, Debug)]
pub struct PairingFile {
    path: PathBuf,
    pairing: Pairing,
}

impl PairingFile {
    /// The pairing, or `None` where there never was one.
    pub fn load(dir: &Path) -> Result<Option<Self>, PairingError> {
        let path = dir.join(FILE);
        let text = match durable::read_private(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(PairingError::Unusable);
            }
            Err(error) => return Err(error.into()),
        };
        let pairing: Pairing = serde_json::from_str(&text).map_err(|_| PairingError::Unusable)?;
        if pairing.v != VERSION {
            return Err(PairingError::Unusable);
        }
        Ok(Some(Self { path, pairing }))
    }

    /// Replaces whatever pairing there was. The keys are new, so counting begins anew: an agent counts by device.
    pub fn create(dir: &Path, invite: &Invite, keys: &Keys) -> Result<Self, PairingError> {
        let pairing = Pairing {
            v: VERSION,
            device: keys.thumbprint(),
            agent: invite.agent.clone(),
            name: invite.name.to_string(),
            broker_url: invite.broker.url.clone(),
            broker_username: invite.broker.username.clone(),
            terms: invite.terms.clone(),
            invite: Some(invite.id().as_str().to_owned()),
            enrolled: false,
            pinned: None,
            generation: 0,
            notified: None,
            leaving: false,
        };
        let file = Self { path: dir.join(FILE), pairing };
        file.save(&file.pairing)?;
        Ok(file)
    }

    pub fn get(&self) -> &Pairing {
        &self.pairing
    }

    /// Changes the file, then what is in memory: a change that could not be saved has not happened.
    pub fn change(&mut self, change: impl FnOnce(&mut Pairing)) -> Result<(), PairingError> {
        let mut next = self.pairing.clone();
        change(&mut next);
        if next != self.pairing {
            self.save(&next)?;
            self.pairing = next;
        }
        Ok(())
    }

    /// A number that was never used, and never will be again, whatever happens after this returns.
    pub fn next_generation(&mut self) -> Result<u64, PairingError> {
        self.change(|pairing| pairing.generation += 1)?;
        Ok(self.pairing.generation)
    }

    /// Where it is kept.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Removes the file. What is in memory must not be used any more.
    pub fn forget(&self) -> Result<(), PairingError> {
        Ok(durable::remove(&self.path)?)
    }

    fn save(&self, pairing: &Pairing) -> Result<(), PairingError> {
        let json = serde_json::to_vec_pretty(pairing).map_err(|_| PairingError::Unusable)?;
        Ok(durable::replace(&self.path, &json)?)
    }
}

impl Pairing {
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn topics(&self) -> Topics {
        Topics::new(self.agent.thumbprint())
    }

    /// What the heart needs to know of it.
    pub fn assistant(&self) -> Assistant {
        Assistant {
            name: self.name.clone(),
            email: self.terms.email.clone(),
            capabilities: self.terms.capabilities.clone(),
            permissions: permissions(&self.terms),
            client_id: self.terms.client_id.clone(),
            tenant: self.terms.tenant.clone(),
            login_host: host(&self.terms.authority),
            enrolled: self.enrolled,
            pinned: self.pinned.as_ref().map(|p| Pinned { id: p.id, address: p.address.clone() }),
        }
    }

    pub fn lapse(&self) -> Option<Lapse> {
        self.notified.as_ref().map(|n| Lapse { account: n.account, generation: n.generation })
    }
}

/// The permissions by Microsoft's names; none if the terms ask for something this version does not know.
fn permissions(terms: &Terms) -> Vec<String> {
    let cloud = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()).ok();
    let capabilities = capability::parse(&terms.capabilities).ok();
    let scopes =
        cloud.zip(capabilities).and_then(|(cloud, asked)| capability::authorize_scopes(&cloud, &asked).ok());
    scopes.unwrap_or_default()
}

/// The host of an address, as it is shown to a person.
pub fn host(address: &str) -> String {
    Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// The secrets of the pairing: one small entry (Windows allows about 2.5 kB).
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    keys: Secret,
    broker_password: Option<Secret>,
}

impl Entry {
    pub fn new(keys: &Keys, broker: &BrokerAccess) -> Self {
        let password = broker.password.as_ref().map(|password| Secret::new(password.expose().clone()));
        Self { keys: Secret::new(keys.to_secret_json().expose().clone()), broker_password: password }
    }

    /// For the key store.
    pub fn to_secret(&self) -> Option<Secret> {
        serde_json::to_string(self).ok().map(Secret::new)
    }

    /// `None` if the text is not an entry of ours. It is then left alone.
    pub fn open(secret: &Secret) -> Option<(Keys, Option<Sensitive<String>>)> {
        let entry: Self = serde_json::from_str(secret.expose()).ok()?;
        let keys = Keys::from_secret_json(entry.keys.expose()).ok()?;
        let password = entry.broker_password.map(|password| Sensitive::new(password.expose().to_owned()));
        Some((keys, password))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use valetkey_handoff::{InviteSecret, Label};

    use super::*;

    fn invite() -> Invite {
        Invite {
            name: Label::tidy("Rocky"),
            agent: Keys::generate().public(),
            broker: BrokerAccess {
                url: "mqtts://mqtt.contoso.example".parse().unwrap(),
                username: Some("ana".into()),
                password: Some("CANARY-password".into()),
            },
            secret: InviteSecret::generate(),
            expires_at: Timestamp::MAX,
            terms: Terms {
                email: Some("ana@contoso.example".into()),
                authority: "https://login.microsoftonline.com".into(),
                graph: None,
                tenant: "organizations".into(),
                client_id: "11111111-1111-4111-8111-111111111111".into(),
                capabilities: vec!["mail".into(), "calendar".into()],
            },
        }
    }

    #[test]
    fn a_number_is_on_the_disk_before_anybody_uses_it_and_never_comes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = PairingFile::create(dir.path(), &invite(), &Keys::generate()).unwrap();
        assert_eq!(file.next_generation().unwrap(), 1);
        let mut again = PairingFile::load(dir.path()).unwrap().unwrap();
        assert_eq!(again.get(), file.get());
        assert_eq!(again.next_generation().unwrap(), 2);
    }

    /// Shows M15 for the number of a handoff.
    #[test]
    fn a_number_that_could_not_be_saved_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = PairingFile::create(dir.path(), &invite(), &Keys::generate()).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::File::create(dir.path()).unwrap();
        assert!(file.next_generation().is_err());
        assert_eq!(file.get().generation(), 0);
        std::fs::remove_file(dir.path()).unwrap();
    }

    /// What is secret is in the key store only.
    #[test]
    fn the_file_holds_no_secret_and_the_entry_is_small() {
        let dir = tempfile::tempdir().unwrap();
        let (invite, keys) = (invite(), Keys::generate());
        PairingFile::create(dir.path(), &invite, &keys).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("CANARY") && !text.contains("AGE-SECRET-KEY"), "{text}");
        let entry = Entry::new(&keys, &invite.broker).to_secret().unwrap();
        // Windows' Credential Manager takes 2,560 bytes, in UTF-16.
        assert!(entry.expose().len() < 1200, "{}", entry.expose().len());
        let (back, password) = Entry::open(&entry).unwrap();
        assert_eq!(back.thumbprint(), keys.thumbprint());
        assert_eq!(password.unwrap().expose(), "CANARY-password");
    }

    #[test]
    fn a_damaged_file_is_unusable_and_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PairingFile::load(dir.path()).unwrap().is_none());
        durable::replace(&dir.path().join(FILE), b"{\"v\":1").unwrap();
        assert!(matches!(PairingFile::load(dir.path()), Err(PairingError::Unusable)));
    }

    /// Shows M14 for the pairing: one earlier version for each member that came later.
    #[test]
    fn a_file_of_an_earlier_version_is_opened_and_brought_up_to_date() {
        for member in ["invite", "leaving"] {
            let dir = tempfile::tempdir().unwrap();
            let file = PairingFile::create(dir.path(), &invite(), &Keys::generate()).unwrap();
            let path = dir.path().join(FILE);
            let read = || -> serde_json::Value {
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
            };
            let mut earlier = read();
            earlier.as_object_mut().unwrap().remove(member).unwrap();
            durable::replace(&path, earlier.to_string().as_bytes()).unwrap();

            let mut loaded = PairingFile::load(dir.path()).unwrap().unwrap();

            let expected = match member {
                "invite" => Pairing { invite: None, ..file.get().clone() },
                _ => file.get().clone(),
            };
            assert_eq!(loaded.get(), &expected, "{member}");
            assert_eq!(loaded.next_generation().unwrap(), 1, "{member}");
            assert!(read().get(member).is_some(), "{member}");
        }
    }

    #[test]
    fn an_administrator_is_told_the_permissions_by_microsofts_names() {
        let expected = ["User.Read", "Mail.Read", "Calendars.Read", "offline_access", "openid", "profile"];
        assert_eq!(permissions(&invite().terms), expected);
    }
}
