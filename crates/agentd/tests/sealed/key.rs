//! Where the key comes from, and who gets to see it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use valetkey_agent::VaultKey;
use valetkey_tests::program::Program;

use crate::support::{self, Home, is_alive, mode, ran, write};
use crate::{AGE, ANA, addresses, files, holds, key, keyed, read_key, with_descriptors};

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
    assert_eq!(keyed(&home, &key, &["vault", "seal"]).code, 0);

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
    fs::rename(credentials.join("vault-key"), credentials.join("vault_key")).unwrap();
    assert_eq!(ran(&mut credential).error().0, "vault_key");

    home.configure(&format!("[vault]\nkey_file = {:?}\n", key.display().to_string()));
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
}

/// A slip in the credential's name, or a drop-in that is not read any more.
#[test]
fn where_the_configuration_says_sealed_nothing_is_made_or_opened_without_a_key() {
    let home = Home::new();
    let credentials = home.folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let key = key(&home, "vault-key");
    fs::copy(&key, credentials.join("vault_key")).unwrap();
    let config = home.folder.path().join("agent.toml");
    write(&config, "[vault]\nsealed = true\n");
    let config = config.to_str().unwrap();
    let ask = |command: &str, directory: Option<&Path>| {
        let mut asked = home.command(&[command, "--json", "--config", config]);
        asked.envs(directory.map(|path| ("CREDENTIALS_DIRECTORY", path)));
        let ran = ran(&mut asked);
        assert_eq!((ran.code, ran.error().0.as_str()), (4, "vault_key"), "{command}: {ran:?}");
        ran.error().1
    };

    for command in ["init", "serve"] {
        assert!(ask(command, None).contains("no key was given: not with --vault-key-fd"));
        let slip = ask(command, Some(&credentials));
        assert!(slip.contains("credential vault-key") && slip.ends_with("there are: vault_key"), "{slip}");
    }
    assert!(!home.state().exists(), "nothing was made");

    // With the key it is sealed from its first file on; and without one it stays shut.
    let made = keyed(&home, &key, &["init", "--config", config]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(fs::read(home.state().join("agent.json")).unwrap().starts_with(AGE));
    for command in ["accounts", "serve"] {
        assert!(ask(command, Some(&credentials)).contains("there are: vault_key"));
    }
}

#[test]
fn no_key_is_made_in_the_directory_that_it_is_to_protect() {
    let home = Home::initialised();
    let link = home.folder.path().join("elsewhere");
    std::os::unix::fs::symlink(home.state(), &link).unwrap();
    for folder in [home.state(), home.state().join("vault"), link.join("vault"), home.state().join("new/..")]
    {
        let out = folder.join("vault-key");
        let ran = home.json(&["vault", "keygen", "--out", out.to_str().unwrap()]);
        if folder.exists() {
            assert_eq!((ran.code, ran.error().0.as_str()), (4, "vault_key"), "{ran:?}");
            assert!(ran.error().1.contains("lies in the state directory"), "{ran:?}");
        }
        assert_ne!(ran.code, 0);
    }
    let mut here = home.command(&["vault", "keygen", "--json", "--out", "vault-key"]);
    assert_eq!(ran(here.current_dir(home.state())).error().0, "vault_key");
    assert!(!files(&home.state()).keys().any(|path| path.ends_with("vault-key")));
    assert_eq!(ran(here.current_dir(home.folder.path())).code, 0);
}
