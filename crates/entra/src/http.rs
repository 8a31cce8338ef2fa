//! The one HTTP client of this crate, and reading an answer without trusting its length.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use serde::de::DeserializeOwned;
use url::Url;

/// A sign-in endpoint that has not taken the connection by then is not reachable; a person is waiting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole request. Token endpoints answer within seconds; the slowest seen under load took about 20.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For one answer. Entra's metadata is 2 KiB, its key set 25 KiB, a token answer 10 KiB.
pub const MAX_ANSWER: usize = 512 * 1024;

/// Why there is no usable answer. It holds no body and no query, so it may be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    #[error("this computer's list of trusted certificates could not be used")]
    Certificates(#[source] rustls::Error),
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
    #[error("no answer from {host}")]
    Unreachable { host: String, source: reqwest::Error },
    #[error("{host} answered with status {status}")]
    Status { host: String, status: StatusCode },
    #[error("{host} sent more than {MAX_ANSWER} bytes")]
    TooLong { host: String },
    #[error("{host} sent something that is not the JSON expected")]
    NotJson { host: String },
}

/// A client that trusts what the operating system trusts (or `SSL_CERT_FILE`), uses the system's proxy, follows no
/// redirects (a token request must not be led elsewhere) and gives up in time. Make one and share it.
pub fn client() -> Result<Client, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(HttpError::Certificates)?
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .user_agent(concat!("ValetKey/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(HttpError::Client)
}

/// GETs a JSON document that is public (metadata, keys).
pub async fn get_json<T: DeserializeOwned>(http: &Client, url: &Url) -> Result<T, HttpError> {
    let host = host(url);
    let response = http
        .get(url.clone())
        .header(ACCEPT, "application/json")
        .send()
        .await
        .map_err(|source| unreachable(&host, source))?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(HttpError::Status { host, status });
    }
    let body = read(response).await?;
    serde_json::from_slice(&body).map_err(|_| HttpError::NotJson { host })
}

/// The whole body, if it is at most [`MAX_ANSWER`] bytes.
pub async fn read(mut response: Response) -> Result<Vec<u8>, HttpError> {
    let host = host(response.url());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(&host, source))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(HttpError::TooLong { host });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Names the host only: a URL's path or query may hold what must not be logged.
pub fn unreachable(host: &str, source: reqwest::Error) -> HttpError {
    HttpError::Unreachable { host: host.to_owned(), source: source.without_url() }
}

/// `host` or `host:port`, as a person would name the server.
pub fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
