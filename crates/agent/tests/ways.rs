//! A broker whose accounts take their time: nobody waits for them but the device in question.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use futures::future::BoxFuture;
use support::{Device, World, id};
use tokio::sync::Semaphore;
use valetkey_agent::{BrokerAccess, BrokerAccounts, BrokerAccountsError, SharedAccess, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::message::Outcome;
use valetkey_handoff::{InviteId, Thumbprint, ToDevice};
use valetkey_tests::tenant::{ALICE, BOB};

/// Opens so many ways as it is allowed to, and hangs at the next.
#[derive(Debug)]
struct Slow {
    access: SharedAccess,
    may_open: Semaphore,
}

impl Slow {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self { access: world.access(), may_open: Semaphore::new(0) })
    }
}

impl BrokerAccounts for Slow {
    fn grant<'a>(&'a self, invite: &'a InviteId) -> BoxFuture<'a, Result<BrokerAccess, BrokerAccountsError>> {
        self.access.grant(invite)
    }

    fn enrolled<'a>(
        &'a self,
        _: &'a InviteId,
        _: &'a Thumbprint,
    ) -> BoxFuture<'a, Result<(), BrokerAccountsError>> {
        Box::pin(async {
            self.may_open.acquire().await.unwrap().forget();
            Ok(())
        })
    }

    fn revoke<'a>(&'a self, invite: &'a InviteId) -> BoxFuture<'a, Result<(), BrokerAccountsError>> {
        self.access.revoke(invite)
    }
}

#[tokio::test]
async fn an_agent_whose_broker_command_hangs_listens_serves_and_stops_all_the_same() {
    let world = World::new().await;
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    running.stop().await;

    let running = world.run_with(Slow::new(&world)).await;

    device.hello();
    device.state(|state| state.answers.is_some()).await;
    device.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    running.agent.tokens().token(&id(ALICE), Resource::Graph, None).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_device_is_told_that_it_is_paired_once_its_way_is_open_and_others_do_not_wait_for_that() {
    let world = World::new().await;
    let slow = Slow::new(&world);
    let mut running = world.run_with(slow.clone()).await;
    let (invite, another) =
        (world.invite(&running.agent, ALICE).await, world.invite(&running.agent, BOB).await);
    let mut first = Device::new(&invite).await;
    let mut second = Device::new(&another).await;
    slow.may_open.add_permits(1);
    first.enroll(&invite);
    assert!(matches!(first.next().await, ToDevice::Enrolled(_)));
    let paired = |update: &Update| matches!(update, Update::Paired { .. }).then_some(());
    running.until("the first is paired", paired).await;

    second.enroll(&another);
    // Messages are taken in order, so this one comes after it.
    while running.agent.devices().len() < 2 {
        first.hello();
        first.state(|state| state.answers.is_some()).await;
    }
    first.hand_over(&world.sign_in(ALICE).await);
    assert!(matches!(first.receipt().await.outcome, Outcome::Stored { .. }));
    while let Ok(update) = running.updates.try_recv() {
        assert!(paired(&update).is_none(), "its way is not open");
    }

    slow.may_open.add_permits(1);
    assert!(matches!(second.next().await, ToDevice::Enrolled(_)));
    running.stop().await;
}
