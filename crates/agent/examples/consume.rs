//! An agent that takes sign-ins from paired companions and reads the newest mail of each:
//! `consume STATE_DIR BROKER_URL`. Make an invite with `valetkey-agent invite`, or with `Agent::invite`.
#![allow(clippy::print_stdout, reason = "a program may print")]

use std::{env, sync::Arc};

use valetkey_agent::{Agent, AgentOptions, BrokerAccess, CancellationToken, Resource, Settings};
use valetkey_agent::{Settled, SharedAccess, Update, Verdict};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (state_dir, broker) = env::args().skip(1).zip(env::args().skip(2)).next().ok_or("2 arguments")?;
    let agent = Agent::open(AgentOptions::new(state_dir))?;
    let (mut updates, running) = (agent.updates(), agent.clone());
    let settings = Settings::new(&broker, agent.id().as_str())?;
    let access = SharedAccess(BrokerAccess { url: broker.parse()?, username: None, password: None });
    tokio::spawn(async move { running.run(settings, Arc::new(access), CancellationToken::new()).await });
    while let Ok(update) = updates.recv().await {
        if let Update::Settled(Settled { account, verdict: Verdict::Stored { .. }, .. }) = update {
            let token = agent.tokens().token(&account, Resource::Graph, None).await?;
            let mail = agent.graph(&account).ok_or("removed")?.join("v1.0/me/messages?$top=1")?;
            let request = valetkey_entra::http::client()?.get(mail).bearer_auth(token.secret.expose());
            println!("{account}: {}", request.send().await?.text().await?);
        }
    }
    Ok(())
}
