//! The agent's directory: private, held by one process, every file replaced whole or not at all.
//!
//! It knows names and bytes; what they mean is no business of this module.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::at_rest::{self, AtRestError, VaultKey};
use crate::audit::FOLDER as AUDIT;
use crate::folder::{Folder, Lock};

/// More than any file this crate writes; a larger one is not ours.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The lock's file and what holds it: the pid of the process that runs.
pub(crate) const LOCK: &str = "lock";
/// How many damaged messages are kept for the operator to look at. They come from the network, so there is an end.
const MAX_SET_ASIDE: usize = 32;
/// File name ending of a message that was set aside.
pub(crate) const MESSAGE: &str = ".message";

/// What can be wrong with the directory. The text names the command that mends it where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// Others can read it.
    #[error("{path} is open to others (mode {mode:o}); run: chmod 700 {}", shell_word(path))]
    OpenToOthers { path: PathBuf, mode: u32 },
    /// Others may have read a file in it.
    #[error(
        "{path} is open to others (mode {mode:o}), who may have read it; run: chmod -R go= {}",
        shell_word(path.parent().unwrap_or(path))
    )]
    FileOpenToOthers { path: PathBuf, mode: u32 },
    /// A directory above it in which others can put another one in its place.
    #[error(
        "{path} is above the state directory, and others can put another one in its place there (mode {mode:o}); run: {sudo}chmod \
         go-w {}",
        shell_word(path)
    )]
    OpenAbove { path: PathBuf, mode: u32, sudo: &'static str },
    /// A directory or link on the way to it is another user's.
    #[error(
        "{path} is on the way to the state directory and belongs to user {owner}, who can lead it elsewhere; use a directory \
         that only you and root can replace (--state-dir)"
    )]
    ForeignAbove { path: PathBuf, owner: u32 },
    /// It belongs to another user.
    #[error("{path} belongs to user {owner}, not to you; run this as that user: sudo -u '#{owner}' …")]
    NotOurs { path: PathBuf, owner: u32 },
    /// Something in the directory belongs to another user: a command was once run as root, say.
    #[error(
        "{path} belongs to user {owner}, and what is around it to you; run: sudo chown -Rh {us} {}",
        shell_word(path)
    )]
    Foreign { path: PathBuf, owner: u32, us: u32 },
    /// A symbolic link, a device or a file with a second name stands where a file of ours should be.
    #[error("{path} is not a plain file or directory of its own; move it away")]
    NotPlain { path: PathBuf },
    /// Another process runs on this directory.
    #[error("{path} is in use by {}", pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Held { path: PathBuf, pid: Option<u32> },
    /// A name with a separator in it, or one of ours that must not be used.
    #[error("{name:?} is not a file name")]
    BadName { name: String },
    /// A file larger than [`MAX_FILE`].
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
    /// A sealed file that cannot be used.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

/// The open, checked and locked directory. The lock goes when this is dropped.
#[derive(Debug)]
pub struct StateDir {
    root: Folder,
    vault: Folder,
    quarantine: Folder,
    key: Option<VaultKey>,
    _lock: Lock,
}

