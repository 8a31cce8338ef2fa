//! A person at a terminal, and other users of the same computer.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use url::Url;
use valetkey_tests::program::{Program, program};

/// The person and a stranger; no such users need to exist.
pub const PERSON: u32 = 4243;
pub const STRANGER: u32 = 65534;

pub fn only_root_can_be_others() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    eprintln!("only root can play several users; not tried");
    false
}

pub struct Person {
    folder: TempDir,
    /// The person's own, as a home is.
    pub home: PathBuf,
    program: PathBuf,
}

impl Person {
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("person-").unwrap();
        set_mode(folder.path(), 0o755);
        let copy = folder.path().join("valetkey-cli");
        fs::copy(program("valetkey-cli").unwrap(), &copy).unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("cores")).unwrap();
        if rustix::process::geteuid().is_root() {
            for path in [home.clone(), home.join("cores")] {
                chown(path, Some(PERSON), Some(PERSON)).unwrap();
            }
        }
        Self { program: copy, home, folder }
    }

    /// Where core files come, if any do.
    pub fn cores(&self) -> Vec<PathBuf> {
        fs::read_dir(self.home.join("cores")).unwrap().map(|file| file.unwrap().path()).collect()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    pub fn key_file(&self) -> PathBuf {
        self.home.join("keys")
    }

    /// What all runs so far have said on their error stream.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The person agrees to an invite that comes on standard input.
    pub fn accepts(&self, link: &str, args: &[&str]) -> Program {
        self.cli(&[&["accept", "-", "--yes", "--no-browser"], args].concat(), link)
    }

    pub fn connects(&self, args: &[&str]) -> Program {
        self.cli(&[&["connect", "--no-browser"], args].concat(), "")
    }

    fn cli(&self, args: &[&str], input: &str) -> Program {
        let mut cli = Command::new(&self.program);
        cli.arg("--data-dir").arg(self.data_dir()).arg("--key-file").arg(self.key_file()).args(args);
        cli.env("PLANTED", PLANTED);
        self.start(&cli, input)
    }

    /// As the person, where cores may be written.
    pub fn start(&self, command: &Command, input: &str) -> Program {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, input.as_bytes()).unwrap();
        let mut shell = Command::new("sh");
        // Opened before anything else is started, so that the file may go once the program has said something.
        let script =
            "exec 3<\"$1\" && rm \"$1\" && shift && ulimit -c unlimited 2>/dev/null; exec \"$@\" <&3 3<&-";
        shell.args(["-c", script, "sh"]).arg(file.into_temp_path().keep().unwrap());
        if rustix::process::geteuid().is_root() {
            shell.args(as_user(PERSON));
        }
        shell.arg(command.get_program()).args(command.get_args()).current_dir(self.home.join("cores"));
        shell.env("HOME", &self.home);
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or(OsStr::new("")));
        }
        Program::start(&mut shell, &self.folder.path().join("log")).unwrap()
    }
}

/// In the environment of every run; no secret, but found by whoever can look.
pub const PLANTED: &str = "planted-where-a-stranger-may-look";

fn as_user(uid: u32) -> [String; 4] {
    ["setpriv".into(), format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]
}

/// Whether a user without any privilege can run this.
pub fn can(uid: u32, args: &[&str]) -> bool {
    let [program, rest @ ..] = as_user(uid);
    let mut other = Command::new(program);
    other.args(rest).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    other.status().unwrap().success()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The address that the person opens in the browser.
pub async fn address(companion: &mut Program) -> Url {
    let line = companion.line("/oauth2/v2.0/authorize?").await.unwrap();
    line.split_whitespace().find(|word| word.starts_with("http")).unwrap().parse().unwrap()
}
