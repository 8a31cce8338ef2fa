//! The checks between the tokens and the outbox, in the order in which each protects the next.

use reqwest::Client;
use valetkey_entra::account::AccountId;
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::{Misgrant, Resource, judge_grant};
use valetkey_entra::cloud::Authority;
use valetkey_entra::graph;
use valetkey_entra::id_token::{self, Claims, Expect};
use valetkey_entra::jwks::Keys;
use valetkey_entra::metadata::Metadata;
use valetkey_entra::person::{self, Verdict};
use valetkey_entra::token_endpoint::TokenResponse;
use valetkey_handoff::Sensitive;
use valetkey_handoff::message::{AccountDetails, AccountRef, CacheUpdated};

use super::refused::{Ended, id_token_problem};
use super::{Asked, Received, SignIn};
use crate::problem::{Distrust, Problem, SignInProblem};
use crate::shown::shown;
use crate::step::SignInStep;

/// Permissions named to the person, of those that nobody asked for. The first few say enough.
const MAX_NAMED: usize = 5;

/// A sign-in that is sealed and in the outbox.
pub(super) struct Checked {
    pub account: AccountId,
    pub address: String,
    pub generation: u64,
}

impl SignIn {
    pub(super) async fn check_and_seal(
        &self,
        asked: &Asked,
        http: &Client,
        metadata: &Metadata,
        received: Received,
    ) -> Result<Checked, Ended> {
        self.report(SignInStep::SignedIn);
        let Received { tokens, nonce, code } = received;
        let id_token = tokens.id_token.as_ref().ok_or(SignInProblem::Untrusted(Distrust::Claims))?;
        let keys = Keys::new(http.clone(), metadata.jwks_uri.clone());
        let expect = Expect {
            authority: &asked.authority,
            client_id: &asked.client_id,
            nonce: nonce.as_ref(),
            access_token: Some(&tokens.access_token),
            code: code.as_ref(),
            account: None,
        };
        let claims = id_token::verify(id_token, &keys, &expect, self.clock.now())
            .await
            .map_err(|error| id_token_problem(&error))?;
        let address = self.check_person(asked, http, &claims, &tokens).await?;
        // Fails closed: otherwise the agent would hold something that ends within the hour, or does less than was agreed, or more.
        if tokens.refresh_token.is_none() {
            return Err(SignInProblem::NoLastingAccess.into());
        }
        // Of the other resources there is no answer yet; the agent judges each when it gets one.
        let cloud = &asked.authority.cloud;
        judge_grant(Resource::Graph, cloud, &asked.capabilities, &tokens.scope)
            .map_err(|misgrant| misgranted(&misgrant))?;
        self.report(SignInStep::Checked);
        let generation = self.seal(asked, &claims, &address, &tokens)?;
        Ok(Checked { account: claims.account, address, generation })
    }

    /// The address of the right person; of nobody else.
    async fn check_person(
        &self,
        asked: &Asked,
        http: &Client,
        claims: &Claims,
        tokens: &TokenResponse,
    ) -> Result<String, Ended> {
        let mut verdict = person::check(&self.expected, claims, None);
        if verdict == Verdict::AskGraph {
            let me = graph::me(http, &asked.authority, &tokens.access_token, self.clock.now())
                .await
                .map_err(|_| SignInProblem::PersonUnconfirmed)?;
            verdict = person::check(&self.expected, claims, Some(&me));
        }
        match verdict {
            Verdict::Right => Ok(self.wanted.clone().unwrap_or_else(|| shown(&claims.display_name()))),
            Verdict::AskGraph => Err(SignInProblem::PersonUnconfirmed.into()),
            Verdict::Wrong { signed_in_as } => {
                Err(SignInProblem::WrongAccount { signed_in_as: shown(&signed_in_as) }.into())
            }
        }
    }

    fn seal(
        &self,
        asked: &Asked,
        claims: &Claims,
        address: &str,
        tokens: &TokenResponse,
    ) -> Result<u64, Ended> {
        let now = self.clock.now();
        let home = asked.authority.for_account(&claims.account);
        let cache = MsalCache::from_tokens(&asked.authority, &asked.client_id, claims, tokens, now)
            .and_then(|cache| cache.to_json())
            .map_err(|_| SignInProblem::ProviderMalformed)?;
        let cache = std::str::from_utf8(&cache).map_err(|_| SignInProblem::ProviderMalformed)?;
        let body = CacheUpdated {
            account: AccountDetails {
                id: AccountRef { tid: claims.account.tid, oid: claims.account.oid },
                username: address.to_owned(),
                name: claims.name.clone(),
            },
            authority: self.terms.authority.clone(),
            tenant: home_tenant(&home),
            client_id: asked.client_id.clone(),
            scopes: tokens.scope.split_whitespace().map(str::to_owned).collect(),
            capabilities: asked.capabilities.iter().map(|capability| capability.id().to_owned()).collect(),
            expires_at: now.saturating_add(tokens.expires_in).unwrap_or(now),
            cache: Sensitive::new(cache.to_owned()),
        };
        self.keeper.keep_sign_in(body, claims.account, now).map_err(|error| {
            tracing::error!(%error, "the sign-in could not be kept for sending");
            Ended::Because(Problem::CannotSave)
        })
    }
}

/// Where the account is at home, and so where it is refreshed: never `common`.
fn home_tenant(home: &Authority) -> String {
    home.tenant.to_string()
}

/// Too much is the graver.
fn misgranted(misgrant: &Misgrant) -> SignInProblem {
    let beyond: Vec<String> = misgrant.beyond.iter().take(MAX_NAMED).map(|scope| shown(scope)).collect();
    if beyond.is_empty() {
        SignInProblem::AccessMissing { permissions: misgrant.missing.clone() }
    } else {
        SignInProblem::AccessExceeded { permissions: beyond }
    }
}
