//! TLS for broker and proxy: the system's authorities or one's own, and optionally a client certificate.

use std::path::Path;
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::settings::{ClientCertificate, SettingsError};

/// Whether these files can be used: for whoever wants to know before there is anybody to connect to.
pub fn check_certificates(
    ca_file: Option<&Path>,
    client: Option<&ClientCertificate>,
) -> Result<(), SettingsError> {
    configuration(ca_file, client).map(drop)
}

/// Reads the files now, so that a link with a wrong path does not start.
pub(crate) fn configuration(
    ca_file: Option<&Path>,
    client: Option<&ClientCertificate>,
) -> Result<TlsConfiguration, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| SettingsError::SystemRoots)?;
    let builder = match ca_file {
        Some(file) => builder.with_root_certificates(roots(file)?),
        None => builder.with_platform_verifier().map_err(|_| SettingsError::SystemRoots)?,
    };
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let error = || SettingsError::ClientCertificate(client.certificate.clone());
            let chain = certificates(&client.certificate).ok_or_else(error)?;
            let key = PrivateKeyDer::from_pem_file(&client.key).map_err(|_| error())?;
            builder.with_client_auth_cert(chain, key).map_err(|_| error())?
        }
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

fn roots(file: &Path) -> Result<RootCertStore, SettingsError> {
    let error = || SettingsError::CaFile(file.to_owned());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file).ok_or_else(error)? {
        roots.add(certificate).map_err(|_| error())?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; `None` when it cannot be read or holds none.
fn certificates(file: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_or_holds_none_is_named() {
        let missing = Path::new("/nonexistent/ca.pem");
        assert_eq!(configuration(Some(missing), None).err(), Some(SettingsError::CaFile(missing.into())));
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            configuration(Some(empty.path()), None).err(),
            Some(SettingsError::CaFile(empty.path().into()))
        );
    }
}
