//! `cargo xtask demo` and `cargo xtask figures`: build the programs, then hand over to the one that shows them.

use anyhow::Result;

use crate::run::{cargo, execute, root};

pub fn run(args: &[String]) -> Result<()> {
    execute(cargo(&[
        "build",
        "--locked",
        "--bins",
        "-p",
        "valet-key",
        "-p",
        "valetkey-agentd",
        "-p",
        "valetkey-companion",
        "-p",
        "valetkey-tests",
    ]))?;
    let mut demo = cargo(&["run", "--quiet", "--locked", "-p", "valetkey-tests", "--bin", "demo", "--"]);
    demo.args(args);
    execute(demo)
}

/// Measured on what is shipped: the release profile.
pub fn figures() -> Result<()> {
    execute(cargo(&["build", "--locked", "--release", "-p", "valet-key", "--features", "custom-protocol"]))?;
    execute(cargo(&["build", "--locked", "--release", "-p", "valetkey-agentd", "-p", "valetkey-companion"]))?;
    execute(cargo(&["build", "--locked", "--workspace", "--all-targets"]))?;
    let release = root().join("target/release").display().to_string();
    execute(cargo(&[
        "run",
        "--quiet",
        "--locked",
        "-p",
        "valetkey-tests",
        "--example",
        "figures",
        "--",
        &release,
    ]))
}
