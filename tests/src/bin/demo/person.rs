//! The demo with a display: the real tray app, and a person who clicks.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use valetkey_tests::http_sign_in;
use valetkey_tests::process::Guarded;
use valetkey_tests::program::program;
use valetkey_tests::tenant::{ALICE, PASSWORD};

use crate::{Stage, four_words, in_words, note, say, shell, step};

pub async fn clicks_through(stage: Stage) -> Result<()> {
    shell("valetkey-agent serve");
    let mut serving = stage.daemon.serve().await?;
    step("The operator invites one person, and the person opens the link:");
    shell(&format!("valetkey-agent invite --email {}", ALICE.mail));
    let (_, invite) = stage.daemon.ask(&["invite", "--email", ALICE.mail, "--expires", "1h"])?;
    let link = invite["link"].as_str().with_context(|| format!("no link: {invite}"))?;
    let mut command = Command::new(program("valet-key")?);
    command.arg("--open").arg("--data-dir").arg(stage.folder.path().join("person")).arg(link);
    let _app = Guarded::spawn(command.stdin(Stdio::null()))?;
    note(&format!("The operator sees the four words: {}", four_words(&invite)));
    note(&format!(
        "Now it is your turn, in the window and the tray. Sign in as {} with {PASSWORD}.",
        ALICE.username
    ));
    note("Here, press: t ⏎ a program asks for a token · r ⏎ an administrator revokes · q ⏎ the end");

    let mut keys = typed();
    loop {
        tokio::select! {
            event = serving.next("an event", |_| true) => match event {
                Ok(event) => note(&format!("the agent: {}", in_words(&event))),
                // Nothing has happened for a while, as it should be.
                Err(_) if Command::new("kill").args(["-0", &serving.pid().to_string()]).status()?.success() => {}
                Err(error) => return Err(error),
            },
            _ = tokio::signal::ctrl_c() => break,
            key = keys.recv() => match key.as_deref() {
                Some("t") => {
                    let (_, answer) = stage.daemon.ask(&["token", "--account", ALICE.mail])?;
                    match answer["access_token"].as_str() {
                        Some(token) => {
                            let me = format!("{}/v1.0/me", stage.tenant.origin);
                            let answer = http_sign_in::client()?.get(me).bearer_auth(token).send().await?;
                            note(&format!("the program: {} from Graph", answer.status()));
                        }
                        None => note(&format!("the program: {}", answer["error"]["message"].as_str().unwrap_or("?"))),
                    }
                }
                Some("r") => {
                    stage.tenant.revoke(ALICE).await?;
                    note("Revoked. The agent notices at the next renewal; press t to ask now.");
                }
                Some("q") | None => break,
                Some(_) => {}
            },
        }
    }
    serving.stop()?;
    say("Everything of the demo was in one temporary folder, and is gone with it.");
    Ok(())
}

/// What is typed at the terminal, a line at a time.
fn typed() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}
