//! The vault's files: when they are written, and what is made at a start of damaged and missing ones and those of an earlier
//! or a later version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[cfg(unix)]
use std::collections::BTreeMap;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use support::{World, advance, id, refused_because, within};
use valetkey_agent::{AgentError, BlockedBy, Health, TokenFailure, VaultError};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, ANA, CAROL};

const HOUR: Duration = Duration::from_secs(3600);

/// Shows H8 for a corrupt file, and of H4 that what was stored is loaded at start.
#[tokio::test]
async fn a_corrupt_file_is_set_aside_a_newer_one_left_alone_and_the_rest_goes_on() {
    let world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let _anas = world.connect(&running.agent, ANA).await;
    let _carols = world.connect(&running.agent, CAROL).await;
    running.stop().await;
    let damaged = b"{\"ValetKey\": {\"format\": 1, \"acc";
    put(&world.file(ALICE), damaged);
    let mut newer = world.json(CAROL);
    newer["ValetKey"]["format"] = 2.into();
    newer["ValetKey"]["health_of_tomorrow"] = true.into();
    let newer = newer.to_string();
    put(&world.file(CAROL), newer.as_bytes());

    let agent = world.open();

    let troubles = agent.status().troubles;
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    let aside = troubles.iter().find_map(|trouble| trouble.set_aside_as.clone()).unwrap();
    assert_eq!(agent.state_dir().set_aside().read(&aside).unwrap().unwrap().as_slice(), damaged);
    assert_eq!(std::fs::read(world.file(CAROL)).unwrap(), newer.as_bytes(), "untouched");
    for user in [ALICE, CAROL] {
        let failure = world.who(&agent, user).await.unwrap_err();
        assert!(matches!(failure, TokenFailure::AuthRequired { never_connected: true, .. }));
    }
    assert_eq!(world.who(&agent, ANA).await.unwrap(), ANA.username, "loaded at start");
    drop(agent);

    let running = world.run().await;
    let mut device = world.pair(&running.agent, CAROL).await;
    device.hand_over(&world.sign_in(CAROL).await);
    assert_eq!(refused_because(&device.receipt().await), "unsupported", "it would be no better another time");
    device.disconnect(CAROL);
    assert_eq!(refused_because(&device.receipt().await), "unsupported");
    device.hello();
    let state = device.state(|_| true).await;
    assert!(state.accounts.is_empty());
    assert_eq!(std::fs::read(world.file(CAROL)).unwrap(), newer.as_bytes());
    running.stop().await;
}

fn put(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Shows H8 for a file that is damaged while the agent runs.
#[tokio::test]
async fn a_file_that_is_found_corrupt_later_is_set_aside_as_it_is() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let cut = std::fs::read(world.file(ALICE)).unwrap()[..500].to_vec();
    put(&world.file(ALICE), &cut);

    let AgentError::Vault(VaultError::SetAside { aside, .. }) =
        running.agent.remove_account(&id(ALICE)).unwrap_err()
    else {
        panic!("it is not an account");
    };

    let kept = running.agent.state_dir().set_aside().read(&aside).unwrap().unwrap();
    assert_eq!(kept.as_slice(), cut);
    assert!(!world.file(ALICE).exists() && running.agent.accounts().is_empty());
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }), "connecting again mends it");
    running.stop().await;
}

/// Shows of H8 that one file which is not the agent's own any more is no matter of anybody else's.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_may_have_read_keeps_the_connection_and_takes_the_next_sign_in_when_it_is_mended()
{
    use std::os::unix::fs::PermissionsExt as _;

    use valetkey_agent::Update;

    let world = World::new().await;
    let mut running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let mut anas = world.pair(&running.agent, ANA).await;
    let mode =
        |mode| std::fs::set_permissions(world.file(ALICE), std::fs::Permissions::from_mode(mode)).unwrap();
    while running.updates.try_recv().is_ok() {}
    mode(0o640);

    let sealed = alices.hand_over(&world.sign_in(ALICE).await);
    // After it in the broker's queue.
    anas.hand_over(&world.sign_in(ANA).await);
    assert!(matches!(anas.receipt().await.outcome, Outcome::Stored { .. }));

    while let Ok(update) = running.updates.try_recv() {
        assert!(!matches!(update, Update::Link(_)), "{update:?}");
    }
    let troubles = running.agent.status().troubles;
    assert_eq!((troubles.len(), &*troubles[0].file), (1, &*format!("{}.json", id(ALICE))), "{troubles:?}");
    mode(0o600);
    alices.send(sealed.as_bytes());
    let receipt = alices.receipt().await;
    assert_eq!(receipt.of, sealed.jti);
    assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
    running.stop().await;
}

