//! What an authority says of itself (OpenID Connect Discovery 1.0), believed only after it has been checked.

use reqwest::Client;
use serde::Deserialize;
use url::Url;

use crate::cloud::Authority;
use crate::http::{self, HttpError};

/// Checked metadata of one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// As published: with the literal `{tenantid}` for `common` and `organizations`.
    pub issuer: String,
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub jwks_uri: Url,
    pub device_authorization_endpoint: Option<Url>,
    /// Callbacks carry `iss` (RFC 9207 §3); one without it is then refused.
    pub iss_parameter_supported: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the sign-in service calls itself `{found}`, not `{expected}`")]
    WrongIssuer { expected: String, found: String },
    /// Whoever publishes metadata could else lead people to somebody else's sign-in page and take the code that comes from
    /// there (mix-up, RFC 9700 §4.4). Microsoft's are all at the login's own address.
    #[error("`{name}` of the sign-in service is not at its own address")]
    ForeignEndpoint { name: &'static str },
    #[error("the sign-in service does not support PKCE with S256")]
    NoS256,
}

impl Metadata {
    /// Fetches and checks; nothing else of an authority is used before this has passed.
    pub async fn fetch(http: &Client, authority: &Authority) -> Result<Self, MetadataError> {
        http::get_json::<Document>(http, &authority.metadata_url()).await?.checked(authority)
    }

