//! The program that is tortured: the agent crate as a daemon embeds it, on one thread for the network and one for the
//! disk, so that a system call can be named by its thread, its name and its number.
//!
//! It obeys lines on its input, prints one JSON object a line, and ends with its input.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use valetkey_agent::{
    Agent, AgentOptions, BrokerAccess, BrokerAccounts, CancellationToken, Clock, InviteRequest, Resource,
    Settings, SharedAccess, TokenFailure,
};
use valetkey_handoff::Terms;
use valetkey_tests::tenant::CLIENT_ID;

/// The name of the thread that reads and writes files.
pub const DISK_THREAD: &str = "disk";
/// The agent's name at the broker: the same at every start, or the broker cannot keep what was not acknowledged.
const MQTT_CLIENT: &str = "the-agent";

/// Runs until its input ends. `broker`: also takes handoffs.
pub fn run(dir: PathBuf, broker: Option<String>) -> Result<()> {
    std::panic::set_hook(Box::new(|panic| {
        say(&json!({ "event": "panicked", "problem": panic.to_string() }));
    }));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_name(DISK_THREAD)
        .thread_keep_alive(Duration::from_secs(24 * 3600))
        .build()?
        .block_on(serve(dir, broker))
}

async fn serve(dir: PathBuf, broker: Option<String>) -> Result<()> {
    let options = AgentOptions { clock: Clock::tokio_from(Timestamp::now()), ..AgentOptions::new(dir) };
    let agent = match Agent::open(options) {
        Ok(agent) => agent,
        Err(error) => {
            say(&json!({ "event": "failed", "problem": error.to_string() }));
            return Ok(());
        }
    };
    // From now on the thread is there.
    tokio::task::spawn_blocking(|| ()).await?;
    let mut updates = agent.updates();
    tokio::spawn(async move {
        while let Ok(update) = updates.recv().await {
            say(&json!({ "event": "update", "update": update }));
        }
    });
    let mut commands = input();
    let access = access()?;
    say(&json!({ "event": "ready", "pid": std::process::id() }));
    if let Some(broker) = broker {
        let settings = Settings::new(&broker, MQTT_CLIENT)?;
        let (agent, access) = (agent.clone(), Arc::clone(&access));
        tokio::spawn(async move { agent.run(settings, access, CancellationToken::new()).await });
    }
    while let Some(line) = commands.recv().await {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "token" => say(&token(&agent).await),
            "invite" => say(&invite(&agent, &*access).await),
            "remove" => say(&remove(&agent)),
            "status" => say(&json!({ "event": "status", "status": agent.status() })),
            "advance" => {
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(rest.parse()?)).await;
                tokio::time::resume();
                say(&json!({ "event": "advanced" }));
            }
            "tokens-for-ever" => loop {
                say(&token(&agent).await);
            },
            "write-for-ever" => {
                let mut acknowledged = std::fs::File::create(rest)?;
                loop {
                    for told in [invite(&agent, &*access).await, token(&agent).await] {
                        acknowledged.write_all(format!("{told}\n").as_bytes())?;
                    }
                }
            }
            "together" => say(&together(&agent, rest.parse()?).await),
            other => anyhow::bail!("no command {other}"),
        }
    }
    Ok(())
}

/// A writer as many programs have one: truncates the file in its place and writes it anew, until it is killed.
pub fn write_in_place(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file)?;
    say(&json!({ "event": "ready", "pid": std::process::id() }));
    let mut commands = std::io::stdin().lock().lines();
    while commands.next().is_some() {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut open = std::fs::File::create(file)?;
        open.write_all(first)?;
        open.write_all(second)?;
        open.sync_all()?;
        say(&json!({ "event": "written" }));
    }
    Ok(())
}

/// A timer as many programs have one: it makes up for every second that a clock which was set ahead has left out.
pub fn tick_by_the_clock() -> Result<()> {
    let mut next = Timestamp::now();
    say(&json!({ "event": "ready", "pid": std::process::id() }));
    // Ends the program when its input ends.
    let _input = input();
    loop {
        if let Ok(left) = Duration::try_from(next.duration_since(Timestamp::now())) {
            std::thread::sleep(left);
        }
        next = next.saturating_add(SignedDuration::from_secs(1))?;
    }
}

async fn token(agent: &Agent) -> Value {
    let Some(account) = agent.accounts().first().map(|account| account.account) else {
        return failure(&TokenFailure::AuthRequired { reason: "no-account".into(), never_connected: true });
    };
    match agent.tokens().token(&account, Resource::Graph, None).await {
        Ok(token) => json!({ "event": "token", "token": token.secret.expose() }),
        Err(error) => failure(&error),
    }
}

fn failure(error: &TokenFailure) -> Value {
    json!({ "event": "failure", "code": error.code(), "problem": error.to_string(), "retryable": error.is_retryable() })
}

async fn invite(agent: &Agent, access: &dyn BrokerAccounts) -> Value {
    let terms = Terms {
        email: None,
        authority: "https://login.microsoftonline.com/".into(),
        graph: None,
        tenant: "common".into(),
        client_id: CLIENT_ID.into(),
        capabilities: vec!["mail".into()],
    };
    match agent.invite(InviteRequest::new(terms), access).await {
        Ok(invite) => json!({ "event": "invited", "id": invite.id() }),
        Err(error) => json!({ "event": "failure", "code": "invite", "problem": error.to_string() }),
    }
}

fn remove(agent: &Agent) -> Value {
    let Some(account) = agent.accounts().first().map(|account| account.account) else {
        return json!({ "event": "removed" });
    };
    match agent.remove_account(&account) {
        Ok(_) => json!({ "event": "removed" }),
        Err(error) => json!({ "event": "failure", "code": "remove", "problem": error.to_string() }),
    }
}

async fn together(agent: &Agent, callers: usize) -> Value {
    let answers = futures::future::join_all((0..callers).map(|_| token(agent))).await;
    let served = answers.iter().filter(|answer| answer["event"] == "token").count();
    json!({ "event": "together", "served": served })
}

/// Nobody connects with what these invites say.
fn access() -> Result<Arc<dyn BrokerAccounts>> {
    let url = "mqtt://localhost:9".parse()?;
    Ok(Arc::new(SharedAccess(BrokerAccess { url, username: None, password: None })))
}

pub fn input() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // Whoever started us has gone.
        std::process::exit(0);
    });
    lines
}

pub fn say(value: &Value) {
    println!("{value}");
}
