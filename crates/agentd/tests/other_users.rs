//! Another user on the agent's machine, against the real daemon: names swapped for links while it writes, wrong owners and
//! modes at the start, the socket, its memory.
//!
//! Several users are played by `setpriv`, which only root may use; for others those tests say so and end.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use support::{CLIENT_ID, Home, mode, signal};
use valetkey_tests::program::{PATIENCE, Program};

/// The agent's user and a stranger; no such users need to exist.
const SERVICE: u32 = 4242;
const STRANGER: u32 = 65534;
/// Rounds of writing while names are swapped.
const ROUNDS: usize = 100;

/// A broker that is not there: the daemon serves its socket, and writes no files of a broker's.
const NO_BROKER: &str = "[broker]\nurl = \"mqtt://127.0.0.1:1\"\n";

fn only_root_can_be_others() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    eprintln!("only root can play several users; not tried");
    false
}

/// The system's, which everybody may run.
fn python() -> Command {
    let of_the_system = Path::new("/usr/bin/python3");
    if of_the_system.exists() { Command::new(of_the_system) } else { Command::new("python3") }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// As this user, without any privilege.
fn by(uid: u32, command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
    other.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.stdin(Stdio::null());
    other
}

/// A folder of the service's own, with the program in it.
struct Elsewhere {
    folder: tempfile::TempDir,
    state: PathBuf,
    program: PathBuf,
}

impl Elsewhere {
    /// An agent of [`SERVICE`]'s under a name that needs quotes in a shell.
    fn initialised() -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let program = folder.path().join("valetkey-agent");
        fs::copy(env!("CARGO_BIN_EXE_valetkey-agent"), &program).unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        chown(&own, Some(SERVICE), Some(SERVICE)).unwrap();
        let elsewhere = Self { state: own.join("the agent's state"), program, folder };
        let ran = elsewhere.by(SERVICE, &["init"]).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let config = elsewhere.state.join("agent.toml");
        support::write(&config, &format!("client_id = \"{CLIENT_ID}\"\n{NO_BROKER}"));
        elsewhere
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--state-dir").arg(&self.state).args(args).arg("--json");
        command.env_clear().env("HOME", self.folder.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    fn by(&self, uid: u32, args: &[&str]) -> Command {
        by(uid, &self.command(args))
    }

    fn start(&self, command: &mut Command) -> Program {
        Program::start(command, &self.folder.path().join("log")).unwrap()
    }

    async fn serve(&self) -> Program {
        let mut serving = self.start(&mut self.by(SERVICE, &["serve"]));
        serving.event("serving").await.unwrap();
        serving
    }
}

fn refusal(ran: &Output) -> String {
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let said: Value = serde_json::from_slice(&ran.stderr)
        .or_else(|_| serde_json::from_slice(&ran.stdout))
        .unwrap_or_else(|_| panic!("{ran:?}"));
    said["error"]["message"].as_str().unwrap().to_owned()
}

/// What it says to run, run as it stands.
fn run_what_it_says(folder: &Path, message: &str) -> Command {
    let (_, command) = message.split_once("; run: ").unwrap_or_else(|| panic!("no command: {message}"));
    // Stands in for sudo, which asks for a password where there is one.
    let sudo = folder.join("sudo");
    if !sudo.exists() {
        support::write(
            &sudo,
            "#!/bin/sh\nif [ \"$1\" = -u ]; then uid=${2#\\#}; shift 2; \
             exec setpriv --reuid=\"$uid\" --regid=\"$uid\" --clear-groups \"$@\"; fi\nexec \"$@\"\n",
        );
        set_mode(&sudo, 0o755);
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path).stdin(Stdio::null());
    shell
}

type Spoil = Box<dyn Fn()>;

#[tokio::test]
async fn wrong_modes_and_owners_are_refused_with_the_very_command_that_mends_them() {
    if !only_root_can_be_others() {
        return;
    }
    let own = Elsewhere::initialised();
    let state = own.state.clone();
    let open = |path: PathBuf, mode: u32| move || set_mode(&path, mode);
    let give = |path: PathBuf| move || chown(&path, Some(0), Some(0)).unwrap();
    let lay = |path: PathBuf| {
        move || {
            support::write(&path, "{}");
            chown(&path, Some(SERVICE), Some(SERVICE)).unwrap();
            set_mode(&path, 0o640);
        }
    };
    let own_folder = state.parent().unwrap().to_owned();
    let spoilt: [(&str, Spoil); 19] = [
        ("the directory is open to its group", Box::new(open(state.clone(), 0o750))),
        ("the directory is open to all", Box::new(open(state.clone(), 0o777))),
        ("the vault is open to all", Box::new(open(state.join("vault"), 0o755))),
        ("the quarantine is open to all", Box::new(open(state.join("quarantine"), 0o705))),
        ("the keys are root's", Box::new(give(state.join("agent.json")))),
        ("the vault is root's", Box::new(give(state.join("vault")))),
        ("the lock is root's", Box::new(give(state.join("lock")))),
        ("the book of devices is root's", Box::new(give(state.join("registry.json")))),
        ("the keys can be read by all", Box::new(open(state.join("agent.json"), 0o644))),
        ("the book of devices can be read by its group", Box::new(open(state.join("registry.json"), 0o640))),
        ("a file of the vault can be read by its group", Box::new(lay(state.join("vault").join("a b.json")))),
        ("what was set aside can be read", Box::new(lay(state.join("quarantine").join("a b.json")))),
        ("the audit is open to all", Box::new(open(state.join("audit"), 0o755))),
        ("the audit can be read by all", Box::new(open(state.join("audit/audit.jsonl"), 0o644))),
        ("the end of the audit can be written by all", Box::new(open(state.join("audit/head.json"), 0o606))),
        ("the audit is root's", Box::new(give(state.join("audit/audit.jsonl")))),
        ("all can write the directory above", Box::new(open(own_folder.clone(), 0o777))),
        ("its group can write the directory above", Box::new(open(own_folder, 0o775))),
        ("all can write root's directory above that", Box::new(open(own.folder.path().to_owned(), 0o777))),
    ];
    // Something for the book to say.
    let invited = own.by(SERVICE, &["invite", "--email", "ana@contoso.example"]).output().unwrap();
    assert!(state.join("registry.json").exists(), "{invited:?}");
    for (name, spoil) in spoilt {
        spoil();
        let message = refusal(&own.by(SERVICE, &["serve"]).output().unwrap());
        let mended = run_what_it_says(own.folder.path(), &message).output().unwrap();
        assert!(mended.status.success(), "{name}: {message}: {mended:?}");
        own.serve().await.stop().unwrap();
    }
    // Somebody else's altogether: nobody is told to take it, but to run this as its owner.
    let message = refusal(&own.command(&["serve"]).output().unwrap());
    assert!(message.contains("sudo -u '#4242'"), "{message}");
    let mut serving = own.start(&mut run_what_it_says(own.folder.path(), &message));
    serving.event("serving").await.unwrap();
    serving.stop().unwrap();
    assert_eq!(fs::metadata(&state).unwrap().uid(), SERVICE);
}

#[tokio::test]
async fn the_socket_is_closed_to_others_even_where_the_directory_is_not() {
    if !only_root_can_be_others() {
        return;
    }
    let own = Elsewhere::initialised();
    let serving = own.serve().await;
    let socket = own.state.join("agent.sock");
    assert_eq!(mode(&socket) & 0o777, 0o600);
    let connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('in')";
    let mut python = python();
    python.args(["-c", connect]).arg(&socket);
    let knock = |uid: u32| {
        let ran = by(uid, &python).output().unwrap();
        (ran.stdout.starts_with(b"in"), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    set_mode(&own.folder.path().join("own"), 0o755);
    for directory in [0o700, 0o711] {
        set_mode(&own.state, directory);
        let (inside, said) = knock(STRANGER);
        assert!(!inside && said.contains("PermissionError"), "{directory:o}: {said}");
        let message = refusal(&own.by(STRANGER, &["token"]).output().unwrap());
        assert!(message.contains("run: sudo -u '#4242'"), "{message}");
    }
    set_mode(&own.state, 0o700);
    assert!(knock(SERVICE).0, "its owner gets in, so the knocking works");
    serving.stop().unwrap();
}

/// A directory of somebody else's in the place of ours, with a listener of his own.
#[tokio::test]
async fn a_listener_of_another_users_is_asked_nothing_and_not_believed() {
    if !only_root_can_be_others() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o777);
    let socket = folder.path().join("agent.sock");
    let listen = "import os, socket, sys\n\
                  s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); s.listen()\n\
                  print('listening', flush=True)\n\
                  c = s.accept()[0]; got = c.recv(4096)\n\
                  print('heard', len(got), flush=True)\n\
                  c.sendall(b'{\"ok\":{\"link\":\"valetkey://invite/of-the-thief\"}}\\n')\n";
    let mut python = python();
    python.args(["-c", listen]).arg(&socket);
    let mut thief = Program::start(&mut by(STRANGER, &python), &folder.path().join("log")).unwrap();
    thief.line("listening").await.unwrap();
    let mut ask = Command::new(env!("CARGO_BIN_EXE_valetkey-agent"));
    ask.arg("--state-dir").arg(folder.path()).args(["invite", "--email", "ana@contoso.example", "--json"]);
    let ran = ask.stdin(Stdio::null()).output().unwrap();
    assert!(refusal(&ran).contains("belongs to user 65534"), "{ran:?}");
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("of-the-thief"));
    assert_eq!(thief.line("heard").await.unwrap(), "heard 0");
}

/// Swaps names in a directory for links to what is outside, and back, until told to stop; counts how often.
fn swap(names: &[PathBuf], target: impl Fn(&Path) -> PathBuf, stop: &AtomicBool, swaps: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        for name in names {
            let aside = name.with_file_name("swapped-away");
            if fs::rename(name, &aside).is_err() {
                continue;
            }
            if symlink(target(name), name).is_ok() {
                swaps.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::yield_now();
            // What was written in the place of the link meanwhile stays; else the old one comes back.
            let is_link = fs::symlink_metadata(name).is_ok_and(|found| found.is_symlink());
            if is_link {
                let _ = fs::remove_file(name);
            }
            if is_link || !name.exists() {
                let _ = fs::rename(&aside, name);
            } else {
                let _ = fs::remove_file(&aside);
                let _ = fs::remove_dir_all(&aside);
            }
        }
    }
}

/// Outside the directory: what a link leads to.
struct Outside {
    file: PathBuf,
    folder: PathBuf,
}

impl Outside {
    fn of(home: &Path) -> Self {
        let outside = Self { file: home.join("victim"), folder: home.join("victims") };
        support::write(&outside.file, "untouched");
        set_mode(&outside.file, 0o644);
        fs::create_dir(&outside.folder).unwrap();
        outside
    }

    fn is_untouched(&self) -> bool {
        fs::read(&self.file).is_ok_and(|text| text == b"untouched")
            && mode(&self.file) & 0o777 == 0o644
            && fs::read_dir(&self.folder).unwrap().next().is_none()
    }
}

#[tokio::test]
async fn nothing_outside_is_written_while_every_name_is_swapped_for_links() {
    let home = Home::initialised();
    home.configure(NO_BROKER);
    let mut serving = home.start(&["serve", "--json"]);
    serving.event("serving").await.unwrap();
    let (state, outside) = (home.state(), Outside::of(home.folder.path()));
    // One command that stays connected: the socket's name is swapped, too.
    let mut socket = UnixStream::connect(state.join("agent.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap());
    let mut invite = |number: usize| {
        let email = format!("ana{number}@contoso.example");
        let asked = serde_json::json!({"ask": "invite", "email": email, "allow": [], "expires": null});
        socket.write_all(format!("{asked}\n").as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["ok"].is_object()
    };
    assert!(invite(0), "it writes at all");

    let names: Vec<PathBuf> =
        ["registry.json", "vault", "quarantine", "agent.json", "audit", "lock", "agent.sock"]
            .iter()
            .map(|name| state.join(name))
            .chain([state.clone()])
            .collect();
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let target = |name: &Path| {
        if name.extension().is_some() || name.ends_with("lock") { &outside.file } else { &outside.folder }
            .clone()
    };
    let done = std::thread::scope(|scope| {
        scope.spawn(|| swap(&names, target, &stop, &swaps));
        let done = (1..=ROUNDS).filter(|round| invite(*round)).count();
        let deadline = Instant::now() + PATIENCE;
        while swaps.load(Ordering::Relaxed) < ROUNDS && Instant::now() < deadline {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        done
    });
    let swaps = swaps.into_inner();
    println!("{ROUNDS} writes, {done} of them done, {swaps} swaps");
    assert!(done > 0 && swaps >= ROUNDS, "{done} writes, {swaps} swaps");
    assert!(outside.is_untouched(), "something outside was written");
    assert!(invite(ROUNDS + 1), "it goes on as if nothing had been");
    assert_eq!(mode(&state.join("registry.json")) & 0o777, 0o600);
    serving.stop().unwrap();

    // A writer that goes by names is caught by the very same swapping.
    let (name, caught) = (state.join("registry.json"), Outside::of(&tempfile::tempdir().unwrap().keep()));
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| swap(std::slice::from_ref(&name), |_| caught.file.clone(), &stop, &swaps));
        let deadline = Instant::now() + PATIENCE;
        while caught.is_untouched() && Instant::now() < deadline {
            let _ = fs::File::create(&name).and_then(|mut file| file.write_all(b"by its name"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!caught.is_untouched(), "the control was not caught");
    fs::remove_dir_all(caught.folder.parent().unwrap()).unwrap();
}

/// Where the system may write core files, in this process's children.
fn with_cores(dir: &Path, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).current_dir(dir).stdin(Stdio::null());
    shell
}

/// What is in files of mode 0600 is not to be had by way of a core file either.
#[tokio::test]
async fn no_core_file_is_left_and_no_other_program_of_the_same_user_reads_its_memory() {
    let home = Home::initialised();
    home.configure(NO_BROKER);
    let cores = tempfile::tempdir().unwrap();
    // What anybody's program does here without our precautions.
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut control = with_cores(cores.path(), &sleep).spawn().unwrap();
    let comm = format!("/proc/{}/comm", control.id());
    support::until("it is itself", || fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")).await;
    signal(control.id(), "SEGV");
    let dumps_here = control.wait().unwrap().core_dumped();
    let left = || fs::read_dir(cores.path()).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    for file in left() {
        fs::remove_file(file).unwrap();
    }
    // Not SIGSEGV: the first one that somebody sends is taken for a stack overflow by Rust's own handler, and passes. Nor
    // SIGQUIT: whoever is started in the background may have it ignored.
    for name in ["ABRT", "SYS"] {
        let serve = home.command(&["serve", "--json"]);
        let mut started = with_cores(cores.path(), &serve);
        started.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut serving = Program::start(&mut started, &home.folder.path().join("log")).unwrap();
        serving.event("serving").await.unwrap();
        signal(serving.pid(), name);
        let status = serving.ended().await.unwrap();
        assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
        assert_eq!(left(), Vec::<PathBuf>::new(), "SIG{name}");
    }
    if !dumps_here {
        eprintln!("this machine lets nobody leave a core: that ours leaves none shows nothing here");
    }
}

/// Of the same user, because another one is kept out by the system anyway; both are tried.
#[tokio::test]
async fn neither_a_stranger_nor_another_program_of_its_user_reads_its_memory_or_environment() {
    if !only_root_can_be_others() {
        return;
    }
    let own = Elsewhere::initialised();
    let serving = own.serve().await;
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut control = by(SERVICE, &sleep).spawn().unwrap();
    let comm = format!("/proc/{}/comm", control.id());
    support::until("it is itself", || fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")).await;
    let reads = |uid: u32, pid: u32, what: &str| {
        let mut head = Command::new("head");
        head.args(["-c", "1"]).arg(format!("/proc/{pid}/{what}"));
        by(uid, &head).output().unwrap().status.success()
    };
    for what in ["environ", "maps", "auxv"] {
        assert!(reads(SERVICE, control.id(), what), "the control can be read: {what}");
        for uid in [SERVICE, STRANGER] {
            assert!(!reads(uid, serving.pid(), what), "{uid} reads {what}");
        }
    }
    let opens = |uid: u32, pid: u32| {
        let mut python = python();
        python.args(["-c", &format!("open('/proc/{pid}/mem', 'rb')")]);
        by(uid, &python).output().unwrap().status.success()
    };
    assert!(opens(SERVICE, control.id()), "the control's memory can be opened");
    assert!(!opens(SERVICE, serving.pid()) && !opens(STRANGER, serving.pid()));
    control.kill().unwrap();
    control.wait().unwrap();
    serving.stop().unwrap();
}
