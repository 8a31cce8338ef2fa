//! The token endpoint (RFC 6749 §3.2): a code, a refresh token or a device code goes in, tokens come out.
//!
//! The requests are made here rather than by the `oauth2` crate, which makes the authorize request: it drops the status
//! and `Retry-After` of a refusal, keeps its body in the error, refuses `expires_in` written as text, and leaves tokens
//! in memory that is not wiped. What is left to write is the list of form fields.

mod device;
mod response;

use std::fmt;

use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::{ACCEPT, RETRY_AFTER};
use url::Url;
use zeroize::Zeroizing;

pub use device::{DeviceCode, Poll, SLOW_DOWN};
pub use response::{MAX_LIFETIME, TokenResponse, UNSTATED_LIFETIME};

use crate::http::{self, HttpError};
use crate::refusal::{Class, ErrorBody, Reason, Refusal, classify, parse_retry_after};
use crate::secret::Secret;

/// One authority's token endpoint. Its address comes from checked metadata.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    http: Client,
    url: Url,
}

/// What a code is exchanged with. Each value must be exactly what the authorize request had.
#[derive(Clone, Copy, Debug)]
pub struct CodeGrant<'a> {
    pub client_id: &'a str,
    pub code: &'a Secret,
    pub verifier: &'a Secret,
    /// Letter by letter: a `Url` would put a slash at its end.
    pub redirect_uri: &'a str,
    /// Of one resource, with the identity scopes.
    pub scopes: &'a [String],
    /// The claims challenge that the sign-in was to meet.
    pub claims: Option<&'a str>,
}

/// Why there are no tokens. It holds nothing of the provider's text, so it may be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    #[error("refused: {0}")]
    Refused(Box<Refusal>),
    #[error("no usable answer from the token endpoint")]
    Unreachable(#[from] HttpError),
    #[error("the token endpoint's answer is not one: {0}")]
    Malformed(Malformed),
}

/// What is wrong with an answer that is neither tokens nor a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A redirect, which is never followed: it would carry the code or token elsewhere.
    Redirect,
    /// Another status than success or an error.
    Status(u16),
    /// Not JSON, or a member is missing or of the wrong form.
    Body,
    /// Tokens of another type than `Bearer`.
    TokenType,
}

impl TokenError {
    /// Who can do something about it. An answer that is not one comes from something in between, and passes.
    pub fn class(&self) -> Class {
        self.reason().class()
    }

    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.reason,
            Self::Unreachable(_) | Self::Malformed(_) => Reason::Unavailable,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect => f.write_str("a redirect"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Body => f.write_str("not the JSON expected"),
            Self::TokenType => f.write_str("not a bearer token"),
        }
    }
}

impl TokenEndpoint {
    pub fn new(http: Client, token_url: Url) -> Self {
        Self { http, url: token_url }
    }

    /// Exchanges the code of a callback (RFC 6749 §4.1.3, RFC 7636 §4.5).
    pub async fn exchange(&self, grant: &CodeGrant<'_>, now: Timestamp) -> Result<TokenResponse, TokenError> {
        let scope = grant.scopes.join(" ");
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", grant.client_id),
            ("code", grant.code.expose()),
            ("code_verifier", grant.verifier.expose()),
            ("redirect_uri", grant.redirect_uri),
            ("scope", &scope),
            ("client_info", "1"),
        ];
        form.extend(grant.claims.map(|claims| ("claims", claims)));
        self.tokens(&form, &scope, now).await
    }

    /// Refreshes (RFC 6749 §6). `scopes` are always sent: they choose the resource.
    pub async fn refresh(
        &self,
        client_id: &str,
        refresh_token: &Secret,
        scopes: &[String],
        claims: Option<&str>,
        now: Timestamp,
    ) -> Result<TokenResponse, TokenError> {
        let scope = scopes.join(" ");
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", client_id),
            ("refresh_token", refresh_token.expose()),
            ("scope", &scope),
            ("client_info", "1"),
        ];
        form.extend(claims.map(|claims| ("claims", claims)));
        self.tokens(&form, &scope, now).await
    }

    async fn tokens(
        &self,
        form: &[(&str, &str)],
        scope: &str,
        now: Timestamp,
    ) -> Result<TokenResponse, TokenError> {
        let body = self.post(&self.url, form, now).await?;
        TokenResponse::parse(&body, scope).map_err(TokenError::Malformed)
    }

    /// The body of a success.
    async fn post(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let host = http::host(url);
        let request = self.http.post(url.clone()).header(ACCEPT, "application/json").form(form);
        let response = request.send().await.map_err(|source| http::unreachable(&host, source))?;
        let status = response.status().as_u16();
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|value| parse_retry_after(value.to_str().ok()?, now));
        let body = Zeroizing::new(http::read(response).await?);
        match status {
            200 => Ok(body),
            300..=399 => Err(TokenError::Malformed(Malformed::Redirect)),
            400.. => Err(TokenError::Refused(Box::new(classify(status, &ErrorBody::parse(&body), wait)))),
            _ => Err(TokenError::Malformed(Malformed::Status(status))),
        }
    }
}
