//! Sealing and a change of keys that are killed, or meet a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use valetkey_agent::at_rest;

use crate::support::{Home, Ran, ran, write};
use crate::{AGE, ANA, BOB, addresses, kept, key, keyed, read_key, rotate, under, with_descriptors};

/// Which of the keys opens every file; a vault of which no key opens every file is lost to its operator.
fn whole_with<'a>(home: &Home, keys: [&'a Path; 2]) -> Option<&'a Path> {
    keys.into_iter().find(|key| {
        let look = at_rest::look(&home.state(), Some(&read_key(key))).unwrap();
        look.opens == Some(true) && look.unopened.is_empty() && look.astray.is_empty()
    })
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// SIGKILL at every call that changes a file.
#[test]
fn a_change_of_keys_killed_at_any_step_leaves_one_key_that_opens_everything_and_can_be_run_again() {
    let home = Home::initialised();
    home.store(&[ANA, BOB], "connected");
    home.invite();
    write(&home.state().join("quarantine/old.json.1"), "{}");
    let (old, new) = (key(&home, "old"), key(&home, "new"));
    assert_eq!(keyed(&home, &old, &["vault", "seal"]).json()["files"], 5);
    let saved = home.folder.path().join("saved");
    copy(&home.state(), &saved);

    let (mut with_old, mut with_new, mut half) = (0, 0, 0);
    for call in ["renameat", "fsync"] {
        for step in 1.. {
            copy(&saved, &home.state());
            let inject = format!("inject={call}:signal=SIGKILL:when={step}");
            let killed = rotate(&home, &old, &new, &["strace", "-f", "-o", "/dev/null", "-e", &inject]);
            if killed.code == 0 {
                assert!(step > 9, "{call}: {step}");
                break;
            }
            assert!(killed.out.is_empty(), "{killed:?}");
            let opener = whole_with(&home, [&old, &new]).unwrap_or_else(|| panic!("lost at {call} {step}"));
            let other = if opener == old { &new } else { &old };
            *(if opener == old { &mut with_old } else { &mut with_new }) += 1;
            let before = kept(&home);
            let refused = keyed(&home, other, &["accounts"]);
            assert_eq!((refused.code, refused.error().0.as_str()), (4, "vault_key"), "{refused:?}");
            if refused.error().1.contains("interrupted") {
                half += 1;
                assert!(refused.error().1.contains("the other one of the two opens everything"));
                assert!(refused.error().1.contains("vault rotate"), "{refused:?}");
            }
            assert_eq!(without_temporary(kept(&home)), without_temporary(before));

            let opener = opener.to_owned();
            if step % 2 == 0 {
                let mut found = addresses(&keyed(&home, &opener, &["accounts"]));
                found.sort();
                assert_eq!(found, [ANA, BOB]);
                let look = at_rest::look(&home.state(), Some(&read_key(&opener))).unwrap();
                assert!(look.two_keys.is_empty(), "a start leaves one key: {look:?}");
            }
            let again = rotate(&home, &old, &new, &[]);
            assert_eq!(again.code, 0, "{again:?}");
            assert_eq!(whole_with(&home, [&old, &new]), Some(&*new));
            let look = at_rest::look(&home.state(), Some(&read_key(&old))).unwrap();
            assert_eq!(look.unopened.len(), look.files - 1, "the old key opens nothing: {look:?}");
            assert_eq!(addresses(&keyed(&home, &new, &["accounts"])).len(), 2);
        }
    }
    println!(
        "killed {} times: {with_old} with the old key, {with_new} with the new, {half} half",
        with_old + with_new
    );
    assert!(with_old > 0 && with_new > 0 && half > 0);

    // The same judge about a change that simply goes from file to file, `agent.json` first, and is killed after it.
    let rotated = fs::read(home.state().join("agent.json")).unwrap();
    copy(&saved, &home.state());
    fs::File::create(home.state().join("agent.json")).unwrap().write_all(&rotated).unwrap();
    assert_eq!(whole_with(&home, [&old, &new]), None);
}

fn keyed_under(home: &Home, key: &Path, command: &str, before: &[&str]) -> Ran {
    let command = home.command(&["vault", command, "--json", "--vault-key-fd", "3"]);
    ran(&mut with_descriptors(&under(&command, before), &[(3, key)]))
}

