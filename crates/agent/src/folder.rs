//! One open directory. Everything in it is reached from its descriptor by a single name that is never a link, so
//! nothing that is swapped underneath can lead elsewhere.

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::Folder;
#[cfg(unix)]
pub use unix::Folder;

/// Begins the name of every file that is still being written.
const TEMPORARY: &str = ".new-";

fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', '\0', ':'])
}

fn temporary_name() -> String {
    format!("{TEMPORARY}{:016x}", rand::random::<u64>())
}
