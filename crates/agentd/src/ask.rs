//! A command's question, put to the running daemon, or answered here under the same lock when none runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;
use valetkey_agent::{Agent, AgentError, Caller, StateDirError};

use crate::audit::{self, Wish};
use crate::config::Config;
use crate::control::{self, Answer, Answers as _, Question};
use crate::desk::Desk;
use crate::problem::Problem;
use crate::setup;
use crate::vault_key::Keys;

/// Another command, or a daemon that starts or stops, has the directory for a moment. A token's refresh is the longest.
const HELD_LIMIT: Duration = Duration::from_secs(10);
/// The lock tells nobody when it is free.
const HELD_POLL: Duration = Duration::from_millis(50);

/// Where to ask, and what holds when nobody serves.
pub struct Asker {
    pub state_dir: PathBuf,
    pub config_file: PathBuf,
    pub broker: Option<Url>,
    pub keys: Keys,
}

impl Asker {
    pub async fn ask(&self, question: Question) -> Result<Value> {
        let deadline = Instant::now() + HELD_LIMIT;
        let answer = loop {
            if let Some(answer) = control::ask(&self.state_dir, &question)? {
                break answer;
            }
            let here = match question {
                Question::Audit { last } => self.audit(Wish::Last(last)),
                Question::AuditVerify => self.audit(Wish::Verify),
                _ => self.desk().map(|desk| Here::Desk(Box::new(desk))),
            };
            match here {
                Ok(Here::Desk(desk)) => break desk.answer(question, Caller::Command).await,
                Ok(Here::Answer(value)) => break Answer::Ok(value),
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

    /// The daemon's status; or, where none runs, the directory's desk, held until it is dropped.
    pub async fn meet(&self) -> Result<Present> {
        let deadline = Instant::now() + HELD_LIMIT;
        loop {
            if let Some(answer) = control::ask(&self.state_dir, &Question::Status)? {
                return match answer {
                    Answer::Ok(status) => Ok(Present::Daemon(status)),
                    Answer::Error(problem) => Err(problem.into()),
                };
            }
            match self.desk() {
                Ok(desk) => return Ok(Present::Nobody(Box::new(desk))),
                Err(error) if is_held(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(HELD_POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn audit(&self, wish: Wish) -> Result<Here> {
        self.check_there_is_an_agent()?;
        Ok(Here::Answer(audit::of_directory(&self.state_dir, wish)?))
    }

    fn desk(&self) -> Result<Desk> {
        self.check_there_is_an_agent()?;
        let config = Config::load(&self.config_file, self.broker.clone())?;
        let agent: Agent = setup::open_agent(&self.state_dir, &config, &self.keys)?;
        let accounts = setup::accounts(&agent, &config, None)?;
        let key_from = self.keys.source(&config);
        let config_file = self.config_file.clone();
        Ok(Desk { agent, config, config_file, accounts, key_from })
    }

    pub fn check_there_is_an_agent(&self) -> Result<()> {
        if !self.state_dir.join("agent.json").exists() {
            let dir = self.state_dir.display();
            return Err(Problem::configuration(format!(
                "there is no agent in {dir}; make one with: valetkey-agent init"
            ))
            .into());
        }
        Ok(())
    }
}

/// Who is met in a state directory.
pub enum Present {
    Daemon(Value),
    Nobody(Box<Desk>),
}

/// What can answer without a daemon.
enum Here {
    Desk(Box<Desk>),
    Answer(Value),
}

fn is_held(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::StateDir(StateDirError::Held { .. })))
}
