//! By descriptors, with rustix.

mod above;

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Lock, TEMPORARY, is_plain_name, temporary_name};
use crate::state_dir::{MAX_FILE, StateDirError};

const DIR_MODE: RawMode = 0o700;
const FILE_MODE: RawMode = 0o600;
const OTHERS: RawMode = 0o077;

/// A directory held open. Mode 0700, ours; files in it are 0600 from the moment they exist.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, StateDirError> {
        let made = make_dir(path)?;
        let fd = rustix::fs::open(path, dir_flags(), Mode::empty()).map_err(|e| refused_dir(path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("looking at", path, e))?;
        if stat.st_uid != us() {
            return Err(StateDirError::NotOurs { path: path.to_owned(), owner: stat.st_uid });
        }
        let folder = Self::checked(fd, path.to_owned(), made)?;
        above::check(path, us())?;
        Ok(folder)
    }

    pub(crate) fn sub_folder(&self, name: &str) -> Result<Self, StateDirError> {
        let path = self.at(name)?;
        let made = match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(failed("making", &path, e)),
        };
        let fd = rustix::fs::openat(&self.fd, name, dir_flags(), Mode::empty())
            .map_err(|e| self.refused("opening", name, &path, e))?;
        Self::checked(fd, path, made)
    }

    fn checked(fd: OwnedFd, path: PathBuf, made: bool) -> Result<Self, StateDirError> {
        if made {
            // The umask can only have taken bits away, from us as well.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(DIR_MODE))
                .map_err(|e| failed("setting the mode of", &path, e))?;
        }
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("looking at", &path, e))?;
        ours(&stat, &path)?;
        if stat.st_mode & OTHERS != 0 {
            return Err(StateDirError::OpenToOthers { path, mode: mode(&stat) & 0o7777 });
        }
        Ok(Self { fd, path })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether every file in it is closed to others, and ours.
    pub(crate) fn check_files(&self) -> Result<(), StateDirError> {
        for name in self.all_names()? {
            let path = self.path.join(&name);
            let stat = match rustix::fs::statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed("looking at", &path, e)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                ours(&stat, &path)?;
                closed(&stat, &path)?;
            }
        }
        Ok(())
    }

    /// The whole file, or `None` if there is none. One that is open to others is refused: a person shall know of it.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateDirError> {
        let path = self.at(name)?;
        // Without O_NONBLOCK a FIFO put here would hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(StateDirError::NotPlain { path }),
            Err(e) => return Err(self.refused("opening", name, &path, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("looking at", &path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(StateDirError::NotPlain { path });
        }
        ours(&stat, &path)?;
        closed(&stat, &path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > MAX_FILE {
            return Err(StateDirError::TooLarge { path });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
        File::from(fd).take(MAX_FILE).read_to_end(&mut bytes).map_err(|source| StateDirError::Io {
            doing: "reading",
            path,
            source,
        })?;
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the place of `name`: a crash at any moment leaves the old file or the new one, whole.
    /// When this returns `Ok`, the new one has reached the disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        let new = temporary_name();
        let result = self.write_new(&new, &path, bytes).and_then(|()| {
            rustix::fs::renameat(&self.fd, new.as_str(), &self.fd, name)
                .map_err(|e| failed("putting in place", &path, e))
        });
        if let Err(e) = result {
            // What is left is only clutter, and cleared at the next start; the first error is the one to tell.
            let _ = rustix::fs::unlinkat(&self.fd, new.as_str(), AtFlags::empty());
            return Err(e);
        }
        self.sync()
    }

    fn write_new(&self, new: &str, path: &Path, bytes: &[u8]) -> Result<(), StateDirError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, new, flags, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| failed("making a new file for", path, e))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| failed("setting the mode of", path, e))?;
        let mut file = File::from(fd);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| StateDirError::Io {
            doing: "writing",
            path: path.to_owned(),
            source,
        })
    }

    /// A file to add to; made if it is missing.
    pub(crate) fn append(&self, name: &str) -> Result<File, StateDirError> {
        let path = self.at(name)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| self.refused("opening", name, &path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("looking at", &path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(StateDirError::NotPlain { path });
        }
        closed(&stat, &path)?;
        // The umask can only have taken bits away, from us as well.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| failed("setting the mode of", &path, e))?;
        self.sync()?;
        Ok(File::from(fd))
    }

    /// Removes a file, durably. A missing one is no error.
    pub fn remove(&self, name: &str) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => self.sync(),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(failed("removing", &path, e)),
        }
    }

    /// The names of what is in it, sorted, without files that are still being written.
    pub fn list(&self) -> Result<Vec<String>, StateDirError> {
        let mut names: Vec<String> =
            self.all_names()?.into_iter().filter(|name| !name.starts_with(TEMPORARY)).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn exists(&self, name: &str) -> Result<bool, StateDirError> {
        let path = self.at(name)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(failed("looking at", &path, e)),
        }
    }

    /// Not durable before the next [`Folder::sync`].
    pub(crate) fn rename(&self, name: &str, as_name: &str) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        self.at(as_name)?;
        rustix::fs::renameat(&self.fd, name, &self.fd, as_name).map_err(|e| failed("moving", &path, e))
    }

    pub(crate) fn move_to(&self, name: &str, other: &Self, as_name: &str) -> Result<(), StateDirError> {
        let path = self.at(name)?;
        other.at(as_name)?;
        rustix::fs::renameat(&self.fd, name, &other.fd, as_name).map_err(|e| failed("moving", &path, e))?;
        other.sync()?;
        self.sync()
    }

    pub(crate) fn clear_left_over(&self) -> Result<(), StateDirError> {
        for name in self.all_names()?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            rustix::fs::unlinkat(&self.fd, name.as_str(), AtFlags::empty())
                .map_err(|e| failed("clearing", &self.path.join(name), e))?;
        }
        Ok(())
    }

    /// An exclusive lock on `name`. Our pid is written in for people to find.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, StateDirError> {
        let path = self.at(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| self.refused("opening", name, &path, e))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(FILE_MODE))
            .map_err(|e| failed("setting the mode of", &path, e))?;
        let file = File::from(fd);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                return Err(StateDirError::Held { path: self.path.clone(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StateDirError::Io { doing: "locking", path, source });
            }
        }
        let mut lock = Lock(file);
        lock.0
            .set_len(0)
            .and_then(|()| writeln!(lock.0, "{}", std::process::id()))
            .map_err(|source| StateDirError::Io { doing: "writing", path, source })?;
        Ok(lock)
    }

    fn all_names(&self) -> Result<Vec<String>, StateDirError> {
        let dir = rustix::fs::Dir::read_from(&self.fd).map_err(|e| failed("listing", &self.path, e))?;
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry.map_err(|e| failed("listing", &self.path, e))?;
            // A name that is not UTF-8 was not made by us.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Why a file or directory in here could not be opened: where it is somebody else's, that is what a person can mend.
    fn refused(&self, doing: &'static str, name: &str, path: &Path, errno: Errno) -> StateDirError {
        if matches!(errno, Errno::ACCESS | Errno::PERM)
            && let Ok(stat) = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            && let Err(foreign) = ours(&stat, path)
        {
            return foreign;
        }
        failed(doing, path, errno)
    }

    fn at(&self, name: &str) -> Result<PathBuf, StateDirError> {
        if is_plain_name(name) {
            Ok(self.path.join(name))
        } else {
            Err(StateDirError::BadName { name: name.to_owned() })
        }
    }

    pub(crate) fn sync(&self) -> Result<(), StateDirError> {
        rustix::fs::fsync(&self.fd).map_err(|e| failed("saving", &self.path, e))
    }
}

