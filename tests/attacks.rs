//! Nobody in between: another client of the broker, or the broker itself, tries everything that the protocol gives it a
//! hand in. The daemon is the real one, as a process; so is mosquitto.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "attacks/forge.rs"]
mod forge;
#[path = "attacks/on_agent.rs"]
mod on_agent;
#[path = "attacks/on_companion.rs"]
mod on_companion;
mod support;
#[path = "attacks/with_invites.rs"]
mod with_invites;
