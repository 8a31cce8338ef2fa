//! Which Microsoft cloud, and which part of it: authorities, issuers, and who may sign in there.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use url::{Host, Url};
use uuid::Uuid;

use crate::account::{AccountId, PERSONAL_TENANT, guid};
use crate::http::host;

/// A national cloud. Each has sign-in and Graph hosts of its own, and needs an app registration of its own.
/// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>
///
/// In serde it is its two addresses, `{"login": …, "graph": …}`; `graph` may be left out for Microsoft's own clouds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Addresses", into = "Addresses")]
pub enum Cloud {
    /// Everybody else, GCC included.
    Global,
    /// US government, GCC High.
    UsGovernment,
    /// US Department of Defense: GCC High's sign-in, a Graph of its own.
    UsGovernmentDod,
    /// Operated by 21Vianet.
    China,
    /// Another server that speaks the same protocol. Made by [`Cloud::custom`], which checks it.
    Custom(Custom),
}

/// The addresses of a [`Cloud::Custom`], checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Custom {
    login: Url,
    graph: Url,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    #[error("`{0}` is not an address")]
    NotAnAddress(String),
    /// Named by its host alone: the rest may hold a password.
    #[error(
        "the address of `{0}` must be https (http only on this computer), without a path, a user or a query"
    )]
    NotAPlainOrigin(String),
    /// One of Microsoft's sign-in hosts with somebody else's Graph would send Microsoft's tokens to somebody else.
    #[error("`{login}` is Microsoft's own sign-in, and `{graph}` is not its Graph")]
    ForeignGraph { login: String, graph: String },
    #[error("`{0}` is not one of Microsoft's clouds, so its Graph address must be given too")]
    GraphMissing(String),
}

/// The authority of a sign-in: a cloud, and the tenants admitted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Authority {
    pub cloud: Cloud,
    pub tenant: Tenant,
}

/// Who may sign in. In text and serde: a GUID, `organizations`, `consumers` or `common`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tenant {
    /// One organisation.
    Id(Uuid),
    /// Any organisation.
    Organizations,
    /// Personal accounts. Their own tenant's id means the same and is read as this.
    Consumers,
    /// Both.
    Common,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant: give its id (a GUID), `organizations`, `consumers` or `common`")]
pub struct NotATenant(String);

impl Cloud {
    /// A cloud by its addresses; Microsoft's own are recognised. Without `graph` the cloud's usual one is meant.
    pub fn from_addresses(login: &str, graph: Option<&str>) -> Result<Self, CloudError> {
        let parse = |text: &str| Url::parse(text).map_err(|_| CloudError::NotAnAddress(text.to_owned()));
        Self::from_urls(parse(login)?, graph.map(parse).transpose()?)
    }

    /// Another server that speaks the protocol: both addresses https, or http on this computer's loopback.
    pub fn custom(login: Url, graph: Url) -> Result<Self, CloudError> {
        match login.host_str() {
            Some(name) if is_microsoft(name) => {
                Err(CloudError::ForeignGraph { login: host(&login), graph: host(&graph) })
            }
            _ => Ok(Self::Custom(Custom { login: plain_origin(login)?, graph: plain_origin(graph)? })),
        }
    }

    fn from_urls(login: Url, graph: Option<Url>) -> Result<Self, CloudError> {
        let known = KNOWN
            .iter()
            .find(|known| known.login == login && graph.as_ref().is_none_or(|g| *g == known.graph));
        match (known, graph) {
            (Some(known), _) => Ok(known.cloud.clone()),
            (None, Some(graph)) => Self::custom(login, graph),
            (None, None) => Err(CloudError::GraphMissing(host(&login))),
        }
    }

    /// Whether it is one of Microsoft's own. Any other is a server that an organisation runs itself, or one on this computer.
    pub fn is_microsofts(&self) -> bool {
        !matches!(self, Self::Custom(_))
    }

    /// Where people sign in: an origin with the path `/`.
    pub fn login(&self) -> &Url {
        match self {
            Self::Custom(custom) => &custom.login,
            own => &own.known().login,
        }
    }

    /// Microsoft Graph's address, without a version: an origin with the path `/`.
    pub fn graph(&self) -> &Url {
        match self {
            Self::Custom(custom) => &custom.graph,
            own => &own.known().graph,
        }
    }

    /// What MSAL writes as `environment` in its cache.
    pub fn cache_environment(&self) -> &str {
        match self {
            Self::Custom(custom) => custom.login.host_str().unwrap_or_default(),
            own => own.known().environment,
        }
    }

    /// Whether it is a practice one on this very computer, its Graph too.
    pub fn is_on_this_computer(&self) -> bool {
        is_loopback(self.login()) && is_loopback(self.graph())
    }

    fn known(&self) -> &'static Known {
        let index = match self {
            Self::Global | Self::Custom(_) => 0,
            Self::UsGovernment => 1,
            Self::UsGovernmentDod => 2,
            Self::China => 3,
        };
        &KNOWN[index]
    }
}

impl Authority {
    /// Where an account that is already known is refreshed: its own tenant, and `consumers` for a personal one.
    /// Refreshed on `common`, a personal account fails the first time (AADSTS70000).
    #[must_use]
    pub fn for_account(&self, account: &AccountId) -> Self {
        let tenant = if account.is_personal() { Tenant::Consumers } else { Tenant::Id(account.tid) };
        Self { cloud: self.cloud.clone(), tenant }
    }

