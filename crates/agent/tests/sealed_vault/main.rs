//! The vault sealed at rest, from the inside: what is on disk, what opens it, and what happens to files that do not belong.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod conversion;
mod strangers;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::World;
use valetkey_agent::{AgentError, AtRestError, VaultKey};

const AGE: &[u8] = b"age-encryption.org/v1\n";

async fn sealed_world() -> (World, VaultKey) {
    let key = VaultKey::generate();
    let mut world = World::new().await;
    world.vault_key = Some(key.clone());
    (world, key)
}

/// Every file below `folder`, by its path in it. A file may go while we look.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// What can be wrong with a key concerns these; the audit goes on as it is.
fn kept(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(folder);
    all.retain(|path, _| !path.starts_with("audit") && *path != Path::new("lock"));
    all
}

fn put(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Debian's age, with the key in a file of its own.
fn age_opens(file: &Path, key: &VaultKey) -> Option<Vec<u8>> {
    let mut identity = tempfile::NamedTempFile::new().unwrap();
    identity.write_all(key.to_text().expose().as_bytes()).unwrap();
    let output = Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(identity.path())
        .arg(file)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    output.status.success().then_some(output.stdout)
}

fn refused(opened: Result<valetkey_agent::Agent, AgentError>) -> AtRestError {
    opened.unwrap_err().at_rest().expect("it is about the key").clone()
}
