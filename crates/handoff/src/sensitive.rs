//! A value that is never printed and whose memory is wiped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

/// A secret. `Debug` prints no part of it, and dropping it wipes it.
///
/// Serialising writes it in clear: that is meant only for the inside of a sealed message, for an invite's
/// link, and for a key store.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Sensitive<T> {
    pub fn new(secret: T) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret itself; every use of it can be found by this name.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Sensitive<T> {
    fn from(secret: T) -> Self {
        Self::new(secret)
    }
}

impl From<&str> for Sensitive<String> {
    fn from(secret: &str) -> Self {
        Self::new(secret.to_owned())
    }
}

impl<T: Zeroize> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sensitive]")
    }
}

impl<T: Zeroize + Serialize> Serialize for Sensitive<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}
