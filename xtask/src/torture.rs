//! `cargo xtask torture`: build what is tortured and what tortures it, then let it run.

use anyhow::Result;

use crate::run::{cargo, execute, root};

pub fn run(args: &[String]) -> Result<()> {
    execute(cargo(&["build", "--locked", "-p", "valetkey-agentd", "--bins"]))?;
    let mut torture =
        cargo(&["run", "--quiet", "--locked", "-p", "valetkey-tests", "--example", "torture", "--"]);
    torture.args(args);
    // A part of it is no summary.
    if !args.iter().any(|arg| arg == "--only") {
        torture.arg("--page").arg(root().join("docs/torture.md"));
    }
    execute(torture)
}
