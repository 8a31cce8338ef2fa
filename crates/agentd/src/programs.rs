//! Where mosquitto's programs are.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::problem::Problem;

/// Debian puts mosquitto where a user's PATH often does not look.
const MORE_FOLDERS: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"];

/// A program of mosquitto's, or words about how to get it.
pub fn find(program: &str) -> Result<PathBuf, Problem> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(&path, MORE_FOLDERS.iter().map(Path::new), program)
}

fn find_in<'a>(
    path: &OsStr,
    more: impl IntoIterator<Item = &'a Path>,
    program: &str,
) -> Result<PathBuf, Problem> {
    let runs = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path)
        .chain(more.into_iter().map(Path::to_owned))
        // An empty or relative entry would run what lies in the working directory.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(runs)
        .ok_or_else(|| {
            Problem::new(
                "broker",
                format!(
                    "{program} is not installed, and no broker is configured. Either install mosquitto (Debian and \
                     Ubuntu: sudo apt install mosquitto) or use a broker of yours: \
                     valetkey-agent serve --broker mqtts://broker.example.com"
                ),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let file = folder.join(name);
        fs::File::create(&file).unwrap().set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn without_mosquitto_the_words_say_how_to_get_it_or_do_without() {
        let problem = find_in(OsStr::new(""), [], "mosquitto").unwrap_err();
        for words in ["not installed", "apt install mosquitto", "--broker mqtts://"] {
            assert!(problem.message.contains(words), "{problem}");
        }
    }

    #[test]
    fn folders_behind_the_path_are_looked_in_and_files_that_do_not_run_are_passed_over() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        program(first.path(), "mosquitto", 0o600);
        let found = program(second.path(), "mosquitto", 0o755);
        assert_eq!(find_in(first.path().as_os_str(), [second.path()], "mosquitto").unwrap(), found);
    }

    #[test]
    fn the_working_directory_is_never_searched() {
        let here = env::current_dir().unwrap();
        let file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempfile_in(&here)
            .unwrap();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        for path in ["", ".", ":"] {
            assert!(find_in(OsStr::new(path), [Path::new(".")], name).is_err(), "{path:?}");
        }
        assert!(find_in(here.as_os_str(), [], name).is_ok());
    }
}
