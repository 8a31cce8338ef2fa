//! The umask belongs to the whole process, so these stand alone in a process of their own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;
use valetkey_agent::state_dir::StateDir;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Shows of H4 the modes, from the moment that a file exists.
#[test]
fn files_are_0600_from_the_moment_they_exist_and_directories_0700_whatever_the_umask() {
    let home = tempfile::tempdir().unwrap();
    for umask in [0o000, 0o022, 0o777] {
        let path = home.path().join(format!("state-{umask:o}"));
        rustix::process::umask(Mode::from_raw_mode(umask));
        let state = StateDir::open(&path).unwrap();
        let vault = state.vault().path().to_owned();

        let done = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = std::collections::BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    for entry in std::fs::read_dir(&vault).unwrap() {
                        // It may have been renamed since.
                        if let Ok(meta) = std::fs::symlink_metadata(entry.unwrap().path()) {
                            seen.insert(meta.mode() & 0o7777);
                        }
                    }
                }
                seen
            });
            for n in 0..200 {
                state.vault().replace("account.json", format!("{n}").as_bytes()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        });
        // With a umask of 0777 the file is closed even to us for an instant; never open to others.
        assert!(seen.iter().all(|mode| [0, 0o600].contains(mode)), "umask {umask:o}: {seen:?}");
        assert_eq!(mode(&vault.join("account.json")), 0o600);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&vault), 0o700);
        assert_eq!(mode(&path.join("quarantine")), 0o700);
        assert_eq!(mode(&path.join("lock")), 0o600);
    }
}
