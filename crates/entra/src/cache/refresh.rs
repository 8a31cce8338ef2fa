//! What a refresh does to a cache.

use jiff::Timestamp;

use super::from_tokens::{access_token, home_account_id};
use super::{CacheError, MsalCache, audience, is_microsofts_graph};
use crate::id_token::Unverified;
use crate::token_endpoint::TokenResponse;

impl MsalCache {
    /// Puts refreshed tokens in their place: the access token in that of the same resource, a rotated refresh token
    /// into the entry it replaces, a new ID token likewise. Returns whether anything has changed.
    ///
    /// `tokens` came straight from the token endpoint over TLS, which is why their ID token need not be verified again
    /// (OpenID Connect Core §3.1.3.7, 6). It must be of the same person (§12.2), or nothing is changed.
    pub fn apply(&mut self, tokens: &TokenResponse, now: Timestamp) -> Result<bool, CacheError> {
        let account = self.account()?;
        let (refresh_key, before) = self.refresh_entry().ok_or(CacheError::NoRefreshToken)?;
        if !self.is_same_person(&before.client_id, tokens) {
            return Err(CacheError::OtherAccount);
        }

        let new = access_token(
            before.home_account_id.clone(),
            before.environment.clone(),
            before.client_id.clone(),
            account.realm.clone(),
            tokens,
            now,
        );
        let refresh_key = refresh_key.clone();
        let mut changed = false;

        let held =
            self.access_tokens.values().any(|held| held.secret == new.secret && held.target == new.target);
        if !held {
            self.access_tokens.retain(|_, old| !same_resource(&old.target, &new.target));
            self.access_tokens.insert(new.key(), new);
            changed = true;
        }
        if let Some(secret) = &tokens.refresh_token
            && let Some(entry) = self.refresh_tokens.get_mut(&refresh_key)
            && entry.secret != *secret
        {
            entry.secret = secret.clone();
            entry.last_modification_time =
                entry.last_modification_time.take().map(|_| super::entries::Epoch::new(now));
            // Older ones of this account would be used in its place, and may count as a theft.
            self.refresh_tokens.retain(|key, _| *key == refresh_key);
            changed = true;
        }
        if let Some(secret) = &tokens.id_token
            && let Some(entry) = self.id_tokens.values_mut().next()
            && entry.secret != *secret
        {
            entry.secret = secret.clone();
            changed = true;
        }
        Ok(changed)
    }

    fn is_same_person(&self, client_id: &str, tokens: &TokenResponse) -> bool {
        let Ok(account) = self.account() else { return false };
        let home = tokens.client_info.as_deref().and_then(home_account_id);
        if home.is_some_and(|home| !home.eq_ignore_ascii_case(&account.home_account_id)) {
            return false;
        }
        let Some(new) = &tokens.id_token else { return true };
        let Some(new) = Unverified::read(new.expose()) else { return false };
        let old = self.id_token().and_then(|old| Unverified::read(old.expose()));
        new.is_only_for(client_id)
            && new.account() == account.id()
            && old.is_none_or(|old| old.sub == new.sub && old.iss == new.iss)
    }
}

fn same_resource(a: &str, b: &str) -> bool {
    let graph = |target| audience(target).is_none_or(is_microsofts_graph);
    audience(a) == audience(b) || (graph(a) && graph(b))
}
