//! A disk that takes nothing more, by the process's own file size limit. It is the process's, so this stands alone.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use support::{World, advance, id, within};
use valetkey_agent::audit::Finding;
use valetkey_agent::{Agent, Health, LinkStatus, TokenFailure, Update};
use valetkey_entra::capability::Resource;
use valetkey_handoff::message::Outcome;
use valetkey_tests::tenant::{ALICE, ANA, BOB, CAROL, NextError, Reuse};

const INSIDE: &str = "VALETKEY_TEST_WITHOUT_SIGXFSZ";

/// Writing beyond the limit kills a process unless it ignores the signal, and only a shell can do that for us.
///
/// Shows M17, and of M15 that a write that failed advances nothing: no receipt, no token, no account.
#[test]
fn what_cannot_be_saved_is_told_not_handed_out_and_not_lost() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(with_a_full_disk());
        return;
    }
    let inside = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" --nocapture"#])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&inside.stderr));
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}

async fn with_a_full_disk() {
    let world = World::new().await;
    // The worst case: presenting the older refresh token once more would end the sign-in.
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    let mut anas = world.pair(&running.agent, ANA).await;
    let anas_sign_in = world.sign_in(ANA).await;
    let before = std::fs::read(world.file(ALICE)).unwrap();
    let refreshes = world.refreshes().await;

    let free = getrlimit(Limit::Fsize);
    setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
    let handed_over = anas.hand_over(&anas_sign_in);
    anas.hello();
    let state = anas.state(|_| true).await;
    assert!(state.accounts.is_empty(), "no receipt, no account");
    assert!(!world.file(ANA).exists());
    advance(Duration::from_secs(2 * 3600)).await;
    let tokens = running.agent.tokens();
    // The background was first, or we are: either way nothing is handed out.
    let failure = tokens.token(&id(ALICE), Resource::Graph, None).await.unwrap_err();
    assert!(
        matches!(&failure, TokenFailure::Storage { .. } | TokenFailure::Unavailable { .. }),
        "{failure:?}"
    );
    assert!(failure.is_retryable());
    let file = format!("{}.json", id(ALICE));
    let status = running.agent.status();
    assert!(status.troubles.iter().any(|trouble| trouble.file == file), "{:?}", status.troubles);
    let alices = status.accounts.iter().find(|account| account.account == id(ALICE)).unwrap();
    assert_eq!((alices.health, alices.reason.as_deref()), (Health::Retrying, Some("storage")));
    assert_eq!(status.health["retrying"], 1);
    assert_eq!(std::fs::read(world.file(ALICE)).unwrap(), before);
    assert_eq!(world.refreshes().await, refreshes + 1);

    setrlimit(Limit::Fsize, free).unwrap();
    advance(Duration::from_secs(3600)).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    let accounts = running.agent.accounts();
    let alices = accounts.iter().find(|account| account.account == id(ALICE)).unwrap();
    assert_eq!(alices.health, Health::Connected);
    assert_ne!(std::fs::read(world.file(ALICE)).unwrap(), before);
    anas.send(handed_over.as_bytes());
    assert!(matches!(anas.receipt().await.outcome, Outcome::Stored { .. }));
    audit_waits_for_the_disk(&world, &running.agent, free).await;
    running.stop().await;
    a_first_answer_waits_for_the_disk(free).await;
    an_ended_sign_in_is_not_asked_about_all_the_time(free).await;
    a_refused_sign_in_takes_nothing_away_that_waits_for_the_disk(free).await;
    what_could_not_be_written_is_kept_by_the_broker(free).await;
    more_than_the_broker_has_under_way_at_once_is_taken_in_when_the_disk_is_free(free).await;
}

