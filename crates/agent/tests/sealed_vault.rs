//! The vault sealed at rest, from the inside: what is on disk, what opens it, and what happens to files that do not belong.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{World, advance, id};
use valetkey_agent::at_rest::{self, Changed, Look};
use valetkey_agent::{AgentError, AtRestError, StateDirError, TokenFailure, VaultKey};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, ANA, Reuse};

const AGE: &[u8] = b"age-encryption.org/v1\n";
const HOUR: Duration = Duration::from_secs(3600);

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
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
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

/// Keeps every content that any file ever has, temporary ones too, as long as it looks.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<HashSet<Vec<u8>>>,
}

impl Watch {
    fn over(folder: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = HashSet::new();
            while !stopped.load(Ordering::Relaxed) {
                if folder.exists() {
                    seen.extend(files(&folder).into_values());
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            seen.extend(files(&folder).into_values());
            seen
        });
        Self { stop, thread }
    }

    fn seen(self) -> HashSet<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn tokens(world: &World) -> Vec<String> {
    let secrets = world.tenant.secrets().await.unwrap();
    [secrets.refresh_tokens, secrets.access_tokens, secrets.id_tokens].concat()
}

fn any_in(contents: &HashSet<Vec<u8>>, secrets: &[String]) -> usize {
    let holds =
        |bytes: &[u8], secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    contents.iter().filter(|bytes| secrets.iter().any(|secret| holds(bytes, secret))).count()
}

/// Through connecting, refreshing, a change of keys and setting a damaged file aside.
///
/// Shows of H5 that a silent refresh rotates the file, and of H4 that it is loaded at start, where it is sealed.
#[tokio::test]
async fn no_token_is_in_any_file_at_any_moment_and_the_msal_form_is_made_on_export_only() {
    let (mut world, key) = sealed_world().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let watch = Watch::over(world.state_dir());
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut contents = vec![std::fs::read(world.file(ALICE)).unwrap()];
    for _ in 0..3 {
        advance(HOUR).await;
        assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
        let rotated = std::fs::read(world.file(ALICE)).unwrap();
        assert!(!contents.contains(&rotated), "rotated on disk");
        contents.push(rotated);
    }
    let export = running.agent.export_msal(&id(ALICE)).unwrap();
    running.stop().await;

    let new = VaultKey::generate();
    at_rest::rotate(&world.state_dir(), &key, &new).unwrap();
    world.vault_key = Some(new.clone());
    let _anas = {
        let running = world.run().await;
        let device = world.connect(&running.agent, ANA).await;
        running.stop().await;
        device
    };
    let mut damaged = std::fs::read(world.file(ANA)).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    put(&world.file(ANA), &damaged);
    let agent = world.open();
    let aside = agent.status().troubles[0].set_aside_as.clone().unwrap();
    assert!(world.state_dir().join("quarantine").join(aside).exists());
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    drop(agent);

    let seen = watch.seen();
    let secrets = tokens(&world).await;
    assert!(secrets.len() > 10 && seen.len() > 10, "{} secrets, {} contents", secrets.len(), seen.len());
    assert_eq!(any_in(&seen, &secrets), 0, "a token was on disk in clear");
    for (name, bytes) in files(&world.state_dir()) {
        let is_ours = name.starts_with("vault") || name.extension().is_some_and(|end| end == "json");
        if is_ours && !name.starts_with("audit") {
            assert!(bytes.starts_with(AGE), "{}", name.display());
        }
    }
    let export: serde_json::Value = serde_json::from_slice(&export).unwrap();
    assert_eq!(export["RefreshToken"].as_object().unwrap().len(), 1);
    assert!(export.get("ValetKey").is_none());
}

/// The check above finds what it looks for where the vault is not sealed.
#[tokio::test]
async fn the_same_look_at_a_vault_that_is_not_sealed_finds_the_tokens() {
    let world = World::new().await;
    let watch = Watch::over(world.state_dir());
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    assert!(any_in(&watch.seen(), &tokens(&world).await) > 0);
}

/// Sealing an older vault, and what is in the files.
///
/// Shows of M14 that files from before there was a key are opened and sealed. Of older formats there is none yet.
#[tokio::test]
async fn a_vault_from_before_is_sealed_by_the_first_start_with_a_key_and_nobody_has_to_connect_again() {
    let mut world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let identity = running.agent.id();
    running.stop().await;
    put(&world.state_dir().join("quarantine/old.json.1"), b"{\"secret\": \"x\"}");
    let before = kept(&world.state_dir());
    assert!(before.values().all(|bytes| !bytes.starts_with(AGE)));

    let key = VaultKey::generate();
    world.vault_key = Some(key.clone());
    let running = world.run().await;

    assert_eq!(running.agent.id(), identity);
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    // The device is known, and its next sign-in is judged by the generation that was sealed.
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.stop().await;
    for (name, bytes) in kept(&world.state_dir()) {
        assert!(bytes.starts_with(AGE), "{}", name.display());
        let path = world.state_dir().join(&name);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o600, "{}", name.display());
        let inside = age_opens(&path, &key).expect("age opens it");
        if name.starts_with("quarantine") {
            assert_eq!(inside, before[&name]);
        }
    }
    let inside: serde_json::Value =
        serde_json::from_slice(&age_opens(&world.file(ALICE), &key).unwrap()).unwrap();
    assert_eq!(inside["ValetKey"]["format"], 1);
    assert_eq!(inside["RefreshToken"].as_object().unwrap().len(), 1);
    let audit = std::fs::read_to_string(world.state_dir().join("audit/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"vault_sealed\"").count(), 1);
}

