//! What opens a sealed vault, and what happens to files that do not belong in it.

use valetkey_agent::at_rest;
use valetkey_agent::{AtRestError, TokenFailure, VaultKey};
use valetkey_tests::tenant::{ALICE, ANA};

use crate::support::World;
use crate::{AGE, age_opens, kept, put, refused, sealed_world};

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

/// A thief who can write, too, and gives the agent a vault of his own in clear: its keys, its accounts, or all of it.
#[tokio::test]
async fn what_somebody_lays_in_clear_into_a_sealed_vault_or_in_its_place_is_neither_sealed_nor_served() {
    let theirs = World::new().await;
    let running = theirs.run().await;
    let _anas = theirs.connect(&running.agent, ANA).await;
    running.stop().await;
    let (world, key) = sealed_world().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let (dir, source) = (world.state_dir(), theirs.state_dir());
    let ours = kept(&dir);
    let lay = |name: &str| {
        let path = dir.join(name);
        put(&path, &std::fs::read(source.join(name)).unwrap());
        path
    };
    let account = |world: &World| {
        let file = world.file(ANA);
        file.strip_prefix(world.state_dir()).unwrap().to_str().unwrap().to_owned()
    };
    let account = account(&theirs);
    let refused_as_it_is = |why: AtRestError| {
        let before = kept(&dir);
        for _ in 0..2 {
            assert_eq!(refused(world.open_with(Some(key.clone()))), why);
            assert_eq!(kept(&dir), before, "nothing is sealed or moved");
        }
    };

    // His keys among our accounts.
    let agent = lay("agent.json");
    refused_as_it_is(AtRestError::NotSealed { path: agent.clone() });
    // His account, too.
    lay(&account);
    refused_as_it_is(AtRestError::NotSealed { path: agent.clone() });
    // Nothing of ours is left.
    for name in ours.keys() {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    lay("agent.json");
    lay("registry.json");
    refused_as_it_is(AtRestError::VaultNotSealed { path: dir.clone() });
    // It is a whole vault: who gives no key is served from it.
    assert_eq!(theirs.who(&world.open_with(None).unwrap(), ANA).await.unwrap(), ANA.username);
    // No keys, which a start would make, but an account or a list of devices.
    std::fs::remove_file(&agent).unwrap();
    refused_as_it_is(AtRestError::NotSealed { path: dir.join("registry.json") });
    std::fs::remove_file(dir.join("registry.json")).unwrap();
    refused_as_it_is(AtRestError::NotSealed { path: dir.join(&account) });

    // Nothing came of it all.
    std::fs::remove_file(dir.join(&account)).unwrap();
    for (name, bytes) in &ours {
        put(&dir.join(name), bytes);
    }
    assert_eq!(world.who(&world.open(), ALICE).await.unwrap(), ALICE.username);
}
