//! A running victim, and strace on one of its threads.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::victim::DISK_THREAD;

/// Longer than anything a victim does on a busy machine, its own pauses included.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the two threads that do a victim's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    Network,
    Disk,
}

/// The `nth` call of this name since the work began, in one thread.
#[derive(Debug, Clone)]
pub struct Call {
    pub thread: Thread,
    pub name: String,
    pub nth: usize,
    pub on: On,
}

/// What a call works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Or a directory.
    File,
    Socket,
    /// Beginning to wait for a socket.
    Poller,
    /// Memory, time, what wakes a thread up: tokio does not live on without that.
    Other,
}

impl On {
    /// By what `strace -y` writes of a call: a descriptor is followed by its path.
    fn of(line: &str) -> Self {
        let name = line.split('(').next().unwrap_or_default();
        if line.contains("</") {
            Self::File
        } else if name == "epoll_ctl" && line.contains("EPOLL_CTL_ADD") {
            Self::Poller
        } else if !name.starts_with("epoll_") && (name == "socket" || line.contains("<socket:[")) {
            Self::Socket
        } else {
            Self::Other
        }
    }
}

impl Call {
    pub fn shown(&self) -> String {
        format!("{:?} {} #{}", self.thread, self.name, self.nth)
    }
}

#[derive(Debug)]
pub struct Victim {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    pub pid: u32,
    /// Everything it has said since somebody last looked.
    pub said: Vec<Value>,
}

impl Victim {
    /// This very program as a victim: `arguments` after `victim`.
    pub fn command(arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("victim").args(arguments);
        Ok(command)
    }

    /// Starts it and does not wait.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let pid = child.id().context("it has ended")?;
        Ok(Self { child, input, output, pid, said: Vec::new() })
    }

    /// Starts it and waits until it is ready. An error says why it is not.
    pub async fn start(command: &mut Command) -> Result<Self> {
        let mut victim = Self::spawn(command)?;
        match victim.until(|line| line["event"] == "ready" || line["event"] == "failed").await? {
            Some(ready) if ready["event"] == "ready" => {
                let pid = ready["pid"].as_u64().context("its pid")?;
                victim.pid = u32::try_from(pid)?;
                Ok(victim)
            }
            Some(failed) => bail!("did not start: {}", failed["problem"]),
            None => bail!("ended before it was ready"),
        }
    }

    /// On a state directory, and at a broker if it is to take handoffs.
    pub async fn on(dir: &Path, broker: Option<&str>) -> Result<Self> {
        let dir = dir.display().to_string();
        let mut arguments = vec!["run", dir.as_str()];
        arguments.extend(broker);
        Self::start(&mut Self::command(&arguments)?).await
    }

    /// On a state directory, and at a broker if it is to take handoffs; not waited for.
    pub fn unready(dir: &Path, broker: Option<&str>) -> Result<Self> {
        let dir = dir.display().to_string();
        let mut arguments = vec!["run", dir.as_str()];
        arguments.extend(broker);
        Self::spawn(&mut Self::command(&arguments)?)
    }

    pub async fn tell(&mut self, command: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        // One that has just been killed cannot be told; that shows in what it says.
        let _ = input.write_all(format!("{command}\n").as_bytes()).await;
        let _ = input.flush().await;
        Ok(())
    }

    /// The next line that fits; `None` when it has ended.
    pub async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
        let found = tokio::time::timeout(PATIENCE, async {
            while let Ok(Some(line)) = self.output.next_line().await {
                // A line that was cut by the kill was never said.
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                self.said.push(value.clone());
                if fits(&value) {
                    return Some(value);
                }
            }
            None
        });
        found.await.with_context(|| format!("waited {PATIENCE:?} in vain; it said {:?}", events(&self.said)))
    }

    /// Tells it, and waits for one of these events; `None` when it has ended.
    pub async fn ask(&mut self, command: &str, events: &[&str]) -> Result<Option<Value>> {
        self.tell(command).await?;
        self.until(|line| events.iter().any(|event| line["event"] == *event)).await
    }

    pub async fn token(&mut self) -> Result<Option<Value>> {
        self.ask("token", &["token", "failure"]).await
    }

    pub async fn status(&mut self) -> Result<Value> {
        let status = self.ask("status", &["status"]).await?.context("it has ended")?;
        Ok(status["status"].clone())
    }

    /// Every token it has handed out since somebody last looked.
    pub fn handed_out(&mut self) -> Vec<String> {
        let said = std::mem::take(&mut self.said);
        let tokens = said.iter().filter(|line| line["event"] == "token");
        tokens.filter_map(|line| line["token"].as_str().map(str::to_owned)).collect()
    }

    /// SIGKILL, and what it had still said.
    pub async fn kill(&mut self) -> Result<()> {
        let _ = self.signal(Signal::KILL);
        self.until(|_| false).await?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGSTOP. Returns when every thread stands still: one in the middle of an fsync finishes it first.
    pub async fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid);
        loop {
            let mut still = true;
            for task in std::fs::read_dir(&tasks)? {
                let stat = std::fs::read_to_string(task?.path().join("stat"))?;
                let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
                still &= matches!(state, Some('T' | 't'));
            }
            if still {
                return Ok(());
            }
            // Nobody but its parent is told.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// SIGCONT.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("its pid")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    pub fn thread(&self, thread: Thread) -> Result<u32> {
        let tasks = format!("/proc/{}/task", self.pid);
        for task in std::fs::read_dir(&tasks)? {
            let task = task?;
            let tid: u32 = task.file_name().to_string_lossy().parse()?;
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let wanted = match thread {
                Thread::Network => tid == self.pid,
                Thread::Disk => name.trim_end() == DISK_THREAD,
            };
            if wanted {
                return Ok(tid);
            }
        }
        bail!("no thread {thread:?} in {tasks}")
    }
}

