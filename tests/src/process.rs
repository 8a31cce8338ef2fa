//! A child process that ends with its owner, and the waiting that tests do on it.

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