#[tokio::test]
async fn a_wrong_key_and_none_are_refused_and_nothing_is_moved_or_written() {
    let (world, key) = sealed_world().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let before = kept(&world.state_dir());
    let agent = world.state_dir().join("agent.json");

    for _ in 0..2 {
        assert_eq!(refused(world.open_with(None)), AtRestError::KeyNeeded { path: agent.clone() });
        let other = Some(VaultKey::generate());
        assert_eq!(refused(world.open_with(other)), AtRestError::OtherKey { path: agent.clone() });
        assert_eq!(kept(&world.state_dir()), before);
    }

    let agent = world.open_with(Some(key)).unwrap();
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert!(agent.status().troubles.is_empty());
}

/// Devices can be invited again; the agent's keys cannot be made again.
#[tokio::test]
async fn a_damaged_registry_is_set_aside_and_damaged_keys_are_refused_and_left() {
    let (world, key) = sealed_world().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let cut = |name: &str| {
        let path = world.state_dir().join(name);
        let whole = std::fs::read(&path).unwrap();
        put(&path, &whole[..whole.len() - 1]);
        path
    };

    let registry = cut("registry.json");
    let agent = world.open();
    let troubles = agent.status().troubles;
    assert_eq!((troubles.len(), troubles[0].file.as_str()), (1, "registry.json"), "{troubles:?}");
    assert!(troubles[0].set_aside_as.is_some() && !registry.exists());
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    drop(agent);

    let path = cut("agent.json");
    let before = kept(&world.state_dir());
    assert_eq!(refused(world.open_with(Some(key))), AtRestError::Damaged { path });
    assert_eq!(kept(&world.state_dir()), before);
}

/// A thief who can write, too: files of another account, of another key, in clear, and cut.
///
/// Shows H8 for a corrupt file that is sealed.
#[tokio::test]
async fn a_file_that_does_not_belong_is_not_used_and_only_a_damaged_one_is_set_aside() {
    let (world, key) = sealed_world().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let _anas = world.connect(&running.agent, ANA).await;
    running.stop().await;
    let (alices, anas) = (std::fs::read(world.file(ALICE)).unwrap(), std::fs::read(world.file(ANA)).unwrap());
    let restore = || {
        put(&world.file(ALICE), &alices);
        put(&world.file(ANA), &anas);
    };
    let inside = age_opens(&world.file(ALICE), &key).unwrap();

    // Swapped: both name their account inside.
    put(&world.file(ALICE), &anas);
    put(&world.file(ANA), &alices);
    let agent = world.open();
    assert!(agent.accounts().is_empty());
    let troubles = agent.status().troubles;
    assert_eq!(troubles.len(), 2);
    for trouble in &troubles {
        assert!(trouble.problem.contains("another account"), "{trouble:?}");
        let aside = trouble.set_aside_as.as_ref().unwrap();
        let bytes = agent.state_dir().set_aside().read(aside).unwrap().unwrap();
        assert!(bytes.starts_with(AGE));
    }
    drop(agent);

    let other = VaultKey::generate();
    let encrypted = {
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("state");
        let made = valetkey_agent::StateDir::open_with(&path, Some(other)).unwrap();
        made.replace("x", &inside).unwrap();
        std::fs::read(path.join("x")).unwrap()
    };
    for (planted, problem) in [(&inside, "is not sealed"), (&encrypted, "sealed with another key")] {
        restore();
        put(&world.file(ALICE), planted);
        let agent = world.open();
        let troubles = agent.status().troubles;
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert!(troubles[0].problem.contains(problem), "{troubles:?}");
        assert_eq!(troubles[0].set_aside_as, None);
        assert_eq!(std::fs::read(world.file(ALICE)).unwrap(), *planted, "left where it is");
        let failure = world.who(&agent, ALICE).await.unwrap_err();
        assert!(matches!(failure, TokenFailure::Storage { .. }), "{failure:?}");
        assert_eq!(world.who(&agent, ANA).await.unwrap(), ANA.username, "the others go on");
        drop(agent);
    }

    // The operator says that it belongs there.
    restore();
    put(&world.file(ALICE), &inside);
    let changed = at_rest::seal(&world.state_dir(), &key).unwrap();
    assert_eq!((changed.files, changed.finished), (1, true));
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);

    restore();
    put(&world.file(ALICE), &alices[..alices.len() - 1]);
    let agent = world.open();
    let troubles = agent.status().troubles;
    assert!(troubles[0].problem.contains("sealed and damaged"), "{troubles:?}");
    let aside = troubles[0].set_aside_as.as_ref().unwrap();
    assert_eq!(
        agent.state_dir().set_aside().read(aside).unwrap().unwrap().as_slice(),
        &alices[..alices.len() - 1]
    );
    assert!(matches!(world.who(&agent, ALICE).await, Err(TokenFailure::AuthRequired { .. })));
}

