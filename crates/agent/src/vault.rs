//! The accounts on disk: one file each, replaced whole, and what is known of them in memory without their secrets.
//!
//! It decides nothing about tokens or health; it makes changes durable and never loses a file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use serde::Serialize;
use valetkey_entra::account::AccountId;

use crate::account_file::{AccountFile, AccountFileError, Facts};
use crate::at_rest::AtRestError;
use crate::state_dir::{StateDir, StateDirError};

const SUFFIX: &str = ".json";

/// The open vault.
#[derive(Debug)]
pub struct Vault {
    dir: Arc<StateDir>,
    known: RwLock<BTreeMap<AccountId, Arc<Facts>>>,
    /// One writer at a time: reading, changing and replacing a file is one step.
    writing: Mutex<()>,
    failing: Mutex<BTreeMap<AccountId, Failing>>,
}

/// What the system did not let us do with a file the last time, in words.
#[derive(Debug, Clone)]
enum Failing {
    Reading(String),
    Writing(String),
}

/// Why an account could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The disk refused. Nothing was changed.
    #[error(transparent)]
    Dir(#[from] StateDirError),
    /// The file was damaged and is set aside.
    #[error("{account}: {source}; set aside as quarantine/{aside}")]
    SetAside { account: AccountId, aside: String, source: AccountFileError },
    /// A later version wrote the file; it is left as it is.
    #[error("{account}: {source}")]
    Newer { account: AccountId, source: AccountFileError },
    /// The account could not be written as JSON.
    #[error("{account} could not be written as JSON")]
    Unwritable { account: AccountId, source: serde_json::Error },
    /// The program is ending.
    #[error("{account}: interrupted")]
    Interrupted { account: AccountId },
}

impl VaultError {
    /// What a device is told whose message met this, if meeting it again would be the same.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some("unsupported"),
            Self::Dir(StateDirError::TooLarge { .. }) | Self::Unwritable { .. } => Some("damaged"),
            Self::Dir(_) | Self::SetAside { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// Whether the account's file is what is in the way, as it stands there: it waits for the operator, and everything else
    /// can be stored.
    pub(crate) fn is_of_the_file(&self) -> bool {
        matches!(
            self,
            Self::Dir(
                StateDirError::AtRest(_)
                    | StateDirError::NotPlain { .. }
                    | StateDirError::Foreign { .. }
                    | StateDirError::FileOpenToOthers { .. }
            )
        )
    }
}

/// A file that could not be used, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Its name, in `vault/` or in the state directory.
    pub file: String,
    /// What is wrong with it, without any of its content.
    pub problem: String,
    /// Where it is now; `None` if it was left where it is.
    pub set_aside_as: Option<String>,
}

impl Trouble {
    /// The account was stored by a later version, with something in it that this one cannot judge.
    pub(crate) fn of_a_later_version(facts: &Facts) -> Option<Self> {
        let unknown = facts.unknown_capabilities();
        (!unknown.is_empty()).then(|| Self {
            file: file_name(&facts.account),
            problem: format!(
                "it was connected for {}, which this version does not know, and what Microsoft allows for that is refused; \
                 install the later version again",
                unknown.join(", ")
            ),
            set_aside_as: None,
        })
    }
}

/// What a change to an account comes to.
#[derive(Debug)]
pub enum Change<T> {
    /// Write this, unless it is what stands there already.
    Write(Box<AccountFile>, T),
    Leave(T),
}

impl Vault {
    /// Reads every account. A damaged one is set aside and reported; one that the system does not let us read now stays
    /// where it is and is tried again. The others go on.
    pub fn open(dir: Arc<StateDir>, now: Timestamp) -> Result<(Self, Vec<Trouble>), StateDirError> {
        let vault =
            Self { dir, known: RwLock::default(), writing: Mutex::default(), failing: Mutex::default() };
        let mut troubles = Vec::new();
        for file in vault.dir.vault().list()? {
            let Some(account) = file.strip_suffix(SUFFIX).and_then(|stem| stem.parse().ok()) else {
                troubles.push(vault.set_aside(&file, "not named like an account", now));
                continue;
            };
            match vault.read_as(&account, &file) {
                Ok(Some(read)) => vault.remember(&read.facts),
                Ok(None) => {}
                Err(ReadError::Content(source @ AccountFileError::Newer { .. })) => {
                    troubles.push(Trouble { file, problem: source.to_string(), set_aside_as: None });
                }
                // One key opens all of it or nothing: this is no matter of one file.
                Err(ReadError::Dir(source @ StateDirError::AtRest(AtRestError::KeyNeeded { .. }))) => {
                    return Err(source);
                }
                Err(ReadError::Dir(
                    source @ (StateDirError::Io { .. }
                    | StateDirError::Foreign { .. }
                    | StateDirError::FileOpenToOthers { .. }
                    | StateDirError::AtRest(_)),
                )) => {
                    tracing::error!(file, problem = %source, "a file of the vault cannot be read; it is tried again");
                    vault.note(&account, Some(Failing::Reading(source.to_string())));
                }
                Err(e) => troubles.push(vault.set_aside(&file, &e.to_string(), now)),
            }
        }
        for trouble in &troubles {
            tracing::error!(
                file = trouble.file,
                problem = trouble.problem,
                set_aside_as = trouble.set_aside_as.as_deref().unwrap_or("left in place"),
                "a file of the vault cannot be used"
            );
        }
        Ok((vault, troubles))
    }

