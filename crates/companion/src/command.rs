//! What a person can ask for, in the window, the tray or the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One click, as JSON `{"do": "connect"}`. A command that makes no sense in the present state does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// An invite link, opened or pasted. Only shows who asks for what.
    PasteInvite {
        link: InviteLink,
    },
    /// Agrees to the invite with this id ([`crate::view::InviteCard`]), and to no other; without an id to the one on show.
    AcceptInvite {
        #[serde(default)]
        invite: Option<String>,
    },
    DeclineInvite,
    Connect,
    Cancel,
    /// Opens the browser once more, with a fresh link.
    OpenAgain,
    /// A fresh sign-in link on the clipboard.
    CopyLink,
    Reconnect,
    /// Asks the assistant to give up an account: the one with this id, or the only one.
    Disconnect {
        #[serde(default)]
        account: Option<String>,
    },
    UseDifferentAccount,
    /// The message for an administrator on the clipboard.
    CopyRequest,
    Retry,
    Unpair,
    Dismiss,
}

/// An invite link as the person gave it. It holds a one-time secret, so its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InviteLink(String);

impl InviteLink {
    pub fn new(link: impl Into<String>) -> Self {
        Self(link.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[invite]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_json_the_window_sends() {
        let parsed: Vec<Command> = serde_json::from_str(
            r#"[{"do":"connect"},{"do":"paste_invite","link":"valetkey://invite/x"},{"do":"disconnect"},
                {"do":"accept_invite","invite":"x"},{"do":"accept_invite"}]"#,
        )
        .unwrap();
        assert_eq!(
            parsed,
            [
                Command::Connect,
                Command::PasteInvite { link: InviteLink::new("valetkey://invite/x") },
                Command::Disconnect { account: None },
                Command::AcceptInvite { invite: Some("x".into()) },
                Command::AcceptInvite { invite: None },
            ]
        );
    }

    #[test]
    fn an_invite_is_never_printed() {
        let command = Command::PasteInvite { link: InviteLink::new("valetkey://invite/CANARY") };
        assert!(!format!("{command:?}").contains("CANARY"));
    }
}
