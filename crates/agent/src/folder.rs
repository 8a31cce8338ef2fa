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

    /// Shows of H4 the mode of a file that is added to, from the moment that it exists.
    #[cfg(unix)]
    #[test]
    fn what_is_added_to_is_a_plain_file_of_its_own_and_0600_from_the_moment_it_exists() {
        use std::collections::BTreeSet;
        use std::os::unix::fs::{MetadataExt as _, symlink};
        use std::sync::atomic::{AtomicBool, Ordering};

        use crate::state_dir::StateDirError;

        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        let folder = Folder::open(&path).unwrap();
        let [outside, other] = ["outside", "other"].map(|name| home.path().join(name));
        for path in [&outside, &other] {
            std::fs::File::create(path).unwrap();
        }
        symlink(&outside, path.join("linked")).unwrap();
        std::fs::hard_link(&other, path.join("twice")).unwrap();
        for name in ["linked", "twice"] {
            let error = folder.append(name).unwrap_err();
            assert!(matches!(error, StateDirError::NotPlain { .. }), "{name}: {error}");
            std::fs::remove_file(path.join(name)).unwrap();
        }

        let done = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    for entry in std::fs::read_dir(&path).unwrap() {
                        // It may be gone by now.
                        if let Ok(meta) = std::fs::symlink_metadata(entry.unwrap().path()) {
                            seen.insert(meta.mode() & 0o7777);
                        }
                    }
                }
                seen
            });
            for _ in 0..500 {
                folder.append("log").unwrap();
                folder.remove("log").unwrap();
            }
            folder.append("log").unwrap();
            done.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        });
        // A umask can only take bits away.
        assert!(seen.iter().all(|mode| mode | 0o600 == 0o600), "{seen:?}");
        assert_eq!(std::fs::metadata(path.join("log")).unwrap().mode() & 0o7777, 0o600);
    }
}
