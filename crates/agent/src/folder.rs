//! One open directory. Everything in it is reached from its descriptor by a single name that is never a link, so
//! nothing that is swapped underneath can lead elsewhere.

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::Folder;
#[cfg(unix)]
pub use unix::Folder;

/// Begins the name of every file that is still being written.
const TEMPORARY: &str = ".new-";

/// A lock that is held until this is dropped. A child that has been forked and not yet become its own program holds a
/// copy of the descriptor, so closing ours would not be enough: the lock is given back in so many words.
#[derive(Debug)]
pub(crate) struct Lock(std::fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', '\0', ':'])
}

fn temporary_name() -> String {
    format!("{TEMPORARY}{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::Folder;

    #[test]
    fn a_lock_that_is_dropped_is_free_though_a_forked_child_still_holds_a_copy_of_its_descriptor() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(&home.path().join("state")).unwrap();
        let lock = folder.lock("lock").unwrap();
        let copy = lock.0.try_clone().unwrap();
        folder.lock("lock").unwrap_err();
        drop(lock);
        folder.lock("lock").unwrap();
        drop(copy);
    }
}
