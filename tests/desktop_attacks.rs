//! Another program or another user on the person's computer, against the real `valetkey-cli` as a process: what they can do to
//! a sign-in that waits in the browser, and what they can read meanwhile and afterwards.
//!
//! Several users are played by `setpriv`, which only root may use.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "desktop_attacks/callback.rs"]
mod callback;
#[allow(dead_code, reason = "shared with the journey's search for secrets")]
#[path = "secrets/evidence.rs"]
mod evidence;
#[path = "secrets/known.rs"]
mod known;
#[path = "desktop_attacks/memory.rs"]
mod memory;
#[path = "desktop_attacks/person.rs"]
mod person;
#[path = "secrets/processes.rs"]
mod processes;
#[path = "desktop_attacks/reading.rs"]
mod reading;
#[path = "secrets/search.rs"]
mod search;
mod support;
