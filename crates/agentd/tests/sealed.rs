//! The vault sealed at rest, as an operator has it: where the key comes from, who gets to see it, what is said when it is
//! missing or wrong, and a change of keys that is killed at every step. With the real program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../tests/support/mod.rs"]
mod journey;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Home, Ran, is_alive, mode, ran, write};
use valetkey_agent::VaultKey;
use valetkey_agent::at_rest;
use valetkey_tests::program::Program;
use valetkey_tests::tenant::{ALICE, Lifetimes};

const AGE: &[u8] = b"age-encryption.org/v1\n";
const ANA: &str = "ana@contoso.example";
const BOB: &str = "bob@contoso.example";

/// A file with a new key beside the home's state directory.
fn key(home: &Home, name: &str) -> PathBuf {
    let path = home.folder.path().join(name);
    let ran = home.json(&["vault", "keygen", "--out", path.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    path
}

fn read_key(path: &Path) -> VaultKey {
    VaultKey::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The same command as a shell starts it that opens these files as descriptors.
fn with_descriptors(command: &Command, files: &[(u8, &Path)]) -> Command {
    let opened: String =
        files.iter().map(|(number, path)| format!(" {number}<'{}'", path.display())).collect();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" \"$@\"{opened}"));
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

/// A command with `--json` and the present key as descriptor 3.
fn keyed(home: &Home, key: &Path, arguments: &[&str]) -> Ran {
    let mut all = arguments.to_vec();
    all.extend(["--json", "--vault-key-fd", "3"]);
    ran(&mut with_descriptors(&home.command(&all), &[(3, key)]))
}

fn rotate(home: &Home, old: &Path, new: &Path, before: &[&str]) -> Ran {
    let command = home.command(&["vault", "rotate", "--json", "--vault-key-fd", "3", "--new-key-fd", "4"]);
    let mut whole = Command::new(before.first().map_or(command.get_program(), |first| first.as_ref()));
    if let Some(rest) = before.get(1..) {
        whole.args(rest).arg(command.get_program());
    }
    whole.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        whole.env(name, value.unwrap());
    }
    ran(&mut with_descriptors(&whole, &[(3, old), (4, new)]))
}

fn addresses(ran: &Ran) -> Vec<String> {
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    let accounts = answer.as_array().unwrap().iter();
    accounts.map(|account| account["username"].as_str().unwrap().to_owned()).collect()
}

/// Every file below, by its path; sockets are none.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// What must not change when a key is refused.
fn kept(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(&home.state());
    all.retain(|path, _| !path.starts_with("audit") && *path != Path::new("lock"));
    all
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(listed.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all
}

/// What another process of this machine could see of a key.
fn sees_key(pid: u32, file: &Path) -> bool {
    let line = VaultKey::to_text(&read_key(file));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let has_it_open = open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|path| path == file);
    let said = ["cmdline", "environ"].map(|name| fs::read(format!("/proc/{pid}/{name}")).unwrap());
    has_it_open || said.iter().any(|bytes| holds(bytes, line.expose()))
}

fn daemon(home: &Home, key: &Path) -> Program {
    let command = home.command(&["serve", "--json", "--vault-key-fd", "3"]);
    Program::start(&mut with_descriptors(&command, &[(3, key)]), &home.folder.path().join("log")).unwrap()
}

#[tokio::test]
async fn a_daemon_takes_the_key_by_a_descriptor_nobody_it_starts_gets_it_and_commands_beside_it_need_none() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let key = key(&home, "vault-key");
    assert_eq!(mode(&key), 0o600);

    let mut serving = daemon(&home, &key);
    serving.event("online").await.unwrap();

    let mosquitto = home.mosquitto();
    assert!(children_of(serving.pid()).contains(&mosquitto));
    for pid in [serving.pid(), mosquitto] {
        assert!(is_alive(pid) && !sees_key(pid, &key), "{pid} has the key");
    }
    // The check sees a process that does have it.
    let mut careless = with_descriptors(Command::new("sleep").arg("60"), &[(3, &key)]).spawn().unwrap();
    support::until("the careless process runs", || {
        fs::read(format!("/proc/{}/cmdline", careless.id())).is_ok_and(|line| line.starts_with(b"sleep"))
    })
    .await;
    assert!(sees_key(careless.id(), &key));
    careless.kill().unwrap();
    careless.wait().unwrap();

    for file in ["agent.json", "vault"] {
        let path = home.state().join(file);
        for (name, bytes) in
            if path.is_dir() { files(&path) } else { [(path.clone(), fs::read(&path).unwrap())].into() }
        {
            assert!(bytes.starts_with(AGE), "{}", name.display());
        }
    }
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
    home.invite();
    assert!(fs::read(home.state().join("registry.json")).unwrap().starts_with(AGE));
    let status = home.json(&["vault", "status"]);
    assert_eq!((status.code, &status.json()["sealed"]), (0, &true.into()), "{status:?}");
    let (code, message) = keyed(&home, &key, &["vault", "unseal"]).error();
    assert_eq!(code, "held");
    assert!(message.contains("in use by process") && message.contains("stop it first"), "{message}");
    serving.stop().unwrap();

    assert_eq!(addresses(&keyed(&home, &key, &["accounts"])), [ANA]);
}

