//! A network of one's own, in which packets get lost: a namespace with nothing but loopback, and nftables.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

const UP: &str = "ip link set lo up && exec \"$@\"";

/// Every third packet or so from or to these ports is dropped, as it comes in.
const RULES: &str = "table inet torture {
  set lossy { type inet_service; }
  chain arriving {
    type filter hook input priority 0;
    tcp dport @lossy numgen random mod 100 < 30 counter drop
    tcp sport @lossy numgen random mod 100 < 30 counter drop
  }
}";

/// The command, in a new network; it fails where none may be made.
pub fn inside(program: &std::path::Path) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--", "sh", "-c", UP, "sh"]).arg(program).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Why there can be none here.
pub async fn impossible() -> Option<String> {
    let mut nft = inside("nft".as_ref());
    match nft.args(["add", "table", "inet", "torture"]).output().await {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            Some(format!("nft in a network of its own: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Loses packets of the ports it is told. Only inside.
#[derive(Debug)]
pub struct Lossy {
    ports: Mutex<HashSet<u16>>,
}

impl Lossy {
    pub async fn new() -> Result<Self> {
        nft(&[RULES]).await?;
        Ok(Self { ports: Mutex::default() })
    }

    pub async fn begin(&self, port: u16) -> Result<()> {
        self.ports().insert(port);
        nft(&["add element inet torture lossy", &format!("{{ {port} }}")]).await.map(drop)
    }

    /// If it has begun.
    pub async fn end(&self, port: u16) -> Result<()> {
        let begun = self.ports().remove(&port);
        if begun {
            nft(&["delete element inet torture lossy", &format!("{{ {port} }}")]).await?;
        }
        Ok(())
    }

    fn ports(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many packets were dropped so far.
    pub async fn dropped(&self) -> Result<u64> {
        let rules = nft(&["list chain inet torture arriving"]).await?;
        let counts = rules.split("counter packets ").skip(1);
        Ok(counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum())
    }
}

async fn nft(words: &[&str]) -> Result<String> {
    let output = Command::new("nft").arg(words.join(" ")).output().await.context("nft")?;
    ensure!(output.status.success(), "nft {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
