//! Tokens and copies, with a line in the audit for each.

use std::sync::Arc;

use futures::future::BoxFuture;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;
use zeroize::Zeroizing;

use super::{Audit, Caller, Event, Report};
use crate::agent::{Agent, AgentError};
use crate::provider::Tokens;
use crate::state_dir::StateDirError;
use crate::token::{AccessToken, TokenFailure, TokenProvider};

/// What one caller gets its tokens from.
#[derive(Debug)]
struct Served {
    tokens: Tokens,
    audit: Arc<Audit>,
    caller: Caller,
}

impl TokenProvider for Served {
    fn token<'a>(
        &'a self,
        account: &'a AccountId,
        resource: Resource,
        claims: Option<&'a str>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenFailure>> {
        Box::pin(async move {
            let answer = self.tokens.token(account, resource, claims).await;
            let (account, caller) = (*account, self.caller);
            self.audit.record(match &answer {
                Ok(_) => {
                    let capabilities = self.tokens.capabilities(&account, resource);
                    Event::TokenServed { account, resource, capabilities, caller }
                }
                Err(failure) => Event::TokenRefused { account, resource, caller, code: failure.code() },
            });
            answer
        })
    }
}

impl Agent {
    /// Where programs get tokens. The audit says that the program itself asked.
    pub fn tokens(&self) -> Arc<dyn TokenProvider> {
        self.tokens_for(Caller::Library)
    }

    /// The same on behalf of somebody whom the audit is to name.
    pub fn tokens_for(&self, caller: Caller) -> Arc<dyn TokenProvider> {
        Arc::new(Served { tokens: self.0.tokens.clone(), audit: Arc::clone(&self.0.audit), caller })
    }

    /// The account's MSAL cache as JSON, without what is ours. Whoever gets it has the account: a copy for one program,
    /// which refreshes it on its own from then on.
    pub fn export_msal(&self, account: &AccountId) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        self.export_msal_for(account, Caller::Library)
    }

    /// The same on behalf of somebody whom the audit is to name.
    pub fn export_msal_for(
        &self,
        account: &AccountId,
        caller: Caller,
    ) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let file = self.0.vault.read(account, self.0.clock.now())?;
        let file = file.filter(|file| file.facts.removed_at.is_none()).ok_or(AgentError::NoAccount)?;
        let cache = file.cache.to_json().map_err(|_| AgentError::NoAccount)?;
        self.0.audit.record(Event::Exported { account: *account, caller });
        Ok(cache)
    }

    /// Notes in the audit that another configuration is in effect than before. `digest` stands for all of it.
    pub fn note_configuration(&self, digest: &str) {
        self.0.audit.configuration(digest);
    }

    /// Checks the whole audit. Reads up to 100 MiB: not for a thread that has other things to do.
    pub fn verify_audit(&self) -> Result<Report, StateDirError> {
        self.0.audit.verify()
    }

    /// The last `count` lines of the audit, oldest first, each a JSON object. Reads files.
    pub fn audit_lines(&self, count: usize) -> Result<Vec<String>, StateDirError> {
        self.0.audit.last_lines(count)
    }
}
