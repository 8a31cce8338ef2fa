//! From unsealed to sealed, from one key to another, and back. Each file is replaced whole; between two of them anything may
//! happen, so the order is what matters:
//!
//! - **Sealing**: everything else, then `agent.json`. **Unsealing**: `agent.json`, then everything else. A sealed
//!   `agent.json` thus means that all is sealed, and whoever finds it unsealed can do either again.
//! - Only [`seal`] makes something sealed of what is in clear, because somebody who has the key said so. A start with the key
//!   refuses it ([`begin`]): anybody who can write to the directory could have put it there, and be served from it.
//! - **Changing the key**: everything else to both keys; `agent.json` to the new one; everything else to the new one. Before the
//!   middle step the old key opens everything, after it the new one does, and a start finishes what is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use valetkey_link::Clock;
use zeroize::Zeroizing;

use super::{AtRestError, VaultKey, from_disk, is_sealed, recipients, to_disk};
use crate::audit::{Audit, Event};
use crate::folder::Folder;
use crate::state_dir::{MESSAGE, StateDir, StateDirError, fits};
use crate::{identity, registry};

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Files that were rewritten.
    pub files: usize,
    /// Files that were left as they are, because the key does not open them or they are no plain files. They were no use
    /// before, and are none now.
    pub left: Vec<String>,
    /// An earlier conversion had been interrupted, and this one finished it.
    pub finished: bool,
}

/// What the state directory looks like to somebody who may have no key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Whether the vault is sealed: `agent.json` decides.
    pub sealed: bool,
    pub files: usize,
    /// Files that are sealed where the vault is not, or are not where it is.
    pub astray: Vec<String>,
    /// Files that two keys open: a change of keys was interrupted.
    pub two_keys: Vec<String>,
    /// Whether the key that was given opens the vault; `None` without one.
    pub opens: Option<bool>,
    /// Sealed files that the given key does not open.
    pub unopened: Vec<String>,
}

/// The folders with something to seal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    pub root: &'a Folder,
    pub vault: &'a Folder,
    pub quarantine: &'a Folder,
}

/// One of the files other than `agent.json`.
struct File<'a> {
    folder: &'a Folder,
    name: String,
    /// Nobody depends on it.
    is_aside: bool,
}

/// Seals what is there, if it is not yet. Without an agent there is nothing to seal, and its keys are sealed when made.
pub fn seal(path: &Path, key: &VaultKey) -> Result<Changed, StateDirError> {
    let dir = existing(path)?;
    let files = dir.files();
    let changed = if is_sealed(&files.agent()?) {
        files.agent_opens_with(key)?;
        files.seal_strays(key)?
    } else {
        files.seal(key)?
    };
    note(dir, &changed, Event::VaultSealed);
    Ok(changed)
}

/// Writes everything in clear.
pub fn unseal(path: &Path, key: &VaultKey) -> Result<Changed, StateDirError> {
    let dir = existing(path)?;
    let changed = dir.files().unseal(key)?;
    note(dir, &changed, Event::VaultUnsealed);
    Ok(changed)
}

/// Seals everything with `new` instead of `old`.
pub fn rotate(path: &Path, old: &VaultKey, new: &VaultKey) -> Result<Changed, StateDirError> {
    if old == new {
        return Err(AtRestError::SameKey.into());
    }
    let dir = existing(path)?;
    let changed = dir.files().rotate(old, new)?;
    note(dir, &changed, Event::VaultKeyChanged);
    Ok(changed)
}

/// Looks without a lock, so also at the directory of an agent that runs.
pub fn look(path: &Path, key: Option<&VaultKey>) -> Result<Look, StateDirError> {
    let there = path.join(identity::FILE).try_exists();
    if !there.map_err(|source| StateDirError::Io { doing: "looking at", path: path.to_owned(), source })? {
        return Err(AtRestError::NoAgent { path: path.to_owned() }.into());
    }
    let root = Folder::open(path)?;
    let (vault, quarantine) = (root.sub_folder("vault")?, root.sub_folder("quarantine")?);
    Files { root: &root, vault: &vault, quarantine: &quarantine }.look(key)
}

/// For a directory that is opened with `key`: nothing that counts is in clear there, and what a change of keys left undone
/// is done. With no agent in it yet, it is sealed from its first file on.
pub(crate) fn begin(files: Files<'_>, key: &VaultKey) -> Result<(), StateDirError> {
    match files.root.read(identity::FILE)? {
        None => return files.refuse_clear(),
        Some(agent) if !is_sealed(&agent) => return Err(files.not_sealed()?.into()),
        Some(_) => {}
    }
    files.agent_opens_with(key)?;
    let mut left = Vec::new();
    if let Err(problem) = files.finish(key, &mut left) {
        // Everything opens all the same; the next start tries again.
        tracing::warn!(%problem, "a change of the vault's key could not be finished yet: the other key opens some files");
    }
    Ok(())
}

