//! `valetkey-cli` as a process, the way a person without a desktop runs it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Agent, PATIENCE, account_state, invite, terms};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use valetkey_handoff::message::Health;
use valetkey_handoff::{Keys, ToAgent};
use valetkey_tests::broker::{Broker, BrokerOptions};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::{ALICE, BOB, Tenant};

mod common;

fn cli(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_valetkey-cli"));
    command.arg("--data-dir").arg(home.join("data")).arg("--key-file").arg(home.join("keys")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn start(home: &Path, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = cli(home, arguments).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The lines up to the one that begins like this, which is the last of them.
async fn read_to(lines: &mut Lines<BufReader<ChildStdout>>, start: &str) -> Vec<String> {
    let mut read = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            read.push(line);
            if read.last().unwrap().starts_with(start) {
                return;
            }
        }
        panic!("ended without {start}: {read:#?}");
    })
    .await
    .unwrap_or_else(|_| panic!("waited in vain for {start}"));
    read
}

async fn exit_code(mut child: Child) -> Option<i32> {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the program ends").unwrap().code()
}

async fn parts() -> (Tenant, Broker) {
    let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
    (tenant.unwrap(), broker.unwrap())
}

/// Shows of J1 and M18, in a terminal, who asks for what, and that the printed address completes.
#[tokio::test]
async fn accept_shows_who_asks_prints_a_link_that_works_and_ticks_each_step() {
    let (tenant, broker) = parts().await;
    let home = TempDir::new().unwrap();
    let mut agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let link = agent.link_of_invite();
    let (child, mut lines) = start(home.path(), &["accept", "--yes", "--no-browser", &link]);
    let shown = read_to(&mut lines, "http").await;
    let words = agent.keys.public().words().join(" ");
    for part in
        ["Rocky asks to read your Microsoft 365", ALICE.mail, "Read your mail · Read your calendar", &words]
    {
        assert!(shown.iter().any(|line| line.contains(part)), "{part} is not in {shown:#?}");
    }
    http_sign_in(shown.last().unwrap(), ALICE.username).await.unwrap();
    let (header, body, _) = agent.next_handoff().await;
    agent.say_stored(&header, &body);
    let shown = read_to(&mut lines, "✓ Confirmed").await;
    assert!(shown.iter().any(|line| line == "Connected · alice@contoso.example · read-only"), "{shown:#?}");
    for step in ["Signed in", "Checked that it's you", "Sealed for your assistant", "Delivered"] {
        assert!(shown.iter().any(|line| *line == format!("✓ {step}")), "{step} is not in {shown:#?}");
    }
    assert_eq!(exit_code(child).await, Some(0));

    let status = tokio::spawn(cli(home.path(), &["status", "--json"]).output());
    loop {
        if let (_, ToAgent::Hello(_), _) = agent.next().await {
            agent.say_state(vec![account_state(&body, 1, Health::ReconnectNeeded, Some("revoked"))]);
            break;
        }
    }
    let status = status.await.unwrap().unwrap();
    let view: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((view["screen"].as_str(), status.status.code()), (Some("reconnect"), Some(8)));
}