/// Shows H8 for a missing file: the agent starts, and programs and the device hear that nothing is connected.
#[tokio::test]
async fn a_file_that_is_gone_is_an_account_that_is_not_connected_until_the_next_handoff() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    std::fs::remove_file(world.file(ALICE)).unwrap();

    let running = world.run().await;
    let failure = world.who(&running.agent, ALICE).await.unwrap_err();
    assert!(matches!(failure, TokenFailure::AuthRequired { never_connected: true, .. }), "{failure:?}");
    device.hello();
    device.state(|state| state.accounts.is_empty()).await;

    device.hand_over(&world.sign_in(ALICE).await);
    device.receipt().await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}

/// Shows of M14 that a file from before a member was added is opened, and has it after the next refresh.
#[tokio::test]
async fn a_file_of_an_earlier_version_is_opened_and_brought_up_to_date() {
    let world = World::new().await;
    let running = world.run().await;
    let device = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let seen = format!("/ValetKey/seen/{}", device.keys.thumbprint().as_str());
    // One earlier version for each member that came later.
    let came_later =
        [("/ValetKey", "admitted"), (&*seen, "settled_before"), (&seen, "brought"), (&seen, "overtaken")];
    for (place, member) in came_later {
        let mut earlier = world.json(ALICE);
        let without = earlier.pointer_mut(place).unwrap().as_object_mut().unwrap();
        without.remove(member).unwrap();
        put(&world.file(ALICE), earlier.to_string().as_bytes());
        // A refresh is due.
        advance(2 * HOUR).await;

        let agent = world.open();

        assert_eq!(agent.status().troubles.len(), 0, "{member}");
        assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username, "{member}");
        let now = world.json(ALICE);
        assert!(!now.pointer(place).unwrap()[member].is_null(), "{member}");
        drop(agent);
    }
    assert_eq!(world.json(ALICE).pointer(&seen).unwrap()["brought"], true, "its sign-in works here");

    // One that only an invite can say: it stays away, and the account goes on.
    let mut earlier = world.json(ALICE);
    earlier["ValetKey"].as_object_mut().unwrap().remove("expected_email").unwrap();
    put(&world.file(ALICE), earlier.to_string().as_bytes());
    advance(2 * HOUR).await;
    let (agent, refreshes) = (world.open(), world.refreshes().await);
    assert_eq!(agent.status().troubles.len(), 0);
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(world.refreshes().await, refreshes + 1);
    assert_eq!(world.json(ALICE)["ValetKey"].get("expected_email"), None);
}

/// Every file with sign-ins or keys in it, and the folder of the accounts, in which a temporary one leaves its trace: which
/// file it is, and when it or what is known of it was last changed.
#[cfg(unix)]
fn stamps(world: &World) -> BTreeMap<PathBuf, (u64, i64, i64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let vault = world.state_dir().join("vault");
    let accounts = std::fs::read_dir(&vault).unwrap().map(|entry| entry.unwrap().path());
    let keys = ["agent.json", "registry.json"].map(|name| world.state_dir().join(name));
    let stamp = |path: PathBuf| {
        // A temporary one may have taken its place meanwhile.
        let facts = std::fs::metadata(&path).ok()?;
        Some((path, (facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec())))
    };
    accounts.chain(keys).chain([vault.clone()]).filter_map(stamp).collect()
}