fn existing(path: &Path) -> Result<StateDir, StateDirError> {
    if !path.join(identity::FILE).exists() {
        return Err(AtRestError::NoAgent { path: path.to_owned() }.into());
    }
    StateDir::open(path)
}

/// The audit has it on disk before this returns.
fn note(dir: StateDir, changed: &Changed, event: Event) {
    if changed.files > 0 {
        Audit::start(Arc::new(dir), Clock::system()).record(event);
    }
}

impl<'a> Files<'a> {
    fn agent(&self) -> Result<Zeroizing<Vec<u8>>, StateDirError> {
        let found = self.root.read(identity::FILE)?;
        found.ok_or_else(|| AtRestError::NoAgent { path: self.root.path().to_owned() }.into())
    }

    fn others(&self) -> Result<Vec<File<'a>>, StateDirError> {
        let mut files = Vec::new();
        let mut add = |folder, name, is_aside| files.push(File { folder, name, is_aside });
        if self.root.exists(registry::FILE)? {
            add(self.root, registry::FILE.to_owned(), false);
        }
        self.vault.list()?.into_iter().for_each(|name| add(self.vault, name, false));
        // A message is sealed as it came.
        let aside = self.quarantine.list()?.into_iter().filter(|name| !name.ends_with(MESSAGE));
        aside.for_each(|name| add(self.quarantine, name, true));
        Ok(files)
    }

    /// Accounts and devices without an agent: they become a new one's only if the key's holder has made them.
    fn refuse_clear(&self) -> Result<(), StateDirError> {
        for file in self.others()?.iter().filter(|file| !file.is_aside) {
            if file.is_plain()? {
                return Err(AtRestError::NotSealed { path: file.path() }.into());
            }
        }
        Ok(())
    }

    /// What to say of an `agent.json` in clear: the vault has never been sealed, or it has.
    fn not_sealed(&self) -> Result<AtRestError, StateDirError> {
        for file in self.others()?.iter().filter(|file| !file.is_aside) {
            if file.read()?.is_some_and(|bytes| is_sealed(&bytes)) {
                return Ok(AtRestError::NotSealed { path: self.root.path().join(identity::FILE) });
            }
        }
        Ok(AtRestError::VaultNotSealed { path: self.root.path().to_owned() })
    }

    /// The bytes of `agent.json` in clear.
    fn agent_opens_with(&self, key: &VaultKey) -> Result<Zeroizing<Vec<u8>>, StateDirError> {
        let path = || self.root.path().join(identity::FILE);
        match from_disk(self.agent()?, Some(key), path) {
            Err(other @ AtRestError::OtherKey { .. }) => {
                let opens = |file: &File<'_>| matches!(file.opened(key), Ok(Some(_)));
                let some = self.others()?.into_iter().find(opens);
                Err(some.map_or(other, |file| AtRestError::HalfRotated { opens: file.path() }).into())
            }
            opened => Ok(opened?),
        }
    }

    fn seal(&self, key: &VaultKey) -> Result<Changed, StateDirError> {
        let mut changed = Changed::default();
        let others = self.others()?;
        // First nothing but looking: what another key has sealed must not end up among what this one seals.
        for file in &others {
            match file.read()? {
                Some(bytes) if is_sealed(&bytes) && !file.is_aside => {
                    from_disk(bytes, Some(key), || file.path())?;
                    changed.finished = true;
                }
                _ => {}
            }
        }
        for file in &others {
            match file.read()? {
                Some(bytes) if !is_sealed(&bytes) => changed.files += file.replace(&bytes, &[key])?,
                Some(_) => {}
                None => changed.left.push(file.shown()),
            }
        }
        if let Some(agent) = self.root.read(identity::FILE)? {
            self.replace_agent(&agent, &[key])?;
            changed.files += 1;
        }
        Ok(changed)
    }

    /// Somebody with the key says so: what is not sealed belongs here all the same.
    fn seal_strays(&self, key: &VaultKey) -> Result<Changed, StateDirError> {
        let mut changed = Changed::default();
        for file in self.others()? {
            if let Some(bytes) = file.read()?.filter(|bytes| !is_sealed(bytes)) {
                changed.files += file.replace(&bytes, &[key])?;
            }
        }
        changed.files += self.finish(key, &mut changed.left)?;
        changed.finished = changed.files > 0;
        Ok(changed)
    }

    fn unseal(&self, key: &VaultKey) -> Result<Changed, StateDirError> {
        let mut changed = Changed::default();
        let agent = self.agent()?;
        let others = self.others()?;
        for file in others.iter().filter(|file| !file.is_aside) {
            if let Some(bytes) = file.read()?.filter(|bytes| is_sealed(bytes)) {
                from_disk(bytes, Some(key), || file.path())?;
            }
        }
        if is_sealed(&agent) {
            self.replace_agent(&self.agent_opens_with(key)?, &[])?;
            changed.files += 1;
        } else {
            changed.finished = true;
        }
        for file in &others {
            match file.opened(key)? {
                Some(bytes) => changed.files += file.replace(&bytes, &[])?,
                None if file.is_plain()? => {}
                None => changed.left.push(file.shown()),
            }
        }
        changed.finished &= changed.files > 0;
        Ok(changed)
    }

    fn rotate(&self, old: &VaultKey, new: &VaultKey) -> Result<Changed, StateDirError> {
        let mut changed = Changed::default();
        let agent = self.agent()?;
        if !is_sealed(&agent) {
            return Err(AtRestError::VaultNotSealed { path: self.root.path().to_owned() }.into());
        }
        if new.open(&agent).is_ok() {
            changed.finished = true;
        } else {
            let agent = self.agent_opens_with(old)?;
            for file in self.others()? {
                // One that the new key opens alone cannot be: it opens after `agent.json` does.
                if let Some(bytes) = file.opened(old)? {
                    file.replace(&bytes, &[old, new])?;
                }
            }
            self.replace_agent(&agent, &[new])?;
            changed.files += 1;
        }
        changed.files += self.finish(new, &mut changed.left)?;
        Ok(changed)
    }

    /// Leaves `key` as the only one. Returns how many files another one opened too.
    fn finish(&self, key: &VaultKey, left: &mut Vec<String>) -> Result<usize, StateDirError> {
        let mut files = 0;
        for file in self.others()? {
            match file.read()? {
                Some(bytes) if is_sealed(&bytes) => match key.open(&bytes) {
                    Ok(inside) if recipients(&bytes) > 1 => files += file.replace(&inside, &[key])?,
                    Ok(_) => {}
                    Err(_) => left.push(file.shown()),
                },
                _ => left.push(file.shown()),
            }
        }
        Ok(files)
    }

    fn look(&self, key: Option<&VaultKey>) -> Result<Look, StateDirError> {
        let agent = self.agent()?;
        let sealed = is_sealed(&agent);
        let mut seen = Look {
            sealed,
            files: 1,
            opens: key.filter(|_| sealed).map(|key| key.open(&agent).is_ok()),
            ..Look::default()
        };
        for file in self.others()? {
            // Gone since it was listed, or nothing of ours.
            let Some(bytes) = file.read()? else { continue };
            seen.files += 1;
            if is_sealed(&bytes) != sealed {
                seen.astray.push(file.shown());
            }
            if recipients(&bytes) > 1 {
                seen.two_keys.push(file.shown());
            }
            if is_sealed(&bytes) && key.is_some_and(|key| key.open(&bytes).is_err()) {
                seen.unopened.push(file.shown());
            }
        }
        Ok(seen)
    }

    fn replace_agent(&self, bytes: &[u8], keys: &[&VaultKey]) -> Result<(), StateDirError> {
        replace(self.root, identity::FILE, bytes, keys)
    }
}

