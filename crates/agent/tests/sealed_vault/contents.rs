//! What is on disk of a sealed vault, at any moment.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use valetkey_agent::VaultKey;
use valetkey_agent::at_rest;
use valetkey_tests::tenant::{ALICE, ANA, Reuse};

use crate::support::{World, advance, id};
use crate::{AGE, files, put, sealed_world};

const HOUR: Duration = Duration::from_secs(3600);

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