    /// `…/{tenant}/v2.0/.well-known/openid-configuration` (OpenID Connect Discovery 1.0).
    pub fn metadata_url(&self) -> Url {
        self.at(&format!("{}/v2.0/.well-known/openid-configuration", self.tenant))
    }

    /// The `iss` of tokens from the tenant `tid`.
    pub fn issuer(&self, tid: Uuid) -> String {
        self.at(&format!("{tid}/v2.0")).to_string()
    }

    /// The `issuer` that this authority's metadata must name: of one tenant where there is one, otherwise with the
    /// literal `{tenantid}` in the tenant's place.
    pub fn metadata_issuer(&self) -> String {
        match self.tenant {
            Tenant::Id(tid) => self.issuer(tid),
            Tenant::Consumers => self.issuer(PERSONAL_TENANT),
            Tenant::Organizations | Tenant::Common => format!("{}{{tenantid}}/v2.0", self.cloud.login()),
        }
    }

    /// Whether somebody from the tenant `tid` may sign in here. Only the global cloud has personal accounts.
    pub fn permits(&self, tid: Uuid) -> bool {
        let personal = tid == PERSONAL_TENANT;
        if personal && !matches!(self.cloud, Cloud::Global | Cloud::Custom(_)) {
            return false;
        }
        match self.tenant {
            Tenant::Id(only) => tid == only,
            Tenant::Organizations => !personal,
            Tenant::Consumers => personal,
            Tenant::Common => true,
        }
    }

    /// Whether it admits one organisation, and so whoever named it trusts that one's administrators.
    pub fn names_an_organisation(&self) -> bool {
        matches!(self.tenant, Tenant::Id(_))
    }

    pub fn cache_environment(&self) -> &str {
        self.cloud.cache_environment()
    }

    pub fn graph(&self) -> &Url {
        self.cloud.graph()
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.cloud.login().clone();
        url.set_path(path);
        url
    }
}

impl FromStr for Tenant {
    type Err = NotATenant;

    fn from_str(text: &str) -> Result<Self, NotATenant> {
        match text.to_ascii_lowercase().as_str() {
            "organizations" => Ok(Self::Organizations),
            "consumers" => Ok(Self::Consumers),
            "common" => Ok(Self::Common),
            other => match guid(other) {
                Some(PERSONAL_TENANT) => Ok(Self::Consumers),
                Some(tid) => Ok(Self::Id(tid)),
                None => Err(NotATenant(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(tid) => tid.fmt(f),
            Self::Organizations => f.write_str("organizations"),
            Self::Consumers => f.write_str("consumers"),
            Self::Common => f.write_str("common"),
        }
    }
}

impl TryFrom<String> for Tenant {
    type Error = NotATenant;

    fn try_from(text: String) -> Result<Self, NotATenant> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.to_string()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    login: Url,
    #[serde(default)]
    graph: Option<Url>,
}

impl TryFrom<Addresses> for Cloud {
    type Error = CloudError;

    fn try_from(addresses: Addresses) -> Result<Self, CloudError> {
        Self::from_urls(addresses.login, addresses.graph)
    }
}

impl From<Cloud> for Addresses {
    fn from(cloud: Cloud) -> Self {
        Self { login: cloud.login().clone(), graph: Some(cloud.graph().clone()) }
    }
}

struct Known {
    cloud: Cloud,
    login: Url,
    graph: Url,
    environment: &'static str,
}

/// Microsoft's clouds, in the order of [`Cloud`]; of two with one sign-in host the usual one first. The environment
/// is the `preferred_cache` of Microsoft's instance discovery, where every MSAL looks.
static KNOWN: LazyLock<[Known; 4]> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "texts of this table; a test goes through all of them")]
    let known = |cloud, login, graph, environment| Known {
        cloud,
        login: Url::parse(login).expect("a constant"),
        graph: Url::parse(graph).expect("a constant"),
        environment,
    };
    let (us, china) = ("login.microsoftonline.us", "login.partner.microsoftonline.cn");
    let us_login = "https://login.microsoftonline.us/";
    [
        known(
            Cloud::Global,
            "https://login.microsoftonline.com/",
            "https://graph.microsoft.com/",
            "login.windows.net",
        ),
        known(Cloud::UsGovernment, us_login, "https://graph.microsoft.us/", us),
        known(Cloud::UsGovernmentDod, us_login, "https://dod-graph.microsoft.us/", us),
        known(
            Cloud::China,
            "https://login.partner.microsoftonline.cn/",
            "https://microsoftgraph.chinacloudapi.cn/",
            china,
        ),
    ]
});

/// Hosts under which Microsoft signs people in, aliases included: none of them is a custom cloud.
fn is_microsoft(host: &str) -> bool {
    const DOMAINS: [&str; 8] = [
        "microsoftonline.com",
        "microsoftonline.us",
        "microsoftonline.cn",
        "chinacloudapi.cn",
        "usgovcloudapi.net",
        "windows.net",
        "microsoft.com",
        "live.com",
    ];
    let host = host.trim_end_matches('.');
    DOMAINS
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

fn plain_origin(url: Url) -> Result<Url, CloudError> {
    let plain = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if is_safe(&url) && plain { Ok(url) } else { Err(CloudError::NotAPlainOrigin(host(&url))) }
}

/// Secure, or on this computer.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// `localhost` counts: browsers and resolvers keep it on the machine (RFC 6761 §6.3).
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
