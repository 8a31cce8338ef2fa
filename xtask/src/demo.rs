//! `cargo xtask demo` and `cargo xtask figures`: build the programs, then hand over to the one that shows them.

use anyhow::Result;

use crate::run::{cargo, execute};

/// The packages whose programs take part.
const PROGRAMS: &[&str] = &["-p", "valetkey-agentd", "-p", "valetkey-companion", "-p", "valetkey-tests"];

fn show(program: &str, args: &[String], profile: &[&str]) -> Result<()> {
    let mut build = cargo(&["build", "--locked", "-p", "valet-key"]);
    build.args(PROGRAMS).args(profile);
    execute(build)?;
    let mut shown = cargo(&["run", "--quiet", "--locked", "-p", "valetkey-tests", "--bin", program]);
    shown.args(profile).arg("--").args(args);
    execute(shown)
}

pub fn run(args: &[String]) -> Result<()> {
    show("demo", args, &[])
}

/// Measured on what is shipped: the release profile.
pub fn figures() -> Result<()> {
    show("figures", &[], &["--release"])
}
