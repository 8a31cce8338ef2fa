//! Whether the sign-in service can be reached, and what time it is there: for whoever looks for a fault.

use std::error::Error;
use std::io;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use reqwest::header::{ACCEPT, DATE};
use url::Url;

use crate::cloud::Authority;
use crate::http::{self, HttpError};
use crate::metadata::{Metadata, MetadataError};

/// The sign-in service answers, and is what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// How far this computer's clock is ahead of the service's; negative behind. Right to a second or two.
    pub clock_ahead: Option<SignedDuration>,
}

/// Why it is of no use now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReached {
    /// Nothing answers: no network, a name that is not known, a proxy that lets nothing through.
    #[error("it cannot be reached")]
    Unreachable,
    /// Somebody in between shows a certificate that this computer does not trust.
    #[error("its certificate is not of an authority that this computer trusts")]
    Untrusted,
    #[error("its certificate is not valid at this time")]
    Expired,
    /// Something answers, perhaps a network's own page.
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("it answered something that is not a sign-in service's")]
    Malformed,
    #[error("this computer's list of trusted certificates could not be used")]
    Certificates,
}

/// Asks for the public description of the authority. `now` is called when the answer has come.
pub async fn reach(
    client: &Client,
    authority: &Authority,
    now: impl Fn() -> Timestamp,
) -> Result<Reached, NotReached> {
    let url = authority.metadata_url();
    let answer = client.get(url.clone()).header(ACCEPT, "application/json").send().await;
    let answer = answer.map_err(|error| from_chain(&error))?;
    let here = now();
    let there = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let clock_ahead = there.map(|there| here.duration_since(there));
    let status = answer.status();
    if !status.is_success() {
        return Err(NotReached::Status(status.as_u16()));
    }
    Metadata::fetch(client, authority).await.map_err(|error| why(&error))?;
    Ok(Reached { clock_ahead })
}

/// What it is called when somebody is told of it.
pub fn name(login: &Url) -> String {
    http::host(login)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7; the two obsolete forms are sent by nobody any more).
fn http_date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

fn why(error: &MetadataError) -> NotReached {
    match error {
        MetadataError::Http(error) => cause(error),
        _ => NotReached::Malformed,
    }
}

/// What is behind the failure of a request.
pub fn cause(error: &HttpError) -> NotReached {
    match error {
        HttpError::Unreachable { source, .. } => from_chain(source),
        HttpError::Status { status, .. } => NotReached::Status(status.as_u16()),
        HttpError::Certificates(_) => NotReached::Certificates,
        _ => NotReached::Malformed,
    }
}

fn from_chain(error: &(dyn Error + 'static)) -> NotReached {
    use rustls::CertificateError as Bad;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(bad)) = error.downcast_ref() {
            return match bad {
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. } => NotReached::Expired,
                _ => NotReached::Untrusted,
            };
        }
        // An I/O error's own source is the source of what it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    NotReached::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read() {
        let time: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(time));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn a_certificate_is_told_from_a_network_that_is_down_however_deep_it_is() {
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, expired));
        assert_eq!(from_chain(&wrapped), NotReached::Expired);
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(from_chain(&io::Error::other(unknown)), NotReached::Untrusted);
        assert_eq!(from_chain(&io::Error::from(io::ErrorKind::ConnectionRefused)), NotReached::Unreachable);
    }
}
