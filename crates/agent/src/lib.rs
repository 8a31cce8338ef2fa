//! The headless side, as a library any Rust agent can use: it takes sign-ins from the companion, keeps them, refreshes
//! them silently, hands out tokens, and says when a person is needed.
//!
//! It knows the platform (`valetkey-entra`), the messages (`valetkey-handoff`) and the connection (`valetkey-link`). It
//! knows nothing of configuration files, commands or desktops.

pub mod folder;
pub mod state_dir;
