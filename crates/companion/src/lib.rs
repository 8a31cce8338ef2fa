//! Every decision of the desktop, without a desktop: what the person is shown, what a click leads to, how a sign-in
//! is checked, sealed and handed over.
//!
//! The heart is pure: [`step::step`] takes a state, an event and the time, and gives the next state and what is to be
//! done; [`view::view`] turns a state into everything the window and the tray paint. [`controller`] is the loop around
//! them. It knows nothing of Tauri, windows, or how a browser is opened: those are [`outlet::Outlet`]s.

pub mod command;
pub mod controller;
mod courier;
mod currency;
mod device_keys;
pub mod doctor;
mod durable;
mod hands;
mod held;
mod invite;
mod keeper;
pub mod keystore;
pub mod memory;
pub mod menu;
pub mod outbox;
pub mod outlet;
pub mod page;
pub mod pairing;
pub mod policy;
pub mod problem;
#[cfg(test)]
mod samples;
mod session;
mod shown;
mod sign_in;
pub mod state;
pub mod step;
pub mod texts;
pub mod view;

pub use command::{Command, InviteLink};
pub use controller::{Companion, Handle, Options, Way};
pub use keystore::{EntryName, KeyFile, KeyStore, KeyStoreError, MemoryKeyStore, OsKeyring};
pub use outlet::Outlet;
pub use texts::Language;
pub use valetkey_link::Clock;
pub use view::View;
