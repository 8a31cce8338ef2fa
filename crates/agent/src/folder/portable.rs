//! The same by means of the standard library alone. Untested: access rights are those of the user's profile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Lock, TEMPORARY, is_plain_name, temporary_name};
use crate::state_dir::{MAX_FILE, StateDirError};

/// A directory of ours.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, StateDirError> {
        std::fs::create_dir_all(path).map_err(|e| failed("making", path, e))?;
        Ok(Self { path: path.to_owned() })
    }

    pub(crate) fn sub_folder(&self, name: &str) -> Result<Self, StateDirError> {
        Self::open(&self.at(name)?)
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file, or `None` if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        let path = self.at(name)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("opening", &path, e)),
        };
        if file.metadata().map_err(|e| failed("looking at", &path, e))?.len() > MAX_FILE {
            return Err(StateDirError::TooLarge { path });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| failed("reading", &path, e))?;
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the place of `name`, whole or not at all.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        let new = self.path.join(temporary_name());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&new)
            .map_err(|e| failed("making a new file for", &path, e))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|e| failed("writing", &path, e))
    }

    /// Who can read a file is not in a mode here.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn check_files(&self) -> Result<(), StateDirError> {
        Ok(())
    }

    /// Directories have no fsync of their own here.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(crate) fn sync(&self) -> Result<(), StateDirError> {
        Ok(())
    }

    /// A file to add to; made if it is missing.
    pub(crate) fn append(&self, name: &str) -> Result<File, StateDirError> {
        let path = self.at(name)?;
        OpenOptions::new().append(true).create(true).open(&path).map_err(|e| failed("opening", &path, e))
    }

    /// Removes a file. A missing one is no error.
    pub fn remove(&self, name: &str) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("removing", &path, e)),
            _ => Ok(()),
        }
    }

    /// The names of what is in it, sorted.
    pub fn list(&self) -> Result<Vec<String>, StateDirError> {
        let mut names: Vec<String> =
            self.all_names()?.into_iter().filter(|name| !name.starts_with(TEMPORARY)).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn exists(&self, name: &str) -> Result<bool, StateDirError> {
        Ok(self.at(name)?.exists())
    }

    pub(crate) fn rename(&self, name: &str, as_name: &str) -> Result<(), StateDirError> {
        self.move_to(name, self, as_name)
    }

    pub(crate) fn move_to(&self, name: &str, other: &Self, as_name: &str) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        std::fs::rename(&path, other.at(as_name)?).map_err(|e| failed("moving", &path, e))
    }

    pub(crate) fn clear_left_over(&self) -> Result<(), StateDirError> {
        for name in self.all_names()?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            self.remove(name)?;
        }
        Ok(())
    }

    pub(crate) fn lock(&self, name: &str) -> Result<Lock, StateDirError> {
        let path = self.at(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("opening", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StateDirError::Held { path: self.path.clone(), pid: None }),
            Err(TryLockError::Error(e)) => Err(failed("locking", &path, e)),
        }
    }

    fn all_names(&self) -> Result<Vec<String>, StateDirError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(|e| failed("listing", &self.path, e))? {
            let entry = entry.map_err(|e| failed("listing", &self.path, e))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn at(&self, name: &str) -> Result<PathBuf, StateDirError> {
        if is_plain_name(name) {
            Ok(self.path.join(name))
        } else {
            Err(StateDirError::BadName { name: name.to_owned() })
        }
    }
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> StateDirError {
    StateDirError::Io { doing, path: path.to_owned(), source }
}
