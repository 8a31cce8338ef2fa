//! Microsoft's identity platform, as both sides need it: clouds and authorities, capabilities and their scopes,
//! the authorize request and its loopback callback, the token endpoint, ID tokens, error classes, the MSAL cache.
//!
//! It knows nothing of agents, brokers or desktops.

pub mod account;
pub mod authorize;
pub mod cache;
pub mod capability;
pub mod cloud;
pub mod graph;
pub mod http;
pub mod id_token;
pub mod jwks;
pub mod loopback;
pub mod metadata;
pub mod person;
pub mod reach;
pub mod refusal;
pub mod secret;
pub mod token_endpoint;
