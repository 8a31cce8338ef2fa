//! The commands that messages suggest, so that they can be copied as they stand: each with the directory, the configuration
//! and the broker that the present one was told of.
//!
//! Whoever words a message, a running daemon too, writes `valetkey-agent status` and knows of none of that; it is put in where
//! things are printed.

use clap::CommandFactory as _;

use crate::cli::Cli;

const PROGRAM: &str = "valetkey-agent ";
/// A command that is worded with it knows better.
const SAYS_IT_ITSELF: &str = "--state-dir";

/// `told` is as on a command line: `--state-dir /srv/agent`; or empty.
pub fn complete(text: &str, told: &str) -> String {
    if told.is_empty() {
        return text.to_owned();
    }
    let commands = Cli::command();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PROGRAM) {
        let (before, after) = rest.split_at(at + PROGRAM.len());
        let starts = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || "/._-".contains(c));
        let word = after.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        let line = after.lines().next().unwrap_or_default();
        out += before;
        if starts && commands.find_subcommand(word).is_some() && !line.contains(SAYS_IT_ITSELF) {
            out += told;
            out.push(' ');
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_command_says_where_and_other_words_stay() {
        let told = "--state-dir /srv/agent --config '/srv/my agent.toml'";
        for (text, completed) in [
            ("make one with: valetkey-agent init", "make one with: valetkey-agent @ init"),
            (
                "run valetkey-agent vault seal or valetkey-agent vault unseal once more",
                "run valetkey-agent @ vault seal or valetkey-agent @ vault unseal once more",
            ),
            ("RUST_LOG=debug valetkey-agent serve.", "RUST_LOG=debug valetkey-agent @ serve."),
            (
                "systemctl start valetkey-agent, or: valetkey-agent serve",
                "systemctl start valetkey-agent, or: valetkey-agent @ serve",
            ),
            ("valetkey-agent invite --email …", "valetkey-agent @ invite --email …"),
            ("valetkey-agent is running", "valetkey-agent is running"),
            ("valetkey-agent servers", "valetkey-agent servers"),
            (
                "/usr/bin/valetkey-agent --state-dir /x status",
                "/usr/bin/valetkey-agent --state-dir /x status",
            ),
            ("valetkey-agent status --state-dir /x", "valetkey-agent status --state-dir /x"),
        ] {
            assert_eq!(complete(text, told), completed.replace('@', told), "{text}");
            assert_eq!(complete(text, ""), text);
        }
    }
}