impl StateDir {
    /// Opens `path`, makes it (0700) if it is missing, takes the lock and clears what a crash left half-written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateDirError> {
        Self::open_with(path, None)
    }

    /// The same, sealed at rest with `key`. What is there in clear is refused: only [`crate::at_rest::seal`] seals it.
    pub fn open_with(path: impl AsRef<Path>, key: Option<VaultKey>) -> Result<Self, StateDirError> {
        let root = Folder::open(path.as_ref())?;
        let lock = root.lock(LOCK)?;
        let vault = root.sub_folder("vault")?;
        let quarantine = root.sub_folder("quarantine")?;
        for folder in [&root, &vault, &quarantine] {
            folder.clear_left_over()?;
        }
        // What is in the directory itself is checked when it is read; not everything there is ours.
        vault.check_files()?;
        quarantine.check_files()?;
        check_audit(&root)?;
        let dir = Self { root, vault, quarantine, key, _lock: lock };
        if let Some(key) = &dir.key {
            at_rest::begin(dir.files(), key)?;
        }
        Ok(dir)
    }

    /// Whether what is written here is sealed.
    pub fn is_sealed(&self) -> bool {
        self.key.is_some()
    }

    pub(crate) fn files(&self) -> at_rest::Files<'_> {
        at_rest::Files { root: &self.root, vault: &self.vault, quarantine: &self.quarantine }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The directory itself.
    pub fn root(&self) -> &Folder {
        &self.root
    }

    /// One file an account.
    pub fn vault(&self) -> &Folder {
        &self.vault
    }

    /// What was set aside; see [`StateDir::quarantine`].
    pub fn set_aside(&self) -> &Folder {
        &self.quarantine
    }

    /// Moves `name` out of `folder` into `quarantine/` under a name with the time in it, and returns that name.
    pub fn quarantine(&self, folder: &Folder, name: &str, now: Timestamp) -> Result<String, StateDirError> {
        for attempt in 0..=u32::MAX {
            let aside = if attempt == 0 {
                format!("{name}.{}", now.as_millisecond())
            } else {
                format!("{name}.{}-{attempt}", now.as_millisecond())
            };
            if self.quarantine.exists(&aside)? {
                continue;
            }
            folder.move_to(name, &self.quarantine, &aside)?;
            return Ok(aside);
        }
        Err(StateDirError::BadName { name: name.to_owned() })
    }

    /// Keeps a refused message for the operator. Beyond [`MAX_SET_ASIDE`] the oldest goes; the same one is kept once.
    pub fn quarantine_message(
        &self,
        digest: &str,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), StateDirError> {
        let mut kept: Vec<String> =
            self.quarantine.list()?.into_iter().filter(|name| name.ends_with(MESSAGE)).collect();
        if kept.iter().any(|name| name.contains(digest)) {
            return Ok(());
        }
        // Milliseconds since 1970 have 13 digits until the year 2286, so the names sort by time.
        kept.sort();
        let surplus = (kept.len() + 1).saturating_sub(MAX_SET_ASIDE);
        for name in kept.iter().take(surplus) {
            self.quarantine.remove(name)?;
        }
        self.quarantine.replace(&format!("{}-{digest}{MESSAGE}", now.as_millisecond()), bytes)
    }

    /// Reads a file of the directory itself; in clear, also where it is sealed.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        self.read_in(&self.root, name)
    }

    /// Replaces a file of the directory itself, durably and whole; sealed, where the vault is.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        self.replace_in(&self.root, name, bytes)
    }

    /// Like [`StateDir::read`], in `vault/`.
    pub(crate) fn read_account(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        self.read_in(&self.vault, name)
    }

    /// Like [`StateDir::replace`], in `vault/`.
    pub(crate) fn replace_account(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        self.replace_in(&self.vault, name, bytes)
    }

    fn read_in(&self, folder: &Folder, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        let Some(bytes) = folder.read(name)? else { return Ok(None) };
        Ok(Some(at_rest::from_disk(bytes, self.key.as_ref(), || folder.path().join(name))?))
    }

    fn replace_in(&self, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = || folder.path().join(name);
        match &self.key {
            None => folder.replace(name, fits(bytes, path)?),
            Some(key) => folder.replace(name, fits(&at_rest::to_disk(bytes, &[key], path)?, path)?),
        }
    }
}

/// An audit that cannot be written keeps nobody from their mail, and is told by itself; one that others can read is mended
/// before anything begins.
fn check_audit(root: &Folder) -> Result<(), StateDirError> {
    if !root.exists(AUDIT)? {
        return Ok(());
    }
    match root.sub_folder(AUDIT).and_then(|audit| audit.check_files()) {
        Err(
            open @ (StateDirError::OpenToOthers { .. }
            | StateDirError::FileOpenToOthers { .. }
            | StateDirError::Foreign { .. }),
        ) => Err(open),
        _ => Ok(()),
    }
}

/// What is larger than [`MAX_FILE`] could be written and never be read again.
pub(crate) fn fits(bytes: &[u8], path: impl FnOnce() -> PathBuf) -> Result<&[u8], StateDirError> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE { Err(StateDirError::TooLarge { path: path() }) } else { Ok(bytes) }
}

/// A path as one word of a command that a person copies into a shell.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.starts_with('-') && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