/// The names of events, for messages: the lines themselves hold tokens.
fn events(said: &[Value]) -> Vec<String> {
    said.iter().map(|line| line["event"].as_str().unwrap_or("?").to_owned()).collect()
}

/// strace on one thread, from now on.
#[derive(Debug)]
pub struct Strace(Child);

impl Strace {
    /// `arguments` as strace takes them. Returns once it holds the thread.
    pub async fn attach(victim: &Victim, thread: Thread, arguments: &[&str]) -> Result<Self> {
        let tid = victim.thread(thread)?;
        let mut child = Command::new("strace")
            .args(arguments)
            .args(["-p", &tid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("strace could not be started")?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await??.unwrap_or_default();
        ensure!(first.contains("attached"), "strace: {first}");
        // It must not stop on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self(child))
    }

    /// Lets go of the thread.
    pub async fn detach(mut self) -> Result<()> {
        if let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        self.0.wait().await?;
        Ok(())
    }
}

/// One call that is to meet its fate.
#[derive(Debug)]
pub struct Injection {
    strace: Strace,
    log: NamedTempFile,
}

impl Injection {
    /// Does `what` to the `nth` call of this name.
    pub async fn begin(victim: &Victim, call: &Call, what: &str) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let path = log.path().display().to_string();
        let trace = format!("trace={}", call.name);
        let inject = format!("inject={}:{what}:when={}", call.name, call.nth);
        let strace =
            Strace::attach(victim, call.thread, &["-y", "-o", &path, "-e", &trace, "-e", &inject]).await?;
        Ok(Self { strace, log })
    }

    /// What `work` comes to; `None` if the thread ends before.
    pub async fn over<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = self.strace.0.wait() => None,
        }
    }

    /// Lets go of the thread, and says what the call that met it worked on, if one did. How often a thread wakes another one
    /// depends on time, so the n-th write is not always the same one.
    pub async fn end(self) -> Result<Option<On>> {
        self.strace.detach().await?;
        let log = std::fs::read_to_string(self.log.path())?;
        Ok(log.lines().find(|line| line.ends_with("(INJECTED)")).map(On::of))
    }
}

/// The calls in what `strace -y` wrote of one thread.
pub fn calls(log: &str, thread: Thread) -> Vec<Call> {
    let mut counts = std::collections::HashMap::<&str, usize>::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let a_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // In progress when strace came: it cannot be met at its beginning any more.
        if !a_name || name == "restart_syscall" {
            continue;
        }
        let nth = counts.entry(name).or_default();
        *nth += 1;
        calls.push(Call { thread, name: name.to_owned(), nth: *nth, on: On::of(line) });
    }
    calls
}
