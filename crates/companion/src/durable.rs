//! Small private files that are there whole, or not at all, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use tempfile::Builder;

/// More than any file of ours; a larger one is not ours. The largest is one sealed message.
const MAX_BYTES: u64 = 1024 * 1024;

/// Replaces `path` by `bytes`: mode 0600 from the moment it exists, on the disk before this returns.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = private_parent(path)?;
    // `tempfile` opens with O_EXCL and mode 0600.
    let mut file = Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync_dir(dir)
}

/// The text of a private file; `None` if there is none. `InvalidData` if others may read it, or it is not our kind.
pub fn read_private(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let facts = file.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if facts.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file can be read by others"));
        }
    }
    if !facts.is_file() || facts.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of ours"));
    }
    let mut text = String::with_capacity(usize::try_from(facts.len()).unwrap_or_default());
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Removes a file, if it is there, for good.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(error) => Err(error),
    }
}

/// Makes a directory that only its owner can enter.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(dir)
}

fn private_parent(path: &Path) -> io::Result<&Path> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_dir(dir)?;
    Ok(dir)
}

/// Without this a power cut may undo the rename.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// NTFS journals the rename, and a directory cannot be opened to be flushed.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_and_its_directory_are_their_owners_alone_and_only_a_file_of_ours_is_read() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let path = dir.join("file");
        replace(&path, b"text").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        assert_eq!(read_private(&path).unwrap().as_deref(), Some("text"));
        replace(&path, &vec![b'x'; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        for not_ours in [&path, &dir] {
            assert_eq!(read_private(not_ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    /// So that what is to be sent outlives a power cut.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_on_the_disk_before_it_takes_its_place_and_its_place_is_before_it_counts() {
        const INSIDE: &str = "VALETKEY_TEST_DURABLE";
        const NAME: &str = "durable::tests::a_file_is_on_the_disk_before_it_takes_its_place_and_its_place_is_before_it_counts";
        if let Some(dir) = std::env::var_os(INSIDE) {
            let path = Path::new(&dir).join("file");
            replace(&path, b"text").unwrap();
            remove(&path).unwrap();
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("calls");
        let inside = std::process::Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2,unlink,unlinkat", "-o"])
            .arg(&log)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(INSIDE, home.path().join("data"))
            .output()
            .unwrap();
        assert!(inside.status.success(), "{inside:?}");
        let calls = fs::read_to_string(log).unwrap();
        let calls: Vec<&str> = calls.lines().filter(|call| call.contains("/data")).collect();
        let expected: [(&str, &str); 5] = [
            ("fsync(", "/data/.new-"),
            ("rename", "/data/file\""),
            ("fsync(", "/data>)"),
            ("unlink", "/data/file\""),
            ("fsync(", "/data>)"),
        ];
        let fits = |(call, (name, on)): (&&str, (&str, &str))| call.contains(name) && call.contains(on);
        assert!(calls.len() == expected.len() && calls.iter().zip(expected).all(fits), "{calls:#?}");
    }
}
