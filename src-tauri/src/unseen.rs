//! An invite link holds a one-time secret and this device's login at the broker, and a command line can be read by every user
//! of a computer, for as long as the program runs. So the program that stays has it on its standard input instead, and one that
//! was given it there hands it to the one that runs without writing it anywhere else.

use std::io::Read as _;

#[cfg(target_os = "linux")]
use anyhow::Context as _;

use crate::args::Link;

/// Longer than any invite link.
const MAX_BYTES: u64 = 32 * 1024;
/// How long the one that runs may take to answer. It does so at once, unless it hangs; and a busy computer is slow.
#[cfg(target_os = "linux")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// Replaces this program by itself. Returns only if that could not be done, and then the link stays where it was.
#[cfg(unix)]
pub fn start_over(link: &Link) -> std::io::Error {
    fn again(link: &Link) -> std::io::Result<std::convert::Infallible> {
        use std::os::unix::process::CommandExt as _;

        let input = put_away(link.as_str())?;
        let rest = std::env::args_os()
            .skip(1)
            .map(|arg| if arg == link.as_str() { Link::ON_INPUT.into() } else { arg });
        Err(std::process::Command::new(std::env::current_exe()?).args(rest).stdin(input).exec())
    }
    match again(link) {
        Err(error) => error,
    }
}

/// The text to be read from its beginning, where nobody else can. Not in a pipe: one takes a page or two before somebody reads,
/// where its user has many, and here nobody does yet.
#[cfg(unix)]
fn put_away(text: &str) -> std::io::Result<std::fs::File> {
    use std::io::{Seek as _, Write as _};

    if text.len() as u64 >= MAX_BYTES {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut file = nameless()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// In memory only.
#[cfg(target_os = "linux")]
fn nameless() -> std::io::Result<std::fs::File> {
    Ok(rustix::fs::memfd_create("invite", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

#[cfg(all(unix, not(target_os = "linux")))]
fn nameless() -> std::io::Result<std::fs::File> {
    tempfile::tempfile()
}

/// The link that `-` stands for.
pub fn read() -> std::io::Result<Link> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Link::new(text.trim()))
}

/// What a second start says to the one that runs: the arguments it would have had, were they not for everybody to read.
#[cfg(unix)]
fn arguments(link: &Link) -> [&str; 3] {
    [env!("CARGO_PKG_NAME"), "--", link.as_str()]
}

/// Whether another one runs and has taken the link. Said as the plugin for a second start says it (the test of that would notice
/// if it began to say it otherwise), because that one can only hand on the command line itself. Fails when another one runs and
/// does not answer.
#[cfg(target_os = "linux")]
pub fn hand_over(link: &Link, identifier: &str) -> anyhow::Result<bool> {
    let name = format!("{identifier}.SingleInstance");
    let path = format!("/{}", name.replace('.', "/").replace('-', "_"));
    let arguments = arguments(link);
    let words = (arguments.as_slice(), "");
    let said = tauri::async_runtime::block_on(async {
        let saying = async {
            let bus = zbus::Connection::session().await?;
            bus.call_method(
                Some(name.as_str()),
                path.as_str(),
                Some("org.SingleInstance.DBus"),
                "ExecuteCallback",
                &words,
            )
            .await
        };
        tokio::time::timeout(PATIENCE, saying).await
    });
    let said = said.context("another Valet Key runs and does not answer; end it, and try again")?;
    if let Err(error) = &said {
        tracing::debug!(%error, "nobody was handed the link");
    }
    Ok(said.is_ok())
}

/// As on Linux, over the plugin's socket.
#[cfg(target_os = "macos")]
pub fn hand_over(link: &Link, identifier: &str) -> anyhow::Result<bool> {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    let path = format!("/tmp/{}_si.sock", identifier.replace(['.', '-'], "_"));
    let say = || -> std::io::Result<()> {
        // Anybody could have made one of this name.
        if std::fs::symlink_metadata(&path)?.uid() != rustix::process::getuid().as_raw() {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let mut socket = std::os::unix::net::UnixStream::connect(&path)?;
        socket.write_all(format!("\0\0{}", arguments(link).join("\0")).as_bytes())
    };
    Ok(say().is_ok())
}

/// By a start with the link as an argument, which other users cannot read here: it hands it over, or stays itself.
#[cfg(windows)]
pub fn hand_over(link: &Link, _: &str) -> anyhow::Result<bool> {
    let start = || {
        let rest = std::env::args_os()
            .skip(1)
            .map(|arg| if arg == Link::ON_INPUT { link.as_str().into() } else { arg });
        std::process::Command::new(std::env::current_exe()?)
            .args(rest)
            .stdin(std::process::Stdio::null())
            .spawn()
    };
    Ok(start().is_ok())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Where a user has very many pipes, each new one has one or two pages.
    #[test]
    fn a_link_of_any_size_is_put_away_before_anybody_reads_it_where_a_pipe_would_wait_for_ever() {
        let text = "x".repeat(usize::try_from(MAX_BYTES).unwrap() - 1);
        let (_reader, mut pipe) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        assert_eq!(pipe.write_all(text.as_bytes()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

        let mut back = String::new();
        put_away(&text).unwrap().read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        assert!(put_away(&(text + "x")).is_err(), "nor would it be read whole");
    }

    #[test]
    fn what_is_handed_over_is_a_link_whatever_it_looks_like() {
        use clap::Parser as _;

        for text in ["valetkey://invite/CANARY", "--background", ""] {
            let parsed = crate::args::Args::try_parse_from(arguments(&Link::new(text))).unwrap();
            assert_eq!(parsed.link.unwrap().as_str(), text);
            assert!(!parsed.background);
        }
    }
}
