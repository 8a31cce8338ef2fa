//! The way to a directory. It is held open by its descriptor, but other programs (our own broker, the commands) reach it by its
//! path; whoever can put something else in its place would give them theirs.

use std::path::Path;

use rustix::fs::{FileType, RawMode, Stat};

use super::{failed, mode};
use crate::state_dir::StateDirError;

const OTHERS_WRITE: RawMode = 0o022;
/// In such a directory only its owner takes away what is his, as in `/tmp`.
const STICKY: RawMode = 0o1000;
const ROOT: u32 = 0;
/// Whom Linux names as the owner where it must not say: in a container, root outside of it.
const NOBODY_KNOWN: u32 = 65_534;

/// Every directory up to `/` as the path is written, and as it is without links.
pub(super) fn check(path: &Path, us: u32) -> Result<(), StateDirError> {
    let unknown = |source| StateDirError::Io { doing: "finding the way to", path: path.to_owned(), source };
    let written = std::path::absolute(path).map_err(unknown)?;
    let real = path.canonicalize().map_err(unknown)?;
    for above in written.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let stat = rustix::fs::lstat(above).map_err(|e| failed("looking at", above, e))?;
        judge(above, &stat, us)?;
    }
    Ok(())
}

fn judge(above: &Path, stat: &Stat, us: u32) -> Result<(), StateDirError> {
    if ![us, ROOT, NOBODY_KNOWN].contains(&stat.st_uid) {
        return Err(StateDirError::ForeignAbove { path: above.to_owned(), owner: stat.st_uid });
    }
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !is_link && stat.st_mode & OTHERS_WRITE != 0 && stat.st_mode & STICKY == 0 {
        let sudo = if stat.st_uid == us || us == ROOT { "" } else { "sudo " };
        return Err(StateDirError::OpenAbove { path: above.to_owned(), mode: mode(stat) & 0o7777, sudo });
    }
    Ok(())
}
