//! Everything that reads what strangers send, as functions of bytes that panic when a promise is broken.
//!
//! The fuzzer (`fuzz/`, `cargo xtask fuzz`) feeds them what it makes up; `tests/corpora.rs` feeds them every seed and every
//! case that was ever found, with no fuzzer and no nightly compiler. The promises go beyond "no panic": what is taken obeys
//! its limits and survives being written and read again, and nothing is believed that the right key has not signed.
//!
//! It knows no network, no disk and no clock.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "here a panic is the finding")]

mod broker;
mod files;
mod people;
mod platform;
mod sealed;

pub use broker::packet;
pub use files::{configuration, policy, vault_file};
pub use people::{
    ACCOUNT, CLIENT, HONEST_MESSAGES, HONEST_TOKENS, HONEST_VAULT_FILE, KEY_SET, NONCE, PORT, STATE, TENANT,
    VAULT_KEY, agent, agents_authority, device, device_signing, facts, invite, now,
};
pub use platform::{callback, id_token, jwks, msal_cache};
pub use sealed::{envelope, invite_link, message, signed_envelope};

/// One of the things that strangers can write to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// Whether the bytes were taken for what they should be.
    pub read: fn(&[u8]) -> bool,
}

pub const TARGETS: [Target; 12] = [
    Target { name: "invite", read: invite_link },
    Target { name: "packet", read: packet },
    Target { name: "envelope", read: envelope },
    Target { name: "signed_envelope", read: signed_envelope },
    Target { name: "message", read: message },
    Target { name: "callback", read: callback },
    Target { name: "id_token", read: id_token },
    Target { name: "jwks", read: jwks },
    Target { name: "msal_cache", read: msal_cache },
    Target { name: "vault_file", read: vault_file },
    Target { name: "configuration", read: configuration },
    Target { name: "policy", read: policy },
];

const KIB: usize = 1024;

/// All that the heap may ever hold, the constants that readers build once included. A reader needs some ten times the
/// largest input; the rest is for hash tables and runtimes. What goes beyond is stopped by the allocator.
pub const MAX_HEAP: usize = 16 * KIB * KIB;

/// A broken reader, for whoever runs targets to show that he would notice: it panics at a word that has to be found, it
/// takes more memory than it may, or it takes no end of time.
pub const CONTROL: Target = Target { name: "control", read: control };

fn control(bytes: &[u8]) -> bool {
    match bytes {
        b"memory" => !vec![1_u8; 2 * MAX_HEAP].contains(&bytes[0]),
        b"time" => loop {
            std::hint::spin_loop();
        },
        // One letter after the other, so that a fuzzer that sees how far the code goes finds it, and one that guesses does not.
        word => {
            for (at, letter) in b"panic".iter().enumerate() {
                if word.get(at) != Some(letter) {
                    return at > 0;
                }
            }
            panic!("the control was found")
        }
    }
}

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
