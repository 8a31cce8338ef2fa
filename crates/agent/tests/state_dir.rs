//! The directory: what it refuses, what survives.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use jiff::Timestamp;
use valetkey_agent::state_dir::{MAX_FILE, StateDir, StateDirError};
use valetkey_agent::{Agent, AgentOptions, VaultKey};

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

#[test]
fn a_directory_open_to_others_is_refused_with_the_command_that_mends_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();

    let error = StateDir::open(&path).unwrap_err();

    assert!(matches!(error, StateDirError::OpenToOthers { mode: 0o750, .. }));
    assert!(error.to_string().ends_with(&format!("run: chmod 700 {}", path.display())));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o750, "nothing was changed");
}

#[test]
fn the_second_process_is_told_who_holds_the_directory() {
    let home = tempfile::tempdir().unwrap();
    let first = StateDir::open(home.path().join("state")).unwrap();

    let error = StateDir::open(first.path()).unwrap_err();

    assert!(matches!(error, StateDirError::Held { pid, .. } if pid == Some(std::process::id())), "{error}");
    let path = first.path().to_owned();
    drop(first);
    StateDir::open(path).unwrap();
}

#[test]
fn links_and_fifos_are_never_followed_or_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDir::open(home.path().join("state")).unwrap();
    // One each: a file that has two names already is refused for that alone.
    let [outside, other] = ["outside", "other"].map(|name| home.path().join(name));
    for path in [&outside, &other] {
        std::fs::File::create(path).unwrap();
    }
    symlink(&outside, state.vault().path().join("linked")).unwrap();
    std::fs::hard_link(&other, state.vault().path().join("twice")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, state.vault().path().join("fifo"), 0o600.into()).unwrap();

    for name in ["linked", "twice", "fifo"] {
        let error = state.vault().read(name).unwrap_err();
        assert!(matches!(error, StateDirError::NotPlain { .. }), "{name}: {error}");
    }
    for name in ["../outside", "/etc/passwd", "..", "", "a/b"] {
        assert!(matches!(state.vault().read(name), Err(StateDirError::BadName { .. })), "{name}");
    }

    state.vault().replace("linked", b"ours").unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"", "the link was replaced, not written through");
    assert_eq!(state.vault().read("linked").unwrap().unwrap().as_slice(), b"ours");
}

#[test]
fn a_lock_or_a_folder_that_is_a_link_is_refused_and_what_it_leads_to_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    drop(StateDir::open(&path).unwrap());
    let (file, folder) = (home.path().join("a file"), home.path().join("a folder"));
    std::fs::File::create(&file).unwrap().write_all(b"theirs").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    for (name, target) in [("lock", &file), ("vault", &folder), ("quarantine", &folder)] {
        let (place, aside) = (path.join(name), home.path().join(format!("the true {name}")));
        std::fs::rename(&place, &aside).unwrap();
        symlink(target, &place).unwrap();

        let error = StateDir::open(&path).unwrap_err();

        assert!(matches!(error, StateDirError::NotPlain { .. }), "{name}: {error}");
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(&aside, &place).unwrap();
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"theirs");
    StateDir::open(&path).unwrap();
}

#[test]
fn a_state_directory_that_is_a_link_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().join("real");
    drop(StateDir::open(&real).unwrap());
    symlink(&real, home.path().join("link")).unwrap();
    let error = StateDir::open(home.path().join("link")).unwrap_err();
    assert!(matches!(error, StateDirError::NotPlain { .. }), "{error}");
}

/// What this test does when it is told where, as system calls with the paths of what they are about.
#[cfg(target_os = "linux")]
fn calls(name: &str, what: fn(&std::path::Path)) -> Option<Vec<String>> {
    const INSIDE: &str = "VALETKEY_TEST_STATE_DIR";
    if let Some(path) = std::env::var_os(INSIDE) {
        what(path.as_ref());
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("calls");
    let inside = std::process::Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, home.path().join("state"))
        .output()
        .unwrap();
    assert!(inside.status.success(), "{inside:?}");
    Some(std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect())
}

