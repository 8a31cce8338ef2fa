//! An invite link holds a one-time secret and this device's login at the broker, and a command line can be read by every user
//! of a computer, for as long as the program runs. So the program that stays has it on its standard input instead.

use std::io::Read as _;

use crate::args::Link;

/// Longer than any invite link; and a pipe takes it at once.
const MAX_BYTES: u64 = 32 * 1024;

/// Replaces this program by itself. Returns only if that could not be done, and then the link stays where it was.
#[cfg(unix)]
pub fn start_over(link: &Link) -> std::io::Error {
    fn again(link: &Link) -> std::io::Result<std::convert::Infallible> {
        use std::io::Write as _;
        use std::os::unix::process::CommandExt as _;

        let text = link.as_str();
        if text.len() as u64 >= MAX_BYTES {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(text.as_bytes())?;
        drop(writer);
        let rest =
            std::env::args_os().skip(1).map(|arg| if arg == text { Link::ON_INPUT.into() } else { arg });
        Err(std::process::Command::new(std::env::current_exe()?).args(rest).stdin(reader).exec())
    }
    match again(link) {
        Err(error) => error,
    }
}

/// The link that `-` stands for.
pub fn read() -> std::io::Result<Link> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Link::new(text.trim()))
}
