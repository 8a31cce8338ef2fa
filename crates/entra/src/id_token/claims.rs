//! The claims that are read, and what is kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::unique;
use crate::account::{AccountId, guid};

/// What a verified ID token says. Names and addresses are for display and the first match only: they can change, and
/// are never a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub account: AccountId,
    pub subject: String,
    pub name: Option<String>,
    /// `preferred_username`: for organisations the user principal name.
    pub username: Option<String>,
    pub email: Option<Email>,
    /// Signed in through another identity provider than the tenant itself, so that names are not the tenant's word.
    pub guest: bool,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    pub address: String,
    /// The tenant owns the address's domain (`xms_edov`), and nobody says that the address is unverified.
    /// <https://learn.microsoft.com/entra/identity-platform/migrate-off-email-claim-authorization>
    pub verified: bool,
}

impl Claims {
    /// How to address this account on a page.
    pub fn display_name(&self) -> String {
        let address =
            self.username.clone().or_else(|| self.email.as_ref().map(|email| email.address.clone()));
        address.or_else(|| self.name.clone()).unwrap_or_else(|| self.account.to_string())
    }
}

/// What the payload says, before anything of it has been checked.
#[derive(Deserialize)]
pub(crate) struct Unverified {
    pub(crate) iss: String,
    aud: Audience,
    azp: Option<String>,
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) nbf: Option<i64>,
    pub(super) nonce: Option<String>,
    pub(super) at_hash: Option<String>,
    pub(super) c_hash: Option<String>,
    pub(crate) sub: String,
    tid: String,
    oid: String,
    idp: Option<String>,
    name: Option<String>,
    preferred_username: Option<String>,
    email: Option<String>,
    email_verified: Option<Value>,
    xms_edov: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Unverified {
    /// Reads the payload without checking anything. May be used only on a token that came straight from the token
    /// endpoint over TLS, and only to compare it with one that was verified before.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        unique::parse(&URL_SAFE_NO_PAD.decode(payload).ok()?)
    }

    pub(crate) fn account(&self) -> Option<AccountId> {
        Some(AccountId { tid: guid(&self.tid)?, oid: guid(&self.oid)? })
    }

    /// A second audience would be a party that could replay the token here.
    pub(crate) fn is_only_for(&self, client_id: &str) -> bool {
        let audience = match &self.aud {
            Audience::One(one) => one == client_id,
            Audience::Many(many) => matches!(many.as_slice(), [one] if one == client_id),
        };
        audience && self.azp.as_deref().is_none_or(|azp| azp == client_id)
    }

    pub(super) fn verified(self, account: AccountId, issued_at: Timestamp, expires_at: Timestamp) -> Claims {
        let verified =
            self.email_verified.as_ref().is_none_or(is_true) && self.xms_edov.as_ref().is_some_and(is_true);
        Claims {
            account,
            subject: self.sub,
            name: self.name.filter(|text| !text.is_empty()),
            username: self.preferred_username.filter(|text| !text.is_empty()),
            email: self.email.filter(|text| !text.is_empty()).map(|address| Email { address, verified }),
            guest: self.idp.is_some_and(|idp| idp != self.iss),
            issued_at,
            expires_at,
        }
    }
}

/// Microsoft writes such claims as a boolean, as 1, or as text.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_u64() == Some(1),
        Value::String(value) => value == "1" || value.eq_ignore_ascii_case("true"),
        _ => false,
    }
}
