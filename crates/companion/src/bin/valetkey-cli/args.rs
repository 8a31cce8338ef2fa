//! The command line.

use std::path::{PathBuf, absolute};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Link this computer to an assistant, and hand it your Microsoft 365 sign-in, without a desktop.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER, max_term_width = 100)]
pub struct Cli {
    /// Where this computer's part of the pairing is kept.
    #[arg(long, global = true, value_name = "DIR", env = "VALETKEY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep this computer's keys in this file (mode 0600) instead of the system's keyring, for a machine that has none.
    #[arg(long, global = true, value_name = "PATH", env = "VALETKEY_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Trust these certificates (PEM) for the server between you and the assistant, instead of the system's.
    #[arg(long, global = true, value_name = "FILE", env = "VALETKEY_BROKER_CA")]
    pub broker_ca: Option<PathBuf>,
    /// Say more about what happens, on standard error. Never anything secret.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// `valetkey-cli connect`, such that it can be copied: for the same pairing as this one, wherever it is typed.
    pub fn connect_again(&self) -> String {
        let given = [
            ("--data-dir", &self.data_dir),
            ("--key-file", &self.key_file),
            ("--broker-ca", &self.broker_ca),
        ];
        let mut command = "valetkey-cli".to_owned();
        for (flag, path) in given {
            if let Some(path) = path {
                let path = absolute(path).unwrap_or_else(|_| path.clone());
                command += &format!(" {flag} {}", quoted(&path.to_string_lossy()));
            }
        }
        command + " connect"
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who asks for what, and after your yes: link, sign in, hand over.
    #[command(
        after_help = "Examples:\n  valetkey-cli accept -          and paste the link\n  pbpaste | valetkey-cli accept - --yes\n\n\
                      Other users of this computer can read the arguments of a command while it runs, and a link holds a \
                      secret that works once: `-` keeps it to you."
    )]
    Accept {
        /// `-`, with the invite link on standard input; or the link itself, in quotes.
        invite: String,
        /// Agree without being asked. Compare the four words yourself.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        sign_in: SignIn,
    },
    /// Sign in and hand over, or finish handing over what waits here.
    #[command(visible_alias = "reconnect")]
    Connect {
        #[command(flatten)]
        sign_in: SignIn,
    },
    /// How it is: asks the assistant.
    #[command(after_help = "Examples:\n  valetkey-cli status\n  valetkey-cli status --json | jq .screen")]
    Status {
        /// The whole state as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Ask the assistant to delete its access, and forget it here.
    Unpair {
        /// Without being asked.
        #[arg(long)]
        yes: bool,
    },
    /// Check this computer's set-up: what works, what does not, and what to do.
    #[command(
        after_help = "Examples:\n  valetkey-cli doctor\n  valetkey-cli doctor --report report.txt\n\nExit codes:\n  \
                      0  everything works, perhaps with warnings\n  1  something does not work\n\nA report holds no \
                      password, key, sign-in or name, and calls servers by their names. Read it before you send it."
    )]
    Doctor {
        /// One JSON object.
        #[arg(long)]
        json: bool,
        /// Write a report to send to whoever helps (mode 0600); `-` prints it. An existing file is not overwritten.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Completions for your shell, on standard output.
    Completions { shell: Shell },
}

#[derive(Clone, Copy, Debug, Args)]
pub struct SignIn {
    /// Only print the address of the sign-in page; it must be opened on this computer.
    #[arg(long)]
    pub no_browser: bool,
    /// The port the browser comes back to, for a firewall or a forwarded port; any free one otherwise.
    #[arg(long, value_name = "PORT", conflicts_with = "device_code")]
    pub port: Option<u16>,
    /// Sign in with a code on any other device. Weaker: whoever gets you to type a code of theirs is signed in as you.
    /// Microsoft advises organisations to block it, and marks such sign-ins for good.
    #[arg(long)]
    pub device_code: bool,
    /// How long to wait for the assistant's confirmation.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait: u64,
}

const AFTER: &str = "\
Examples:
  valetkey-cli accept -
  valetkey-cli accept --yes --no-browser --key-file ~/.valet-key 'valetkey://invite/…'
  valetkey-cli status --json

Exit codes:
  0  done; for `status`: connected
  1  it did not work; the reason is on standard error. For `doctor`: something does not work
  2  wrong usage
  3  cancelled, or not agreed to
  4  signed in with a different account than the invite is for
  5  an administrator must allow something first
  6  sealed and kept here; the assistant has not confirmed it yet, or cannot be reached
  7  the keyring is locked or missing
  8  for `status`: a sign-in is needed
  9  not linked to an assistant";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[cfg(unix)]
    #[test]
    fn the_command_that_is_suggested_means_the_same_files() {
        use clap::Parser as _;
        let again = |arguments: &[&str]| {
            let all = ["valetkey-cli"].iter().chain(arguments);
            super::Cli::parse_from(all).connect_again()
        };
        assert_eq!(again(&["status"]), "valetkey-cli connect");
        assert_eq!(
            again(&["accept", "x", "--key-file", "/home/ana/my keys", "--data-dir", "/d"]),
            "valetkey-cli --data-dir /d --key-file '/home/ana/my keys' connect"
        );
        let here = std::env::current_dir().unwrap();
        assert!(again(&["status", "--data-dir", "d"]).contains(here.to_str().unwrap()));
    }

    /// Shows of H20 that it is opt-in, and that its help warns.
    #[test]
    fn a_device_code_is_only_used_when_asked_for_and_comes_with_a_warning() {
        use clap::Parser as _;
        let cli = super::Cli::parse_from(["valetkey-cli", "accept", "x"]);
        assert!(matches!(cli.command, super::Command::Accept { sign_in, .. } if !sign_in.device_code));
        let mut command = super::Cli::command();
        let help = command.find_subcommand_mut("accept").unwrap().render_long_help().to_string();
        assert!(help.contains("Weaker") && help.contains("block it"), "{help}");
    }
}
