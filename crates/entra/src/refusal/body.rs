//! The error body of the token endpoint, read with forgiveness: no member is certain to be there, or of its type.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use crate::account::guid;

/// More numbers than this in one answer are not a diagnosis.
const MAX_NUMBERS: usize = 16;

/// What an error answer says, without its description. `Debug` prints none of the provider's text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    pub error: Option<String>,
    pub suberror: Option<String>,
    /// From `error_codes`, and from the description where it says `AADSTS…`.
    pub aadsts: Vec<u32>,
    pub claims: Option<String>,
    pub correlation_id: Option<Uuid>,
    pub trace_id: Option<Uuid>,
}

impl ErrorBody {
    /// What can be read of the body; nothing, if it is not a JSON object.
    pub fn parse(body: &[u8]) -> Self {
        let Ok(wire) = serde_json::from_slice::<Wire>(body) else { return Self::default() };
        let numbers = wire.error_codes.iter().filter_map(|code| code.as_u64()?.try_into().ok());
        Self {
            aadsts: distinct(numbers.chain(numbers_in(wire.error_description.as_deref().unwrap_or("")))),
            error: wire.error,
            suberror: wire.suberror.filter(|text| !text.is_empty()),
            claims: wire.claims,
            correlation_id: wire.correlation_id.as_deref().and_then(guid),
            trace_id: wire.trace_id.as_deref().and_then(guid),
        }
    }

    /// An error that came back from the authorize page as parameters of the redirect.
    pub fn from_callback(error: &str, description: Option<&str>, suberror: Option<&str>) -> Self {
        Self {
            error: Some(error.to_owned()),
            suberror: suberror.map(str::to_owned),
            aadsts: distinct(numbers_in(description.unwrap_or(""))),
            ..Self::default()
        }
    }
}

impl fmt::Debug for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBody").field("aadsts", &self.aadsts).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "text")]
    error: Option<String>,
    #[serde(default, deserialize_with = "text")]
    error_description: Option<String>,
    #[serde(default, deserialize_with = "list")]
    error_codes: Vec<Value>,
    #[serde(default, deserialize_with = "text")]
    suberror: Option<String>,
    #[serde(default, deserialize_with = "text")]
    claims: Option<String>,
    #[serde(default, deserialize_with = "text")]
    correlation_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    trace_id: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

fn numbers_in(description: &str) -> impl Iterator<Item = u32> {
    description.split("AADSTS").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut seen = Vec::new();
    for number in numbers {
        if seen.len() < MAX_NUMBERS && !seen.contains(&number) {
            seen.push(number);
        }
    }
    seen
}