/// Shows that nothing is lost by a key that is missing or wrong.
#[test]
fn a_missing_and_a_wrong_key_are_refused_with_what_mends_it_and_no_file_is_touched() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let (right, wrong) = (key(&home, "right"), key(&home, "wrong"));
    assert_eq!(keyed(&home, &right, &["vault", "seal"]).json()["files"], 2);
    let before = kept(&home);

    for command in ["serve", "accounts", "token", "status", "init"] {
        let none = home.json(&[command]);
        assert_eq!((none.code, none.error().0.as_str()), (4, "vault_key"), "{command}: {none:?}");
        for words in ["is sealed", "--vault-key-fd", "credential vault-key", "key_file"] {
            assert!(none.error().1.contains(words), "{none:?}");
        }
        let ran = keyed(&home, &wrong, &[command]);
        assert_eq!((ran.code, ran.error().0.as_str()), (4, "vault_key"), "{command}: {ran:?}");
        for words in ["sealed with another key", "Nothing was changed", "vault status"] {
            assert!(ran.error().1.contains(words), "{ran:?}");
        }
    }
    let status = keyed(&home, &wrong, &["vault", "status"]);
    assert_eq!((status.code, &status.json()["opens"]), (4, &false.into()));
    assert_eq!(kept(&home), before);
    assert!(fs::read_dir(home.state().join("quarantine")).unwrap().next().is_none());

    assert_eq!(addresses(&keyed(&home, &right, &["accounts"])), [ANA]);
}

#[test]
fn what_is_no_key_is_called_that_with_the_place_it_came_from() {
    let home = Home::initialised();
    let key = key(&home, "vault-key");
    let junk = home.folder.path().join("junk");
    write(&junk, "hunter2\n");
    let long = home.folder.path().join("long");
    write(&long, &"#\n".repeat(4096));
    let say = |files: &[(u8, &Path)], arguments: &[&str]| {
        let mut all = vec!["accounts", "--json"];
        all.extend(arguments);
        let ran = ran(&mut with_descriptors(&home.command(&all), files));
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(!ran.out.contains("hunter2"), "{ran:?}");
        let (code, message) = ran.error();
        assert_eq!(code, "vault_key");
        message
    };
    assert!(say(&[], &["--vault-key-fd", "3"]).contains("nothing is open there; add 3</path"));
    assert!(say(&[], &["--vault-key-fd", "1"]).contains("0, 3, 4"));
    assert!(say(&[(3, &junk)], &["--vault-key-fd", "3"]).contains("file descriptor 3 holds no vault key"));
    assert!(say(&[(3, &long)], &["--vault-key-fd", "3"]).contains("too long"));
    assert!(say(&[(0, &junk)], &["--vault-key-fd", "0"]).contains("file descriptor 0 holds no vault key"));

    home.configure("[vault]\nkey_file = \"/nowhere/vault-key\"\n");
    let message = say(&[], &[]);
    assert!(message.contains("/nowhere/vault-key") && message.contains("vault keygen --out"), "{message}");
    home.configure(&format!("[vault]\nkey_file = {:?}\n", junk.display().to_string()));
    fs::set_permissions(&junk, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(say(&[], &[]).contains(&format!("chmod o-rwx {}", junk.display())));
    let inside = home.state().join("vault-key");
    fs::copy(&key, &inside).unwrap();
    home.configure(&format!("[vault]\nkey_file = {:?}\n", inside.display().to_string()));
    assert!(say(&[], &[]).contains("lies in the state directory"));
    // Nobody has sealed anything meanwhile.
    home.configure("");
    assert_eq!(home.json(&["vault", "status"]).json()["sealed"], false);
}

#[test]
fn the_key_comes_by_standard_input_variable_credential_or_file_all_the_same() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let key = key(&home, "vault-key");
    assert_eq!(keyed(&home, &key, &["vault", "seal"]).code, 0);

    let standard = home.command(&["accounts", "--json", "--vault-key-fd", "0"]);
    assert_eq!(addresses(&ran(&mut with_descriptors(&standard, &[(0, &key)]))), [ANA]);
    let mut variable = home.command(&["accounts", "--json"]);
    variable.env("VALETKEY_VAULT_KEY_FD", "7");
    assert_eq!(addresses(&ran(&mut with_descriptors(&variable, &[(7, &key)]))), [ANA]);

    let credentials = home.folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(&key, credentials.join("vault-key")).unwrap();
    let mut credential = home.command(&["accounts", "--json"]);
    credential.env("CREDENTIALS_DIRECTORY", &credentials);
    assert_eq!(addresses(&ran(&mut credential)), [ANA]);
    // A service with other credentials has no key by that.
    fs::remove_file(credentials.join("vault-key")).unwrap();
    assert_eq!(ran(&mut credential).error().0, "vault_key");

    home.configure(&format!("[vault]\nkey_file = {:?}\n", key.display().to_string()));
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
}

