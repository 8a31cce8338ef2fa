//! What an assistant may be allowed to do, and the scopes that stand for it: a registry in code. Another provider is one
//! more entry of [`PROVIDERS`]. Nothing that writes is ever implied: it is asked for by its name or not at all.

mod grant;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use grant::{Misgrant, judge_grant};

use crate::cloud::Cloud;

/// Whose tokens a capability needs. A token request is for one resource; an authorize request may ask for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Microsoft Graph.
    Graph,
    /// Exchange Online, for IMAP.
    Outlook,
    /// Work IQ's MCP server.
    WorkIq,
}

/// An entry of the registry. In text and serde it is its id.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(&'static Entry);

/// Somebody who signs people in, and what can be asked there.
#[derive(Debug)]
pub struct Provider {
    pub id: &'static str,
    /// Asked in every sign-in: an ID token that says who it is, and a refresh token.
    identity: &'static [&'static str],
    /// Asked in every sign-in besides: `/me`, to confirm a mailbox whose address differs from the sign-in name.
    always: (Resource, &'static str),
    entries: &'static [Entry],
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: &'static str,
    resource: Resource,
    /// Without the resource in front.
    scopes: &'static [&'static str],
    read_only: bool,
}

pub static PROVIDERS: [Provider; 1] = [Provider {
    id: "microsoft",
    identity: &["offline_access", "openid", "profile"],
    always: (Resource::Graph, "User.Read"),
    entries: &[
        reads("mail", Resource::Graph, &["Mail.Read"]),
        reads("calendar", Resource::Graph, &["Calendars.Read"]),
        reads("mail-shared", Resource::Graph, &["Mail.Read.Shared"]),
        reads("calendar-shared", Resource::Graph, &["Calendars.Read.Shared"]),
        reads("workiq", Resource::WorkIq, &["WorkIQAgent.Ask"]),
        // Exchange has no read-only scope for IMAP: who may read may also delete.
        writes("imap", Resource::Outlook, &["IMAP.AccessAsUser.All"]),
        writes("mail-send", Resource::Graph, &["Mail.Send"]),
        writes("mail-write", Resource::Graph, &["Mail.ReadWrite"]),
        writes("calendar-write", Resource::Graph, &["Calendars.ReadWrite"]),
    ],
}];

/// What an invite allows when its operator names nothing.
const DEFAULT: [&str; 2] = ["mail", "calendar"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    #[error("`{0}` is not a capability; there are: {known}", known = known())]
    Unknown(String),
    #[error("`{0}` is not a resource; there are: graph, outlook, workiq")]
    UnknownResource(String),
    #[error("{resource} does not exist in this cloud")]
    NotInThisCloud { resource: Resource },
}

/// Mail and calendar, to read.
pub fn default_capabilities() -> Vec<Capability> {
    all().filter(|capability| DEFAULT.contains(&capability.id())).collect()
}

/// Every capability there is, in the registry's order.
pub fn all() -> impl Iterator<Item = Capability> {
    PROVIDERS.iter().flat_map(|provider| provider.entries).map(Capability)
}

