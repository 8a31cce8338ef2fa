//! Why a connection could not be made or was lost, in the few kinds that ask for different things to be done.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// A reason to be without a connection. The link tries again after each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nothing answers at the broker's address, or not in time.
    #[error("the broker cannot be reached")]
    Unreachable,
    /// The host name has no address; without any network this is the first thing to fail.
    #[error("the broker's name cannot be resolved")]
    NameNotFound,
    #[error("the broker refused the connection: {0}")]
    Refused(Refusal),
    #[error("the broker's certificate is not of a trusted authority")]
    TlsUntrusted,
    #[error("the broker's certificate is for another name")]
    TlsWrongName,
    /// Or the clock of this computer is wrong.
    #[error("the broker's certificate is not valid at this time")]
    TlsExpired,
    /// What answers there does not speak MQTT, TLS or WebSocket as expected.
    #[error("the broker broke the protocol")]
    ProtocolError,
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// The connection is open, but nothing comes any more.
    #[error("the broker stopped answering")]
    Stalled,
    /// The HTTP proxy cannot be reached, refused, or is of a kind that cannot carry MQTT.
    #[error("the proxy did not connect us")]
    Proxy,
    /// This side ended the connection, so that the broker delivers again what could not be kept; see
    /// [`crate::Link::give_back`].
    #[error("a message could not be stored here, and the broker is asked for it again")]
    GivenBack,
}

/// The broker's word for not letting us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("wrong user name or password")]
    BadCredentials,
    /// Many brokers, mosquitto among them, say this for a wrong password too.
    #[error("not authorized")]
    NotAuthorized,
    #[error("client certificate missing or not accepted")]
    ClientCertificate,
    #[error("client id not accepted")]
    ClientId,
    #[error("MQTT version not supported")]
    Version,
    /// Full, busy, or shutting down: worth waiting for.
    #[error("unavailable")]
    Unavailable,
    #[error("for a reason of its own")]
    Other,
}

impl Problem {
    /// Every one there is, for whoever has only its words.
    pub const ALL: [Self; 17] = [
        Self::Unreachable,
        Self::NameNotFound,
        Self::Refused(Refusal::BadCredentials),
        Self::Refused(Refusal::NotAuthorized),
        Self::Refused(Refusal::ClientCertificate),
        Self::Refused(Refusal::ClientId),
        Self::Refused(Refusal::Version),
        Self::Refused(Refusal::Unavailable),
        Self::Refused(Refusal::Other),
        Self::TlsUntrusted,
        Self::TlsWrongName,
        Self::TlsExpired,
        Self::ProtocolError,
        Self::ClosedByBroker,
        Self::Stalled,
        Self::Proxy,
        Self::GivenBack,
    ];
}

/// When in the life of a connection an I/O error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Connected,
}

/// Finds the cause that matters in an error chain of TCP, TLS or WebSocket. `None`: there is none known.
pub(crate) fn from_chain(error: &(dyn Error + 'static), phase: Phase) -> Option<Problem> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(from_tls(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(from_io(io, phase));
        }
        next = error.source();
    }
    None
}

pub(crate) fn from_io(error: &io::Error, phase: Phase) -> Problem {
    if let Some(inner) = error.get_ref()
        && let Some(problem) = from_chain(inner, phase)
    {
        return problem;
    }
    match (error.kind(), phase) {
        (io::ErrorKind::InvalidData, _) => Problem::ProtocolError,
        (io::ErrorKind::TimedOut, Phase::Connected) => Problem::Stalled,
        // While connecting: accepted and then hung up on, as brokers do with a protocol they do not speak.
        (
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe,
            Phase::Connecting,
        )
        | (_, Phase::Connected) => Problem::ClosedByBroker,
        (_, Phase::Connecting) => Problem::Unreachable,
    }
}

fn from_tls(error: &rustls::Error) -> Problem {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                Problem::TlsExpired
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Problem::TlsWrongName,
            _ => Problem::TlsUntrusted,
        },
        rustls::Error::NoCertificatesPresented => Problem::TlsUntrusted,
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => Problem::Refused(Refusal::ClientCertificate),
        _ => Problem::ProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn a_tls_error_is_found_inside_the_io_error_that_carries_it() {
        for (certificate, problem) in [
            (CertificateError::Expired, Problem::TlsExpired),
            (CertificateError::NotValidYet, Problem::TlsExpired),
            (CertificateError::NotValidForName, Problem::TlsWrongName),
            (CertificateError::UnknownIssuer, Problem::TlsUntrusted),
            (CertificateError::Revoked, Problem::TlsUntrusted),
        ] {
            let error = wrapped(rustls::Error::InvalidCertificate(certificate));
            assert_eq!(from_chain(&error, Phase::Connecting), Some(problem));
            assert_eq!(from_io(&io::Error::other(error), Phase::Connecting), problem, "also two levels down");
        }
    }

    #[test]
    fn every_problem_has_words_of_its_own() {
        let words: std::collections::HashSet<String> = Problem::ALL.iter().map(Problem::to_string).collect();
        assert_eq!(words.len(), Problem::ALL.len());
    }

    #[test]
    fn a_lost_connection_is_told_from_one_that_never_was() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(from_io(&reset, Phase::Connected), Problem::ClosedByBroker);
        assert_eq!(from_io(&reset, Phase::Connecting), Problem::ClosedByBroker);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(from_io(&refused, Phase::Connecting), Problem::Unreachable);
    }

    #[test]
    fn an_error_of_no_known_kind_is_not_guessed_at() {
        assert_eq!(from_chain(&std::fmt::Error, Phase::Connecting), None);
    }
}
