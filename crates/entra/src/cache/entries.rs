//! The entries of the cache, member by member, and the keys they stand under.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::secret::Secret;

type Other = BTreeMap<String, Value>;

/// A time as the cache has it: seconds since 1970, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Epoch(String);

impl Epoch {
    pub fn new(at: Timestamp) -> Self {
        Self(at.as_second().to_string())
    }

    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.0.parse().ok()?).ok()
    }
}

/// Numbers are read as well: not every program that writes such files knows that they should be text.
impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Text(Cow<'a, str>),
            Number(i64),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_owned(),
            Form::Number(seconds) => seconds.to_string(),
        }))
    }
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $member:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$attribute])* pub $member: $type,)+
            /// Members that this version does not know, kept as they are.
            #[serde(flatten)]
            pub other: Other,
        }

        /// Only the kind: any member could hold what must not be printed.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

entry! {
    AccessToken {
        home_account_id: String,
        environment: String,
        credential_type: String,
        client_id: String,
        secret: Secret,
        realm: String,
        /// Granted scopes, separated by spaces.
        target: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_type: Option<String>,
        cached_at: Epoch,
        expires_on: Epoch,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extended_expires_on: Option<Epoch>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh_on: Option<Epoch>,
    }
}

entry! {
    RefreshToken {
        home_account_id: String,
        environment: String,
        credential_type: String,
        client_id: String,
        secret: Secret,
        /// Some programs look for it, though the token is good for every resource.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family_id: Option<String>,
        /// Of MSAL for Python, which orders by it. Never written by us, but kept true where it stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_modification_time: Option<Epoch>,
    }
}

entry! {
    IdToken {
        home_account_id: String,
        environment: String,
        realm: String,
        credential_type: String,
        client_id: String,
        secret: Secret,
    }
}

entry! {
    Account {
        home_account_id: String,
        environment: String,
        realm: String,
        /// The `oid`.
        local_account_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authority_type: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_info: Option<String>,
    }
}

entry! {
    AppMetadata {
        client_id: String,
        environment: String,
    }
}

impl AccessToken {
    pub(super) fn key(&self) -> String {
        let Self { home_account_id, environment, client_id, realm, target, .. } = self;
        lower(&format!("{home_account_id}-{environment}-accesstoken-{client_id}-{realm}-{target}-"))
    }
}

impl RefreshToken {
    pub(super) fn key(&self) -> String {
        let Self { home_account_id, environment, client_id, .. } = self;
        lower(&format!("{home_account_id}-{environment}-refreshtoken-{client_id}---"))
    }
}

impl IdToken {
    pub(super) fn key(&self) -> String {
        let Self { home_account_id, environment, client_id, realm, .. } = self;
        lower(&format!("{home_account_id}-{environment}-idtoken-{client_id}-{realm}--"))
    }
}

impl Account {
    pub(super) fn key(&self) -> String {
        lower(&format!("{}-{}-{}", self.home_account_id, self.environment, self.realm))
    }
}

impl AppMetadata {
    pub(super) fn key(&self) -> String {
        lower(&format!("appmetadata-{}-{}", self.environment, self.client_id))
    }
}

fn lower(key: &str) -> String {
    key.to_lowercase()
}
