//! The demo without a display: the companion's terminal twin, a headless Chromium at the real form, every step told.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use valetkey_tests::browser::Browser;
use valetkey_tests::http_sign_in;
use valetkey_tests::program::program;
use valetkey_tests::tenant::ALICE;

use crate::{Stage, four_words, in_words, listing, note, say, shell, step};

pub async fn tell(stage: Stage) -> Result<()> {
    shell("valetkey-agent serve");
    let mut serving = stage.daemon.serve().await?;
    note("It runs a mosquitto of its own on loopback, with a user and an access list for each computer.");

    step("The operator invites one person:");
    shell(&format!("valetkey-agent invite --email {}", ALICE.mail));
    let (_, invite) = stage.daemon.ask(&["invite", "--email", ALICE.mail])?;
    let link = invite["link"].as_str().with_context(|| format!("no link: {invite}"))?;
    note(&format!("{}…  ({} characters)", link.get(..48).unwrap_or(link), link.len()));
    note(&format!("four words to compare: {}", four_words(&invite)));

    step("The person opens it on her own computer, and agrees. Her browser signs her in:");
    shell("valetkey-cli accept 'valetkey://invite/…'");
    let browser = Browser::start().await?;
    companion(&stage, &browser, &["accept", "--yes", "--no-browser", link]).await?;
    note("Meanwhile, at the agent:");
    for event in ["paired", "stored", "settled"] {
        note(&in_words(&serving.event(event).await?));
    }

    step("What the agent keeps: one file, for its owner alone, readable by any MSAL.");
    note(&listing(stage.daemon.state_dir())?);
    note(&listing(&stage.daemon.vault_file()?)?);

    step("A program uses it. Tokens here live a minute, so this call also renews the sign-in silently:");
    shell(&format!(
        "curl -H \"Authorization: Bearer $(valetkey-agent token --account {})\" …/v1.0/me",
        ALICE.mail
    ));
    let before = stage.tenant.count("token:refresh_token").await?;
    graph_me(&stage).await?;
    let renewed = stage.tenant.count("token:refresh_token").await? - before;
    note(&format!("silent refreshes for this call: {renewed}"));

    step("An administrator revokes the sign-in. The next call says whose turn it is:");
    stage.tenant.revoke(ALICE).await?;
    let (code, answer) = stage.daemon.ask(&["token", "--account", ALICE.mail])?;
    note(&format!("exit code {code}: {}", answer["error"]["message"].as_str().unwrap_or_default()));
    note(&in_words(&serving.next("a lapse", |event| event["lapsed"] == true).await?));

    step("The person clicks Reconnect:");
    shell("valetkey-cli reconnect");
    companion(&stage, &browser, &["reconnect", "--no-browser"]).await?;

    step("And the very next call works:");
    graph_me(&stage).await?;
    serving.stop()?;
    browser.client().clone().close().await?;
    say(
        "That is the whole journey. With a display, `cargo xtask demo` lets you click through it in the tray app.",
    );
    Ok(())
}

/// Runs the companion's terminal twin, tells what it says, and signs in where it asks for that.
async fn companion(stage: &Stage, browser: &Browser, args: &[&str]) -> Result<()> {
    let home = stage.folder.path().join("person");
    let mut child = Command::new(program("valetkey-cli")?)
        .args(["--data-dir".as_ref(), home.as_os_str(), "--key-file".as_ref()])
        .arg(stage.folder.path().join("person.key"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_whitespace().find(|word| word.contains("/oauth2/v2.0/authorize?")) {
            Some(address) => {
                note(&format!("{}…", address.split('?').next().unwrap_or_default()));
                let page = browser.sign_in(address, ALICE.username).await?;
                note(&format!("the browser: {:?}", page.title));
            }
            None => note(&line),
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("valetkey-cli {} ended with {status}", args.first().unwrap_or(&""));
    }
    Ok(())
}

async fn graph_me(stage: &Stage) -> Result<()> {
    let token = stage.daemon.token(ALICE.mail)?;
    let me = http_sign_in::client()?.get(format!("{}/v1.0/me", stage.tenant.origin)).bearer_auth(token);
    let answer = me.send().await?;
    note(&format!("{}  {}", answer.status(), answer.text().await?));
    Ok(())
}
