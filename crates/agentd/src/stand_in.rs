//! Starts a program that ends when this process does, even by SIGKILL: nobody else would end it then.
//!
//! The kernel's parent death signal has to be asked for by the child itself, so this program is the child first, asks, and
//! then becomes the other program. The signal is sent when the *thread* that started the child ends, and the runtime's
//! threads come and go; hence a thread of its own, for as long as this process lives.

use std::io;

use tokio::process::{Child, Command};

#[cfg(target_os = "linux")]
pub use linux::{become_it, command, spawn};

/// Elsewhere the next start ends what a killed daemon has left.
#[cfg(not(target_os = "linux"))]
pub fn command(program: &std::path::Path) -> Command {
    Command::new(program)
}

#[cfg(not(target_os = "linux"))]
pub fn become_it() -> Option<std::process::ExitCode> {
    None
}

#[cfg(not(target_os = "linux"))]
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.spawn()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::ffi::OsString;
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;
    use std::process::ExitCode;
    use std::sync::{OnceLock, mpsc};
    use std::thread;

    use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::{Child, Command, io};

    /// What this program is called as when it is to become another one.
    const NAME: &str = "valetkey-agent: about to become";
    /// This very program, also after its file was replaced by a newer version.
    const OURSELVES: &str = "/proc/self/exe";

    type Job = Box<dyn FnOnce() + Send>;

    /// `program`, to which arguments can be added; for [`spawn`].
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new(OURSELVES);
        command.arg0(NAME).arg(getpid().as_raw_nonzero().to_string()).arg(program);
        command
    }

    pub async fn spawn(mut command: Command) -> io::Result<Child> {
        static STARTER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
        let starter = STARTER.get_or_init(|| {
            let (sender, jobs) = mpsc::channel::<Job>();
            // Where it cannot be had, its channel is closed.
            let _ = thread::Builder::new().name("starter".to_owned()).spawn(move || {
                for job in jobs {
                    job();
                }
            });
            sender
        });
        let (tell, told) = oneshot::channel();
        let runtime = Handle::current();
        let job: Job = Box::new(move || {
            let _inside = runtime.enter();
            // Nobody waits any more: it is killed as it is dropped.
            let _ = tell.send(command.spawn());
        });
        let gone = || io::Error::other("the thread that starts programs is gone");
        starter.send(job).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// For the beginning of `main`: does nothing unless this process was made by [`command`]. Returns only if it fails.
    pub fn become_it() -> Option<ExitCode> {
        let mut words = env::args_os();
        if words.next().is_none_or(|name| name != NAME) {
            return None;
        }
        let problem = become_program(words);
        let _ = writeln!(io::stderr(), "Error: {problem}");
        Some(ExitCode::FAILURE)
    }

    fn become_program(mut words: impl Iterator<Item = OsString>) -> io::Error {
        let parent = words.next().and_then(|word| word.to_str()?.parse().ok()).and_then(Pid::from_raw);
        let Some(program) = words.next() else { return io::Error::other("no program is named") };
        // In order, so that it can save what it holds.
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            return error.into();
        }
        if parent.is_none() || getppid() != parent {
            return io::Error::other("whoever wanted it has ended");
        }
        std::process::Command::new(program).args(words).exec()
    }
}
