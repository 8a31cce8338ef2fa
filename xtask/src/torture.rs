//! `cargo xtask torture`: build what is tortured and what tortures it, then let it run.

use std::process::{Child, Command};

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, execute, root};

/// What goes on beside each other, to end at about the same time: the first two keep a processor busy each, the third mostly
/// waits, and models at its end.
const LANES: [&[&str]; 3] =
    [&["kills", "faults", "power", "callers", "clocks"], &["random"], &["network", "models"]];
/// Whose models are walked through.
const MODELLED: [&str; 4] = ["valetkey-handoff", "valetkey-agent", "valetkey-companion", "valetkey-entra"];

pub fn run(args: &[String]) -> Result<()> {
    execute(cargo(&["build", "--locked", "-p", "valetkey-agentd", "--bins"]))?;
    execute(cargo(&["build", "--locked", "-p", "valetkey-tests", "--example", "torture"]))?;
    let full = !args.iter().any(|arg| arg == "--tenth" || arg == "--smoke");
    let part = args.iter().any(|arg| arg == "--only");
    if full && (!part || args.iter().any(|arg| arg == "models")) {
        let packages = MODELLED.iter().flat_map(|package| ["-p", package]);
        execute(cargo(
            &["test", "--locked", "--no-run", "--lib"].into_iter().chain(packages).collect::<Vec<_>>(),
        ))?;
    }
    if part {
        // A part of it is no summary.
        return execute(torture(args));
    }
    // What is promised is shown by the promised counts alone.
    let summary = if full { "docs/torture.md" } else { "target/torture/torture.md" };
    let lanes: Vec<(Child, String)> =
        (0..).zip(LANES).map(|(number, parts)| begin(args, number, parts)).collect::<Result<_>>()?;
    let mut page = torture(&["page".to_owned(), summary.to_owned()]);
    let mut failed = false;
    for (mut lane, rows) in lanes {
        failed |= !lane.wait()?.success();
        page.arg(rows);
    }
    execute(page)?;
    if failed {
        bail!("something did not hold: see {summary}");
    }
    Ok(())
}

fn begin(args: &[String], number: usize, parts: &[&str]) -> Result<(Child, String)> {
    let rows = format!("target/torture/{number}.json");
    // What an earlier run found is not to be taken for this one's.
    let _ = std::fs::remove_file(root().join(&rows));
    let mut lane = torture(args);
    lane.args(parts.iter().flat_map(|part| ["--only", part])).args(["--rows", &rows]);
    Ok((lane.spawn().context("could not start torture")?, rows))
}

fn torture(args: &[String]) -> Command {
    let mut torture =
        cargo(&["run", "--quiet", "--locked", "-p", "valetkey-tests", "--example", "torture", "--"]);
    torture.args(args);
    torture
}