/// SIGKILL at every call that changes a file. A start guesses nothing: it refuses what is half done, and doing it again
/// ends it.
#[test]
fn sealing_and_unsealing_killed_at_any_step_can_be_done_again_and_half_of_it_is_not_started_on() {
    let home = Home::initialised();
    home.store(&[ANA, BOB], "connected");
    home.invite();
    let key = key(&home, "vault-key");
    let (clear, sealed) = (home.folder.path().join("clear"), home.folder.path().join("sealed"));
    copy(&home.state(), &clear);
    assert_eq!(keyed(&home, &key, &["vault", "seal"]).json()["files"], 4);
    copy(&home.state(), &sealed);

    for (command, from) in [("seal", &clear), ("unseal", &sealed)] {
        let (mut refused, mut whole) = (0, 0);
        for call in ["renameat", "fsync"] {
            for step in 1.. {
                copy(from, &home.state());
                let inject = format!("inject={call}:signal=SIGKILL:when={step}");
                let strace = ["strace", "-f", "-o", "/dev/null", "-e", &inject];
                if keyed_under(&home, &key, command, &strace).code == 0 {
                    assert!(step > 4, "{command}: {step}");
                    break;
                }
                let before = without_temporary(kept(&home));
                let started = keyed(&home, &key, &["accounts"]);
                if started.code == 0 {
                    whole += 1;
                    let is_fit =
                        |(path, bytes): &(PathBuf, Vec<u8>)| is_other(path) || bytes.starts_with(AGE);
                    assert!(before.iter().all(is_fit), "{command}: {call} {step}");
                } else {
                    refused += 1;
                    assert_eq!((started.code, started.error().0.as_str()), (4, "vault_key"), "{started:?}");
                    let message = started.error().1;
                    let never = message.contains("run: valetkey-agent vault seal");
                    assert!(
                        never || message.contains("or valetkey-agent vault unseal once more"),
                        "{message}"
                    );
                    assert_eq!(without_temporary(kept(&home)), before);
                }
                let again = keyed(&home, &key, &["vault", command]);
                assert_eq!(again.code, 0, "{again:?}");
                let listed = match command {
                    "seal" => keyed(&home, &key, &["accounts"]),
                    _ => home.json(&["accounts"]),
                };
                assert_eq!(addresses(&listed).len(), 2);
            }
        }
        println!("{command}: killed {} times, {whole} all sealed", refused + whole);
        assert!(refused > 4 && whole > 0, "{command}: {refused} refused, {whole} whole");
    }
}

/// The configuration and what mosquitto needs are not sealed.
fn is_other(path: &Path) -> bool {
    path.starts_with("broker") || path.ends_with("agent.toml")
}

/// What was being written is cleared away by the next start.
fn without_temporary(files: BTreeMap<PathBuf, Vec<u8>>) -> Vec<(PathBuf, Vec<u8>)> {
    files.into_iter().filter(|(path, _)| !path.to_string_lossy().contains(".new-")).collect()
}

/// A disk that takes no more than a kilobyte a file, so that no account can be written.
///
/// Shows M17 for sealing and for a change of keys.
#[test]
fn a_change_of_keys_and_sealing_on_a_full_disk_say_so_and_leave_what_was_there() {
    let home = Home::initialised();
    home.store(&[ANA, BOB], "connected");
    let (old, new) = (key(&home, "old"), key(&home, "new"));
    let full = ["sh", "-c", r#"trap "" XFSZ; ulimit -f 2; exec "$0" "$@""#];
    let clear = kept(&home);

    let refused = keyed_under(&home, &old, "seal", &full);
    assert_eq!((refused.code, refused.error().0.as_str()), (1, "state_dir"), "{refused:?}");
    assert!(refused.error().1.contains("writing"), "{refused:?}");
    assert_eq!(kept(&home), clear);

    assert_eq!(keyed(&home, &old, &["vault", "seal"]).json()["files"], 3);
    let sealed = kept(&home);
    let refused = rotate(&home, &old, &new, &full);
    assert_eq!((refused.code, refused.error().0.as_str()), (1, "state_dir"), "{refused:?}");
    assert_eq!(kept(&home), sealed);
    // It recovers when there is room again.
    assert_eq!(rotate(&home, &old, &new, &[]).json()["files"], 3);
    assert_eq!(whole_with(&home, [&old, &new]), Some(&*new));
    assert_eq!(addresses(&keyed(&home, &new, &["accounts"])).len(), 2);
}
