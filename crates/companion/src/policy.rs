//! What an organisation allows on its computers: a small TOML file that an administrator puts in place, and one more that may
//! be named at the start. Both hold: a second file can forbid more, and allow nothing that the first forbids. Asked before an
//! invite is shown, so that nobody is invited to agree to what is not allowed.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use url::Url;
use valetkey_entra::cloud::Cloud;
use valetkey_handoff::{Invite, PublicKeys, Terms, Thumbprint};

use crate::pairing::Pairing;

mod address;
mod broker;

pub(crate) use broker::{Certificates, NoCertificates};

use address::{Broker, Service};

/// Where an administrator puts the organisation's rules on this system; only here may there be none. `None`: the system does
/// not say.
pub fn policy_file() -> Option<PathBuf> {
    Some(administrators_folder()?.join("policy.toml"))
}

/// Not by the variable `ProgramData`: whoever starts a program sets its variables.
#[cfg(windows)]
fn administrators_folder() -> Option<PathBuf> {
    let shared = known_folders::get_known_folder_path(known_folders::KnownFolder::ProgramData)?;
    Some(shared.join("Valet Key"))
}

#[cfg(not(windows))]
#[allow(clippy::unnecessary_wraps, reason = "Windows may not say")]
fn administrators_folder() -> Option<PathBuf> {
    let mac = cfg!(target_os = "macos");
    Some(PathBuf::from(if mac { "/Library/Application Support/Valet Key" } else { "/etc/valet-key" }))
}

/// Each list that is given is the whole of what is allowed; one that is not given allows everything. But where logins are
/// ruled and Graphs are not, only the one that belongs to the login is allowed: it gets the tokens that come from there.
/// A name alone is that server, securely and at the usual port.
///
/// ```toml
/// agents = ["<keys as `valetkey-agent status --json` prints them>"]
/// brokers = ["mqtt.contoso.com", "wss://mqtt.contoso.com:9443/mqtt"]
/// logins = ["login.microsoftonline.com"]
/// graphs = ["graph.microsoft.com"]
/// client_ids = ["11111111-1111-4111-8111-111111111111"]
///
/// [broker] # of the brokers above
/// ca_file = "/etc/valet-key/broker-ca.pem"
/// client_certificate_file = "/etc/valet-key/client.pem"
/// client_key_file = "/etc/valet-key/client.key"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    agents: Option<Vec<Agent>>,
    brokers: Option<Vec<Broker>>,
    logins: Option<Vec<Service>>,
    graphs: Option<Vec<Service>>,
    client_ids: Option<Vec<String>>,
    broker: Option<Certificates>,
}

/// An agent by both of its keys. The thumbprint stands for the one it signs with, and somebody could put a key of his own to
/// decrypt with beside it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Agent {
    thumbprint: Thumbprint,
    recipient: String,
}

#[derive(Debug, Error)]
pub enum PolicyError {
    /// Fails closed: the rules may be there.
    #[error("this system does not say where an organisation's policy file would be")]
    NoPlace,
    #[error("the policy file cannot be read")]
    Io(#[from] std::io::Error),
    /// Fails closed: a mistyped rule must not mean that there is none.
    #[error("the policy file is not what was expected: {0}")]
    Malformed(#[from] toml::de::Error),
}

/// The rules of every file: what is allowed is what all of them allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policies(Vec<Policy>);

impl Policies {
    /// The system's file, and beside it the one that was named.
    pub fn read(named: Option<&Path>) -> Result<Self, PolicyError> {
        Self::of(&policy_file().ok_or(PolicyError::NoPlace)?, named)
    }

    /// `system` need not be there, and then rules nothing; a file that was named must be.
    fn of(system: &Path, named: Option<&Path>) -> Result<Self, PolicyError> {
        let ours = match Policy::read(system) {
            Err(PolicyError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Policy::default())
            }
            read => read,
        };
        let files = std::iter::once(ours).chain(named.map(Policy::read));
        Ok(Self(files.collect::<Result<_, _>>()?))
    }

    pub fn allow(&self, invite: &Invite) -> bool {
        self.0.iter().all(|policy| policy.allows(invite))
    }

    /// Whether it is Microsoft's login, one on this very computer (to practise), or one that an organisation's list names. Any
    /// other could lead the person on to Microsoft's own sign-in page, with a client id that asks nothing, and get the code
    /// from there.
    pub fn know_login(&self, terms: &Terms) -> bool {
        let Ok(cloud) = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()) else { return false };
        let named =
            |policy: &Policy| policy.logins.as_ref().is_some_and(|named| one_admits(named, cloud.login()));
        cloud.is_microsofts() || cloud.is_on_this_computer() || self.0.iter().any(named)
    }

