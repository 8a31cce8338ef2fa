//! Where the vault's key comes from: an open descriptor, a credential of systemd's, or a file outside the state directory.
//! Never an argument or a variable, which others can read and children inherit.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use valetkey_agent::VaultKey;
use valetkey_agent::at_rest::MAX_KEY_TEXT;
use valetkey_handoff::Sensitive;

use crate::cli::{Cli, Command, VaultCommand};
use crate::config::Config;
use crate::problem::Problem;

/// The credentials' names under `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential=).
const CREDENTIAL: &str = "vault-key";
const NEW_CREDENTIAL: &str = "vault-key-new";
/// A key that a group may read is an arrangement (root:valetkey 0640); one for everybody is a mistake.
const EVERYBODY: u32 = 0o007;

/// Where the present key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Descriptor,
    Credential,
    /// `key_file` in the configuration.
    File,
}

/// The keys that were given by descriptors, and the way to the others.
#[derive(Debug, Default)]
pub struct Keys {
    given: Option<VaultKey>,
    new: Option<VaultKey>,
}

impl Keys {
    /// Reads the descriptors that the command line names, and closes them, so that no process we start has them. To be
    /// called before this process opens anything of its own: the numbers then are what we were started with.
    pub fn take(cli: &Cli) -> Result<Self, Problem> {
        let new_fd = match &cli.command {
            Command::Vault { command: VaultCommand::Rotate { new_key_fd } } => *new_key_fd,
            _ => None,
        };
        let one = |flag: &str, fd: Option<u16>| fd.map(|fd| from_descriptor(flag, fd)).transpose();
        if new_fd.is_some() && new_fd == cli.place.vault_key_fd {
            return Err(problem(
                "--vault-key-fd and --new-key-fd name the same descriptor; give each key its own",
            ));
        }
        Ok(Self { given: one("--vault-key-fd", cli.place.vault_key_fd)?, new: one("--new-key-fd", new_fd)? })
    }

    /// The key that the vault is sealed with, or is to be; `None` if there is none anywhere.
    pub fn present(&self, config: &Config, state_dir: &Path) -> Result<Option<VaultKey>, Problem> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        if let Some(credential) = credential(CREDENTIAL) {
            return from_file(&credential).map(Some);
        }
        let Some(path) = &config.vault.key_file else {
            return if config.vault.sealed { Err(missing()) } else { Ok(None) };
        };
        check_place(path, state_dir)?;
        from_file(path).map(Some)
    }

    /// Which of them [`Self::present`] takes; whether that is a key is not looked at.
    pub fn source(&self, config: &Config) -> Option<Source> {
        if self.given.is_some() {
            return Some(Source::Descriptor);
        }
        let file = config.vault.key_file.as_ref().map(|_| Source::File);
        credential(CREDENTIAL).map(|_| Source::Credential).or(file)
    }

    /// The key that is to take the present one's place.
    pub fn new_one(&self) -> Result<VaultKey, Problem> {
        match (&self.new, credential(NEW_CREDENTIAL)) {
            (Some(new), _) => Ok(new.clone()),
            (None, Some(credential)) => from_file(&credential),
            (None, None) => Err(problem(
                "there is no new key; make one with: valetkey-agent vault keygen --out FILE, and give it with \
                 --new-key-fd N (N<FILE)",
            )),
        }
    }
}

fn problem(message: impl std::fmt::Display) -> Problem {
    Problem::new("vault_key", message)
}

fn credential(name: &str) -> Option<PathBuf> {
    // One that cannot be looked at is found, and then said to be unreadable.
    Some(credentials()?.join(name)).filter(|path| !matches!(path.try_exists(), Ok(false)))
}

fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The configuration wants a key, and there is none. A name with a slip in it is seen here.
fn missing() -> Problem {
    let listed = credentials().and_then(|folder| fs::read_dir(folder).ok());
    let mut names: Vec<_> = listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let found = match names.as_slice() {
        [] => String::new(),
        names => format!(". The credentials that there are: {}", names.join(", ")),
    };
    problem(format!(
        "sealed = true under [vault] in agent.toml, and no key was given: not with --vault-key-fd, not as systemd's credential \
         {CREDENTIAL}, not by key_file{found}"
    ))
}

