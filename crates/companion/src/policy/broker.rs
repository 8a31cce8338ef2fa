//! What an organisation's own brokers are met with: an authority of its own, and a certificate of this computer.

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;
use valetkey_link::{ClientCertificate, Settings, SettingsError, check_certificates};

use super::{Policies, PolicyError};
use crate::controller::Options;

/// PEM files, by their whole paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Section")]
pub(crate) struct Certificates {
    ca_file: Option<PathBuf>,
    client: Option<ClientCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "as the agent's configuration calls them")]
struct Section {
    ca_file: Option<PathBuf>,
    client_certificate_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum NoCertificates {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Files(#[from] SettingsError),
}

impl Certificates {
    /// What the organisation says, and what was named at the start where it says nothing; all of it can be used.
    pub fn of(options: &Options) -> Result<Self, NoCertificates> {
        let named = Self { ca_file: options.broker_ca.clone(), client: None };
        let certificates = Policies::read(options.policy_file.as_deref())?.certificates().or(named);
        certificates.check()?;
        Ok(certificates)
    }

    /// These, and of `other` what is missing here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { ca_file: self.ca_file.or(other.ca_file), client: self.client.or(other.client) }
    }

    /// Whether the files can be read and used, before anybody is connected to. Without them there is no connection.
    pub fn check(&self) -> Result<(), SettingsError> {
        if *self == Self::default() {
            return Ok(());
        }
        check_certificates(self.ca_file.as_deref(), self.client.as_ref())
    }

    pub fn apply_to(self, settings: &mut Settings) {
        settings.ca_file = self.ca_file;
        settings.client_certificate = self.client;
    }
}

impl TryFrom<Section> for Certificates {
    type Error = &'static str;

    fn try_from(section: Section) -> Result<Self, Self::Error> {
        let Section { ca_file, client_certificate_file, client_key_file } = section;
        let files = [&ca_file, &client_certificate_file, &client_key_file];
        if files.into_iter().flatten().any(|file| !file.is_absolute()) {
            return Err("certificates are named by their whole paths");
        }
        let client = match (client_certificate_file, client_key_file) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            _ => return Err("client_certificate_file and client_key_file go together"),
        };
        Ok(Self { ca_file, client })
    }
}

#[cfg(test)]
mod tests {
    use valetkey_handoff::Keys;

    use super::*;
    use crate::policy::{Policies, Policy};
    use crate::samples::invite;

    const PINNED: &str = "brokers = [\"mqtt.contoso.example\"]\n[broker]\n";

    fn certificates(files: &[&str]) -> Certificates {
        let files = files.iter().map(|rules| Policy::parse(&format!("{PINNED}{rules}")).unwrap());
        Policies(files.collect()).certificates()
    }

    #[test]
    fn certificates_are_for_pinned_brokers_whole_and_by_their_whole_paths() {
        let key = "client_key_file = \"/etc/valet-key/client.key\"";
        let certificate = "client_certificate_file = \"/etc/valet-key/client.pem\"";
        let both = format!("{certificate}\n{key}");
        for (rules, right) in [
            (format!("{PINNED}{both}\nca_file = \"/etc/valet-key/ca.pem\""), true),
            (format!("{PINNED}{certificate}"), false),
            (format!("{PINNED}{key}"), false),
            (format!("{PINNED}ca_file = \"ca.pem\""), false),
            (format!("{PINNED}ca = \"/etc/valet-key/ca.pem\""), false),
            // Of which broker?
            (format!("[broker]\n{both}"), false),
        ] {
            assert_eq!(Policy::parse(&rules).is_ok(), right, "{rules}");
        }
    }

    #[test]
    fn where_certificates_are_asked_for_nothing_goes_in_clear() {
        let rules = Policy::parse(&format!("{PINNED}ca_file = \"/etc/valet-key/ca.pem\"")).unwrap();
        let mut invite = invite("Rocky", Keys::generate().public());
        for (address, allowed) in [
            ("mqtts://mqtt.contoso.example", true),
            ("wss://mqtt.contoso.example/mqtt", true),
            ("mqtt://mqtt.contoso.example", false),
            ("ws://mqtt.contoso.example/mqtt", false),
        ] {
            invite.broker.url = address.parse().unwrap();
            assert_eq!(rules.allows(&invite), allowed, "{address}");
        }
    }

    #[test]
    fn a_second_file_adds_what_the_first_does_not_name_and_replaces_nothing() {
        let system = "ca_file = \"/etc/valet-key/ca.pem\"";
        let own = "ca_file = \"/home/ana/ca.pem\"\nclient_certificate_file = \"/home/ana/c.pem\"\n\
                   client_key_file = \"/home/ana/k.pem\"";
        let both = certificates(&[system, own]);
        assert_eq!(both.ca_file, Some("/etc/valet-key/ca.pem".into()));
        assert_eq!(both.client.map(|client| client.key), Some("/home/ana/k.pem".into()));
        assert_eq!(certificates(&[]), Certificates::default());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        assert_eq!(Certificates::default().check(), Ok(()));
        let rules =
            "client_certificate_file = \"/nonexistent/c.pem\"\nclient_key_file = \"/nonexistent/k.pem\"";
        assert_eq!(
            certificates(&[rules]).check(),
            Err(SettingsError::ClientCertificate("/nonexistent/c.pem".into()))
        );
    }
}
