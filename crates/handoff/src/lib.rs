//! What crosses the broker between a companion and an agent, and nothing else: keys, invites, message bodies,
//! sealing and opening, topics, and the rule that decides which handoff is the newer one.
//!
//! A message is a binary age file inside a compact JWS (`typ: valetkey+age`), so two standard tools take it
//! apart: `cut -d. -f2 | basenc -d --base64url | age -d -i agent.key` prints its JSON, and any JOSE library
//! checks its signature. There is no I/O here, no clock and no network: bytes and times come in, values go
//! out. The crate knows nothing of Microsoft, MQTT or files; names such as capabilities and reasons are
//! opaque codes to it.

pub mod age_file;
mod encoding;
mod envelope;
pub mod generation;
pub mod invite;
pub mod keys;
mod label;
pub mod message;
pub mod seal;
mod sensitive;
pub mod topics;
mod words;

pub use envelope::Header;
pub use generation::{Digest, Judgement, judge};
pub use invite::{BrokerAccess, Invite, InviteError, InviteId, InviteSecret, Terms};
pub use keys::{KeyError, Keys, PublicKeys, Thumbprint};
pub use label::{BadLabel, Code, Label, one_line};
pub use message::{ToAgent, ToDevice};
pub use seal::{
    Enrolment, Facts, MAX_MESSAGE_BYTES, OpenError, Opened, SealError, Sealed, open, open_enroll, seal,
    seal_enroll,
};
pub use sensitive::Sensitive;
pub use topics::{Presence, Topic, Topics};