/// Capabilities by their ids; each once, in the registry's order.
pub fn parse<S: AsRef<str>>(ids: impl IntoIterator<Item = S>) -> Result<Vec<Capability>, CapabilityError> {
    let mut found = ids.into_iter().map(|id| id.as_ref().parse()).collect::<Result<Vec<Capability>, _>>()?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// The resources these capabilities need tokens for: Graph, then the others.
pub fn resources(capabilities: &[Capability]) -> Vec<Resource> {
    let mut resources: Vec<_> = PROVIDERS.iter().map(|provider| provider.always.0).collect();
    resources.extend(capabilities.iter().map(Capability::resource));
    resources.sort_unstable();
    resources.dedup();
    resources
}

/// The scopes of a token request, which is for one resource: what the capabilities need there, and the identity scopes.
pub fn scopes_for(
    resource: Resource,
    cloud: &Cloud,
    capabilities: &[Capability],
) -> Result<Vec<String>, CapabilityError> {
    scopes(&[resource], cloud, capabilities)
}

/// The scopes of an authorize request: consent for all these resources at once.
pub fn authorize_scopes(cloud: &Cloud, capabilities: &[Capability]) -> Result<Vec<String>, CapabilityError> {
    scopes(&resources(capabilities), cloud, capabilities)
}

fn scopes(
    resources: &[Resource],
    cloud: &Cloud,
    capabilities: &[Capability],
) -> Result<Vec<String>, CapabilityError> {
    let mut scopes = Vec::new();
    for &resource in resources {
        let prefix = resource.scope_prefix(cloud)?;
        let always = PROVIDERS.iter().map(|provider| provider.always).filter(|always| always.0 == resource);
        let asked = all().filter(|known| known.resource() == resource && capabilities.contains(known));
        let names = always
            .map(|always| always.1)
            .chain(asked.flat_map(|capability| capability.0.scopes.iter().copied()));
        scopes.extend(names.map(|name| format!("{prefix}{name}")));
    }
    scopes.extend(PROVIDERS.iter().flat_map(|provider| provider.identity).map(|&name| name.to_owned()));
    Ok(scopes)
}

impl Capability {
    pub fn id(&self) -> &'static str {
        self.0.id
    }

    pub fn resource(&self) -> Resource {
        self.0.resource
    }

    /// Whether nothing can be changed, sent or deleted with it.
    pub fn read_only(&self) -> bool {
        self.0.read_only
    }
}

impl Resource {
    pub fn id(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Outlook => "outlook",
            Self::WorkIq => "workiq",
        }
    }

    /// What its scopes begin with and its tokens are for: an address without a slash at its end.
    ///
    /// <https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth>,
    /// <https://learn.microsoft.com/microsoft-365/enterprise/microsoft-365-endpoints> for the national clouds.
    pub fn audience(self, cloud: &Cloud) -> Result<String, CapabilityError> {
        let fixed = match (self, cloud) {
            (Self::Graph, _) => return Ok(cloud.graph().as_str().trim_end_matches('/').to_owned()),
            (Self::Outlook, Cloud::Global | Cloud::Custom(_)) => "https://outlook.office.com",
            (Self::Outlook, Cloud::UsGovernment) => "https://outlook.office365.us",
            (Self::Outlook, Cloud::UsGovernmentDod) => "https://webmail.apps.mil",
            (Self::Outlook, Cloud::China) => "https://partner.outlook.cn",
            (Self::WorkIq, Cloud::Global | Cloud::Custom(_)) => "api://workiq.svc.cloud.microsoft",
            (Self::WorkIq, _) => return Err(CapabilityError::NotInThisCloud { resource: self }),
        };
        Ok(fixed.to_owned())
    }

    /// Graph is what Microsoft takes a scope without an address for, in each cloud its own.
    fn scope_prefix(self, cloud: &Cloud) -> Result<String, CapabilityError> {
        match self {
            Self::Graph => Ok(String::new()),
            other => Ok(format!("{}/", other.audience(cloud)?)),
        }
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(id: &str) -> Result<Self, CapabilityError> {
        all().find(|known| known.id() == id).ok_or_else(|| CapabilityError::Unknown(id.to_owned()))
    }
}

impl FromStr for Resource {
    type Err = CapabilityError;

    fn from_str(id: &str) -> Result<Self, CapabilityError> {
        [Self::Graph, Self::Outlook, Self::WorkIq]
            .into_iter()
            .find(|known| known.id() == id)
            .ok_or_else(|| CapabilityError::UnknownResource(id.to_owned()))
    }
}

impl TryFrom<String> for Capability {
    type Error = CapabilityError;