#[test]
fn keygen_seal_status_rotate_and_unseal_say_what_they_did() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let old = key(&home, "old");
    let again = home.json(&["vault", "keygen", "--out", old.to_str().unwrap()]);
    assert_eq!((again.code, again.error().0.as_str()), (1, "exists"));
    let printed = home.run(&["vault", "keygen"]);
    assert!(VaultKey::parse(&printed.out).is_ok(), "{} bytes", printed.out.len());
    let new = key(&home, "new");
    let say = |arguments: &[&str], files: &[(u8, &Path)]| {
        let ran = ran(&mut with_descriptors(&home.command(arguments), files));
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
    };
    let three = ["--vault-key-fd", "3"];
    let vault = |command: &'static str| ["vault", command, three[0], three[1]];

    assert!(say(&["vault", "status"], &[]).contains("is not sealed"));
    let (code, message) = home.json(&["vault", "seal"]).error();
    assert!(code == "vault_key" && message.contains("vault keygen"), "{message}");
    assert!(say(&vault("seal"), &[(3, &old)]).contains("is sealed with the given key"));
    assert!(say(&vault("seal"), &[(3, &old)]).contains("already"));
    assert!(say(&vault("status"), &[(3, &old)]).contains("The given key opens it"));
    let (code, message) = keyed(&home, &old, &["vault", "rotate"]).error();
    assert!(code == "vault_key" && message.contains("--new-key-fd"), "{message}");
    let done = rotate(&home, &old, &new, &[]);
    assert_eq!((done.code, &done.json()["files"]), (0, &2.into()), "{done:?}");
    assert_eq!(rotate(&home, &old, &new, &[]).json()["files"], 0);
    assert!(say(&vault("status"), &[(3, &new)]).contains("The given key opens it"));
    let clear = say(&vault("unseal"), &[(3, &new)]);
    assert!(clear.contains("in clear again") && clear.contains("seal it again"), "{clear}");
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
    let (code, message) = rotate(&home, &new, &old, &[]).error();
    assert!(code == "vault_key" && message.contains("run: valetkey-agent vault seal"), "{message}");
    home.configure(&format!("[vault]\nkey_file = {:?}\n", new.display().to_string()));
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
    assert!(say(&["vault", "status"], &[]).contains("is not sealed"), "who only asks seals nothing");
    let audit = fs::read_to_string(home.state().join("audit/audit.jsonl")).unwrap();
    for event in ["vault_sealed", "vault_key_changed", "vault_unsealed"] {
        assert_eq!(audit.matches(&format!("\"{event}\"")).count(), 1, "{event}");
    }
    assert_eq!(home.json(&["audit", "verify"]).code, 0);
}

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
            // What was being written is cleared away; nothing else is touched.
            let without_temporary = |files: BTreeMap<PathBuf, Vec<u8>>| -> Vec<(PathBuf, Vec<u8>)> {
                files.into_iter().filter(|(path, _)| !path.to_string_lossy().contains(".new-")).collect()
            };
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

    let mut whole = Command::new(full[0]);
    let seal = home.command(&["vault", "seal", "--json", "--vault-key-fd", "3"]);
    whole.args(&full[1..]).arg(seal.get_program()).args(seal.get_args());
    whole.env_clear().env("HOME", home.folder.path());
    let refused = ran(&mut with_descriptors(&whole, &[(3, &old)]));
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

