//! Sealing (encrypt, then sign) and opening (verify, then decrypt).
//!
//! A message is encrypted first and signed outside; the sealed JSON repeats sender and name (`iss`, `jti`),
//! so nobody can strip a signature and sign the same age file as himself. Opening goes from cheap to dear,
//! and no unverified byte reaches the age parser:
//!
//! 1. the size,
//! 2. the shape of the JWS and its header,
//! 3. sender and receiver,
//! 4. for an enrolment, the invite's proof,
//! 5. the signature, under the key that the caller pinned and never one that the message names (an enrolment's
//!    key counts as pinned once the proof covers it),
//! 6. expiry, where there is one,
//! 7. the size of the age header,
//! 8. age,
//! 9. the sealed JSON.
//!
//! **Expiry.** A handoff may wait in an outbox for days, and clocks are hints, so what is current is decided
//! by [`crate::generation`] alone and messages carry no `exp`. An enrolment does: its invite's, so the
//! agent's own clock is on both sides of the comparison. An `exp` that is there is honoured (RFC 7519
//! §4.1.4).

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::age_file::{self, DecryptFailed};
use crate::encoding;
use crate::envelope::{self, EnrollClaim, Header, Unverified};
use crate::generation::Digest;
use crate::invite::{Invite, InviteId, InviteSecret};
use crate::keys::{Keys, PublicKeys, Thumbprint};
use crate::message::sealed::ParseFailed;
use crate::message::{Enroll, Messages, ToEnroll};

/// A sealed message, in bytes as it travels. A large token cache seals to 20 KiB; this leaves room for a
/// dozen of them and keeps what a stranger can make an agent hold small. Brokers and clients must allow
/// packets a little larger.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Of the sealed JSON.
const VERSION: u64 = 1;

/// Separates the enrolment proof from any other use of the secret.
const PROOF_LABEL: &str = "valetkey/enroll/v1";

/// What the sender decides about a message beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub jti: Uuid,
    /// Counted up, durably, before sealing; see [`crate::generation`].
    pub generation: u64,
    pub issued_at: Timestamp,
}

/// A message ready to be published: keep these bytes and send the same ones again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The compact JWS, ASCII.
    pub text: String,
    pub jti: Uuid,
    pub digest: Digest,
}

/// A message that was verified and decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<M> {
    pub header: Header,
    pub message: M,
    /// Of the bytes as they came, for [`crate::judge`].
    pub digest: Digest,
}

/// An enrolment that was proved, verified and decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub header: Header,
    /// To be pinned, in the same durable write that uses the invite up.
    pub device: PublicKeys,
    pub enroll: Enroll,
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    #[error("the message does not fit into {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    #[error("the message cannot be written as JSON (is its token cache JSON?)")]
    Body,
    #[error("the message could not be encrypted")]
    Encrypt,
}

/// Why a message was refused. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the message has {size} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLarge { size: usize },
    #[error("this is not a signed message of this protocol")]
    Malformed,
    #[error("the message names another sender than the one it came from")]
    WrongSender,
    #[error("the message is addressed to somebody else")]
    WrongReceiver,
    #[error("the message is for another invite")]
    WrongInvite,
    /// Nobody who holds the invite made this: the invite stays good.
    #[error("the proof of the invite's secret is wrong")]
    WrongProof,
    #[error("the signature is not the sender's")]
    WrongSignature,
    #[error("the message expired")]
    Expired,
    #[error("the header of the age file is too large")]
    AgeHeader,
    #[error("the age file cannot be decrypted with this key, or it was changed")]
    Undecryptable,
    /// Sealed by one sender and signed by another.
    #[error("the sealed message is not the one that the signature is for")]
    Mismatch,
    #[error("the message has version {0}, this program reads version 1")]
    UnsupportedVersion(u64),
    #[error("this program does not know this kind of message")]
    UnknownKind,
    /// The sender is who it should be, and made a body that cannot be read.
    #[error("the body of {kind} cannot be read")]
    Body { kind: &'static str },
    #[error("the sealed message cannot be read")]
    Inner,
}

