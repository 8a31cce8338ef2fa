//! Who an account is: the pair of ids that never changes, unlike every address and name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

/// The tenant in which every personal Microsoft account lives.
/// <https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference> (`tid`).
pub const PERSONAL_TENANT: Uuid = uuid!("9188040d-6c67-4c5b-b112-36a304b66dad");

/// A signed-in Microsoft identity: `oid` names the person within the tenant `tid`.
///
/// Written as text it is `oid.tid`, which is MSAL's `home_account_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId {
    pub tid: Uuid,
    pub oid: Uuid,
}

impl AccountId {
    /// A personal account (outlook.com and the like), told by its tenant and never by its address.
    pub fn is_personal(&self) -> bool {
        self.tid == PERSONAL_TENANT
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.oid, self.tid)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id is two GUIDs, `oid.tid`")]
pub struct NotAnAccountId;

impl FromStr for AccountId {
    type Err = NotAnAccountId;

    fn from_str(text: &str) -> Result<Self, NotAnAccountId> {
        let (oid, tid) = text.split_once('.').ok_or(NotAnAccountId)?;
        Ok(Self { tid: guid(tid).ok_or(NotAnAccountId)?, oid: guid(oid).ok_or(NotAnAccountId)? })
    }
}

/// A GUID in the one form Microsoft writes, so that `{…}` or `urn:uuid:` are not second spellings of one account.
pub(crate) fn guid(text: &str) -> Option<Uuid> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: Uuid = uuid!("00000000-0000-0000-66f3-3332eca7ea81");

    #[test]
    fn it_is_written_as_msal_writes_it_and_read_back() {
        let id = AccountId { tid: PERSONAL_TENANT, oid: OID };
        assert_eq!(
            id.to_string(),
            "00000000-0000-0000-66f3-3332eca7ea81.9188040d-6c67-4c5b-b112-36a304b66dad"
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    }

    /// Shows M5 for the decision.
    #[test]
    fn personal_or_organisation_is_told_by_the_tenant_alone() {
        assert!(AccountId { tid: PERSONAL_TENANT, oid: OID }.is_personal());
        assert!(!AccountId { tid: OID, oid: OID }.is_personal());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", ".", "a.b", &format!("{OID}"), &format!("{OID}."), &format!("{OID}.{OID}.{OID}")] {
            assert_eq!(text.parse::<AccountId>(), Err(NotAnAccountId), "{text}");
        }
        assert!(format!("{{{OID}}}.{OID}").parse::<AccountId>().is_err());
    }
}
