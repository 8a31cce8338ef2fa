//! A network of one's own in which Microsoft's host names are the practice tenant, on port 443, over TLS.
//!
//! For programs that insist on those names: Microsoft's own libraries. See `msal/private-network.sh`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::tenant::Tenant;

/// Set inside, to the tenant's own line of JSON.
const PRACTICE: &str = "VALETKEY_PRACTICE";

/// The Graph address in there; the login address is the tenant's `origin`.
pub const GRAPH: &str = "https://graph.microsoft.com";

/// A command that runs the program given by further arguments in a new private network with a tenant of its own.
pub fn private_network_command() -> Command {
    let mut command = Command::new(tests().join("msal/private-network.sh"));
    command.kill_on_drop(true);
    command
}

/// Lets a test run in a private network: first line `let Some(tenant) = enter("its name").await? else { return Ok(()) }`.
///
/// Outside, the test runs itself again inside, checks that this went well, and gets `None`; inside it gets the tenant.
///
/// # Errors
/// That the test failed inside, or that this machine permits no namespaces; its output was shown as it came.
pub async fn enter(test: &str) -> anyhow::Result<Option<Tenant>> {
    if let Some(ready) = std::env::var_os(PRACTICE) {
        let ready = ready.into_string().ok().context("VALETKEY_PRACTICE is not text")?;
        return Ok(Some(Tenant::attach(&ready)?));
    }
    let output = private_network_command()
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .output()
        .await
        .context("private-network.sh could not be started")?;
    let (told, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "inside the private network: {told}\n{problems}");
    ensure!(told.contains("1 passed"), "no test is called {test}: {told}");
    Ok(None)
}

/// The Python with Microsoft's library in it.
pub fn python() -> anyhow::Result<PathBuf> {
    let python = tests().join("../target/practice-venv/bin/python");
    ensure!(python.is_file(), "{} is missing: run `cargo xtask setup`", python.display());
    Ok(python)
}

/// The scripts that drive Microsoft's libraries, and Node's modules beside them.
pub fn msal_folder() -> anyhow::Result<PathBuf> {
    let folder = tests().join("msal");
    ensure!(
        folder.join("node_modules/@azure/msal-node").is_dir(),
        "msal-node is missing: run `cargo xtask setup`"
    );
    Ok(folder)
}

fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
