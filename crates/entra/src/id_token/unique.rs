//! JSON in which a name stands twice means different things to different readers; here it is refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads `T`, if no object in the text, however deep, has two members of one name (RFC 7519 §4).
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice::<Unique>(json).ok()?;
    serde_json::from_slice(json).ok()
}

struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("repeated name"));
            }
            map.next_value::<Unique>()?;
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Unique, A::Error> {
        while list.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn repeated_names_are_refused_at_any_depth_and_however_they_are_spelt() {
        let fine = |json: &str| parse::<IgnoredAny>(json.as_bytes()).is_some();
        assert!(fine(r#"{"a":1,"b":[{"a":null},{"a":-1.5}],"c":{"a":true,"b":"x"}}"#));
        assert!(!fine(r#"{"iss":"a","iss":"a"}"#));
        assert!(!fine(r#"{"iss":"a","\u0069ss":"b"}"#));
        assert!(!fine(r#"{"x":[{"y":{"a":1,"a":2}}]}"#));
        assert!(!fine(r#"{"a":1} {"a":1}"#));
    }
}