#[tokio::test]
async fn sealing_changing_the_key_and_unsealing_keep_every_byte_and_can_be_done_again() {
    let mut world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let dir = world.state_dir();
    put(&dir.join("quarantine/old.json.1"), b"{}");
    put(&dir.join("quarantine/1-abc.message"), b"not ours to seal");
    let before = kept(&dir);
    let (one, two) = (VaultKey::generate(), VaultKey::generate());
    let done = |files| Changed { files, ..Changed::default() };

    assert_eq!(at_rest::seal(&dir, &one).unwrap(), done(4));
    assert_eq!(at_rest::seal(&dir, &one).unwrap(), done(0));
    let look = at_rest::look(&dir, Some(&one)).unwrap();
    assert_eq!(look, Look { sealed: true, files: 4, opens: Some(true), ..Look::default() });
    assert_eq!(at_rest::look(&dir, Some(&two)).unwrap().opens, Some(false));
    let of = |error: StateDirError| match error {
        StateDirError::AtRest(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(of(at_rest::seal(&dir, &two).unwrap_err()), AtRestError::OtherKey { .. }));
    assert!(matches!(of(at_rest::unseal(&dir, &two).unwrap_err()), AtRestError::OtherKey { .. }));
    assert_eq!(of(at_rest::rotate(&dir, &one, &one).unwrap_err()), AtRestError::SameKey);

    assert_eq!(at_rest::rotate(&dir, &one, &two).unwrap(), done(4));
    assert_eq!(at_rest::rotate(&dir, &one, &two).unwrap().files, 0);
    assert_eq!(at_rest::look(&dir, Some(&one)).unwrap().unopened.len(), 3);
    world.vault_key = Some(two.clone());
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
    let held = world.open();
    assert!(matches!(at_rest::rotate(&dir, &two, &one).unwrap_err(), StateDirError::Held { .. }));
    drop(held);

    let alices = age_opens(&world.file(ALICE), &two).unwrap();
    assert_eq!(at_rest::unseal(&dir, &two).unwrap(), done(4));
    assert_eq!(at_rest::unseal(&dir, &two).unwrap(), done(0));
    assert!(matches!(of(at_rest::rotate(&dir, &two, &one).unwrap_err()), AtRestError::VaultNotSealed { .. }));
    let mut after = kept(&dir);
    // That one was renewed meanwhile.
    let name = PathBuf::from("vault").join(world.file(ALICE).file_name().unwrap());
    assert_eq!(after.insert(name.clone(), before[&name].clone()).unwrap(), alices);
    assert_eq!(after, before);
    world.vault_key = None;
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
}

/// What a crash can leave: some of the files sealed, `agent.json` not.
#[tokio::test]
async fn half_sealed_without_a_key_is_refused_and_with_that_key_finished() {
    let mut world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let dir = world.state_dir();
    let (key, other) = (VaultKey::generate(), VaultKey::generate());
    let agent = std::fs::read(dir.join("agent.json")).unwrap();
    let registry = std::fs::read(dir.join("registry.json")).unwrap();
    at_rest::seal(&dir, &key).unwrap();
    put(&dir.join("agent.json"), &agent);
    put(&dir.join("registry.json"), &registry);
    let before = kept(&dir);
    let file = world.file(ALICE);

    assert_eq!(refused(world.open_with(None)), AtRestError::KeyNeeded { path: file.clone() });
    assert_eq!(refused(world.open_with(Some(other))), AtRestError::OtherKey { path: file });
    assert_eq!(kept(&dir), before);
    let look = at_rest::look(&dir, None).unwrap();
    assert_eq!((look.sealed, look.astray.len()), (false, 1), "{look:?}");

    world.vault_key = Some(key.clone());
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
    assert!(at_rest::look(&dir, Some(&key)).unwrap().astray.is_empty());

    put(&dir.join("agent.json"), &agent);
    assert!(at_rest::unseal(&dir, &key).unwrap().finished);
    assert_eq!(world.who(&world.open_with(None).unwrap(), ALICE).await.unwrap(), ALICE.username);
}