/// What it holds in memory now, in KiB; `None` once it has ended.
#[cfg(target_os = "linux")]
fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whoever can write to a device's topic, such as the broker, can write anything there.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_large_messages_of_nonsense_cost_little_and_a_sign_in_is_confirmed_after_them() {
    use std::io::Write as _;

    /// As many as a broker keeps for one reader, so that all of them arrive.
    const FLOOD: usize = 1000;
    /// In KiB: messages on their way, and a sign-in. The flood itself has three times that.
    const ROOM: u64 = 32 * 1024;
    let (tenant, broker) = parts().await;
    let home = TempDir::new().unwrap();
    let mut agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let (child, mut lines) =
        start(home.path(), &["accept", "--yes", "--no-browser", &agent.link_of_invite()]);
    let pid = child.id().unwrap();
    let url = read_to(&mut lines, "http").await.pop().unwrap();
    while !matches!(agent.next().await, (_, ToAgent::Hello(_), _)) {}
    agent.say_state(Vec::new());
    let before = memory(pid).unwrap();

    let watch = tokio::spawn(async move {
        let mut peak = 0;
        while let Some(now) = memory(pid) {
            peak = peak.max(now);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peak
    });

    let mut flood = std::process::Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-q",
            "1",
            "-l",
            "-p",
            &broker.port().to_string(),
            "-t",
            &agent.outbox_of_device(),
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut nonsense = flood.stdin.take().unwrap();
    let flooded = tokio::task::spawn_blocking(move || {
        for number in 0..FLOOD {
            writeln!(nonsense, "{number}.{}", "nonsense".repeat(12_000)).unwrap();
        }
        drop(nonsense);
        flood.wait().unwrap()
    });
    assert!(flooded.await.unwrap().success());
    http_sign_in(&url, ALICE.username).await.unwrap();
    let mut confirmed = std::pin::pin!(read_to(&mut lines, "✓ Confirmed"));
    loop {
        tokio::select! {
            _ = &mut confirmed => break,
            // Sent again, if a full queue at the broker has lost what was said.
            (header, message, _) = agent.next() => if let ToAgent::CacheUpdated(body) = message {
                agent.say_stored(&header, &body);
            },
        }
    }
    assert_eq!(exit_code(child).await, Some(0));
    let peak = watch.await.unwrap();
    assert!(peak < before + ROOM, "{before} KiB before, {peak} KiB at most");
}

#[tokio::test]
async fn a_wrong_account_has_an_exit_code_and_words_of_its_own() {
    let (tenant, broker) = parts().await;
    let home = TempDir::new().unwrap();
    let agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let link = agent.link_of_invite();
    let (child, mut lines) = start(home.path(), &["accept", "--yes", "--no-browser", &link]);
    let shown = read_to(&mut lines, "http").await;
    http_sign_in(shown.last().unwrap(), BOB.username).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("You signed in as bob@fabrikam.example, but this is for alice@contoso.example"),
        "{said}"
    );
}

/// Shows of J1 that nothing happens without a yes.
#[tokio::test]
async fn without_somebody_to_ask_nothing_is_agreed_to() {
    let home = TempDir::new().unwrap();
    let invite =
        invite(&Keys::generate(), "mqtt://localhost:1", terms("http://localhost:1", "common", ALICE.mail));
    let output = cli(home.path(), &["accept", invite.to_link().unwrap().expose()]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--yes"));
    assert!(!home.path().join("keys").exists() && !home.path().join("data/pairing.json").exists());

    // The link on standard input is the same link, and nobody's `ps` shows it.
    let mut command = cli(home.path(), &["accept", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let shown = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id().unwrap())).unwrap();
    assert!(!shown.contains("valetkey://"), "{shown}");
    let mut input = child.stdin.take().unwrap();
    input.write_all(invite.to_link().unwrap().expose().as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("Rocky asks to read"), "{said}");

    let output = cli(home.path(), &["accept", "--yes", "nonsense"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let output = cli(home.path(), &["status"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().lines().next(),
        Some("Not linked to an assistant yet")
    );
}

/// Whatever becomes of the sign-in: an invite is good for minutes, and its link is not to be lost with them.
#[tokio::test]
async fn accept_ends_only_when_the_assistant_knows_this_computer_or_says_that_it_does_not() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let home = TempDir::new().unwrap();
    // Nobody to sign in at.
    let mut agent = Agent::start(&broker.url(), terms("http://localhost:1", "common", ALICE.mail));
    let link = agent.link_of_invite();
    let mut child = cli(home.path(), &["accept", "--yes", "--no-browser", &link]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap();
    assert!(first.as_deref().is_some_and(|line| line.contains("Microsoft can't be reached")), "{first:?}");
    assert_eq!(is_enrolled(home.path()), Some(false), "the assistant answers when it is asked below");
    // It stays: one that is gone takes with it what it has not sent yet.
    let answering = tokio::spawn(async move {
        loop {
            agent.next().await;
        }
    });
    assert_eq!(exit_code(child).await, Some(1));
    assert_eq!(is_enrolled(home.path()), Some(true));
    while let Some(line) = said.next_line().await.unwrap() {
        assert!(!line.contains("not confirmed"), "{line}");
    }
    answering.abort();

    // One that does not answer at all: what to do is said, such that it can be copied.
    let away = Keys::generate();
    let invite = invite(&away, &broker.url(), terms("http://localhost:1", "common", ALICE.mail));
    let home = TempDir::new().unwrap();
    let link = invite.to_link().unwrap();
    let accept = ["accept", "--yes", "--no-browser", "--wait", "1", link.expose()];
    let output = cli(home.path(), &accept).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (data, keys) = (home.path().join("data"), home.path().join("keys"));
    let again = format!("valetkey-cli --data-dir {} --key-file {} connect", data.display(), keys.display());
    assert!(said.contains("has not confirmed the link") && said.contains(&again), "{said}");
    assert_eq!((output.status.code(), is_enrolled(home.path())), (Some(1), Some(false)));
}

fn is_enrolled(home: &Path) -> Option<bool> {
    let pairing: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.join("data/pairing.json")).ok()?).ok()?;
    pairing["enrolled"].as_bool()
}

#[tokio::test]
async fn without_a_keyring_the_way_to_do_without_is_named() {
    let home = TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_valetkey-cli"));
        command.arg("--data-dir").arg(home.path().join("data")).args(arguments);
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", home.path().join("none").display()));
        command.env("XDG_RUNTIME_DIR", home.path()).env_remove("DISPLAY").stdin(Stdio::null()).output()
    };
    let invite =
        invite(&Keys::generate(), "mqtt://localhost:1", terms("http://localhost:1", "common", ALICE.mail));
    let output = run(&["accept", "--yes", invite.to_link().unwrap().expose()]).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("--key-file FILE"), "{said}");
}

