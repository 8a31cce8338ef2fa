//! What a kill in the middle of storing leaves behind.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use valetkey_agent::VaultKey;
use valetkey_tests::tenant::{ALICE, Lifetimes};

use crate::support::write;
use crate::{AGE, files, holds, journey};

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
        assert_eq!(world.daemon.run(&["vault", "seal"]).unwrap().0, 0);
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