    /// Whether `iss` of a callback is right (RFC 9207 §2.4): the issuer of a tenant that may sign in here, and present
    /// if the authority promised it.
    pub fn permits_iss(&self, authority: &Authority, iss: Option<&str>) -> bool {
        let Some(iss) = iss else { return !self.iss_parameter_supported };
        if iss == self.issuer {
            return true;
        }
        let tid = iss
            .strip_prefix(authority.cloud.login().as_str())
            .and_then(|rest| rest.strip_suffix("/v2.0"))
            .and_then(crate::account::guid);
        tid.is_some_and(|tid| authority.permits(tid))
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    device_authorization_endpoint: Option<Url>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Document {
    fn checked(self, authority: &Authority) -> Result<Metadata, MetadataError> {
        let expected = authority.metadata_issuer();
        if self.issuer != expected {
            return Err(MetadataError::WrongIssuer { expected, found: self.issuer });
        }
        let endpoints = [
            ("authorization_endpoint", Some(&self.authorization_endpoint)),
            ("token_endpoint", Some(&self.token_endpoint)),
            ("jwks_uri", Some(&self.jwks_uri)),
            ("device_authorization_endpoint", self.device_authorization_endpoint.as_ref()),
        ];
        for (name, endpoint) in endpoints {
            let own = authority.cloud.login().origin();
            if endpoint.is_some_and(|endpoint| endpoint.origin() != own) {
                return Err(MetadataError::ForeignEndpoint { name });
            }
        }
        if !self.supports_s256() {
            return Err(MetadataError::NoS256);
        }
        Ok(Metadata {
            issuer: self.issuer,
            authorization_endpoint: self.authorization_endpoint,
            token_endpoint: self.token_endpoint,
            jwks_uri: self.jwks_uri,
            device_authorization_endpoint: self.device_authorization_endpoint,
            iss_parameter_supported: self.authorization_response_iss_parameter_supported,
        })
    }

    /// A list without S256 is a no. No list is not: Entra supports S256 and publishes none, and whoever speaks like Entra
    /// may leave it out as well. <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>
    fn supports_s256(&self) -> bool {
        let listed = self.code_challenge_methods_supported.as_ref();
        listed.is_none_or(|methods| methods.iter().any(|method| method == "S256"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::{Uuid, uuid};

    use super::*;
    use crate::account::PERSONAL_TENANT;
    use crate::cloud::{Cloud, Tenant};

    const CONTOSO: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000c070");

    fn common() -> Authority {
        Authority { cloud: Cloud::Global, tenant: Tenant::Common }
    }

    /// What Entra publishes for `common`, less what is not read here. It names no code challenge method.
    fn entra() -> Value {
        json!({
            "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
            "authorization_endpoint": "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
            "token_endpoint": "https://login.microsoftonline.com/common/oauth2/v2.0/token",
            "device_authorization_endpoint": "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
            "jwks_uri": "https://login.microsoftonline.com/common/discovery/v2.0/keys",
        })
    }

    fn check(authority: &Authority, change: &Value) -> Result<Metadata, MetadataError> {
        let mut document = entra();
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value::<Document>(document).unwrap().checked(authority)
    }

    #[test]
    fn what_entra_publishes_is_accepted() {
        let metadata = check(&common(), &json!({})).unwrap();
        assert_eq!(metadata.token_endpoint.path(), "/common/oauth2/v2.0/token");
        assert!(!metadata.iss_parameter_supported);
    }

    #[test]
    fn another_issuer_is_refused() {
        for issuer in [
            "https://login.microsoftonline.com/{tenantid}/v2.0/",
            "https://login.microsoftonline.com/common/v2.0",
            "https://login.evil.example/{tenantid}/v2.0",
            "",
        ] {
            let refused = check(&common(), &json!({ "issuer": issuer }));
            assert!(matches!(refused, Err(MetadataError::WrongIssuer { .. })), "{issuer}: {refused:?}");
        }
    }

    #[test]
    fn an_endpoint_anywhere_but_at_the_logins_own_address_is_refused_each() {
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "device_authorization_endpoint"]
        {
            for address in [
                "http://login.microsoftonline.com/x",
                "https://login.microsoftonline.com:8443/x",
                "https://login.microsoftonline.com.evil.example/x",
                "https://login.evil.example/x",
                "http://localhost/x",
                "file:///x",
            ] {
                match check(&common(), &json!({ name: address })) {
                    Err(MetadataError::ForeignEndpoint { name: refused }) => assert_eq!(refused, name),
                    other => panic!("{name} {address}: {other:?}"),
                }
            }
        }
    }

    /// The other way round: a login of an attacker's that leads people to Microsoft's page and takes the code itself.
    #[test]
    fn a_login_that_borrows_microsofts_sign_in_page_is_refused() {
        let cloud = Cloud::from_addresses("https://login.evil.example", Some("https://graph.evil.example"));
        let authority = Authority { cloud: cloud.unwrap(), tenant: Tenant::Common };
        let at = |path: &str| format!("https://login.evil.example/{path}");
        let own = json!({
            "issuer": at("{tenantid}/v2.0"),
            "authorization_endpoint": at("authorize"),
            "token_endpoint": at("token"),
            "device_authorization_endpoint": null,
            "jwks_uri": at("keys"),
        });
        assert!(check(&authority, &own).is_ok());
        let mut mixed = own;
        mixed["authorization_endpoint"] = entra()["authorization_endpoint"].clone();
        let refused = check(&authority, &mixed);
        assert!(
            matches!(refused, Err(MetadataError::ForeignEndpoint { name: "authorization_endpoint" })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_list_of_challenge_methods_without_s256_is_refused() {
        for methods in [json!([]), json!(["plain"]), json!(["s256", "S512"])] {
            let refused = check(&common(), &json!({ "code_challenge_methods_supported": methods }));
            assert!(matches!(refused, Err(MetadataError::NoS256)), "{methods}: {refused:?}");
        }
        assert!(check(&common(), &json!({ "code_challenge_methods_supported": ["plain", "S256"] })).is_ok());
    }

    #[test]
    fn the_iss_of_a_callback_is_a_permitted_tenants_and_not_missing_where_promised() {
        let silent = check(&common(), &json!({})).unwrap();
        let promised =
            check(&common(), &json!({ "authorization_response_iss_parameter_supported": true })).unwrap();
        assert!(silent.permits_iss(&common(), None));
        assert!(!promised.permits_iss(&common(), None));
        let work = Authority { cloud: Cloud::Global, tenant: Tenant::Organizations };
        assert!(promised.permits_iss(&work, Some(&work.issuer(CONTOSO))));
        assert!(!promised.permits_iss(&work, Some(&work.issuer(PERSONAL_TENANT))));
        assert!(promised.permits_iss(&work, Some(&promised.issuer)));
        for foreign in
            ["", "https://login.evil.example/x/v2.0", "https://login.microsoftonline.com/common/v2.0"]
        {
            assert!(!promised.permits_iss(&work, Some(foreign)), "{foreign}");
        }
    }
}
