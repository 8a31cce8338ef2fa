//! The MQTT connection that both sides share: one broker, kept up, with delivery that waits for a durable write.
//!
//! [`Link::start`] begins a task that connects, subscribes, and connects again for as long as the link lives.
//! What happens comes out of [`Events`]; what is to be said goes into [`Link::publish`]. An incoming message
//! is a [`Delivery`], which the broker keeps until it is handed to [`Link::ack`]; [`Link::give_back`] has it delivered again.
//!
//! This crate knows topics and bytes. It may not know what a message means, who signed it, or what any topic is
//! for. Neither side may rely on delivery alone: broker and network lose messages, so the owner sends again until
//! it is answered, and takes in the same message twice without harm.

mod address;
mod backoff;
mod clock;
mod connection;
mod link;
mod plan;
mod problem;
mod proxy;
mod queue;
mod run;
mod session;
mod settings;
mod tls;
mod topic;
mod try_once;

pub use backoff::{FIRST_CEILING, LONGEST_CEILING, retry_delay};
pub use clock::{Clock, Deadline, RECHECK};
pub use link::{Delivery, Event, Events, Link};
pub use problem::{Problem, Refusal};
pub use proxy::system_proxy;
pub use queue::{MAX_QUEUED, MAX_QUEUED_BYTES, PublishError, PublishId};
pub use settings::{
    ClientCertificate, DEFAULT_KEEP_ALIVE, DEFAULT_MAX_PACKET, DEFAULT_SESSION_EXPIRY, Password, Proxy,
    Publish, Retain, Settings, SettingsError, Version,
};
pub use tls::check_certificates;
pub use try_once::try_once;

/// How this crate limits the MQTT library, for what attacks the library with the same limits.
#[doc(hidden)]
pub mod limits {
    pub const IN_FLIGHT: u16 = crate::plan::IN_FLIGHT;
    pub const MAX_PACKET_V311: usize = crate::session::v311::MAX_PACKET;
    pub const MAX_PACKET_V5: u32 = crate::DEFAULT_MAX_PACKET;
}
