//! A handoff whose sockets meet errors, from the connection that is made for it on: nothing is lost, and it goes on by itself.
//!
//! What no system gives is left out: EAGAIN where something has come (a poller that tells of each change once would wait for
//! ever), and any error of an eventfd or futex, by which threads wake each other. So is EINTR of `epoll_wait`, in which a thread
//! mostly stands: when strace lets go of it there, it may answer ENOSYS, and no system does; what is stopped and goes on, as in
//! the power cuts, meets that EINTR in truth. A victim listens to nobody, so there is no `accept4`.

use std::time::Duration;

use anyhow::Result;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::Reuse;

use super::storing::another;
use super::{CASES, Deed, LATER, STUCK, UNHARMED, meet_each, names_a_problem};
use crate::handle::{Call, On, Strace, Thread, Victim};
use crate::kills::{online, recorded_in};
use crate::report::Row;
use crate::scene::Scene;

/// What a system may answer, by the name of the call.
const ERRORS: &[(&[&str], &[&str])] = &[
    (&["socket"], &["EMFILE", "ENOBUFS"]),
    (&["connect"], &["ECONNREFUSED", "ENETUNREACH"]),
    (&["recvfrom", "recvmsg", "read", "readv"], &["ECONNRESET", "EINTR"]),
    (&["sendto", "sendmsg", "write", "writev"], &["EPIPE", "EINTR"]),
    (&["epoll_ctl"], &["ENOSPC"]),
];
const RECOVERED: &str = "after which it was stored and confirmed without being sent again";
const LOST: &str = "handoffs lost";
/// A connection, a store and its refresh take a fourth of it on a machine at rest.
const WITHOUT_RECEIPT: Duration = Duration::from_secs(4);

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = Row::new("Errors at the socket calls of connecting and storing a handoff");
    for what in [CASES, RECOVERED, UNHARMED, LOST, STUCK] {
        row.add(what, 0);
    }
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let mut victim = online(&scene, &scene.world.broker.url()).await?;
    // The first one after a start makes calls that no later one makes.
    scene.hand_over().await;
    scene.receipt().await?;
    let calls = recorded_in(&mut victim, &[Thread::Network], async |victim| {
        arrive(victim, &mut scene).await?;
        scene.receipt().await.map(drop)
    })
    .await?;
    let of_sockets = calls.iter().filter(|call| matches!(call.on, On::Socket | On::Poller)).count();
    row.add("socket calls found", of_sockets as u64);
    let mut storing = Storing { scene, victim };
    let cases: Vec<_> = cases(&calls).step_by(stride).collect();
    for (call, _) in &cases {
        row.add(&format!("of them at {}", call.name), 1);
    }
    meet_each(&mut storing, cases, &mut row).await?;
    control(&mut storing, &mut row).await?;
    storing.victim.kill().await?;
    Ok(row)
}

fn cases(calls: &[Call]) -> impl Iterator<Item = (Call, &'static str)> {
    let of_sockets = calls.iter().filter(|call| matches!(call.on, On::Socket | On::Poller));
    of_sockets.flat_map(|call| {
        let known = ERRORS.iter().find(|(names, _)| names.contains(&call.name.as_str()));
        known.into_iter().flat_map(|(_, errors)| *errors).map(|error| (call.clone(), *error))
    })
}

/// Connections that end, and none can be made anew, for good.
async fn control(storing: &mut Storing, row: &mut Row) -> Result<()> {
    let hopeless = [
        "-o",
        "/dev/null",
        "-e",
        "trace=socket,recvfrom",
        "-e",
        "inject=socket:error=EMFILE",
        "-e",
        "inject=recvfrom:error=ECONNRESET",
    ];
    let mut broken = Row::new("");
    storing.prepare().await?;
    let strace = Strace::attach(&storing.victim, Thread::Network, &hopeless).await?;
    let ended = storing.take_place().await?;
    storing.judge(&mut broken, "for good", ended).await?;
    strace.detach().await?;
    row.caught(u64::from(!broken.failures.is_empty()), 1, "an agent that never gets a socket again");
    Ok(())
}

/// After a silence by which the agent takes its connection for dead, a handoff waits at the broker.
async fn arrive(victim: &mut Victim, scene: &mut Scene) -> Result<()> {
    victim.ask(LATER, &["advanced"]).await?;
    scene.hand_over().await;
    Ok(())
}

struct Storing {
    scene: Scene,
    victim: Victim,
}

impl Deed for Storing {
    /// Whether there was a receipt at once.
    type Ended = bool;

    fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        self.victim.said.clear();
        Ok(())
    }

    async fn take_place(&mut self) -> Result<bool> {
        arrive(&mut self.victim, &mut self.scene).await?;
        let receipt = tokio::time::timeout(WITHOUT_RECEIPT, self.scene.receipt()).await;
        Ok(matches!(receipt, Ok(Ok(Outcome::Stored { .. }))))
    }

    async fn judge(&mut self, row: &mut Row, place: &str, confirmed: bool) -> Result<()> {
        if !confirmed {
            self.victim.ask(LATER, &["advanced"]).await?;
            match self.scene.receipt().await {
                Ok(Outcome::Stored { .. }) => {}
                other => {
                    row.fail(LOST, format!("{place}: {other:?}"));
                    return Ok(());
                }
            }
        }
        let status = self.victim.status().await?;
        if names_a_problem(&status) {
            row.fail(STUCK, format!("{place}: {} {}", status["troubles"], status["accounts"][0]["health"]));
        } else {
            row.add(if confirmed { UNHARMED } else { RECOVERED }, 1);
        }
        Ok(())
    }

    async fn begin_anew(&mut self) -> Result<()> {
        self.victim.kill().await?;
        self.victim = another(&mut self.scene).await?;
        Ok(())
    }
}
