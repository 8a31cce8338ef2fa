//! From clear to sealed, from key to key, and back.

use std::path::PathBuf;

use valetkey_agent::at_rest::{self, Changed, Look};
use valetkey_agent::{AtRestError, StateDirError, VaultKey};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, ANA};

use crate::support::World;
use crate::{AGE, age_opens, kept, put, refused};

/// Sealing an older vault, and what is in the files.
///
/// Shows of M14 that files from before there was a key can be sealed. Of older formats there is none yet.
#[tokio::test]
async fn a_vault_from_before_is_refused_until_it_has_been_sealed_and_nobody_has_to_connect_again() {
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
    let refusal = refused(world.open_with(world.vault_key.clone()));
    assert_eq!(refusal, AtRestError::VaultNotSealed { path: world.state_dir() });
    assert_eq!(kept(&world.state_dir()), before);
    at_rest::seal(&world.state_dir(), &key).unwrap();
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

    let by_one = std::fs::read(world.file(ALICE)).unwrap();
    assert_eq!(at_rest::rotate(&dir, &one, &two).unwrap(), done(4));
    assert_eq!(at_rest::rotate(&dir, &one, &two).unwrap().files, 0);
    let by_the_old_one = at_rest::look(&dir, Some(&one)).unwrap();
    assert_eq!((by_the_old_one.opens, by_the_old_one.unopened.len()), (Some(false), 3));
    world.vault_key = Some(two.clone());
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
    let held = world.open();
    assert!(matches!(at_rest::rotate(&dir, &two, &one).unwrap_err(), StateDirError::Held { .. }));
    drop(held);

    put(&world.file(ANA), &by_one);
    assert!(matches!(of(at_rest::unseal(&dir, &two).unwrap_err()), AtRestError::OtherKey { .. }));
    assert!(at_rest::look(&dir, None).unwrap().sealed, "found before anything was changed");
    std::fs::remove_file(world.file(ANA)).unwrap();
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
async fn half_sealed_is_refused_with_and_without_a_key_until_sealing_or_unsealing_is_done_again() {
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
    for given in [&key, &other] {
        let clear = AtRestError::NotSealed { path: dir.join("agent.json") };
        assert_eq!(refused(world.open_with(Some(given.clone()))), clear);
    }
    let wrong = at_rest::seal(&dir, &other).unwrap_err();
    assert!(matches!(wrong, StateDirError::AtRest(AtRestError::OtherKey { path }) if path == file));
    assert_eq!(kept(&dir), before);
    let look = at_rest::look(&dir, None).unwrap();
    assert_eq!((look.sealed, look.astray.len()), (false, 1), "{look:?}");

    assert!(at_rest::seal(&dir, &key).unwrap().finished);
    world.vault_key = Some(key.clone());
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
    assert!(at_rest::look(&dir, Some(&key)).unwrap().astray.is_empty());

    put(&dir.join("agent.json"), &agent);
    assert!(at_rest::unseal(&dir, &key).unwrap().finished);
    assert_eq!(world.who(&world.open_with(None).unwrap(), ALICE).await.unwrap(), ALICE.username);
}
