//! A new cache, from the tokens of a sign-in that has been verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use super::entries::{AccessToken, Account, AppMetadata, Epoch, IdToken, RefreshToken};
use super::{CacheError, MsalCache};
use crate::cloud::Authority;
use crate::id_token::Claims;
use crate::token_endpoint::TokenResponse;

impl MsalCache {
    /// The cache of one account, as MSAL would have written it. Without a refresh token there is nothing to hand over.
    pub fn from_tokens(
        authority: &Authority,
        client_id: &str,
        claims: &Claims,
        tokens: &TokenResponse,
        now: Timestamp,
    ) -> Result<Self, CacheError> {
        let refresh_token = tokens.refresh_token.clone().ok_or(CacheError::RefreshTokenNotGiven)?;
        let home = tokens.client_info.as_deref().and_then(home_account_id);
        let home_account_id = home.unwrap_or_else(|| claims.account.to_string());
        let environment = authority.cache_environment().to_owned();
        let realm = claims.account.tid.to_string();
        let client_id = client_id.to_owned();

        let mut cache = Self::default();
        let metadata =
            AppMetadata { client_id: client_id.clone(), environment: environment.clone(), other: [].into() };
        cache.app_metadata.insert(metadata.key(), metadata);

        let account = Account {
            home_account_id: home_account_id.clone(),
            environment: environment.clone(),
            realm: realm.clone(),
            local_account_id: claims.account.oid.to_string(),
            username: claims.username.clone(),
            authority_type: Some("MSSTS".to_owned()),
            name: claims.name.clone(),
            client_info: tokens.client_info.clone(),
            other: [].into(),
        };
        cache.accounts.insert(account.key(), account);

        if let Some(secret) = tokens.id_token.clone() {
            let id_token = IdToken {
                home_account_id: home_account_id.clone(),
                environment: environment.clone(),
                realm: realm.clone(),
                credential_type: "IdToken".to_owned(),
                client_id: client_id.clone(),
                secret,
                other: [].into(),
            };
            cache.id_tokens.insert(id_token.key(), id_token);
        }

        let refresh_token = RefreshToken {
            home_account_id: home_account_id.clone(),
            environment: environment.clone(),
            credential_type: "RefreshToken".to_owned(),
            client_id: client_id.clone(),
            secret: refresh_token,
            target: Some(tokens.scope.clone()),
            family_id: None,
            last_modification_time: None,
            other: [].into(),
        };
        cache.refresh_tokens.insert(refresh_token.key(), refresh_token);

        let access_token = access_token(home_account_id, environment, client_id, realm, tokens, now);
        cache.access_tokens.insert(access_token.key(), access_token);
        Ok(cache)
    }
}

pub(super) fn access_token(
    home_account_id: String,
    environment: String,
    client_id: String,
    realm: String,
    tokens: &TokenResponse,
    now: Timestamp,
) -> AccessToken {
    let after = |lifetime| Epoch::new(now.checked_add(lifetime).unwrap_or(Timestamp::MAX));
    AccessToken {
        home_account_id,
        environment,
        credential_type: "AccessToken".to_owned(),
        client_id,
        secret: tokens.access_token.clone(),
        realm,
        target: tokens.scope.clone(),
        token_type: Some("Bearer".to_owned()),
        cached_at: Epoch::new(now),
        expires_on: after(tokens.expires_in),
        extended_expires_on: Some(after(tokens.ext_expires_in.unwrap_or(tokens.expires_in))),
        refresh_on: tokens.refresh_in.map(after),
        other: [].into(),
    }
}

/// `uid.utid`: for a guest, the account at home, which is not the one of the tenant visited.
pub(super) fn home_account_id(client_info: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ClientInfo {
        uid: String,
        utid: String,
    }
    let json = URL_SAFE_NO_PAD.decode(client_info.trim_end_matches('=')).ok()?;
    let info: ClientInfo = serde_json::from_slice(&json).ok()?;
    (!info.uid.is_empty() && !info.utid.is_empty()).then(|| format!("{}.{}", info.uid, info.utid))
}