/// Its acknowledgement would have been the end of it: no device here sends anything twice.
async fn what_could_not_be_written_is_kept_by_the_broker(free: Rlimit) {
    let world = World::new().await;
    let running = world.run().await;
    let mut alices = world.connect(&running.agent, ALICE).await;
    let mut anas = world.pair(&running.agent, ANA).await;
    let anas_sign_in = world.sign_in(ANA).await;
    let another_invite = world.invite(&running.agent, ALICE).await;

    setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
    anas.hand_over(&anas_sign_in);
    alices.disconnect(ALICE);
    alices.enroll(&another_invite);
    for device in [&mut anas, &mut alices] {
        device.all_so_far().await;
    }
    assert_eq!(running.agent.accounts()[0].account, id(ALICE));
    assert_eq!(running.agent.status().open_invites, 1);
    setrlimit(Limit::Fsize, free).unwrap();
    running.stop().await;

    let running = world.run().await;
    // Stored in the last moment before the end, it has its receipt when it is sent again; a state tells of it in any case.
    anas.state(|state| state.accounts.iter().any(|account| account.generation == 1)).await;
    assert_eq!(alices.receipt().await.outcome, Outcome::Done);
    within("the enrolment comes again", async {
        while running.agent.status().open_invites > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(running.agent.accounts().len(), 1);
    running.stop().await;
}

/// A broker waits for acknowledgements before it delivers more, and delivers nothing again on the same connection.
async fn more_than_the_broker_has_under_way_at_once_is_taken_in_when_the_disk_is_free(free: Rlimit) {
    /// mosquitto's own limit is 20 for each client.
    const COPIES: usize = 12;
    let world = World::new().await;
    let mut running = world.run().await;
    let mut devices = Vec::new();
    for user in [ALICE, ANA, BOB] {
        devices.push((world.pair(&running.agent, user).await, world.sign_in(user).await));
    }
    let mut carols = world.pair(&running.agent, CAROL).await;
    let line = world.broker.record(&format!("valetkey/v1/{}/in/+", running.agent.id())).await.unwrap();

    setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
    for (device, sign_in) in &mut devices {
        let sealed = device.hand_over(sign_in);
        // As a companion does until it is answered.
        for _ in 1..COPIES {
            device.send(sealed.as_bytes());
        }
    }
    within("the broker has them", async {
        while line.messages().len() < COPIES * devices.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let asked_again = |update: &Update| matches!(update, Update::Link(LinkStatus::Down { .. })).then_some(());
    running.until("the broker is asked for them again", asked_again).await;
    assert!(running.agent.accounts().is_empty());
    setrlimit(Limit::Fsize, free).unwrap();

    for (device, _) in &mut devices {
        assert!(matches!(device.receipt().await.outcome, Outcome::Stored { .. }));
    }
    assert_eq!(running.agent.accounts().len(), devices.len());
    carols.hello();
    carols.state(|state| state.answers.is_some()).await;
    running.stop().await;
}

/// Somebody brings a sign-in that does not work, just when the refresh token of the one that does is in memory only.
async fn a_refused_sign_in_takes_nothing_away_that_waits_for_the_disk(free: Rlimit) {
    let world = World::new().await;
    world.tenant.reuse(Reuse::Strict).await.unwrap();
    let running = world.run().await;
    let mut device = world.connect(&running.agent, ALICE).await;
    let before = world.json(ALICE);
    let refreshes = world.refreshes().await;
    let mut worthless = world.sign_in(ALICE).await;
    let mut cache: serde_json::Value = serde_json::from_str(worthless.cache.expose()).unwrap();
    for entry in cache["RefreshToken"].as_object_mut().unwrap().values_mut() {
        entry["secret"] = "worthless".into();
    }
    worthless.cache = cache.to_string().into();

    setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
    // The waits grow, so that it is not saved in the moment between the disk's recovery and the handoff.
    for attempt in 1..=6 {
        advance(Duration::from_secs(2 * 3600)).await;
        within("it is tried", async {
            while world.who(&running.agent, ALICE).await.unwrap_err().code() != "unavailable" {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(world.refreshes().await, refreshes + 1, "attempt {attempt}");
    }
    assert_eq!(world.json(ALICE), before);
    setrlimit(Limit::Fsize, free).unwrap();
    device.hand_over(&worthless);

    let receipt = device.receipt().await;
    assert!(matches!(receipt.outcome, Outcome::Refused { .. }), "{receipt:?}");
    advance(Duration::from_secs(3600)).await;
    assert_eq!(world.who(&running.agent, ALICE).await.unwrap(), ALICE.username);
    assert_eq!(running.agent.accounts()[0].health, Health::Connected);
    running.stop().await;
}

/// That it is over cannot be written down. Microsoft is left alone all the same, and its person is told once it can be.
async fn an_ended_sign_in_is_not_asked_about_all_the_time(free: Rlimit) {
    let world = World::new().await;
    let running = world.run().await;
    let _alices = world.connect(&running.agent, ALICE).await;
    world.tenant.revoke(ALICE).await.unwrap();

    setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
    advance(Duration::from_secs(2 * 3600)).await;
    within("Microsoft is left alone", async {
        while world.who(&running.agent, ALICE).await.unwrap_err().code() != "unavailable" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(running.agent.accounts()[0].health, Health::Retrying, "nobody could write more down");

    setrlimit(Limit::Fsize, free).unwrap();
    advance(Duration::from_secs(3600)).await;
    within("it is written down", async {
        while running.agent.accounts()[0].health != Health::ReconnectNeeded {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    running.stop().await;
}

/// Whose a new sign-in is, is found out with its first refresh. What came of that refresh is the only way on here.
async fn a_first_answer_waits_for_the_disk(free: Rlimit) {
    // One whom Graph must confirm, and one whom the token itself proves.
    for user in [ANA, ALICE] {
        let world = World::new().await;
        world.tenant.reuse(Reuse::Strict).await.unwrap();
        let mut running = world.run().await;
        let mut device = world.pair(&running.agent, user).await;
        let not_yet = NextError {
            endpoint: "token",
            grant: Some("refresh_token"),
            status: Some(503),
            error: Some("temporarily_unavailable"),
            ..NextError::default()
        };
        let body = world.sign_in(user).await;
        world.tenant.next_error(&not_yet).await.unwrap();
        let before = world.refreshes().await;
        device.hand_over(&body);
        running.until("it is stored", |update| matches!(update, Update::Stored { .. }).then_some(())).await;
        within("it is tried", async {
            while world.refreshes().await < before + 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let stored = std::fs::read(world.file(user)).unwrap();

        setrlimit(Limit::Fsize, Rlimit { current: Some(0), maximum: free.maximum }).unwrap();
        let file = format!("{}.json", id(user));
        // The first wait after a failure is no longer than five seconds.
        within("it is waiting to try again", async {
            while world.who(&running.agent, user).await.unwrap_err().code() != "unavailable" {
                tokio::task::yield_now().await;
            }
        })
        .await;
        advance(Duration::from_secs(6)).await;
        within("the disk refuses its answer", async {
            while !running.agent.status().troubles.iter().any(|trouble| trouble.file == file) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(world.refreshes().await, before + 2);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(std::fs::read(world.file(user)).unwrap(), stored);
        assert!(world.who(&running.agent, user).await.unwrap_err().is_retryable());
        assert_eq!(world.refreshes().await, before + 2, "nothing is asked while the answer is not safe");

        setrlimit(Limit::Fsize, free).unwrap();
        advance(Duration::from_secs(3600)).await;
        let receipt = device.receipt().await;
        assert!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
        assert_eq!(world.who(&running.agent, user).await.unwrap(), user.username);
        running.stop().await;
    }
}

/// Nothing of what happened on the full disk is missing, and a line that stops half-way takes nothing with it.
async fn audit_waits_for_the_disk(world: &World, agent: &Agent, free: Rlimit) {
    let events = || -> Vec<String> {
        let lines = agent.audit_lines(usize::MAX).unwrap();
        lines.iter().map(|line| line.split("\"event\":\"").nth(1).unwrap().to_owned()).collect()
    };
    assert!(agent.verify_audit().unwrap().intact);
    assert!(events().iter().any(|event| event.starts_with("token_refused")), "{:?}", events());

    let file = world.state_dir().join("audit/audit.jsonl");
    let before = std::fs::read(&file).unwrap();
    let half_a_line = before.len() as u64 + 40;
    setrlimit(Limit::Fsize, Rlimit { current: Some(half_a_line), maximum: free.maximum }).unwrap();
    assert_eq!(world.who(agent, ALICE).await.unwrap(), ALICE.username, "tokens are served all the same");
    assert!(!agent.verify_audit().unwrap().findings.iter().any(|f| matches!(f, Finding::Torn { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), before, "no half line stays");
    let troubles = agent.status().troubles;
    assert!(troubles.iter().any(|trouble| trouble.file == "audit"), "{troubles:?}");

    setrlimit(Limit::Fsize, free).unwrap();
    let report = agent.verify_audit().unwrap();
    assert!(report.intact, "{report:?}");
    assert!(events().last().unwrap().starts_with("token_served"), "{:?}", events());
    assert_eq!(agent.status().troubles, []);
}
