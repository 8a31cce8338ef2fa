//! `serve`: the broker, the agent, the socket for commands, until it is told to stop.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use valetkey_agent::{Agent, Health, LinkStatus, Update};

use crate::config::Config;
use crate::control;
use crate::desk::Desk;
use crate::own_broker::{OwnBroker, local_url};
use crate::setup;
use crate::show::Printer;

/// Runs until SIGTERM, SIGINT or a problem that ends it.
pub async fn serve(state_dir: &Path, config: Config, printer: Printer) -> Result<()> {
    if config.client_id.is_none() {
        tracing::warn!(
            "no client_id is configured, so no invite can be made yet; docs/entra.md says how to get one"
        );
    }
    let agent = setup::open_agent(state_dir, &config)?;
    for trouble in agent.status().troubles {
        tracing::error!(file = trouble.file, aside = trouble.set_aside_as, "{}", trouble.problem);
    }
    let mut updates = agent.updates();
    let (settings, own) = match &config.broker {
        Some(broker) => (setup::operators_broker(&agent, broker)?, None),
        None => {
            let (broker, login) = OwnBroker::start(&setup::own_files(&agent)?, &config.own_broker).await?;
            let url = local_url(&config.own_broker)?;
            tracing::info!(%url, "running a mosquitto of our own");
            (setup::own_broker(&agent, &url, login)?, Some(Arc::new(broker)))
        }
    };
    let accounts = setup::accounts(&agent, &config, own.clone())?;
    let desk = Arc::new(Desk { agent: agent.clone(), config, accounts: Arc::clone(&accounts) });
    printer.event(
        &json!({ "event": "serving", "agent": agent.id(), "name": agent.name(), "broker": settings.url }),
    );

    let stop = CancellationToken::new();
    let telling = tokio::spawn(async move {
        loop {
            match updates.recv().await {
                Ok(update) => {
                    if let Some(event) = event(&update) {
                        printer.event(&event);
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let mut socket = tokio::spawn({
        let (dir, desk, stop) = (state_dir.to_owned(), desk, stop.clone());
        async move { control::serve(&dir, desk, stop).await }
    });
    let mut running = tokio::spawn({
        let (agent, stop): (Agent, _) = (agent.clone(), stop.clone());
        async move { agent.run(settings, accounts, stop).await }
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut socket => ended?.context("the socket for commands"),
        ended = &mut running => match ended? {
            Ok(()) => bail!("the agent stopped by itself"),
            Err(error) => Err(error.into()),
        },
    };
    tracing::info!("stopping");
    stop.cancel();
    let _ = socket.await;
    let _ = running.await;
    telling.abort();
    if let Some(broker) = own.and_then(Arc::into_inner) {
        broker.stop().await;
    }
    ended
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
