//! From a verified handoff to the file that will be stored. Pure. It holds a device to the terms of its invite, and takes
//! from the handoff only what those allow.

use jiff::Timestamp;
use valetkey_entra::account::AccountId;
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::{self, Capability};
use valetkey_entra::cloud::{Authority, Cloud, NotATenant, Tenant};
use valetkey_handoff::message::CacheUpdated;
use valetkey_handoff::{Terms, Thumbprint};

use crate::account_file::{AccountFile, FORMAT, Facts};
use crate::health::Condition;

/// Bytes; Microsoft's have less than 3 KiB. One far longer may be turned away there before it is read, which cannot be told
/// from a hiccup: it would be tried without end.
const MAX_REFRESH_TOKEN: usize = 16 * 1024;

/// Why a handoff is not stored although its device is known. The code travels in the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The cache cannot be read, or is not one account's.
    Damaged,
    /// The cache has nothing to refresh with.
    NoRefreshToken,
    /// The cache is another account's than the message says.
    AccountMismatch,
    /// Another sign-in service, tenant or client id than the invite named.
    TermsMismatch,
    /// More than the invite asked for.
    CapabilitiesMismatch,
    /// Its device has named too many that never worked.
    TooManyAccounts,
}

impl Unfit {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NoRefreshToken => "no-refresh-token",
            Self::AccountMismatch => "account-mismatch",
            Self::TermsMismatch => "terms-mismatch",
            Self::CapabilitiesMismatch => "capabilities-mismatch",
            Self::TooManyAccounts => "too-many-accounts",
        }
    }
}

/// The cloud and the tenants that an invite's terms admit; `None` if they are not an authority.
pub(crate) fn authority(terms: &Terms) -> Option<Authority> {
    let cloud = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()).ok()?;
    Some(Authority { cloud, tenant: terms.tenant.parse().ok()? })
}

/// Whether terms can be met: for the operator, before an invite is made.
pub(crate) fn check_terms(terms: &Terms) -> Result<(), String> {
    let cloud = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()).map_err(|e| e.to_string())?;
    let _: Tenant = terms.tenant.parse().map_err(|e: NotATenant| e.to_string())?;
    let capabilities = capability::parse(&terms.capabilities).map_err(|e| e.to_string())?;
    capability::authorize_scopes(&cloud, &capabilities).map_err(|e| e.to_string())?;
    Ok(())
}

/// The file for a handoff of this device.
pub(crate) fn account_file(
    body: &CacheUpdated,
    device: &Thumbprint,
    terms: &Terms,
    now: Timestamp,
) -> Result<AccountFile, Unfit> {
    let account = AccountId { tid: body.account.id.tid, oid: body.account.id.oid };

    let admitted = authority(terms).ok_or(Unfit::TermsMismatch)?;
    let said =
        Cloud::from_addresses(&body.authority, terms.graph.as_deref()).map_err(|_| Unfit::TermsMismatch)?;
    if said != admitted.cloud || !admitted.permits(account.tid) || body.client_id != terms.client_id {
        return Err(Unfit::TermsMismatch);
    }
    let capabilities: Vec<Capability> =
        capability::parse(&body.capabilities).map_err(|_| Unfit::CapabilitiesMismatch)?;
    if !capabilities.iter().all(|asked| terms.capabilities.iter().any(|allowed| allowed == asked.id())) {
        return Err(Unfit::CapabilitiesMismatch);
    }

    let mut cache = MsalCache::parse(body.cache.expose().as_bytes()).map_err(|_| Unfit::Damaged)?;
    // Checked first, because a cache without one has no account information either.
    let refresh_token = cache.refresh_token().ok_or(Unfit::NoRefreshToken)?;
    if refresh_token.expose().len() > MAX_REFRESH_TOKEN {
        return Err(Unfit::Damaged);
    }
    let info = cache.account_info().map_err(|_| Unfit::Damaged)?;
    if info.account != account {
        return Err(Unfit::AccountMismatch);
    }
    if info.client_id != body.client_id {
        return Err(Unfit::TermsMismatch);
    }
    // Only tokens that this agent has got itself are served: those are known to be this account's.
    cache.access_tokens.clear();
    forget_unknown(&mut cache);

    Ok(AccountFile {
        facts: Facts {
            username: body.account.username.clone(),
            name: body.account.name.clone(),
            resources: capability::resources(&capabilities).iter().map(|r| r.id().to_owned()).collect(),
            capabilities: capabilities.iter().map(|c| c.id().to_owned()).collect(),
            scopes: body.scopes.clone(),
            expires_at: body.expires_at,
            ..facts(account, &admitted, device, terms, now)
        },
        cache,
    })
}

/// The file of an account that is not there, for a device that takes back what may not have come yet. `None`: nothing of it
/// would be taken in anyway.
pub(crate) fn nothing_of(
    account: &AccountId,
    device: &Thumbprint,
    terms: &Terms,
    now: Timestamp,
) -> Option<AccountFile> {
    let admitted = authority(terms).filter(|admitted| admitted.permits(account.tid))?;
    let facts = Facts { removed_at: Some(now), ..facts(*account, &admitted, device, terms, now) };
    Some(AccountFile { facts, cache: MsalCache::default() })
}

/// What the invite says of an account.
fn facts(
    account: AccountId,
    admitted: &Authority,
    device: &Thumbprint,
    terms: &Terms,
    now: Timestamp,
) -> Facts {
    Facts {
        format: FORMAT,
        account,
        username: String::new(),
        name: None,
        expected_email: terms.email.clone(),
        admitted: admitted.tenant,
        authority: admitted.for_account(&account),
        client_id: terms.client_id.clone(),
        resources: Vec::new(),
        capabilities: Vec::new(),
        scopes: Vec::new(),
        device: device.clone(),
        seen: [].into(),
        expires_at: now,
        refresh_at: now,
        condition: Condition::untried(now),
        stored_at: now,
        refreshed_at: None,
        removed_at: None,
        rotated: false,
        previous_refresh_token: None,
        replaced: None,
    }
}

/// What nobody here reads is not kept for a device: it could be our own member, or fill the file. No MSAL needs it: what one
/// writes beside the members that are known here, it does without.
fn forget_unknown(cache: &mut MsalCache) {
    let entries = (cache.refresh_tokens.values_mut().map(|entry| &mut entry.other))
        .chain(cache.id_tokens.values_mut().map(|entry| &mut entry.other))
        .chain(cache.accounts.values_mut().map(|entry| &mut entry.other))
        .chain(cache.app_metadata.values_mut().map(|entry| &mut entry.other));
    for unknown in entries.chain([&mut cache.other]) {
        unknown.clear();
    }
}