fn from_descriptor(flag: &str, number: u16) -> Result<VaultKey, Problem> {
    let read = match number {
        0 => standard_input(),
        // Answers are written there.
        1 | 2 => return Err(problem(format!("{flag} {number}: a key can be given as 0, 3, 4, …"))),
        _ => descriptor(number.into()).and_then(|file| text_of(&file)),
    };
    let text = read.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => format!(": nothing is open there; add {number}</path/to/the/key"),
            _ => format!(": {error}"),
        };
        problem(format!("cannot read the key from file descriptor {number}{hint}"))
    })?;
    key(&text, &format!("file descriptor {number}"))
}

fn from_file(path: &Path) -> Result<VaultKey, Problem> {
    let shown = path.display();
    let text = File::open(path).and_then(|file| text_of(&file)).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; make one with: valetkey-agent vault keygen --out FILE",
            _ => "",
        };
        problem(format!("cannot read the vault's key in {shown}: {error}{hint}"))
    })?;
    key(&text, &shown.to_string())
}

fn key(text: &Sensitive<Vec<u8>>, place: &str) -> Result<VaultKey, Problem> {
    let parsed = std::str::from_utf8(text.expose()).ok().and_then(|text| VaultKey::parse(text).ok());
    parsed.ok_or_else(|| {
        problem(format!(
            "{place} holds no vault key: one line AGE-SECRET-KEY-1… as valetkey-agent vault keygen makes it"
        ))
    })
}

/// In one piece of memory that is never moved.
fn text_of(file: &File) -> io::Result<Sensitive<Vec<u8>>> {
    let mut text = zeroize::Zeroizing::new(vec![0; MAX_KEY_TEXT + 1]);
    let mut length = 0;
    loop {
        match (&*file).read(&mut text[length..]) {
            Ok(0) if length > MAX_KEY_TEXT => return Err(io::Error::other("it is too long for a key")),
            Ok(0) => return Ok(Sensitive::new(text[..length].to_vec())),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Afterwards it is empty for us and for whoever we start.
fn standard_input() -> io::Result<Sensitive<Vec<u8>>> {
    let copy = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    text_of(&File::from(copy))
}

/// What we were started with under this number; the number itself is closed.
fn descriptor(number: i32) -> io::Result<File> {
    let path = format!("/dev/fd/{number}");
    // Otherwise a descriptor that is made here could get the number.
    fs::symlink_metadata(&path)?;
    let copy = copy_of(number).or_else(|_| File::open(&path))?;
    nix::unistd::close(number)?;
    Ok(copy)
}

/// Unlike opening the path, it needs no right to the file, which may be root's, opened before `sudo -u`.
#[cfg(target_os = "linux")]
fn copy_of(number: i32) -> io::Result<File> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this, number, PidfdGetfdFlags::empty())?.into())
}

/// Elsewhere opening `/dev/fd/N` is a copy.
#[cfg(not(target_os = "linux"))]
fn copy_of(_number: i32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A key beside what it opens protects nothing.
pub fn check_outside(what: &str, path: &Path, state_dir: &Path) -> Result<(), Problem> {
    // What is yet to be made has a folder.
    let folder = || path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let there = path.canonicalize().or_else(|_| folder().canonicalize());
    match (there, state_dir.canonicalize()) {
        (Ok(there), Ok(dir)) if there.starts_with(&dir) => Err(problem(format!(
            "{what} {} lies in the state directory: whoever takes that would have both. Give the key another place",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn check_place(path: &Path, state_dir: &Path) -> Result<(), Problem> {
    check_outside("key_file =", path, state_dir)?;
    let shown = path.display();
    match fs::metadata(path) {
        Ok(facts) if facts.permissions().mode() & EVERYBODY != 0 => {
            Err(problem(format!("everybody can get at the vault's key; run: chmod o-rwx {shown}")))
        }
        _ => Ok(()),
    }
}
