//! What of the daemon can be used without running it: its configuration, and how it names what went wrong.
//!
//! Everything else is the program's, `main.rs`.

pub mod config;
pub mod problem;