/// Shows of H4 that what is stored is on the disk: the file before it takes its place, and its place before that is said.
#[cfg(target_os = "linux")]
#[test]
fn a_file_is_on_the_disk_before_it_takes_its_place_and_its_place_is_before_it_counts() {
    const NAME: &str = "a_file_is_on_the_disk_before_it_takes_its_place_and_its_place_is_before_it_counts";
    let Some(mut calls) = calls(NAME, |path| {
        let state = StateDir::open(path).unwrap();
        state.vault().replace("file", b"new").unwrap();
        state.vault().remove("file").unwrap();
    }) else {
        return;
    };
    calls.retain(|call| call.contains("/vault"));
    let expected: [(&str, &str); 5] = [
        ("fsync(", "/vault/.new-"),
        ("rename", "\"file\""),
        ("fsync(", "/vault>)"),
        ("unlink", "\"file\""),
        ("fsync(", "/vault>)"),
    ];
    let fits = |(call, (name, on)): (&String, (&str, &str))| call.contains(name) && call.contains(on);
    assert!(calls.len() == expected.len() && calls.iter().zip(expected).all(fits), "{calls:#?}");
}

/// Otherwise a power cut would look like lines that somebody cut off.
#[cfg(target_os = "linux")]
#[test]
fn a_line_of_the_audit_is_on_the_disk_before_its_number_is() {
    let told = calls("a_line_of_the_audit_is_on_the_disk_before_its_number_is", |path| {
        drop(Agent::open(AgentOptions::new(path)).unwrap());
    });
    let Some(calls) = told else { return };
    let of = |name: &str, on: &str| calls.iter().position(|call| call.contains(name) && call.contains(on));
    let (line, number) = (of("fdatasync(", "/audit/audit.jsonl>"), of("rename", "\"head.json\""));
    assert!(line.is_some() && number.is_some() && line < number, "{calls:#?}");
}

/// Shows M17 for the directory itself.
#[test]
fn a_failed_write_is_an_error_and_the_old_file_stands() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDir::open(home.path().join("state")).unwrap();
    state.vault().replace("a.json", b"old").unwrap();
    // A directory in the way makes the rename fail, for root as well.
    std::fs::create_dir(state.vault().path().join("b.json")).unwrap();

    let error = state.vault().replace("b.json", b"new").unwrap_err();

    assert!(matches!(error, StateDirError::Io { doing: "putting in place", .. }), "{error}");
    assert_eq!(state.vault().list().unwrap(), ["a.json", "b.json"]);
    assert_eq!(std::fs::read_dir(state.vault().path()).unwrap().count(), 2, "no left-over");
    assert_eq!(state.vault().read("a.json").unwrap().unwrap().as_slice(), b"old");
}

#[test]
fn what_a_crash_left_half_written_is_cleared_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    drop(StateDir::open(&path).unwrap());
    for folder in ["", "vault", "quarantine"] {
        std::fs::File::create(path.join(folder).join(".new-0123456789abcdef")).unwrap();
    }
    let state = StateDir::open(&path).unwrap();
    assert_eq!(std::fs::read_dir(state.vault().path()).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(state.set_aside().path()).unwrap().count(), 0);
}

#[test]
fn a_quarantined_file_keeps_its_bytes_under_a_name_with_the_time() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDir::open(home.path().join("state")).unwrap();
    for bytes in [b"first".as_slice(), b"second"] {
        state.vault().replace("x.json", bytes).unwrap();
        state.quarantine(state.vault(), "x.json", now()).unwrap();
    }
    let names = state.set_aside().list().unwrap();
    assert_eq!(names, ["x.json.1795262400000", "x.json.1795262400000-1"]);
    assert_eq!(state.set_aside().read(&names[0]).unwrap().unwrap().as_slice(), b"first");
    assert_eq!(state.set_aside().read(&names[1]).unwrap().unwrap().as_slice(), b"second");
    assert!(state.vault().list().unwrap().is_empty());
}

#[test]
fn a_file_larger_than_any_of_ours_is_refused_and_not_cut() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDir::open(home.path().join("state")).unwrap();
    let largest = vec![b'x'; usize::try_from(MAX_FILE).unwrap()];
    state.vault().replace("file", &largest).unwrap();
    assert_eq!(state.vault().read("file").unwrap().unwrap().as_slice(), largest);
    state.vault().replace("file", &[largest.clone(), vec![b'x']].concat()).unwrap();
    let error = state.vault().read("file").unwrap_err();
    assert!(matches!(error, StateDirError::TooLarge { .. }), "{error}");

    // What could not be read again is not written: in clear, and sealed, where the largest would be too large.
    let sealed = StateDir::open_with(home.path().join("sealed"), Some(VaultKey::generate())).unwrap();
    for (dir, too_large) in [(&state, [largest.clone(), vec![b'x']].concat()), (&sealed, largest)] {
        dir.replace("file", b"small").unwrap();
        let error = dir.replace("file", &too_large).unwrap_err();
        assert!(matches!(error, StateDirError::TooLarge { .. }), "{error}");
        assert_eq!(dir.read("file").unwrap().unwrap().as_slice(), b"small");
    }
}