    /// What the brokers that are allowed are met with. Where two files name one, the first holds: the system's.
    pub fn certificates(&self) -> Certificates {
        let files = self.0.iter().filter_map(|policy| policy.broker.clone());
        files.reduce(Certificates::or).unwrap_or_default()
    }

    /// Whether a pairing that was made before may go on.
    pub fn allow_pairing(&self, pairing: &Pairing) -> bool {
        self.know_login(&pairing.terms)
            && self.0.iter().all(|policy| policy.allow(&pairing.agent, &pairing.broker_url, &pairing.terms))
    }
}

impl Policy {
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text)?;
        if policy.broker.is_some() && policy.brokers.is_none() {
            // A certificate of the organisation's is not for whatever server an invite names.
            let error = serde::de::Error::custom("[broker] says nothing without the list of brokers");
            return Err(PolicyError::Malformed(error));
        }
        Ok(policy)
    }

    fn read(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    pub fn allows(&self, invite: &Invite) -> bool {
        self.allow(&invite.agent, &invite.broker.url, &invite.terms)
    }

    fn allow(&self, agent: &PublicKeys, broker: &Url, terms: &Terms) -> bool {
        fn one_of<T: PartialEq>(rule: Option<&Vec<T>>, value: &T) -> bool {
            rule.is_none_or(|allowed| allowed.contains(value))
        }
        let agent = Agent { thumbprint: agent.thumbprint(), recipient: agent.recipient() };
        one_of(self.agents.as_ref(), &agent)
            && self.brokers.as_ref().is_none_or(|allowed| allowed.iter().any(|one| one.admits(broker)))
            && self.allows_sign_in(terms)
            && one_of(self.client_ids.as_ref(), &terms.client_id)
            // In clear there would be no certificate, on neither side.
            && (self.broker.is_none() || matches!(broker.scheme(), "mqtts" | "wss"))
    }
}

impl Policy {
    /// The login, and whoever gets its tokens.
    fn allows_sign_in(&self, terms: &Terms) -> bool {
        if self.logins.is_none() && self.graphs.is_none() {
            return true;
        }
        let Ok(cloud) = Cloud::from_addresses(&terms.authority, terms.graph.as_deref()) else { return false };
        let graph = match &self.graphs {
            Some(allowed) => one_admits(allowed, cloud.graph()),
            // A cloud of Microsoft's has a Graph of its own.
            None => cloud.is_microsofts(),
        };
        graph && self.logins.as_ref().is_none_or(|allowed| one_admits(allowed, cloud.login()))
    }
}

fn one_admits(allowed: &[Service], url: &Url) -> bool {
    allowed.iter().any(|one| one.admits(url))
}

