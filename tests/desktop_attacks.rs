//! Another program or another user on the person's computer, against the real `valetkey-cli` as a process: what they can do to
//! a sign-in that waits in the browser, and to its memory.
//!
//! Several users are played by `setpriv`, which only root may use.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "desktop_attacks/callback.rs"]
mod callback;
#[path = "desktop_attacks/memory.rs"]
mod memory;
#[path = "desktop_attacks/person.rs"]
mod person;
mod support;