#[test]
fn refused_messages_are_kept_once_each_and_never_without_end() {
    let home = tempfile::tempdir().unwrap();
    let state = StateDir::open(home.path().join("state")).unwrap();
    for n in 0..100_i64 {
        let at = now() + jiff::SignedDuration::from_secs(n);
        state.quarantine_message(&format!("digest{n:03}"), b"bad", at).unwrap();
        state.quarantine_message(&format!("digest{n:03}"), b"bad", at).unwrap();
    }
    let kept = state.set_aside().list().unwrap();
    assert_eq!(kept.len(), 32);
    assert!(kept[0].contains("digest068") && kept[31].contains("digest099"), "{kept:?}");
}

#[test]
fn a_file_that_is_open_to_others_is_refused_with_the_command_that_mends_it_and_says_that_they_may_have_read_it()
 {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    drop(Agent::open(AgentOptions::new(&path)).unwrap());
    for folder in ["vault", "quarantine"] {
        let made = std::fs::File::create(path.join(folder).join("a.json")).unwrap();
        made.set_permissions(Permissions::from_mode(0o600)).unwrap();
    }
    let open = || StateDir::open(&path).and_then(|state| state.read("agent.json"));
    for name in ["agent.json", "vault/a.json", "quarantine/a.json", "audit/audit.jsonl", "audit/head.json"] {
        let file = path.join(name);
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();

            let error = open().unwrap_err().to_string();

            let (said, command) = error.split_once("; run: ").unwrap();
            let expected = format!("{name} is open to others (mode {mode:o}), who may have read it");
            assert!(said.ends_with(&expected), "{said}");
            assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, mode, "nothing was changed");
            assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success());
            open().unwrap();
        }
    }
    let mended = std::fs::metadata(path.join("audit")).unwrap().mode() & 0o777;
    assert_eq!(mended, 0o700);
}

/// Shows of H4 that nobody puts another directory in the place of this one, which its broker and the commands find by its path.
#[test]
fn a_directory_above_that_others_can_write_is_refused_unless_it_is_like_tmp() {
    let home = tempfile::tempdir().unwrap();
    let above = home.path().join("it's above");
    let path = above.join("deep").join("state");
    drop(StateDir::open(&path).unwrap());
    let mode = |mode: u32| std::fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
    let link = home.path().join("link");
    symlink(above.join("deep"), &link).unwrap();
    for fine in [0o755, 0o1777] {
        mode(fine);
        drop(StateDir::open(&path).unwrap());
        drop(StateDir::open(link.join("state")).unwrap());
    }
    for open in [0o777, 0o775, 0o757] {
        for path in [&path, &link.join("state")] {
            mode(open);

            let error = StateDir::open(path).unwrap_err();

            assert!(matches!(error, StateDirError::OpenAbove { mode, .. } if mode == open), "{error}");
            let (_, command) =
                error.to_string().split_once("; run: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
            drop(StateDir::open(path).unwrap());
        }
    }
    if rustix::process::geteuid().is_root() {
        for (name, path) in [(&above, &path), (&link, &link.join("state"))] {
            std::os::unix::fs::lchown(name, Some(990), None).unwrap();
            let error = StateDir::open(path).unwrap_err();
            assert!(matches!(error, StateDirError::ForeignAbove { owner: 990, .. }), "{error}");
            std::os::unix::fs::lchown(name, Some(0), None).unwrap();
            drop(StateDir::open(path).unwrap());
        }
    }
}

#[test]
fn whoever_looks_at_another_users_directory_is_told_to_run_as_that_user_and_not_to_take_it() {
    let said = StateDirError::NotOurs { path: "state".into(), owner: 990 }.to_string();
    assert!(said.contains("sudo -u '#990'") && !said.contains("chown"), "{said}");
    if rustix::process::geteuid().is_root() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        drop(StateDir::open(&path).unwrap());
        chown(&path, Some(990), None).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::NotOurs { owner: 990, .. }), "{error}");
    }
}
