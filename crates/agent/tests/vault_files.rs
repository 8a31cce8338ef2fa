//! What is in the vault at a start: damaged, missing, of an earlier or a later version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::{World, advance};
use valetkey_agent::TokenFailure;
use valetkey_tests::tenant::{ALICE, ANA, CAROL};

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
    // Messages are taken in order: with the answer, the handoff before it has been dealt with.
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
    let _device = world.connect(&running.agent, ALICE).await;
    running.stop().await;
    let mut earlier = world.json(ALICE);
    earlier["ValetKey"].as_object_mut().unwrap().remove("admitted").unwrap();
    put(&world.file(ALICE), earlier.to_string().as_bytes());
    // A refresh is due.
    advance(Duration::from_secs(2 * 3600)).await;

    let agent = world.open();

    assert_eq!(agent.status().troubles.len(), 0);
    assert_eq!(world.who(&agent, ALICE).await.unwrap(), ALICE.username);
    assert!(world.json(ALICE)["ValetKey"]["admitted"].is_string());
}
