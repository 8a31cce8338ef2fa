//! Answers what commands ask, for the daemon and for a command that runs without one.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::{Value, json};
use valetkey_agent::{Agent, AgentError, BrokerAccounts, Caller, InviteRequest};
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::{self, Resource};
use valetkey_handoff::invite::Field;
use valetkey_handoff::{InviteError, Terms, Thumbprint};

use crate::audit::{self, Wish};
use crate::config::{Config, is_loopback, parse_duration};
use crate::control::{Answer, Answers, Question};
use crate::problem::Problem;
use crate::vault_key::Source;

/// An open agent with what the operator configured.
#[derive(Debug)]
pub struct Desk {
    pub agent: Agent,
    pub config: Config,
    pub config_file: PathBuf,
    pub accounts: Arc<dyn BrokerAccounts>,
    pub key_from: Option<Source>,
}

impl Answers for Desk {
    async fn answer(&self, question: Question, caller: Caller) -> Answer {
        match self.try_answer(question, caller).await {
            Ok(value) => Answer::Ok(value),
            Err(problem) => Answer::Error(problem),
        }
    }
}

impl Desk {
    async fn try_answer(&self, question: Question, caller: Caller) -> Result<Value, Problem> {
        match question {
            Question::Invite { email, allow, expires } => self.invite(email, allow, expires).await,
            Question::Devices => as_json(&self.agent.devices()),
            Question::RemoveDevice { id } => self.remove_device(&id).await,
            Question::Accounts => as_json(&self.agent.accounts()),
            Question::Token { account, resource } => self.token(account.as_deref(), &resource, caller).await,
            Question::Export { account } => {
                let cache = self.agent.export_msal_for(&self.account(account.as_deref())?, caller)?;
                let text = String::from_utf8_lossy(&cache).into_owned();
                Ok(json!({ "cache": text }))
            }
            Question::Remove { account } => {
                let removed = self.agent.remove_account(&self.account(Some(&account))?)?;
                let mut value = as_json(&removed)?;
                value["message"] = removed.to_string().into();
                Ok(value)
            }
            Question::Status => {
                let mut status = as_json(&self.agent.status())?;
                // As a policy file of the companion names an agent: by both of its keys.
                status["keys"] =
                    format!("{} {}", self.agent.id(), self.agent.public_keys().recipient()).into();
                status["vault_key_from"] = json!(self.key_from);
                Ok(status)
            }
            Question::Audit { last } => audit::of_agent(&self.agent, Wish::Last(last)).await,
            Question::AuditVerify => audit::of_agent(&self.agent, Wish::Verify).await,
        }
    }

    async fn invite(
        &self,
        email: Option<String>,
        allow: Vec<String>,
        expires: Option<String>,
    ) -> Result<Value, Problem> {
        let Some(client_id) = self.config.client_id.clone() else {
            return Err(Problem::configuration(format!(
                "no app registration is configured. Set client_id in {}; docs/entra.md says how to get one",
                self.config_file.display()
            )));
        };
        let authority = self.config.authority().map_err(Problem::configuration)?;
        let graph = (!authority.cloud.is_microsofts()).then(|| authority.cloud.graph().to_string());
        let expires = expires.as_deref().unwrap_or(&self.config.invite_expires);
        let expires_in = parse_duration(expires)
            .and_then(|expires| Ok(SignedDuration::try_from(expires)?))
            .map_err(|error| Problem::new("invite", error))?;
        capability::parse(&allow).map_err(|error| Problem::new("invite", error))?;
        let terms = Terms {
            email: email.clone(),
            authority: authority.cloud.login().to_string(),
            graph,
            tenant: authority.tenant.to_string(),
            client_id,
            capabilities: if allow.is_empty() { self.config.allow.clone() } else { allow },
        };
        let request = InviteRequest { expires_in, ..InviteRequest::new(terms) };
        let invite =
            self.agent.invite(request, &*self.accounts).await.map_err(|error| match (error, email) {
                (AgentError::Invite(InviteError::Unacceptable(Field::Email)), Some(email)) => {
                    Problem::new("invite", format!("{email:?} is not an e-mail address"))
                }
                (error, _) => error.into(),
            })?;
        let words = {
            let keys = self.agent.public_keys();
            // Slow on purpose.
            tokio::task::spawn_blocking(move || keys.words())
                .await
                .map_err(|error| Problem::new("internal", error))?
        };
        let link = invite.to_link().map_err(AgentError::from)?;
        let https = match &self.config.link_base {
            Some(page) => Some(invite.to_https_link(page).map_err(AgentError::from)?.expose().clone()),
            None => None,
        };
        Ok(json!({
            "id": invite.id(),
            "link": link.expose(),
            "https_link": https,
            "words": words,
            "expires_at": invite.expires_at,
            "email": invite.terms.email,
            "capabilities": invite.terms.capabilities,
            "this_machine_only": is_loopback(&invite.broker.url),
        }))
    }

    async fn remove_device(&self, id: &str) -> Result<Value, Problem> {
        if id.is_empty() {
            return Err(Problem::new("no_device", "say which device: its id, or the beginning of it"));
        }
        let devices = self.agent.devices();
        let found: Vec<&Thumbprint> =
            devices.iter().map(|device| &device.id).filter(|known| known.as_str().starts_with(id)).collect();
        match found.as_slice() {
            [one] => {
                let device = self.agent.remove_device(one, &*self.accounts).await?;
                Ok(json!({ "removed": device.id(), "name": device.name }))
            }
            [] => Err(Problem::new("no_device", format!("no device's id begins with {id:?}"))),
            several => {
                let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
                Err(Problem::new("ambiguous", format!("several ids begin with {id:?}: {}", ids.join(", "))))
            }
        }
    }

    async fn token(&self, account: Option<&str>, resource: &str, caller: Caller) -> Result<Value, Problem> {
        let resource: Resource = resource.parse().map_err(|error| Problem::new("resource", error))?;
        let account = self.account(account)?;
        let token = self.agent.tokens_for(caller).token(&account, resource, None).await?;
        Ok(json!({
            "access_token": token.secret.expose(),
            "expires_at": token.expires_at,
            "account": account.to_string(),
            "resource": resource.id(),
        }))
    }

    /// The account a name means; without a name, the only one. Those that never worked are there on a device's word alone, and
    /// are in nobody's way.
    fn account(&self, name: Option<&str>) -> Result<AccountId, Problem> {
        if let Some(name) = name {
            return Ok(self.agent.find_account(name)?);
        }
        let (accounts, unproven): (Vec<_>, Vec<_>) =
            self.agent.accounts().into_iter().partition(|account| account.proven);
        match accounts.as_slice() {
            [one] => Ok(one.account),
            [] if !unproven.is_empty() => Err(Problem::new(
                "unavailable",
                "no sign-in has worked yet, and one is being tried: valetkey-agent status says how it stands",
            )),
            [] => Err(Problem::new(
                "auth_required",
                "nobody is connected yet. Make an invite: valetkey-agent invite --email …",
            )),
            several => {
                let names: Vec<&str> = several.iter().map(|account| account.username.as_str()).collect();
                Err(Problem::new("ambiguous", format!("say which with --account: {}", names.join(", "))))
            }
        }
    }
}

fn as_json(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::new("internal", error))
}
