//! A start that meets a fault: nothing is moved away that is only unreadable for the moment.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use valetkey_tests::tenant::{ALICE, Reuse};

use super::{CASES, DAMAGE, Old, SILENT, STUCK, TOLD, UNHARMED, cases, row};
use crate::handle::{Thread, Victim, calls};
use crate::report::Row;
use crate::scene::Scene;

pub async fn errors(stride: usize) -> Result<Row> {
    let mut row = row("Errors at the file calls of a start");
    let scene = Scene::new(Reuse::Tolerant, false).await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let wrapped = |strace: &[&str]| -> Result<Command> {
        let mut command = Command::new("strace");
        command.arg("-y").arg("-o").arg(&log).args(strace);
        for place in ["", "lock", "agent.json", "registry.json", "vault", "quarantine"] {
            command.arg("-P").arg(scene.dir().join(place).components().as_path());
        }
        command.arg("-P").arg(scene.world.file(ALICE));
        command.arg(std::env::current_exe()?).args(["victim", "run"]).arg(scene.dir());
        Ok(command)
    };
    let mut victim = Victim::start(&mut wrapped(&[])?).await?;
    victim.kill().await?;
    let calls = calls(&std::fs::read_to_string(&log)?, Thread::Network);
    let state = ["agent.json", "registry.json"].map(|name| scene.dir().join(name));
    let old = state.into_iter().chain([scene.world.file(ALICE)]).map(Old::of).collect::<Result<Vec<_>>>()?;
    for (call, error) in cases(&calls, stride) {
        let place = format!("{} {error}", call.shown());
        let trace = format!("trace={}", call.name);
        let inject = format!("inject={}:error={error}:when={}", call.name, call.nth);
        row.add(CASES, 1);
        let started = Victim::start(&mut wrapped(&["-e", &trace, "-e", &inject])?).await;
        for damaged in old.iter().filter(|old| !old.is_there()) {
            row.fail(DAMAGE, format!("{place}: {}", damaged.file.display()));
        }
        match started {
            Err(error) if error.to_string().contains("did not start: \"") => {}
            Err(error) => row.fail(SILENT, format!("{place}: {error}")),
            Ok(mut victim) => {
                // One call was refused; this is the next.
                let answer = victim.token().await?.context("it ended by itself")?;
                victim.kill().await?;
                if answer["event"] == "token" {
                    row.add(UNHARMED, 1);
                } else {
                    row.fail(STUCK, format!("{place}: {}", answer["problem"]));
                }
                continue;
            }
        }
        match usable(&scene).await {
            Ok(()) => row.add(TOLD, 1),
            Err(error) => row.fail(STUCK, format!("{place}: {error}")),
        }
    }
    Ok(row)
}

async fn usable(scene: &Scene) -> Result<()> {
    let mut victim = Victim::on(&scene.dir(), None).await?;
    let answer = victim.token().await?.context("it ended by itself")?;
    victim.kill().await?;
    ensure!(answer["event"] == "token", "{}", answer["problem"]);
    Ok(())
}
