//! `serve`: the broker, the agent, the socket for commands, until it is told to stop.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use valetkey_agent::{Agent, Health, LinkStatus, Settings, Update};

use crate::config::Config;
use crate::control::Door;
use crate::desk::Desk;
use crate::own_broker::OwnBroker;
use crate::setup;
use crate::show::Printer;
use crate::vault_key::Keys;

/// Runs until SIGTERM, SIGINT, SIGHUP or a problem that ends it.
pub async fn serve(
    state_dir: &Path,
    config: Config,
    config_file: &Path,
    keys: &Keys,
    printer: Printer,
) -> Result<()> {
    // First, so that a stop in the middle of the start leaves no mosquitto behind.
    let mut ending = Ending::listen()?;
    if config.client_id.is_none() {
        tracing::warn!(
            "no client_id is set in {}, so no invite can be made yet; docs/entra.md says how to get one",
            config_file.display()
        );
    }
    let agent = setup::open_agent(state_dir, &config, keys)?;
    agent.note_configuration(&config.digest()?);
    let updates = agent.updates();
    // From here on commands wait for us rather than find the directory locked.
    let door = Door::open(state_dir)?;
    let (settings, own) = tokio::select! {
        () = ending.asked() => return Ok(()),
        started = start_broker(&agent, &config) => started?,
    };
    let key_from = keys.source(&config);
    let accounts = setup::accounts(&agent, &config, own.clone());
    let ended = match accounts {
        Ok(accounts) => {
            let config_file = config_file.to_owned();
            let desk = Desk { agent, config, config_file, accounts, key_from };
            work(desk, printer, updates, door, settings, &mut ending).await
        }
        Err(error) => Err(error),
    };
    if let Some(broker) = own {
        broker.stop().await;
    }
    ended
}

async fn start_broker(agent: &Agent, config: &Config) -> Result<(Settings, Option<Arc<OwnBroker>>)> {
    if let Some(broker) = &config.broker {
        return Ok((setup::operators_broker(agent, broker)?, None));
    }
    let files = setup::own_files(agent)?;
    let (broker, login) = OwnBroker::start(files.clone(), &config.own_broker).await?;
    let settings = setup::own_broker(&files, &broker, login)?;
    tracing::info!(url = %settings.url, "running a mosquitto of our own");
    Ok((settings, Some(Arc::new(broker))))
}

async fn work(
    desk: Desk,
    printer: Printer,
    updates: Receiver<Update>,
    door: Door,
    settings: Settings,
    ending: &mut Ending,
) -> Result<()> {
    let (agent, accounts) = (desk.agent.clone(), Arc::clone(&desk.accounts));
    printer.event(
        &json!({ "event": "serving", "agent": agent.id(), "name": agent.name(), "broker": settings.url }),
        || format!("{} is running. Invite somebody: valetkey-agent invite --email …", agent.name()),
    );
    let stop = CancellationToken::new();
    let telling = tokio::spawn(tell(updates, printer));
    let running = async {
        let ran = agent.run(settings, accounts, stop.clone()).await;
        stop.cancel();
        ran
    };
    let both = async {
        let (ran, ()) = tokio::join!(running, door.serve(Arc::new(desk), &stop));
        // A command may have begun one after the agent had saved its own.
        agent.finish().await;
        ran
    };
    tokio::pin!(both);
    let ended = tokio::select! {
        ran = &mut both => match ran {
            Ok(()) => bail!("the agent stopped by itself"),
            Err(error) => Err(error.into()),
        },
        () = ending.asked() => {
            tracing::info!("stopping");
            stop.cancel();
            // A refresh that has begun is saved first; whoever asks twice does not want to wait for it.
            tokio::select! {
                ran = &mut both => ran.map_err(Into::into),
                () = ending.asked() => Ok(()),
            }
        }
    };
    telling.abort();
    ended
}

/// The signals that end a daemon.
struct Ending([Signal; 3]);

impl Ending {
    fn listen() -> Result<Self> {
        // SIGHUP comes when the terminal goes away; a death by it would leave mosquitto behind.
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn tell(mut updates: Receiver<Update>, printer: Printer) {
    loop {
        match updates.recv().await {
            Ok(update) => {
                if let Some(event) = event(&update) {
                    // A person reads the log.
                    printer.event(&event, String::new);
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// An update as one JSON line, where somebody outside can make use of it.
fn event(update: &Update) -> Option<Value> {
    Some(match update {
        Update::Link(LinkStatus::Up { .. }) => json!({ "event": "online" }),
        Update::Link(LinkStatus::Down { problem, .. }) => json!({ "event": "offline", "problem": problem }),
        Update::Paired { device } => json!({ "event": "paired", "device": device }),
        Update::Stored { account } => json!({ "event": "stored", "account": account.to_string() }),
        Update::HealthChanged(change) => json!({
            "event": "health",
            "account": change.account.to_string(),
            "health": change.to.health,
            "reason": change.to.reason,
            "lapsed": change.lapsed && change.to.health == Health::ReconnectNeeded,
        }),
        Update::Settled(settled) => json!({
            "event": "settled",
            "account": settled.account.to_string(),
            "verdict": settled.verdict,
        }),
        Update::Removed { account } => json!({ "event": "removed", "account": account.to_string() }),
        Update::MessageRefused { reason } => json!({ "event": "refused", "reason": reason }),
        _ => return None,
    })
}
