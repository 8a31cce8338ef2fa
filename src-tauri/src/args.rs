//! What the program can be started with, by a person, a link, or the system at log-in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use valetkey_companion::InviteLink;

/// Lets your assistant read your Microsoft 365, and nothing else.
///
/// Runs in the tray. Started again, it opens the window of the one that is running.
#[derive(Debug, Parser)]
#[command(name = "valet-key", version)]
pub struct Args {
    /// Open the window at once
    #[arg(long)]
    pub open: bool,

    /// Keep the program's files here, instead of the system's place for them
    #[arg(long, value_name = "DIR", env = "VALETKEY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// What is allowed: which assistants, servers and apps. The system's file for it holds beside this one
    #[arg(long, value_name = "FILE", env = "VALETKEY_POLICY")]
    pub policy: Option<PathBuf>,

    /// Certificates (PEM) to trust for the server between you and your assistant, instead of the system's
    #[arg(long, value_name = "FILE", env = "VALETKEY_BROKER_CA")]
    pub broker_ca: Option<PathBuf>,

    /// Started by the system at log-in: stay in the tray
    #[arg(long, hide = true)]
    pub background: bool,

    /// An invite link to show; or `-` to read it from standard input
    #[arg(value_name = "LINK")]
    pub link: Option<Link>,
}

/// An invite link as an argument. Not looked into here: the companion says what is wrong with it.
#[derive(Clone)]
pub struct Link(String);

impl Link {
    /// Stands for a link that comes on standard input.
    pub const ON_INPUT: &str = "-";

    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_on_input(&self) -> bool {
        self.0 == Self::ON_INPUT
    }

    pub fn into_invite(self) -> InviteLink {
        InviteLink::new(self.0)
    }
}

impl FromStr for Link {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[invite]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_come_with_other_arguments_and_is_never_printed() {
        let args =
            Args::try_parse_from(["valet-key", "--data-dir", "/d", "valetkey://invite/CANARY"]).unwrap();
        assert_eq!(args.data_dir, Some(PathBuf::from("/d")));
        assert!(!format!("{args:?}").contains("CANARY"));
        assert_eq!(args.link.unwrap().into_invite(), InviteLink::new("valetkey://invite/CANARY"));
    }
}
