//! The vault sealed at rest, as an operator has it: where the key comes from, who gets to see it, what is said when it is
//! missing or wrong, and what a kill at any step leaves. With the real program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../../tests/support/mod.rs"]
mod journey;
#[path = "../support/mod.rs"]
mod support;

mod interrupted;
mod key;
mod storing;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Home, Ran, ran};
use valetkey_agent::VaultKey;

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

/// The same command, started by the one in `before`.
fn under(command: &Command, before: &[&str]) -> Command {
    let mut whole = Command::new(before.first().map_or(command.get_program(), |first| first.as_ref()));
    if let Some(rest) = before.get(1..) {
        whole.args(rest).arg(command.get_program());
    }
    whole.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        whole.env(name, value.unwrap());
    }
    whole
}

fn rotate(home: &Home, old: &Path, new: &Path, before: &[&str]) -> Ran {
    let command = home.command(&["vault", "rotate", "--json", "--vault-key-fd", "3", "--new-key-fd", "4"]);
    ran(&mut with_descriptors(&under(&command, before), &[(3, old), (4, new)]))
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
