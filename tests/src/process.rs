//! A child process that ends with its owner, and the waiting that tests do on it.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};

/// A child that is killed and reaped when dropped, so that no test leaves a process behind.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Guarded {
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The ports and paths at which a process waits for others: `tcp 8080`, `unix /run/x`. On Linux, of one's own processes.
pub fn listens_at(pid: u32) -> std::io::Result<BTreeSet<String>> {
    /// Of `/proc/net/tcp` (proc_net(5)).
    const TCP_LISTEN: &str = "0A";
    /// Of `/proc/net/unix`: `__SO_ACCEPTCON`.
    const UNIX_LISTENS: u32 = 0x1_0000;
    let links =
        fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let own: BTreeSet<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in (read("tcp") + &read("tcp6")).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, local, _, TCP_LISTEN, _, _, _, _, _, inode, ..] = words[..]
            && own.contains(inode)
            && let Some((_, port)) = local.rsplit_once(':')
            && let Ok(port) = u16::from_str_radix(port, 16)
        {
            found.insert(format!("tcp {port}"));
        }
    }
    for line in read("unix").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, flags, _, _, inode, ..] = words[..]
            && own.contains(inode)
            && u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UNIX_LISTENS != 0)
        {
            found.insert(format!("unix {}", words.get(7).unwrap_or(&"without a name")));
        }
    }
    Ok(found)
}
