//! What a broker that somebody else runs can do by carelessness or by its limits: certificates that are wrong, a device
//! that leaves its topics, a stolen client id, a queue that is too short. With the real mosquitto, daemon and companion.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "hygiene/documented.rs"]
mod documented;
#[path = "hygiene/queue.rs"]
mod queue;
mod support;
#[path = "hygiene/tls.rs"]
mod tls;
#[path = "hygiene/topics.rs"]
mod topics;