/// Runs the program in a session of its own with a real keyring: unlocked with a password, or as it is after a login without.
async fn in_session(home: &Path, unlocked: bool, arguments: &[&str]) -> std::process::Output {
    let keyring =
        if unlocked { "printf test | gnome-keyring-daemon --unlock" } else { "gnome-keyring-daemon --start" };
    let script = format!("{keyring} --components=secrets >/dev/null 2>&1; exec \"$@\"");
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_valetkey-cli")]).args(arguments);
    for (name, dir) in [
        ("HOME", "home"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_RUNTIME_DIR", "run"),
        ("XDG_CONFIG_HOME", "config"),
    ] {
        let dir = home.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        command.env(name, dir);
    }
    command.env_remove("DISPLAY").stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

/// Shows J8 for a locked keyring: it is said to be locked; what is in it is still there when it opens.
#[tokio::test]
async fn a_real_keyring_that_is_locked_is_neither_waited_for_nor_emptied() {
    let home = TempDir::new().unwrap();
    // Nobody to sign in at: the pairing is made and kept, the sign-in cannot begin.
    let invite =
        invite(&Keys::generate(), "mqtt://localhost:1", terms("http://localhost:1", "common", ALICE.mail));
    let link = invite.to_link().unwrap();
    let paired = in_session(home.path(), true, &["accept", "--yes", "--no-browser", link.expose()]).await;
    let said = String::from_utf8_lossy(&paired.stderr).into_owned();
    assert!(said.contains("Microsoft can't be reached"), "{said}");

    let locked = in_session(home.path(), false, &["status"]).await;
    let shown = String::from_utf8_lossy(&locked.stdout).into_owned();
    assert_eq!(locked.status.code(), Some(7), "{shown}");
    assert!(shown.starts_with("Your keyring is locked"), "{shown}");

    let open = in_session(home.path(), true, &["status"]).await;
    let shown = String::from_utf8_lossy(&open.stdout).into_owned();
    assert_eq!(open.status.code(), Some(8), "{shown}");
    assert!(shown.starts_with("Microsoft 365 isn't connected"), "{shown}");
}
