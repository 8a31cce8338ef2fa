//! The MSAL unified token cache: the file that Microsoft's own libraries read and write.
//!
//! Written as `msal` (Python), `@azure/msal-node` and MSAL.NET all find it; read as any of them wrote it. What they or others
//! added, at the root or on an entry, is kept. The same cache is always the same bytes.

mod entries;
mod from_tokens;
mod refresh;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use entries::{AccessToken, Account, AppMetadata, Epoch, IdToken, RefreshToken};

use crate::account::{AccountId, guid};
use crate::capability::Resource;
use crate::cloud::Cloud;
use crate::secret::Secret;

/// Holds the cache of an account with several resources. A buffer that grows leaves copies of tokens behind.
const USUAL_SIZE: usize = 32 * 1024;

/// The whole cache. `Debug` prints how many entries there are, and nothing of them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MsalCache {
    #[serde(rename = "AccessToken", default)]
    pub access_tokens: BTreeMap<String, AccessToken>,
    #[serde(rename = "RefreshToken", default)]
    pub refresh_tokens: BTreeMap<String, RefreshToken>,
    #[serde(rename = "IdToken", default)]
    pub id_tokens: BTreeMap<String, IdToken>,
    #[serde(rename = "Account", default)]
    pub accounts: BTreeMap<String, Account>,
    #[serde(rename = "AppMetadata", default)]
    pub app_metadata: BTreeMap<String, AppMetadata>,
    /// Other members of the root. All three libraries keep those, too.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Whose cache it is and what it is good for, so that nobody else needs to know its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    pub account: AccountId,
    pub username: Option<String>,
    pub name: Option<String>,
    pub client_id: String,
    /// Granted for the access tokens here, sorted, each once.
    pub scopes: Vec<String>,
    /// When the last of the access tokens ends; `None` without one.
    pub expires_at: Option<Timestamp>,
}

/// An access token of the cache, which may have ended.
#[derive(Clone, Copy, Debug)]
pub struct CachedToken<'a> {
    pub secret: &'a Secret,
    pub expires_at: Timestamp,
    /// When the provider would like it to be refreshed.
    pub refresh_at: Option<Timestamp>,
    /// Granted, separated by spaces.
    pub scope: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    #[error("this is not an MSAL token cache")]
    Malformed,
    #[error("the token cache has no account")]
    NoAccount,
    #[error("the token cache has several accounts")]
    SeveralAccounts,
    #[error("the token cache has no refresh token")]
    NoRefreshToken,
    #[error("no refresh token was given")]
    RefreshTokenNotGiven,
    /// Refreshed tokens that belong to somebody else; nothing was changed.
    #[error("the new tokens are of another account")]
    OtherAccount,
}

impl MsalCache {
    pub fn parse(json: &[u8]) -> Result<Self, CacheError> {
        serde_json::from_slice(json).map_err(|_| CacheError::Malformed)
    }

    /// The cache as JSON, in a fixed order; wiped when dropped.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, CacheError> {
        let mut json = Zeroizing::new(Vec::with_capacity(USUAL_SIZE));
        serde_json::to_writer_pretty(&mut *json, self).map_err(|_| CacheError::Malformed)?;
        Ok(json)
    }

    /// The account, for a cache that is one account's and can be refreshed.
    pub fn account_info(&self) -> Result<AccountInfo, CacheError> {
        let account = self.account()?;
        let id = account.id().ok_or(CacheError::Malformed)?;
        let (_, refresh_token) = self.refresh_entry().ok_or(CacheError::NoRefreshToken)?;
        let mut scopes: Vec<_> =
            self.access_tokens.values().flat_map(|token| token.target.split_whitespace()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Ok(AccountInfo {
            account: id,
            username: account.username.clone(),
            name: account.name.clone(),
            client_id: refresh_token.client_id.clone(),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            expires_at: self.access_tokens.values().filter_map(|token| token.expires_on.at()).max(),
        })
    }

    /// The refresh token. It is good for every resource.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_entry().map(|(_, token)| &token.secret)
    }

    /// The access token for `resource`: if there are several, the one that ends last.
    pub fn access_token(&self, resource: Resource, cloud: &Cloud) -> Option<CachedToken<'_>> {
        let wanted = resource.audience(cloud).ok()?;
        let is_graph = resource == Resource::Graph;
        self.access_tokens
            .values()
            .filter(|token| match audience(&token.target) {
                Some(found) => found == wanted || (is_graph && is_microsofts_graph(found)),
                None => is_graph,
            })
            .filter_map(|token| {
                Some(CachedToken {
                    secret: &token.secret,
                    expires_at: token.expires_on.at()?,
                    refresh_at: token.refresh_on.as_ref().and_then(Epoch::at),
                    scope: &token.target,
                })
            })
            .max_by_key(|token| token.expires_at)
    }

    /// The ID token that was verified at the sign-in, or came with the last refresh.
    pub fn id_token(&self) -> Option<&Secret> {
        self.id_tokens.values().next().map(|token| &token.secret)
    }

    fn account(&self) -> Result<&Account, CacheError> {
        let mut accounts = self.accounts.values();
        match (accounts.next(), accounts.next()) {
            (Some(account), None) => Ok(account),
            (None, _) => Err(CacheError::NoAccount),
            (Some(_), Some(_)) => Err(CacheError::SeveralAccounts),
        }
    }

    /// MSAL for Python may leave several, one for each set of scopes; it takes the youngest, and so do we.
    fn refresh_entry(&self) -> Option<(&String, &RefreshToken)> {
        self.refresh_tokens
            .iter()
            .filter(|(_, token)| !token.secret.is_empty())
            .max_by_key(|(_, token)| token.last_modification_time.as_ref().and_then(Epoch::at))
    }
}

impl fmt::Debug for MsalCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsalCache")
            .field("access_tokens", &self.access_tokens.len())
            .field("refresh_tokens", &self.refresh_tokens.len())
            .field("id_tokens", &self.id_tokens.len())
            .field("accounts", &self.accounts.len())
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Who it is: `oid` and tenant. MSAL writes the tenant as it was asked (`common`, too), so the home account's is
    /// taken where the realm is no id.
    pub fn id(&self) -> Option<AccountId> {
        let home: Option<AccountId> = self.home_account_id.parse().ok();
        let tid: Uuid = guid(&self.realm).or(home.map(|home| home.tid))?;
        Some(AccountId { tid, oid: guid(&self.local_account_id).or(home.map(|home| home.oid))? })
    }
}

/// What the scopes of a token are for. `None` for scopes without an address, which are Graph's.
fn audience(target: &str) -> Option<&str> {
    target.split_whitespace().find_map(|scope| scope.rsplit_once('/')).map(|(audience, _)| audience)
}

fn is_microsofts_graph(audience: &str) -> bool {
    [Cloud::Global, Cloud::UsGovernment, Cloud::UsGovernmentDod, Cloud::China]
        .iter()
        .any(|cloud| cloud.graph().as_str().trim_end_matches('/') == audience)
}