impl Facts {
    /// Facts with a new `jti`.
    pub fn new(generation: u64, now: Timestamp) -> Self {
        Self { jti: Uuid::new_v4(), generation, issued_at: now }
    }
}

impl Sealed {
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Encrypts a message to one receiver and signs it.
pub fn seal<M: Messages>(
    from: &Keys,
    to: &PublicKeys,
    facts: &Facts,
    message: &M,
) -> Result<Sealed, SealError> {
    let sender = from.thumbprint();
    let payload = encrypt(&sender, to, facts.jti, message)?;
    finish(&header(&sender, to, facts), &payload, from)
}

/// Like [`seal`], for a device that the agent does not know yet: with the device's keys and a proof of the
/// invite's secret.
pub fn seal_enroll(from: &Keys, invite: &Invite, facts: &Facts, enroll: Enroll) -> Result<Sealed, SealError> {
    let sender = from.thumbprint();
    let device = from.public();
    let payload = encrypt(&sender, &invite.agent, facts.jti, &ToEnroll::Enroll(enroll))?;
    let id = invite.id();
    let proof = proof(&invite.secret, &invite.agent.thumbprint(), &id, &device, &payload);
    let mut header = header(&sender, &invite.agent, facts);
    header.expires_at = Some(invite.expires_at);
    header.enroll =
        Some(EnrollClaim { invite: id, proof: encoding::encode(proof.finalize().into_bytes()), device });
    finish(&header, &payload, from)
}

/// Opens a message from a known sender: `sender` is the one pinned for the topic it came on.
pub fn open<M: Messages>(
    bytes: &[u8],
    sender: &PublicKeys,
    me: &Keys,
    now: Timestamp,
) -> Result<Opened<M>, OpenError> {
    let outer = take_apart(bytes, me)?;
    if outer.header.iss != sender.thumbprint() {
        return Err(OpenError::WrongSender);
    }
    if outer.header.enroll.is_some() {
        return Err(OpenError::Malformed);
    }
    let message = verify_and_decrypt(&outer, sender, me, now)?;
    Ok(Opened { header: outer.header, message, digest: Digest::of(bytes) })
}

/// Opens an enrolment made with this invite. Whether the invite is still unused and unexpired is the caller's
/// to know; after any error it stays as good as it was.
pub fn open_enroll(
    bytes: &[u8],
    invite: &InviteSecret,
    me: &Keys,
    now: Timestamp,
) -> Result<Enrolment, OpenError> {
    let mut outer = take_apart(bytes, me)?;
    let claim = outer.header.enroll.take().ok_or(OpenError::Malformed)?;
    if claim.invite != invite.id() {
        return Err(OpenError::WrongInvite);
    }
    let claimed = encoding::decode(&claim.proof).ok_or(OpenError::Malformed)?;
    // Compared in constant time.
    proof(invite, &me.thumbprint(), &claim.invite, &claim.device, &outer.payload)
        .verify_slice(&claimed)
        .map_err(|_| OpenError::WrongProof)?;
    if outer.header.iss != claim.device.thumbprint() {
        return Err(OpenError::WrongSender);
    }
    let ToEnroll::Enroll(enroll) = verify_and_decrypt(&outer, &claim.device, me, now)?;
    Ok(Enrolment { header: outer.header, device: claim.device, enroll, digest: Digest::of(bytes) })
}

#[derive(Serialize)]
struct InnerOut<'a, M> {
    v: u64,
    iss: &'a Thumbprint,
    jti: Uuid,
    /// `kind` and `body`.
    #[serde(flatten)]
    message: &'a M,
}

#[derive(Deserialize)]
struct InnerVersion {
    v: u64,
}

#[derive(Deserialize)]
struct InnerIn<'a> {
    iss: Thumbprint,
    jti: Uuid,
    kind: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn header(sender: &Thumbprint, to: &PublicKeys, facts: &Facts) -> Header {
    Header::new(sender, to.thumbprint(), facts.jti, facts.generation, facts.issued_at)
}

