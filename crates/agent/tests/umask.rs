//! The umask belongs to the whole process, so these stand alone in a process of their own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;
use valetkey_agent::state_dir::StateDir;
use valetkey_agent::{Agent, AgentOptions};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// The modes that what is in `folder` is seen with while something is done.
fn modes_in(folder: &Path, something: impl FnOnce()) -> BTreeSet<u32> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir(folder).unwrap() {
                    // It may have been renamed or removed since.
                    if let Ok(meta) = std::fs::symlink_metadata(entry.unwrap().path()) {
                        seen.insert(meta.mode() & 0o7777);
                    }
                }
            }
            seen
        });
        something();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

/// Shows of H4 the modes, from the moment that a file or a directory exists.
#[test]
fn files_are_0600_from_the_moment_they_exist_and_directories_0700_whatever_the_umask() {
    let home = tempfile::tempdir().unwrap();
    let around = home.path().join("around");
    std::fs::create_dir(&around).unwrap();
    for umask in [0o000, 0o022, 0o777] {
        let path = home.path().join(format!("state-{umask:o}"));
        rustix::process::umask(Mode::from_raw_mode(umask));
        let state = StateDir::open(&path).unwrap();
        let vault = state.vault().path().to_owned();

        let seen = modes_in(&vault, || {
            for n in 0..200 {
                state.vault().replace("account.json", format!("{n}").as_bytes()).unwrap();
            }
        });
        // With a umask of 0777 the file is closed even to us for an instant; never open to others.
        assert!(seen.iter().all(|mode| [0, 0o600].contains(mode)), "umask {umask:o}: {seen:?}");
        let seen = modes_in(&around, || {
            for _ in 0..200 {
                let new = around.join("state");
                drop(StateDir::open(&new).unwrap());
                std::fs::remove_dir_all(new).unwrap();
            }
        });
        assert!(seen.iter().all(|mode| [0, 0o700].contains(mode)), "umask {umask:o}: {seen:?}");
        drop(state);
        drop(Agent::open(AgentOptions::new(&path)).unwrap());
        for folder in [&path, &vault, &path.join("quarantine"), &path.join("audit")] {
            assert_eq!(mode(folder), 0o700, "umask {umask:o}: {}", folder.display());
        }
        // What was written above is no account.
        let aside = std::fs::read_dir(path.join("quarantine")).unwrap().map(|entry| entry.unwrap().path());
        let names = ["lock", "agent.json", "audit/audit.jsonl", "audit/head.json"];
        let files: Vec<_> = names.into_iter().map(|name| path.join(name)).chain(aside).collect();
        assert_eq!(files.len(), 5);
        for file in files {
            assert_eq!(mode(&file), 0o600, "umask {umask:o}: {}", file.display());
        }
    }
}
