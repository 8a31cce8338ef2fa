//! What the tests of every crate share: the practice tenant, a real broker, a real browser.
//!
//! It knows none of our crates, so that each of them may use it.

pub mod broker;
pub mod browser;
pub mod daemon;
#[cfg(target_os = "linux")]
pub mod desktop;
pub mod fault_proxy;
pub mod http_sign_in;
pub mod msal;
pub mod private_network;
pub mod process;
pub mod program;
pub mod strangers;
pub mod tenant;

pub use http_sign_in::http_sign_in;