fn make_dir(path: &Path) -> Result<bool, StateDirError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|source| StateDirError::Io {
            doing: "making",
            path: parent.to_owned(),
            source,
        })?;
    }
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(DIR_MODE)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(failed("making", path, e)),
    }
}

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// For what is inside a directory of ours.
fn ours(stat: &Stat, path: &Path) -> Result<(), StateDirError> {
    if stat.st_uid == us() {
        return Ok(());
    }
    Err(StateDirError::Foreign { path: path.to_owned(), owner: stat.st_uid, us: us() })
}

/// For a file.
fn closed(stat: &Stat, path: &Path) -> Result<(), StateDirError> {
    if stat.st_mode & OTHERS == 0 {
        return Ok(());
    }
    Err(StateDirError::FileOpenToOthers { path: path.to_owned(), mode: mode(stat) & 0o7777 })
}

/// A directory that cannot even be opened is somebody else's, or has lost its own mode.
fn refused_dir(path: &Path, errno: Errno) -> StateDirError {
    match rustix::fs::lstat(path) {
        Ok(stat) if errno == Errno::ACCESS && stat.st_uid != us() => {
            StateDirError::NotOurs { path: path.to_owned(), owner: stat.st_uid }
        }
        _ => failed("opening", path, errno),
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

// `mode_t` is 16 bits wide on some systems and 32 on others.
#[allow(clippy::useless_conversion)]
fn mode(stat: &Stat) -> u32 {
    u32::from(stat.st_mode)
}

fn failed(doing: &'static str, path: &Path, errno: Errno) -> StateDirError {
    // With O_DIRECTORY|O_NOFOLLOW a link shows up as either.
    if matches!(errno, Errno::LOOP | Errno::NOTDIR) {
        return StateDirError::NotPlain { path: path.to_owned() };
    }
    StateDirError::Io { doing, path: path.to_owned(), source: errno.into() }
}