    /// What is known of an account, removed ones included.
    pub fn facts(&self, account: &AccountId) -> Option<Arc<Facts>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }

    /// Every account, removed ones included.
    pub fn all(&self) -> Vec<Arc<Facts>> {
        self.look_again();
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every account that is there.
    pub fn live(&self) -> Vec<Arc<Facts>> {
        self.all().into_iter().filter(|facts| facts.removed_at.is_none()).collect()
    }

    /// The files that could not be read or written the last time.
    pub fn troubles(&self) -> Vec<Trouble> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = |(account, failing): (&AccountId, &Failing)| {
            let (Failing::Reading(problem) | Failing::Writing(problem)) = failing;
            Trouble { file: file_name(account), problem: problem.clone(), set_aside_as: None }
        };
        failing.iter().map(trouble).collect()
    }

    /// Whether the system did not let us read or write its file the last time.
    pub fn is_failing(&self, account: &AccountId) -> bool {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).contains_key(account)
    }

    /// Why there are no [`Vault::facts`] of an account whose file is there.
    pub fn unreadable(&self, account: &AccountId) -> Option<String> {
        match self.failing.lock().unwrap_or_else(PoisonError::into_inner).get(account) {
            Some(Failing::Reading(problem)) => Some(problem.clone()),
            _ => None,
        }
    }

    /// The account as it is on disk now.
    pub fn read(&self, account: &AccountId, now: Timestamp) -> Result<Option<AccountFile>, VaultError> {
        let _reading = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_or_set_aside(account, now)
    }

    /// Reads the account, lets `decide` change it, and has the result on disk before it returns. The same bytes are not
    /// written again. Blocks for the length of two fsyncs.
    pub fn change<T>(
        &self,
        account: &AccountId,
        now: Timestamp,
        decide: impl FnOnce(Option<AccountFile>) -> Change<T>,
    ) -> Result<T, VaultError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.read_or_set_aside(account, now)?;
        if self.could_not_write(account) {
            // What stands there may have been put in place by a write that failed after that. Whoever is told that it is
            // there already relies on it.
            self.dir.vault().sync()?;
        }
        let to_bytes = |file: &AccountFile| {
            file.to_bytes().map_err(|source| VaultError::Unwritable { account: *account, source })
        };
        let before = current.as_ref().map(to_bytes).transpose()?;
        match decide(current) {
            Change::Leave(told) => Ok(told),
            Change::Write(file, told) => {
                let after = to_bytes(&file)?;
                if before.as_ref() != Some(&after) {
                    if let Err(e) = self.dir.replace_account(&file_name(account), &after) {
                        self.note(account, Some(Failing::Writing(e.to_string())));
                        return Err(e.into());
                    }
                    self.note(account, None);
                    self.remember(&file.facts);
                }
                Ok(told)
            }
        }
    }

    fn read_or_set_aside(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountFile>, VaultError> {
        let file = file_name(account);
        match self.read_as(account, &file) {
            Ok(read) => {
                match &read {
                    // A write whose last fsync failed is on disk all the same: memory follows the disk.
                    Some(read) => self.remember(&read.facts),
                    None => self.forget(account),
                }
                self.could_read(account);
                Ok(read)
            }
            Err(ReadError::Dir(e)) => {
                if !self.could_not_write(account) {
                    self.note(account, Some(Failing::Reading(e.to_string())));
                }
                Err(e.into())
            }
            Err(ReadError::Content(source @ AccountFileError::Newer { .. })) => {
                Err(VaultError::Newer { account: *account, source })
            }
            Err(ReadError::Content(source)) => {
                let aside = self.dir.quarantine(self.dir.vault(), &file, now)?;
                self.forget(account);
                tracing::error!(%account, problem = %source, set_aside_as = aside, "a file of the vault cannot be used");
                Err(VaultError::SetAside { account: *account, aside, source })
            }
        }
    }

    fn read_as(&self, account: &AccountId, file: &str) -> Result<Option<AccountFile>, ReadError> {
        match self.dir.read_account(file) {
            Ok(Some(bytes)) => Ok(Some(AccountFile::parse(&bytes, account)?)),
            Ok(None) => Ok(None),
            Err(StateDirError::AtRest(AtRestError::Damaged { .. })) => {
                Err(AccountFileError::Unsealable.into())
            }
            Err(StateDirError::TooLarge { .. }) => Err(AccountFileError::TooLarge.into()),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads what could not be read at the start. A damaged file is found and set aside when it is asked for.
    fn look_again(&self) {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for account in failing.keys().filter(|account| self.facts(account).is_none()) {
            let _reading = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some(read)) = self.read_as(account, &file_name(account)) {
                self.remember(&read.facts);
                self.could_read(account);
            }
        }
    }

    /// That a file can be read says nothing about what could not be written.
    fn could_read(&self, account: &AccountId) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(failing.get(account), Some(Failing::Reading(_))) {
            failing.remove(account);
        }
    }

    fn could_not_write(&self, account: &AccountId) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(failing.get(account), Some(Failing::Writing(_)))
    }

    fn note(&self, account: &AccountId, problem: Option<Failing>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => failing.insert(*account, problem),
            None => failing.remove(account),
        };
    }

    fn set_aside(&self, file: &str, problem: &str, now: Timestamp) -> Trouble {
        let (set_aside_as, problem) = match self.dir.quarantine(self.dir.vault(), file, now) {
            Ok(aside) => (Some(aside), problem.to_owned()),
            Err(e) => (None, format!("{problem}; and it could not be set aside: {e}")),
        };
        Trouble { file: file.to_owned(), problem, set_aside_as }
    }

    fn remember(&self, facts: &Facts) {
        let facts = Arc::new(facts.without_secrets());
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(facts.account, facts);
    }

    fn forget(&self, account: &AccountId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(account);
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Dir(#[from] StateDirError),
    #[error(transparent)]
    Content(#[from] AccountFileError),
}

fn file_name(account: &AccountId) -> String {
    format!("{account}{SUFFIX}")
}

#[cfg(test)]
mod tests;
