//! The signed outside of a message: a compact JWS (RFC 7515) with EdDSA (RFC 8037), its claims in the
//! protected header (RFC 7519 §5.3). One profile and nothing beside it: an unknown or doubled header member,
//! another `alg` or another `typ` is refused, so no header can choose a key, an algorithm or a treatment.

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use jiff::Timestamp;
use jiff::fmt::serde::timestamp::second as epoch;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::encoding;
use crate::invite::InviteId;
use crate::keys::{Keys, PublicKeys, Thumbprint};

/// Ours have 400 to 800 bytes. Bounds what is parsed before a signature is checked.
const MAX_HEADER_BYTES: usize = 2048;

const ALGORITHM: &str = "EdDSA";
const TYPE: &str = "valetkey+age";

/// The protected header of a message whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    alg: String,
    typ: String,
    kid: Thumbprint,
    /// The sender.
    pub iss: Thumbprint,
    /// The receiver.
    pub aud: Thumbprint,
    /// The message's own name; its receipt repeats it.
    pub jti: Uuid,
    /// See [`crate::generation`].
    #[serde(rename = "gen")]
    pub generation: u64,
    /// By the sender's clock: a hint. It does order what one sender says, so a device may ignore a `state` or
    /// `auth.expired` older than one it has heard (a broker can send old ones again).
    #[serde(rename = "iat", with = "epoch::required")]
    pub issued_at: Timestamp,
    /// From when on the message must be refused. Only an enrolment has one (its invite's).
    #[serde(rename = "exp", default, with = "epoch::optional", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enroll: Option<EnrollClaim>,
}

/// What lets an agent check an enrolment before it knows the device: the keys, and a proof that their owner
/// holds the invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollClaim {
    pub invite: InviteId,
    pub device: PublicKeys,
    /// HMAC-SHA256, base64url.
    pub proof: String,
}

/// A message taken apart, nothing in it believed yet.
pub(crate) struct Unverified<'a> {
    pub header: Header,
    pub payload: Vec<u8>,
    signed: &'a [u8],
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAnEnvelope;

impl Header {
    pub(crate) fn new(
        sender: &Thumbprint,
        receiver: Thumbprint,
        jti: Uuid,
        generation: u64,
        issued_at: Timestamp,
    ) -> Self {
        Self {
            alg: ALGORITHM.to_owned(),
            typ: TYPE.to_owned(),
            kid: sender.clone(),
            iss: sender.clone(),
            aud: receiver,
            jti,
            generation,
            issued_at,
            expires_at: None,
            enroll: None,
        }
    }
}

/// The compact JWS. `None` only if the header cannot be written as JSON.
pub(crate) fn sign(header: &Header, payload: &[u8], keys: &Keys) -> Option<String> {
    let mut jws = encoding::encode(serde_json::to_vec(header).ok()?);
    jws.push('.');
    jws.push_str(&encoding::encode(payload));
    let signature = keys.signing.sign(jws.as_bytes());
    jws.push('.');
    jws.push_str(&encoding::encode(signature.to_bytes()));
    Some(jws)
}

/// Takes a message apart by its shape alone.
pub(crate) fn parse(jws: &[u8]) -> Result<Unverified<'_>, NotAnEnvelope> {
    let mut parts = jws.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NotAnEnvelope);
    };
    if header.len() > MAX_HEADER_BYTES {
        return Err(NotAnEnvelope);
    }
    let signed = &jws[..header.len() + 1 + payload.len()];
    let header = encoding::decode(header).ok_or(NotAnEnvelope)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| NotAnEnvelope)?;
    if header.alg != ALGORITHM || header.typ != TYPE || header.kid != header.iss {
        return Err(NotAnEnvelope);
    }
    let signature = encoding::decode_array(signature).ok_or(NotAnEnvelope)?;
    Ok(Unverified {
        header,
        payload: encoding::decode(payload).ok_or(NotAnEnvelope)?,
        signed,
        signature: Signature::from_bytes(&signature),
    })
}

impl Unverified<'_> {
    /// Strict (RFC 8032 with small-order points refused): a signature has one form, and holds for one
    /// message.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.verify_strict(self.signed, &self.signature).is_ok()
    }
}

#[cfg(test)]
mod vectors;
