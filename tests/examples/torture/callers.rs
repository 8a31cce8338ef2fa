//! Many programs that want one expiring token at once, and a second daemon on a directory that has one.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use valetkey_tests::program::{Program, program};
use valetkey_tests::tenant::{ALICE, CLIENT_ID, Lifetimes, Reuse};

use crate::handle::Victim;
use crate::report::Row;
use crate::scene::Scene;

const PROCESSES: usize = 3;
const CALLERS: usize = 200;
const USUAL: u32 = 3600;

pub async fn all() -> Result<Vec<Row>> {
    let Ok(daemon) = program("valetkey-agent") else {
        anyhow::bail!("valetkey-agent is not built; run: cargo build -p valetkey-agentd");
    };
    // Its tokens are due as soon as they are there, until the next one.
    let scene = Scene::new(Reuse::Strict, true).await?;
    configure(&scene)?;
    let mut serving = serve(&daemon, &scene)?;
    serving.event("online").await?;
    let mut held = second_daemon(&daemon, &scene, &serving)?;

    scene.world.tenant.lifetimes(Lifetimes { access: Some(USUAL), ..Lifetimes::default() }).await?;
    let mut row = Row::new("3 processes with 200 callers each want one expiring token of a running daemon");
    let before = scene.world.refreshes().await;
    let dir = scene.dir();
    let asked = (0..PROCESSES).map(|_| client(&dir));
    let answers = futures::future::try_join_all(asked).await?;
    let served: u64 = answers.iter().filter_map(|answer| answer["served"].as_u64()).sum();
    let different: std::collections::BTreeSet<&str> = answers
        .iter()
        .filter_map(|answer| answer["tokens"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let requests = scene.world.refreshes().await - before;
    row.add("callers served", served);
    row.add("different tokens", different.len() as u64);
    row.add("requests to the provider", requests);
    if served != (PROCESSES * CALLERS) as u64 || different.len() != 1 || requests != 1 {
        row.failures.push(format!("{served} served, {} tokens, {requests} requests", different.len()));
    }
    serving.stop()?;
    control(&mut row).await?;
    without_lock(&mut held, &scene).await?;
    Ok(vec![row, held])
}

/// Two agents between which the lock's file was taken away: the second one starts.
async fn without_lock(row: &mut Row, scene: &Scene) -> Result<()> {
    let mut first = Victim::on(&scene.dir(), None).await?;
    let with_lock = Victim::on(&scene.dir(), None).await;
    if !with_lock.is_err_and(|error| error.to_string().contains(&format!("process {}", first.pid))) {
        row.failures.push("an agent in a program of its own was not told".into());
    }
    std::fs::remove_file(scene.dir().join("lock"))?;
    let second = Victim::on(&scene.dir(), None).await;
    row.caught(u64::from(second.is_ok()), 1, "two agents whose lock was deleted");
    if let Ok(mut second) = second {
        second.kill().await?;
    }
    first.kill().await
}

/// Three programs that each keep the sign-in themselves.
async fn control(row: &mut Row) -> Result<()> {
    let scene = Scene::new(Reuse::Tolerant, true).await?;
    let folder = tempfile::tempdir()?;
    let before = scene.world.refreshes().await;
    for copy in 0..PROCESSES {
        let dir = folder.path().join(copy.to_string());
        let status = Command::new("cp").arg("-a").arg(scene.dir()).arg(&dir).status().await?;
        ensure!(status.success(), "cp: {status}");
        let mut victim = Victim::on(&dir, None).await?;
        victim.ask(&format!("together {CALLERS}"), &["together"]).await?;
        victim.kill().await?;
    }
    let requests = scene.world.refreshes().await - before;
    row.caught(
        u64::from(requests != 1),
        1,
        &format!("three agents on copies of the directory ({requests} requests)"),
    );
    Ok(())
}

fn second_daemon(daemon: &Path, scene: &Scene, first: &Program) -> Result<Row> {
    let mut row = Row::new("A second daemon on the same state directory says who holds it");
    let second = std::process::Command::new(daemon)
        .arg("--state-dir")
        .arg(scene.dir())
        .arg("serve")
        .stdin(Stdio::null())
        .output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&second.stdout), String::from_utf8_lossy(&second.stderr));
    row.add("second daemons", 1);
    if second.status.success() || !said.contains(&format!("process {}", first.pid())) {
        row.failures.push(format!("{}: {said}", second.status));
    }
    Ok(row)
}

/// One client process.
async fn client(dir: &Path) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .arg("ask")
        .arg(dir.join("agent.sock"))
        .kill_on_drop(true)
        .output()
        .await?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("a client: {}", String::from_utf8_lossy(&output.stderr)))
}

/// In a client process: all callers connect, and then all ask.
pub async fn ask(socket: &Path) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(UnixStream::connect(socket).await?);
    }
    let calls = connections.into_iter().map(async |mut connection| -> Result<String> {
        connection.write_all(b"{\"ask\":\"token\",\"account\":null,\"resource\":\"graph\"}\n").await?;
        let line = BufReader::new(connection).lines().next_line().await?.context("no answer")?;
        let answer: Value = serde_json::from_str(&line)?;
        answer["ok"]["access_token"].as_str().map(str::to_owned).context("no token")
    });
    let tokens: Vec<String> =
        futures::future::join_all(calls).await.into_iter().filter_map(Result::ok).collect();
    let different: std::collections::BTreeSet<&String> = tokens.iter().collect();
    Ok(json!({ "served": tokens.len(), "tokens": different }))
}

fn configure(scene: &Scene) -> Result<()> {
    let origin = &scene.world.tenant.origin;
    let text = format!(
        "client_id = \"{CLIENT_ID}\"\ntenant = \"{}\"\ncloud = \"custom\"\nlogin_url = \"{origin}\"\n\
         graph_url = \"{origin}\"\n[broker]\nurl = \"{}\"\n",
        ALICE.tid,
        scene.world.broker.url()
    );
    let mut file = std::fs::File::create(scene.dir().join("agent.toml"))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}

fn serve(daemon: &Path, scene: &Scene) -> Result<Program> {
    let mut command = std::process::Command::new(daemon);
    command.arg("--state-dir").arg(scene.dir()).args(["serve", "--json"]);
    Program::start(&mut command, &scene.dir().with_file_name("agent.log"))
}
