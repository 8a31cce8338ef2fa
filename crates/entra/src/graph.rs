//! The one question asked of Microsoft Graph here: whose token is this?

use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Deserialize;
use uuid::Uuid;

use crate::account::AccountId;
use crate::cloud::Authority;
use crate::http::{self, HttpError};
use crate::refusal::{Class, Refusal, classify_resource, parse_retry_after};
use crate::secret::Secret;

/// The signed-in user. <https://learn.microsoft.com/graph/api/user-get>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Me {
    pub id: String,
    /// The primary address of the mailbox. An organisation's administrator can write any address there.
    pub mail: Option<String>,
    pub user_principal_name: Option<String>,
    pub display_name: Option<String>,
    /// The authority that it was asked under names the organisation, whose word is taken then.
    #[serde(skip)]
    pub(crate) organisation_named: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    #[error("Graph refused: {0}")]
    Refused(Box<Refusal>),
    #[error("no usable answer from Graph")]
    Unreachable(#[from] HttpError),
    #[error("Graph's answer is not a user")]
    Malformed,
}

impl GraphError {
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(refusal) => refusal.class,
            Self::Unreachable(_) | Self::Malformed => Class::Transient,
        }
    }
}

impl Me {
    /// Whether this is the user whom an ID token calls `account`. Graph writes a personal account's id as the last 16
    /// digits of its `oid`.
    pub fn is(&self, account: &AccountId) -> bool {
        let oid = account.oid.simple().to_string();
        let short = account.is_personal() && oid.starts_with("0000000000000000");
        Uuid::try_parse(&self.id).is_ok_and(|id| id == account.oid)
            || (short && self.id.eq_ignore_ascii_case(&oid[16..]))
    }

    /// The addresses that this answer proves to be the account's.
    ///
    /// A user principal name is of a domain that the organisation has proved to own. `mail` is whatever its administrator
    /// wrote: where any organisation may sign in, it proves something only in that same domain, or an organisation of the
    /// attacker's could be anybody. The addresses of a personal account were confirmed by Microsoft.
    pub(crate) fn proven_addresses(&self, account: &AccountId) -> impl Iterator<Item = &str> {
        let upn = self.user_principal_name.as_deref();
        let mail = self.mail.as_deref().filter(|mail| {
            let in_its_domain = || domain(mail).zip(upn.and_then(domain));
            account.is_personal()
                || self.organisation_named
                || in_its_domain().is_some_and(|(mail, own)| mail.eq_ignore_ascii_case(own))
        });
        [mail, upn].into_iter().flatten()
    }
}

fn domain(address: &str) -> Option<&str> {
    address.trim().rsplit_once('@').map(|(_, domain)| domain).filter(|domain| !domain.is_empty())
}

/// Asks who the bearer of `access_token` is. Needs `User.Read`. `authority` is the one that the invite names: what the answer
/// proves depends on whom it admits.
pub async fn me(
    http: &Client,
    authority: &Authority,
    access_token: &Secret,
    now: Timestamp,
) -> Result<Me, GraphError> {
    let mut url = authority.graph().clone();
    url.set_path("/v1.0/me");
    url.set_query(Some("$select=id,mail,userPrincipalName,displayName"));
    let host = http::host(&url);
    let response = http
        .get(url)
        .bearer_auth(access_token.expose())
        .send()
        .await
        .map_err(|source| http::unreachable(&host, source))?;

    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = http::read(response).await?;
    if status == 200 {
        let me: Me = serde_json::from_slice(&body).map_err(|_| GraphError::Malformed)?;
        return Ok(Me { organisation_named: authority.names_an_organisation(), ..me });
    }
    if !(400..).contains(&status) {
        return Err(GraphError::Malformed);
    }
    let wait = headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?, now));
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Err(GraphError::Refused(Box::new(classify_resource(status, challenges, &body, wait))))
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;
    use crate::account::PERSONAL_TENANT;

    #[test]
    fn graphs_id_is_the_tokens_oid_also_in_the_short_form_of_personal_accounts() {
        let me = |id: &str| Me {
            id: id.to_owned(),
            mail: None,
            user_principal_name: None,
            display_name: None,
            organisation_named: false,
        };
        let oid = uuid!("00000000-0000-0000-66f3-3332eca7ea81");
        let personal = AccountId { tid: PERSONAL_TENANT, oid };
        assert!(me("66F33332ECA7EA81").is(&personal));
        assert!(me(&oid.to_string()).is(&personal));
        assert!(!me("66f33332eca7ea82").is(&personal));
        let work = AccountId { tid: oid, oid };
        assert!(me(&oid.to_string()).is(&work));
        assert!(!me("66f33332eca7ea81").is(&work));
        assert!(!me("").is(&work));
    }
}
