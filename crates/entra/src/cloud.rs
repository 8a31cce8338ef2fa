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

    /// Whether plain http is allowed for an endpoint of this cloud: on loopback, for a cloud that is there itself.
    pub fn trusts(&self, endpoint: &Url) -> bool {
        match endpoint.scheme() {
            "https" => true,
            "http" => {
                matches!(self, Self::Custom(_)) && self.login().scheme() == "http" && is_loopback(endpoint)
            }
            _ => false,
        }
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
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let plain = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if safe && plain { Ok(url) } else { Err(CloudError::NotAPlainOrigin(host(&url))) }
}

/// `localhost` counts: browsers and resolvers keep it on the machine (RFC 6761 §6.3).
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;

    const CONTOSO: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000c070");
    const FABRIKAM: Uuid = uuid!("bbbbbbbb-0000-4000-8000-00000000fab0");

    fn global(tenant: Tenant) -> Authority {
        Authority { cloud: Cloud::Global, tenant }
    }

    fn practice() -> Cloud {
        Cloud::from_addresses("http://localhost:4000", Some("http://localhost:4000")).unwrap()
    }

    #[test]
    fn each_of_microsofts_clouds_is_recognised_by_its_addresses_and_survives_serde() {
        for cloud in [Cloud::Global, Cloud::UsGovernment, Cloud::UsGovernmentDod, Cloud::China, practice()] {
            let json = serde_json::to_string(&cloud).unwrap();
            assert_eq!(serde_json::from_str::<Cloud>(&json).unwrap(), cloud, "{json}");
        }
        assert_eq!(Cloud::from_addresses("https://login.microsoftonline.us", None), Ok(Cloud::UsGovernment));
        assert_eq!(Cloud::from_addresses("https://LOGIN.microsoftonline.com/", None), Ok(Cloud::Global));
    }

    #[test]
    fn microsofts_sign_in_is_never_paired_with_somebody_elses_graph() {
        for login in [
            "https://login.microsoftonline.com",
            "https://login.windows.net",
            "https://login.microsoftonline.com.",
            "https://login.microsoft.com",
            "https://microsoftonline.com",
        ] {
            let refused = Cloud::from_addresses(login, Some("https://graph.evil.example"));
            assert!(matches!(refused, Err(CloudError::ForeignGraph { .. })), "{login}: {refused:?}");
        }
        assert!(Cloud::from_addresses("https://notmicrosoft.com", Some("https://graph.example")).is_ok());
    }

    #[test]
    fn a_custom_cloud_is_https_or_on_this_computer_and_has_a_graph() {
        assert!(matches!(practice(), Cloud::Custom(_)));
        assert!(Cloud::from_addresses("https://id.example", Some("https://graph.example")).is_ok());
        assert!(Cloud::from_addresses("http://[::1]:9", Some("http://127.0.0.1:9")).is_ok());
        for (login, graph) in [
            ("http://id.example", "https://graph.example"),
            ("https://id.example", "http://graph.example"),
            ("https://id.example/path", "https://graph.example"),
            ("https://u:p@id.example", "https://graph.example"),
            ("https://id.example/?q", "https://graph.example"),
            ("ftp://localhost", "https://graph.example"),
            ("http://localhost.evil.example", "https://graph.example"),
        ] {
            let refused = Cloud::from_addresses(login, Some(graph));
            assert!(matches!(refused, Err(CloudError::NotAPlainOrigin(_))), "{login}: {refused:?}");
        }
        assert!(matches!(
            Cloud::from_addresses("https://id.example", None),
            Err(CloudError::GraphMissing(_))
        ));
        assert!(matches!(Cloud::from_addresses("nonsense", None), Err(CloudError::NotAnAddress(_))));
    }

    #[test]
    fn plain_http_endpoints_are_for_a_practice_cloud_on_this_computer_only() {
        let local = Url::parse("http://localhost:4000/token").unwrap();
        let remote = Url::parse("http://id.example/token").unwrap();
        assert!(practice().trusts(&local));
        assert!(!practice().trusts(&remote));
        assert!(!Cloud::Global.trusts(&local));
        let https = Cloud::from_addresses("https://id.example", Some("https://graph.example")).unwrap();
        assert!(!https.trusts(&local));
    }

    #[test]
    fn addresses_are_microsofts() {
        let organisation = global(Tenant::Id(CONTOSO));
        assert_eq!(
            organisation.metadata_url().as_str(),
            format!("https://login.microsoftonline.com/{CONTOSO}/v2.0/.well-known/openid-configuration")
        );
        assert_eq!(organisation.issuer(CONTOSO), format!("https://login.microsoftonline.com/{CONTOSO}/v2.0"));
        assert_eq!(
            global(Tenant::Common).metadata_issuer(),
            "https://login.microsoftonline.com/{tenantid}/v2.0"
        );
        assert_eq!(
            global(Tenant::Consumers).metadata_issuer(),
            format!("https://login.microsoftonline.com/{PERSONAL_TENANT}/v2.0")
        );
        assert_eq!(organisation.cache_environment(), "login.windows.net");
        assert_eq!(practice().cache_environment(), "localhost");
        assert_eq!(Cloud::UsGovernmentDod.graph().as_str(), "https://dod-graph.microsoft.us/");
    }

    #[test]
    fn each_tenant_admits_its_own_people_only() {
        let who = |tenant| [CONTOSO, FABRIKAM, PERSONAL_TENANT].map(|tid| global(tenant).permits(tid));
        assert_eq!(who(Tenant::Id(CONTOSO)), [true, false, false]);
        assert_eq!(who(Tenant::Organizations), [true, true, false]);
        assert_eq!(who(Tenant::Consumers), [false, false, true]);
        assert_eq!(who(Tenant::Common), [true, true, true]);
        let china = Authority { cloud: Cloud::China, tenant: Tenant::Common };
        assert!(!china.permits(PERSONAL_TENANT));
    }

    #[test]
    fn an_account_is_refreshed_in_its_own_tenant_and_a_personal_one_on_consumers() {
        let common = global(Tenant::Common);
        let tenant_of = |tid| common.for_account(&AccountId { tid, oid: FABRIKAM }).tenant;
        assert_eq!(tenant_of(CONTOSO), Tenant::Id(CONTOSO));
        assert_eq!(tenant_of(PERSONAL_TENANT), Tenant::Consumers);
    }

    #[test]
    fn a_tenant_is_written_and_read_as_text() {
        for text in ["organizations", "consumers", "common", &CONTOSO.to_string()] {
            assert_eq!(text.parse::<Tenant>().unwrap().to_string(), text);
        }
        assert_eq!("Common".parse(), Ok(Tenant::Common));
        assert_eq!(PERSONAL_TENANT.to_string().parse(), Ok(Tenant::Consumers));
        for text in ["", "contoso.com", "../common", "common/x"] {
            assert!(text.parse::<Tenant>().is_err(), "{text}");
        }
    }
}
