//! A command's question, put to the running daemon, or answered here under the same lock when none runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;
use valetkey_agent::{Agent, AgentError, StateDirError};

use crate::config::Config;
use crate::control::{self, Answer, Answers as _, Question};
use crate::desk::Desk;
use crate::problem::Problem;
use crate::setup;

/// Another command, or a daemon that starts or stops, has the directory for a moment. A token's refresh is the longest.
const HELD_LIMIT: Duration = Duration::from_secs(10);
/// The lock tells nobody when it is free.
const HELD_POLL: Duration = Duration::from_millis(50);

/// Where to ask, and what holds when nobody serves.
pub struct Asker {
    pub state_dir: PathBuf,
    pub config_file: PathBuf,
    pub broker: Option<Url>,
}

impl Asker {
    pub async fn ask(&self, question: Question) -> Result<Value> {
        let deadline = Instant::now() + HELD_LIMIT;
        let answer = loop {
            if let Some(answer) = control::ask(&self.state_dir, &question)? {
                break answer;
            }
            match self.desk() {
                Ok(desk) => break desk.answer(question).await,
                Err(error) if is_held(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(HELD_POLL).await;
                }
                Err(error) => return Err(error),
            }
        };
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Error(problem) => Err(problem.into()),
        }
    }

    fn desk(&self) -> Result<Desk> {
        if !self.state_dir.join("agent.json").exists() {
            let dir = self.state_dir.display();
            return Err(Problem::configuration(format!(
                "there is no agent in {dir}; make one with: valetkey-agent init"
            ))
            .into());
        }
        let config = Config::load(&self.config_file, self.broker.clone())?;
        let agent: Agent = setup::open_agent(&self.state_dir, &config)?;
        let accounts = setup::accounts(&agent, &config, None)?;
        Ok(Desk { agent, config, accounts })
    }
}

fn is_held(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::StateDir(StateDirError::Held { .. })))
}