impl TryFrom<String> for Agent {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FORM: &str =
            "an agent is named by both of its keys, as `valetkey-agent status --json` prints them";
        let (thumbprint, recipient) = text.split_once(' ').ok_or(FORM)?;
        if !recipient.starts_with("age1") {
            return Err(FORM);
        }
        Ok(Self { thumbprint: thumbprint.parse().map_err(|_| FORM)?, recipient: recipient.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use valetkey_handoff::Keys;

    use super::*;
    use crate::samples::invite;

    fn file(rules: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(rules.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_file_that_somebody_names_can_forbid_more_and_never_allows_what_the_systems_forbids() {
        let invite = invite("Rocky", Keys::generate().public());
        let strict = file("brokers = [\"mqtt.fabrikam.example\"]");
        let right = file("brokers = [\"mqtt.contoso.example\"]");
        let open = file("");
        let allowed =
            |system: &Path, named: Option<&Path>| Policies::of(system, named).unwrap().allow(&invite);
        for loose in [&right, &open] {
            assert!(!allowed(strict.path(), Some(loose.path())), "loosened");
            assert!(!allowed(loose.path(), Some(strict.path())), "the named one holds, too");
            assert!(allowed(loose.path(), Some(right.path())));
        }
        assert!(!allowed(strict.path(), None));
        let none = Path::new("/nonexistent/policy.toml");
        assert!(
            allowed(none, None) && allowed(none, Some(right.path())) && !allowed(none, Some(strict.path()))
        );
    }

    #[test]
    fn a_pinned_broker_is_not_met_at_another_port_or_in_clear() {
        let policy = Policy::parse("brokers = [\"mqtt.contoso.example\"]").unwrap();
        let mut invite = invite("Rocky", Keys::generate().public());
        assert!(policy.allows(&invite));
        for other in [
            "mqtts://mqtt.contoso.example:9000",
            "mqtt://mqtt.contoso.example",
            "ws://mqtt.contoso.example/mqtt",
        ] {
            invite.broker.url = other.parse().unwrap();
            assert!(!policy.allows(&invite), "{other}");
            let pinned = Policy::parse(&format!("brokers = [\"{other}\"]")).unwrap();
            assert!(pinned.allows(&invite), "{other}");
        }
    }

    /// Whoever answers as Graph gets the person's token.
    #[test]
    fn a_pinned_login_sends_no_token_to_a_graph_that_nobody_pinned() {
        let mut invite = invite("Rocky", Keys::generate().public());
        let rules = |rules: &str| Policy::parse(rules).unwrap();
        let microsofts = rules("logins = [\"login.microsoftonline.com\"]");
        assert!(microsofts.allows(&invite));
        invite.terms.graph = Some("https://graph.microsoft.com".into());
        assert!(microsofts.allows(&invite));
        invite.terms.graph = Some("https://graph.evil.example".into());
        assert!(!microsofts.allows(&invite));

        let logins = "logins = [\"https://login.contoso.example:8443\"]";
        let graphs = "graphs = [\"graph.contoso.example\"]";
        let both = format!("{logins}\n{graphs}");
        invite.terms.authority = "https://login.contoso.example:8443".into();
        for (graph, pinned) in [
            ("https://graph.contoso.example", true),
            ("https://graph.contoso.example:8443", false),
            ("https://graph.evil.example", false),
            ("https://graph.microsoft.com", false),
        ] {
            invite.terms.graph = Some(graph.into());
            assert!(!rules(logins).allows(&invite), "{graph}");
            assert_eq!(rules(graphs).allows(&invite), pinned, "{graph}");
            assert_eq!(rules(&both).allows(&invite), pinned, "{graph}");
        }
        invite.terms.graph = Some("https://graph.contoso.example".into());
        invite.terms.authority = "https://login.contoso.example".into();
        assert!(!rules(&both).allows(&invite), "another port of the login's");
    }

    /// A link's own word for where to sign in is not enough, whatever the person agrees to.
    #[test]
    fn nobody_signs_in_anywhere_but_at_microsoft_unless_an_organisation_names_the_place() {
        let silent = Policies::of(Path::new("/nonexistent/policy.toml"), None).unwrap();
        let file = file("logins = [\"login.contoso.example\"]\ngraphs = [\"graph.contoso.example\"]");
        let named = Policies::of(file.path(), None).unwrap();
        let mut terms = invite("Rocky", Keys::generate().public()).terms;
        let mut known = |login: &str, graph: Option<&str>| {
            (terms.authority, terms.graph) = (login.into(), graph.map(str::to_owned));
            (silent.know_login(&terms), named.know_login(&terms))
        };
        assert_eq!(known("https://login.microsoftonline.com", None), (true, true));
        assert_eq!(known("http://localhost:4000", Some("http://localhost:4000")), (true, true));
        let graph = Some("https://graph.contoso.example");
        assert_eq!(known("https://login.contoso.example", graph), (false, true));
        assert_eq!(known("https://login.evil.example", graph), (false, false));
        assert_eq!(known("http://localhost:4000", graph), (false, false));
        assert_eq!(
            known("https://login.microsoftonline.com", graph),
            (false, false),
            "not Microsoft's Graph"
        );
        assert_eq!(known("nonsense", None), (false, false));
    }

    #[test]
    fn a_file_that_cannot_be_read_allows_nothing_whichever_it_is() {
        let (good, bad) = (file(""), file("agent = []"));
        for (system, named) in [(&bad, &good), (&good, &bad)] {
            assert!(Policies::of(system.path(), Some(named.path())).is_err());
        }
        let none = Path::new("/nonexistent/policy.toml");
        assert!(Policies::of(good.path(), Some(none)).is_err(), "a file that was named must be there");
        let directory = tempfile::tempdir().unwrap();
        assert!(Policies::of(directory.path(), None).is_err());
    }

    #[test]
    fn an_agent_is_pinned_by_the_key_it_signs_with_and_the_key_it_decrypts_with() {
        let agent = Keys::generate().public();
        let pinned = format!("agents = [\"{} {}\"]", agent.thumbprint(), agent.recipient());
        let policy = Policy::parse(&pinned).unwrap();
        assert!(policy.allows(&invite("Rocky", agent.clone())));
        // A link with the right name and somebody else's key to decrypt with.
        let thief = Keys::generate().public().recipient();
        let mixed = serde_json::to_string(&agent).unwrap().replace(&agent.recipient(), &thief);
        let mixed: PublicKeys = serde_json::from_str(&mixed).unwrap();
        assert_eq!(mixed.thumbprint(), agent.thumbprint());
        assert!(!policy.allows(&invite("Rocky", mixed)));
        assert!(!policy.allows(&invite("Rocky", Keys::generate().public())));
        // Half a pin is none.
        for half in [agent.thumbprint().to_string(), agent.recipient(), format!("{} ", agent.thumbprint())] {
            assert!(Policy::parse(&format!("agents = [\"{half}\"]")).is_err(), "{half}");
        }
    }
}