    fn try_from(id: String) -> Result<Self, CapabilityError> {
        id.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.id().to_owned()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl PartialEq for Capability {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Capability {}

impl std::hash::Hash for Capability {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl PartialOrd for Capability {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The registry's order, in which people are told of them.
impl Ord for Capability {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let place = |sought: &Self| all().position(|known| known == *sought);
        place(self).cmp(&place(other))
    }
}

const fn reads(id: &'static str, resource: Resource, scopes: &'static [&'static str]) -> Entry {
    Entry { id, resource, scopes, read_only: true }
}

const fn writes(id: &'static str, resource: Resource, scopes: &'static [&'static str]) -> Entry {
    Entry { id, resource, scopes, read_only: false }
}

fn known() -> String {
    all().map(|capability| capability.id()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    /// Written out again, so that a slip in the registry is seen: the only scopes that cannot change anything.
    const READING: [&str; 9] = [
        "User.Read",
        "Mail.Read",
        "Calendars.Read",
        "Mail.Read.Shared",
        "Calendars.Read.Shared",
        "api://workiq.svc.cloud.microsoft/WorkIQAgent.Ask",
        "offline_access",
        "openid",
        "profile",
    ];
    const WRITING_NAMES: [&str; 4] = ["imap", "mail-send", "mail-write", "calendar-write"];

    fn ids() -> Vec<&'static str> {
        all().map(|capability| capability.id()).collect()
    }

    /// Shows of L2 the default scopes.
    #[test]
    fn the_default_scopes_are_exactly_these() {
        let defaults = default_capabilities();
        let expected = "User.Read Mail.Read Calendars.Read offline_access openid profile";
        assert_eq!(authorize_scopes(&Cloud::Global, &defaults).unwrap().join(" "), expected);
        assert_eq!(scopes_for(Resource::Graph, &Cloud::Global, &defaults).unwrap().join(" "), expected);
    }

    proptest! {
        /// Shows of L2 the property.
        #[test]
        fn no_write_scope_appears_unless_it_was_asked_for_by_name(
            asked in subsequence(ids(), 0..=ids().len()),
            cloud in prop::sample::select(vec![Cloud::Global, Cloud::UsGovernment, Cloud::China]),
        ) {
            let capabilities = parse(&asked).unwrap();
            let Ok(scopes) = authorize_scopes(&cloud, &capabilities) else {
                prop_assert!(asked.contains(&"workiq") && cloud != Cloud::Global);
                return Ok(());
            };
            let writing: Vec<_> = scopes.iter().filter(|scope| !READING.contains(&scope.as_str())).collect();
            let named: Vec<_> = asked.iter().filter(|id| WRITING_NAMES.contains(id)).collect();
            prop_assert_eq!(writing.len(), named.len(), "{:?} for {:?}", writing, asked);
            prop_assert_eq!(capabilities.iter().all(Capability::read_only), named.is_empty());
        }

        /// Shows of L2 what "by name" means.
        #[test]
        fn nothing_but_the_exact_name_is_that_name(text in "(?i)[ ,-]{0,2}(mail|calendar)[ _-]?(write|send)?[ ,]{0,2}") {
            match parse([&text]) {
                Ok(found) => prop_assert_eq!(found.iter().map(Capability::id).collect::<Vec<_>>(), [text]),
                Err(error) => prop_assert_eq!(error, CapabilityError::Unknown(text)),
            }
        }
    }

    #[test]
    fn a_token_request_is_for_one_resource_and_an_authorize_request_for_all() {
        let asked = parse(["imap", "mail", "workiq", "mail"]).unwrap();
        assert_eq!(asked.iter().map(Capability::id).collect::<Vec<_>>(), ["mail", "workiq", "imap"]);
        assert_eq!(resources(&asked), [Resource::Graph, Resource::Outlook, Resource::WorkIq]);
        assert_eq!(
            scopes_for(Resource::Outlook, &Cloud::Global, &asked).unwrap().join(" "),
            "https://outlook.office.com/IMAP.AccessAsUser.All offline_access openid profile"
        );
        assert_eq!(
            authorize_scopes(&Cloud::Global, &asked).unwrap().join(" "),
            "User.Read Mail.Read https://outlook.office.com/IMAP.AccessAsUser.All \
             api://workiq.svc.cloud.microsoft/WorkIQAgent.Ask offline_access openid profile"
        );
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = parse(["mail", "Mail.ReadWrite"]).unwrap_err().to_string();
        assert!(error.contains("`Mail.ReadWrite`") && error.contains("calendar-write"), "{error}");
        assert!(serde_json::from_str::<Capability>("\"admin\"").is_err());
        assert_eq!(serde_json::to_string(&default_capabilities()).unwrap(), r#"["mail","calendar"]"#);
    }

    #[test]
    fn work_iq_is_refused_where_it_does_not_exist() {
        let asked = parse(["workiq"]).unwrap();
        let refused = authorize_scopes(&Cloud::China, &asked);
        assert_eq!(refused, Err(CapabilityError::NotInThisCloud { resource: Resource::WorkIq }));
    }
}
