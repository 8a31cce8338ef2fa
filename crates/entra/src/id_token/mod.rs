//! Verifying an ID token: who signed in, said by the provider and by nobody else.
//!
//! OpenID Connect Core §3.1.3.7, RFC 7519 and RFC 8725, and Microsoft's rules for the tenant's place in the issuer
//! (<https://learn.microsoft.com/entra/identity-platform/id-tokens>). Nothing that the token itself says chooses the key
//! or the algorithm: keys come from the provider's key set, and each key has one algorithm.

mod claims;
mod unique;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use claims::Unverified;
pub use claims::{Claims, Email};

use crate::account::AccountId;
use crate::cloud::Authority;
use crate::http::HttpError;
use crate::jwks::{Key, KeySet, Keys};
use crate::secret::Secret;

/// How far the provider's clock and ours may be apart. Microsoft's own libraries allow five minutes, too; it must stay
/// below six, the point at which the OpenID conformance suite expects an expired token to be refused.
pub const LEEWAY: SignedDuration = SignedDuration::from_mins(5);
/// Entra's are 1 to 2 KiB; with the most groups it will list, about 10.
pub const MAX_TOKEN: usize = 64 * 1024;

/// What a token must say to be for this sign-in.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    pub authority: &'a Authority,
    pub client_id: &'a str,
    /// Of the authorize request. `None` where none was sent: device code, and refreshes.
    pub nonce: Option<&'a Secret>,
    /// The access token that came along, for `at_hash`.
    pub access_token: Option<&'a Secret>,
    /// The authorization code, for `c_hash`.
    pub code: Option<&'a Secret>,
    /// On a refresh: who it was so far.
    pub account: Option<AccountId>,
}

/// Why an ID token is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    #[error("the ID token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("this is not an ID token in compact form")]
    Malformed,
    #[error("the ID token is of another type")]
    Type,
    #[error("the ID token asks for an extension that is not understood")]
    Critical,
    #[error("the ID token is signed with an algorithm that its key is not for")]
    Algorithm,
    #[error("the ID token is signed with a key that the provider does not publish")]
    UnknownKey,
    #[error("the ID token's signature is wrong")]
    Signature,
    #[error("a claim that must be there is missing from the ID token, or has another form")]
    Claims,
    #[error("the ID token comes from another issuer")]
    Issuer,
    #[error("people of the tenant {tid} may not sign in here")]
    TenantNotPermitted { tid: Uuid },
    #[error("the ID token is meant for another program")]
    Audience,
    #[error("the ID token belongs to another sign-in")]
    Nonce,
    /// Provider and this computer disagree about the time, if the token is fresh.
    #[error("the ID token expired {} minutes ago", by.as_mins())]
    Expired { by: SignedDuration },
    #[error("the ID token becomes valid only in {} minutes", by.as_mins())]
    NotYetValid { by: SignedDuration },
    #[error("the ID token belongs to another access token")]
    AccessTokenHash,
    #[error("the ID token belongs to another code")]
    CodeHash,
    #[error("the ID token is of another account than before")]
    OtherAccount,
    #[error("the provider's keys could not be fetched")]
    Keys(#[source] HttpError),
}

/// Verifies `token` and returns what it says. When it names a key that is unknown, the keys are fetched once more.
pub async fn verify(
    token: &Secret,
    keys: &Keys,
    expect: &Expect<'_>,
    now: Timestamp,
) -> Result<Claims, IdTokenError> {
    let current: Arc<KeySet> = keys.current(now).await.map_err(IdTokenError::Keys)?;
    match check(token, &current, expect, now) {
        Err(IdTokenError::UnknownKey) => {
            let newer = keys.newer(now).await.map_err(IdTokenError::Keys)?.ok_or(IdTokenError::UnknownKey)?;
            check(token, &newer, expect, now)
        }
        other => other,
    }
}

/// Verifies `token` against keys at hand, without any I/O.
pub fn check(
    token: &Secret,
    keys: &KeySet,
    expect: &Expect<'_>,
    now: Timestamp,
) -> Result<Claims, IdTokenError> {
    let parts = Parts::split(token.expose())?;
    let key = parts.signed_by(keys)?;
    check_payload(&parts.payload, key, expect, now)
}

/// What comes behind the signature, for a payload that the first of `keys` has signed. Hidden, because whoever reads a
/// token without verifying it is wrong; it is here for what attacks this step alone.
#[doc(hidden)]
pub fn check_behind_signature(
    payload: &[u8],
    keys: &KeySet,
    expect: &Expect<'_>,
    now: Timestamp,
) -> Result<Claims, IdTokenError> {
    let key = keys.named(None).next().ok_or(IdTokenError::UnknownKey)?;
    check_payload(payload, key, expect, now)
}