impl File<'_> {
    /// `None`: it is not there any more, or was set aside and is no plain file.
    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        match self.folder.read(&self.name) {
            Err(StateDirError::NotPlain { .. } | StateDirError::TooLarge { .. }) if self.is_aside => Ok(None),
            read => read,
        }
    }

    /// What is in it, if it is sealed and the key opens it.
    fn opened(&self, key: &VaultKey) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        let sealed = self.read()?.filter(|bytes| is_sealed(bytes));
        Ok(sealed.and_then(|bytes| key.open(&bytes).ok()))
    }

    fn is_plain(&self) -> Result<bool, StateDirError> {
        Ok(self.read()?.is_some_and(|bytes| !is_sealed(&bytes)))
    }

    /// Without a key, in clear. Returns 1, to be counted.
    fn replace(&self, bytes: &[u8], keys: &[&VaultKey]) -> Result<usize, StateDirError> {
        replace(self.folder, &self.name, bytes, keys).map(|()| 1)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// As a person finds it in the state directory.
    fn shown(&self) -> String {
        match self.folder.path().file_name() {
            Some(folder) if self.name != registry::FILE => {
                format!("{}/{}", folder.to_string_lossy(), self.name)
            }
            _ => self.name.clone(),
        }
    }
}

fn replace(folder: &Folder, name: &str, bytes: &[u8], keys: &[&VaultKey]) -> Result<(), StateDirError> {
    if keys.is_empty() {
        return folder.replace(name, bytes);
    }
    let path = || folder.path().join(name);
    folder.replace(name, fits(&to_disk(bytes, keys, path)?, path)?)
}