/// Shows of H5 that an unchanged cache causes no write, and that a silent refresh rotates the file.
#[cfg(unix)]
#[tokio::test]
async fn serving_stopping_starting_and_looking_at_what_is_due_write_nothing_and_a_refresh_replaces_the_file()
{
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let (before, refreshes) = (stamps(&world), world.refreshes().await);

    for _ in 0..10 {
        assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    }
    assert_eq!(stamps(&world), before, "served from memory");
    for _ in 0..20 {
        // It looks at the clock every half minute.
        advance(Duration::from_secs(31)).await;
        device.hello();
        device.state(|_| true).await;
    }
    assert_eq!(stamps(&world), before, "nothing was due");
    running.stop().await;
    assert_eq!(stamps(&world), before, "stopped");

    let agent = world.open();
    assert_eq!(stamps(&world), before, "started");
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    drop(agent);
    let running = world.run().await;
    device.hello();
    device.state(|state| state.accounts.len() == 1).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(stamps(&world), before, "served from the file");
    assert_eq!(world.refreshes().await, refreshes);

    // The same look, an hour later.
    advance(HOUR).await;
    within("the file is replaced", async {
        while stamps(&world)[&world.file(ALICE)] == before[&world.file(ALICE)] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let after = stamps(&world);
    assert_ne!(after[&world.file(ALICE)].0, before[&world.file(ALICE)].0, "another file in its place");
    for keys in ["agent.json", "registry.json"].map(|name| world.state_dir().join(name)) {
        assert_eq!(after[&keys], before[&keys], "{}", keys.display());
    }
    assert_eq!(world.refreshes().await, refreshes + 1);
    running.stop().await;
}

/// After a downgrade: what the other capability stands for, nobody here can say.
///
/// Shows of M14 that what a later version has written is neither lost nor taken for something else.
#[tokio::test]
async fn a_capability_of_a_later_version_lets_through_no_permission_that_this_one_does_not_know() {
    let world = World::new().await;
    let running = world.run().await;
    let _device = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let mut later = world.json(ALICE);
    later["ValetKey"]["capabilities"].as_array_mut().unwrap().push("files".into());
    put(&world.file(ALICE), later.to_string().as_bytes());
    advance(2 * HOUR).await;

    // What was asked for by capabilities that are known is served.
    let agent = world.open();
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    let troubles = agent.status().troubles;
    assert_eq!((troubles.len(), &*troubles[0].file), (1, &*format!("{}.json", id(ALICE))), "{troubles:?}");
    assert!(troubles[0].problem.contains("files") && troubles[0].set_aside_as.is_none(), "{troubles:?}");

    world.tenant.granted(ALICE, &["Files.Read"], &[]).await.unwrap();
    advance(2 * HOUR).await;
    let failure = world.who(&agent, ALICE).await.unwrap_err();
    let blocked = TokenFailure::Blocked { by: BlockedBy::Operator, reason: "granted-more".to_owned() };
    assert_eq!(failure, blocked);
    assert_eq!(agent.accounts()[0].health, Health::Blocked);
    let kept = world.json(ALICE);
    assert_eq!(kept["ValetKey"]["capabilities"], later["ValetKey"]["capabilities"]);
    assert_eq!(kept["RefreshToken"].as_object().unwrap().len(), 1, "nothing is lost by it");
    drop(agent);

    // One that has not been tried yet is no exception.
    let mut untried = kept.clone();
    let ours = untried["ValetKey"].as_object_mut().unwrap();
    ours.remove("refreshed_at").unwrap();
    for seen in ours["seen"].as_object_mut().unwrap().values_mut() {
        seen["verdict"] = serde_json::json!({ "result": "pending" });
    }
    put(&world.file(ALICE), untried.to_string().as_bytes());
    let agent = world.open();
    advance(2 * HOUR).await;
    world.who(&agent, ALICE).await.unwrap_err();
    assert_eq!(world.json(ALICE)["RefreshToken"].as_object().unwrap().len(), 1, "nothing is lost by it");
    drop(agent);

    // The later version is back, as far as this one can tell.
    world.tenant.granted(ALICE, &[], &[]).await.unwrap();
    let running = world.run().await;
    advance(2 * HOUR).await;
    within("it works again", async {
        while running.agent.accounts()[0].health != Health::Connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    running.stop().await;
}