fn encrypt<M: Messages>(
    sender: &Thumbprint,
    to: &PublicKeys,
    jti: Uuid,
    message: &M,
) -> Result<Vec<u8>, SealError> {
    // As large as a message can be, so that writing never moves the secret and leaves a copy behind.
    let mut json = Zeroizing::new(vec![0; MAX_MESSAGE_BYTES]);
    let mut rest = json.as_mut_slice();
    let inner = InnerOut { v: VERSION, iss: sender, jti, message };
    serde_json::to_writer(&mut rest, &inner)
        .map_err(|error| if error.is_io() { SealError::TooLarge } else { SealError::Body })?;
    let written = MAX_MESSAGE_BYTES - rest.len();
    age_file::encrypt(&json[..written], &to.recipient).map_err(|_| SealError::Encrypt)
}

fn finish(header: &Header, payload: &[u8], from: &Keys) -> Result<Sealed, SealError> {
    let text = envelope::sign(header, payload, from).ok_or(SealError::Body)?;
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(SealError::TooLarge);
    }
    Ok(Sealed { jti: header.jti, digest: Digest::of(&text), text })
}

fn take_apart<'a>(bytes: &'a [u8], me: &Keys) -> Result<Unverified<'a>, OpenError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(OpenError::TooLarge { size: bytes.len() });
    }
    let outer = envelope::parse(bytes).map_err(|_| OpenError::Malformed)?;
    if outer.header.aud != me.thumbprint() {
        return Err(OpenError::WrongReceiver);
    }
    Ok(outer)
}

fn verify_and_decrypt<M: Messages>(
    outer: &Unverified<'_>,
    sender: &PublicKeys,
    me: &Keys,
    now: Timestamp,
) -> Result<M, OpenError> {
    if !outer.is_signed_by(&sender.signing) {
        return Err(OpenError::WrongSignature);
    }
    if outer.header.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(OpenError::Expired);
    }
    let json = age_file::decrypt(&outer.payload, &me.identity).map_err(|failed| match failed {
        DecryptFailed::Header => OpenError::AgeHeader,
        DecryptFailed::Age => OpenError::Undecryptable,
    })?;
    read_inner(&json, &outer.header.iss, outer.header.jti)
}

/// The last step of opening, by itself: the sealed JSON of a message that `iss` named `jti`. Hidden, because whoever reads
/// a message without verifying it is wrong; it is here for what attacks this step alone.
#[doc(hidden)]
pub fn read_inner<M: Messages>(json: &[u8], iss: &Thumbprint, jti: Uuid) -> Result<M, OpenError> {
    let InnerVersion { v } = serde_json::from_slice(json).map_err(|_| OpenError::Inner)?;
    if v != VERSION {
        return Err(OpenError::UnsupportedVersion(v));
    }
    let inner: InnerIn<'_> = serde_json::from_slice(json).map_err(|_| OpenError::Inner)?;
    if inner.iss != *iss || inner.jti != jti {
        return Err(OpenError::Mismatch);
    }
    M::parse(&inner.kind, inner.body).map_err(|failed| match failed {
        ParseFailed::UnknownKind => OpenError::UnknownKind,
        ParseFailed::Body(kind) => OpenError::Body { kind },
    })
}

/// HMAC-SHA256 over six lines: the label, the agent's thumbprint, the invite's id, the device's thumbprint
/// and recipient, and the SHA-256 of the age file. None of them can hold a line break.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn proof(
    secret: &InviteSecret,
    agent: &Thumbprint,
    invite: &InviteId,
    device: &PublicKeys,
    payload: &[u8],
) -> Hmac<Sha256> {
    let lines = format!(
        "{PROOF_LABEL}\n{agent}\n{invite}\n{}\n{}\n{}",
        device.thumbprint(),
        device.recipient(),
        encoding::encode(Sha256::digest(payload)),
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("any length is a key");
    mac.update(lines.as_bytes());
    mac
}
