//! What went wrong: a code for programs, words for people, and the exit code that a shell sees.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use valetkey_agent::{AgentError, AtRestError, FindError, StateDirError, TokenFailure};

/// Wrong usage, as clap has it.
pub const USAGE: u8 = 2;
/// A person has to connect or reconnect.
pub const PERSON: u8 = 3;
/// An administrator or the operator has to change something.
pub const OPERATOR: u8 = 4;
/// The same may work later by itself.
pub const LATER: u8 = 5;

/// A failure on its way to whoever asked. `--help` and `docs/operating.md` list the exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Snake case, for programs.
    pub code: String,
    /// What happened and what to do, for people.
    pub message: String,
}

impl Problem {
    pub fn new(code: &str, message: impl fmt::Display) -> Self {
        Self { code: code.to_owned(), message: format!("{message:#}") }
    }

    /// Something in the configuration, or in a file that it names.
    pub fn configuration(message: impl fmt::Display) -> Self {
        Self::new("configuration", message)
    }

    /// The state directory is another user's: what to run instead, word for word.
    pub fn not_yours(state_dir: &Path, owner: u32) -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let dir = state_dir.display();
        let message =
            format!("{dir} belongs to user {owner}, not to you; run: {}", as_owner(words, state_dir, owner));
        Self::new("state_dir", message)
    }

    /// What an error that came through `anyhow` is for whoever asked.
    pub fn of(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        match error.downcast::<AgentError>() {
            Ok(error) => error.into(),
            Err(error) => Self::new("failed", error),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self.code.as_str() {
            "usage" => USAGE,
            "auth_required" | "step_up_required" | "no_account" => PERSON,
            "blocked" | "no_licence" | "not_covered" | "configuration" | "vault_key" => OPERATOR,
            "unavailable" | "storage" | "stopping" => LATER,
            _ => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        let code = match error {
            FindError::NotFound { .. } => "no_account",
            FindError::Ambiguous { .. } => "ambiguous",
        };
        Self::new(code, error)
    }
}

impl From<TokenFailure> for Problem {
    fn from(failure: TokenFailure) -> Self {
        Self::new(failure.code(), failure)
    }
}

impl From<&AtRestError> for Problem {
    fn from(error: &AtRestError) -> Self {
        let what_to_do = match error {
            AtRestError::KeyNeeded { path } if path.ends_with("agent.json") => {
                "; give it with --vault-key-fd N (N</path/to/the/key), as systemd's credential vault-key, or by key_file \
                 under [vault] in agent.toml"
            }
            AtRestError::KeyNeeded { .. } => {
                ", and agent.json is not sealed: sealing or unsealing was interrupted. Run valetkey-agent vault seal or \
                 valetkey-agent vault unseal with that key; nothing is lost"
            }
            AtRestError::OtherKey { path } if path.ends_with("agent.json") => {
                "; give that one. Nothing was changed. valetkey-agent vault status says whether a key is the one"
            }
            AtRestError::OtherKey { .. } => "; give that one, put back a copy of the file, or move it away",
            AtRestError::HalfRotated { .. } => {
                "; give that one, or run valetkey-agent vault rotate again with both. Nothing was changed"
            }
            AtRestError::NotSealed { path } if path.ends_with("agent.json") => {
                ": sealing or unsealing was interrupted, or somebody put it there. In the first case run valetkey-agent vault \
                 seal or valetkey-agent vault unseal once more, in the second put a backup back. Nothing was changed"
            }
            AtRestError::NotSealed { .. } => "; if you put it there, run: valetkey-agent vault seal",
            AtRestError::Damaged { .. } => "; put a copy back",
            AtRestError::VaultNotSealed { .. } => {
                ", and there is a key for it. If you have never sealed it, run: valetkey-agent vault seal. If you have, these are \
                 not your files: put a backup back. Nothing was changed"
            }
            AtRestError::NoAgent { .. } => "; make one with: valetkey-agent init",
            AtRestError::SameKey => "; make another one with: valetkey-agent vault keygen",
            _ => "",
        };
        let code = if matches!(error, AtRestError::NoAgent { .. }) { "configuration" } else { "vault_key" };
        Self::new(code, format!("{error}{what_to_do}"))
    }
}

impl From<StateDirError> for Problem {
    fn from(error: StateDirError) -> Self {
        AgentError::from(error).into()
    }
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        if let Some(at_rest) = error.at_rest() {
            return at_rest.into();
        }
        if let AgentError::StateDir(StateDirError::NotOurs { path, owner }) = &error {
            return Self::not_yours(path, *owner);
        }
        let code = match &error {
            AgentError::StateDir(StateDirError::Held { .. }) => "held",
            AgentError::StateDir(_) => "state_dir",
            AgentError::Terms(_) | AgentError::Expiry | AgentError::Invite(_) => "invite",
            AgentError::NoAccount => "no_account",
            AgentError::NoDevice => "no_device",
            AgentError::Broker(_) | AgentError::LoginLeft(_) => "broker",
            _ => "failed",
        };
        Self::new(code, error)
    }
}

/// The same command for `sudo`, which changes the home, and with it the directory that is meant without being said.
fn as_owner(words: impl Iterator<Item = String>, state_dir: &Path, owner: u32) -> String {
    const STATE_DIR: &str = "--state-dir";
    let mut words: Vec<String> = words.collect();
    let says_it = |word: &String| {
        word == STATE_DIR || word.strip_prefix(STATE_DIR).is_some_and(|rest| rest.starts_with('='))
    };
    if !words.is_empty() && !words.iter().any(says_it) {
        words.splice(1..1, [STATE_DIR.to_owned(), state_dir.to_string_lossy().into_owned()]);
    }
    words.iter().fold(format!("sudo -u '#{owner}'"), |command, word| format!("{command} {}", quoted(word)))
}

/// As one word of a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_refused_token_has_its_exit_code() {
        let exit = |failure: TokenFailure| Problem::from(failure).exit_code();
        let reason = String::from("x");
        assert_eq!(
            exit(TokenFailure::AuthRequired { reason: reason.clone(), never_connected: false }),
            PERSON
        );
        assert_eq!(exit(TokenFailure::NoLicence), OPERATOR);
        assert_eq!(exit(TokenFailure::Unavailable { reason, retry_at: None }), LATER);
        assert_eq!(exit(TokenFailure::Storage { problem: "full".into() }), LATER);
    }

    #[test]
    fn whoever_runs_it_as_its_owner_means_the_same_directory() {
        let command =
            |words: &[&str]| as_owner(words.iter().map(ToString::to_string), Path::new("/srv/a b"), 7);
        assert_eq!(command(&["agent", "status"]), "sudo -u '#7' agent --state-dir '/srv/a b' status");
        assert_eq!(
            command(&["agent", "token", "--state-dir", "a b"]),
            "sudo -u '#7' agent token --state-dir 'a b'"
        );
        assert_eq!(command(&["agent", "--state-dir=x", "status"]), "sudo -u '#7' agent --state-dir=x status");
    }

    #[test]
    fn a_code_survives_its_way_through_anyhow() {
        let held = StateDirError::Held { path: "/state".into(), pid: Some(7) };
        assert_eq!(Problem::of(AgentError::from(held).into()).code, "held");
        let wrapped = anyhow::Error::from(Problem::configuration("x")).context("while starting");
        assert_eq!(Problem::of(wrapped).code, "configuration");
    }
}
