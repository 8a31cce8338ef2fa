//! A handoff whose sockets meet errors: nothing is lost, and it goes on by itself.
//!
//! What no system gives is left out: EAGAIN where something has come (a poller that tells of each change once would wait for
//! ever), and any error of an eventfd or futex, by which threads wake each other. A victim listens to nobody, so there is no
//! `accept4`.

use anyhow::{Result, ensure};
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::Reuse;

use super::{CASES, Deed, LATER, STUCK, UNHARMED, meet_each, names_a_problem};
use crate::handle::{Call, On, Strace, Thread, Victim};
use crate::kills::{online, recorded_in};
use crate::report::Row;
use crate::scene::Scene;

/// What a system may answer, by the name of the call.
const ERRORS: &[(&[&str], &[&str])] = &[
    (&["socket"], &["EMFILE", "ENFILE", "ENOBUFS"]),
    (&["connect"], &["ECONNREFUSED", "ENETUNREACH", "EINTR"]),
    (&["recvfrom", "recvmsg", "read", "readv"], &["ECONNRESET", "ETIMEDOUT", "EINTR"]),
    (&["sendto", "sendmsg", "write", "writev"], &["ECONNRESET", "EPIPE", "ENOBUFS", "EINTR"]),
    (&["epoll_wait", "epoll_pwait"], &["EINTR"]),
    (&["epoll_ctl"], &["ENOSPC", "ENOMEM"]),
];
const RECOVERED: &str = "after which it was stored and confirmed without being sent again";
const LOST: &str = "handoffs lost";
/// A store and its refresh take a twentieth of it on a machine at rest.
const WITHOUT_RECEIPT: std::time::Duration = std::time::Duration::from_secs(2);

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = Row::new("Errors at the socket calls of storing a handoff");
    for what in [CASES, RECOVERED, UNHARMED, LOST, STUCK] {
        row.add(what, 0);
    }
    let mut scene = Scene::new(Reuse::Tolerant, false).await?;
    let mut victim = online(&scene, &scene.world.broker.url()).await?;
    // The first one after a start makes calls that no later one makes.
    scene.hand_over().await;
    scene.receipt().await?;
    let calls = recorded_in(&mut victim, &[Thread::Network], async |_| {
        scene.hand_over().await;
        scene.receipt().await.map(drop)
    })
    .await?;
    let mut storing = Storing { scene, victim };
    let cases = cases(&calls).step_by(stride).collect();
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

struct Storing {
    scene: Scene,
    victim: Victim,
}

impl Deed for Storing {
    /// Whether there was a receipt at once.
    type Ended = bool;

    fn victim(&self) -> &Victim {
        &self.victim
    }

    async fn prepare(&mut self) -> Result<()> {
        self.victim.said.clear();
        Ok(())
    }

    async fn take_place(&mut self) -> Result<bool> {
        self.scene.hand_over().await;
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
        self.victim = online(&self.scene, &self.scene.world.broker.url()).await?;
        self.scene.hand_over().await;
        let outcome = self.scene.receipt().await?;
        ensure!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        Ok(())
    }
}