fn check_payload(
    payload: &[u8],
    key: &Key,
    expect: &Expect<'_>,
    now: Timestamp,
) -> Result<Claims, IdTokenError> {
    let claims: Unverified = unique::parse(payload).ok_or(IdTokenError::Claims)?;
    let account = claims.account().ok_or(IdTokenError::Claims)?;

    let issuer = expect.authority.issuer(account.tid);
    if claims.iss != issuer || !key.signs_for(&issuer, account.tid) {
        return Err(IdTokenError::Issuer);
    }
    if !expect.authority.permits(account.tid) {
        return Err(IdTokenError::TenantNotPermitted { tid: account.tid });
    }
    if !claims.is_only_for(expect.client_id) {
        return Err(IdTokenError::Audience);
    }
    if let Some(nonce) = expect.nonce
        && !claims.nonce.as_deref().is_some_and(|said| nonce.matches(said))
    {
        return Err(IdTokenError::Nonce);
    }
    let (issued_at, expires_at) = timely(&claims, now)?;
    if !hash_matches(claims.at_hash.as_deref(), expect.access_token) {
        return Err(IdTokenError::AccessTokenHash);
    }
    if !hash_matches(claims.c_hash.as_deref(), expect.code) {
        return Err(IdTokenError::CodeHash);
    }
    if expect.account.is_some_and(|before| before != account) {
        return Err(IdTokenError::OtherAccount);
    }
    Ok(claims.verified(account, issued_at, expires_at))
}

/// What an ID token says that came straight from the token endpoint over TLS, which may stand in for the signature (OpenID
/// Connect Core §3.1.3.7, 6). Its times are not looked at: it was issued just now, whatever the clocks say.
pub fn from_token_endpoint(token: &Secret, expect: &Expect<'_>) -> Result<Claims, IdTokenError> {
    if token.expose().len() > MAX_TOKEN {
        return Err(IdTokenError::TooLong);
    }
    let claims = Unverified::read(token.expose()).ok_or(IdTokenError::Claims)?;
    let account = claims.account().ok_or(IdTokenError::Claims)?;
    if claims.iss != expect.authority.issuer(account.tid) {
        return Err(IdTokenError::Issuer);
    }
    if !expect.authority.permits(account.tid) {
        return Err(IdTokenError::TenantNotPermitted { tid: account.tid });
    }
    if !claims.is_only_for(expect.client_id) {
        return Err(IdTokenError::Audience);
    }
    if expect.account.is_some_and(|before| before != account) {
        return Err(IdTokenError::OtherAccount);
    }
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| IdTokenError::Claims);
    let (issued_at, expires_at) = (time(claims.iat)?, time(claims.exp)?);
    Ok(claims.verified(account, issued_at, expires_at))
}

struct Parts<'a> {
    header: Header,
    payload: Vec<u8>,
    signed: &'a str,
    signature: &'a str,
}

/// Of the header (RFC 7515 §4) only this much is looked at. `jku`, `jwk`, `x5u` and `x5c` offer keys; they are not read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, IdTokenError> {
        if token.len() > MAX_TOKEN {
            return Err(IdTokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(IdTokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(IdTokenError::Malformed)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(IdTokenError::Malformed);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| IdTokenError::Malformed);
        let header = unique::parse(&decode(header)?).ok_or(IdTokenError::Malformed)?;
        decode(signature)?;
        Ok(Self { header, payload: decode(payload)?, signed, signature })
    }

    /// The key whose signature it is.
    fn signed_by<'k>(&self, keys: &'k KeySet) -> Result<&'k Key, IdTokenError> {
        if self.header.crit.is_some() {
            return Err(IdTokenError::Critical);
        }
        if self.header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(IdTokenError::Type);
        }
        let algorithm = match self.header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            _ => return Err(IdTokenError::Algorithm),
        };
        let mut error = IdTokenError::UnknownKey;
        for key in keys.named(self.header.kid.as_deref()) {
            if key.algorithm != algorithm {
                error = IdTokenError::Algorithm;
                continue;
            }
            match crypto::verify(self.signature, self.signed.as_bytes(), &key.public, algorithm) {
                Ok(true) => return Ok(key),
                _ => error = IdTokenError::Signature,
            }
        }
        Err(error)
    }
}

impl Key {
    fn signs_for(&self, issuer: &str, tid: Uuid) -> bool {
        let tid = tid.to_string();
        self.issuer.as_deref().is_none_or(|template| template.replace("{tenantid}", &tid) == issuer)
    }
}

fn timely(claims: &Unverified, now: Timestamp) -> Result<(Timestamp, Timestamp), IdTokenError> {
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| IdTokenError::Claims);
    let (issued_at, expires_at) = (time(claims.iat)?, time(claims.exp)?);
    let by = now.duration_since(expires_at);
    if by >= LEEWAY {
        return Err(IdTokenError::Expired { by });
    }
    let begins = claims.nbf.map(time).transpose()?.map_or(issued_at, |nbf| nbf.max(issued_at));
    let by = begins.duration_since(now);
    if by > LEEWAY {
        return Err(IdTokenError::NotYetValid { by });
    }
    Ok((issued_at, expires_at))
}

/// `at_hash` and `c_hash` (OpenID Connect Core §3.1.3.6): the left half of the SHA-256. Where a token carries one, what it
/// stands for must be there and fit.
fn hash_matches(claimed: Option<&str>, value: Option<&Secret>) -> bool {
    let Some(claimed) = claimed else { return true };
    value.is_some_and(|value| {
        let digest = Sha256::digest(value.expose().as_bytes());
        URL_SAFE_NO_PAD.encode(&digest[..16]) == claimed
    })
}

#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tests;