/// Leaves what was being written when a refreshed sign-in was about to take its place.
fn killed_while_storing(world: &journey::World) -> Vec<Vec<u8>> {
    let vault = world.daemon.state_dir().join("vault");
    let token = world.daemon.command(&["token", "--account", ALICE.mail]).unwrap();
    let killed = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "inject=renameat:signal=SIGKILL", "-P"])
        .arg(&vault)
        .arg(token.get_program())
        .args(token.get_args())
        .output()
        .unwrap();
    assert!(!killed.status.success() && killed.stdout.is_empty(), "{killed:?}");
    let left = files(&vault).into_iter().filter(|(name, _)| name.to_string_lossy().starts_with(".new-"));
    let left: Vec<Vec<u8>> = left.map(|(_, bytes)| bytes).collect();
    assert_eq!(left.len(), 1, "a temporary file");
    left
}

async fn secrets(world: &journey::World) -> Vec<String> {
    let secrets = world.tenant.secrets().await.unwrap();
    [secrets.refresh_tokens, secrets.access_tokens, secrets.id_tokens].concat()
}

async fn connected(key_file: Option<&Path>) -> journey::World {
    let world = journey::World::with_own_broker().await;
    if let Some(key) = key_file {
        let mut config =
            fs::File::options().append(true).open(world.daemon.state_dir().join("agent.toml")).unwrap();
        write!(config, "\n[vault]\nkey_file = {:?}\n", key.display().to_string()).unwrap();
    }
    // Every token is due when it is asked for.
    world.tenant.lifetimes(Lifetimes { access: Some(60), ..Default::default() }).await.unwrap();
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    world.desk().connect(&link, ALICE).await;
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
    world
}

/// The whole journey with a sealed vault, a kill in the middle of storing, a restart, an export.
///
/// Shows of H4 that what is half stored takes nothing away, and that what is stored is loaded at start.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_in_the_state_directory_after_a_journey_nor_in_what_a_kill_leaves_behind() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("vault-key");
    let made = VaultKey::generate();
    write(&key, made.to_text().expose());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let world = connected(Some(&key)).await;

    let left = killed_while_storing(&world);
    assert!(left[0].starts_with(AGE));
    let found = files(world.daemon.state_dir());
    let secrets = secrets(&world).await;
    assert!(secrets.len() > 4);
    for (name, bytes) in &found {
        assert!(!secrets.iter().any(|secret| holds(bytes, secret)), "a token in {}", name.display());
        assert!(!holds(bytes, "AGE-SECRET-KEY-1"), "a key in {}", name.display());
    }

    // It goes on with what was on disk; the copy for MSAL is made when it is asked for.
    assert_eq!(world.graph_me(ALICE).await, 200);
    let export = world.folder.path().join("cache.json");
    let (code, said) = world.daemon.run(&["export", "--msal", export.to_str().unwrap()]).unwrap();
    assert_eq!(code, 0, "{said}");
    let export: Value = serde_json::from_slice(&fs::read(export).unwrap()).unwrap();
    assert_eq!(export["RefreshToken"].as_object().unwrap().len(), 1);
    let vault = fs::read(world.daemon.vault_file().unwrap()).unwrap();
    assert!(vault.starts_with(AGE));
}

/// What the search above would find.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_leaves_behind_of_a_vault_that_is_not_sealed_holds_the_tokens() {
    let world = connected(None).await;
    let left = killed_while_storing(&world);
    let secrets = secrets(&world).await;
    assert!(secrets.iter().any(|secret| holds(&left[0], secret)));
}
