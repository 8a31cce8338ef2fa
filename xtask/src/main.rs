//! `cargo xtask …`: sets the machine up, then does what it was asked.

mod demo;
mod fuzz;
mod run;
mod setup;
mod test;
mod torture;

use anyhow::{Result, bail};

const HELP: &str = "\
Valet Key's own tasks. Each sets the machine up first (Debian and Ubuntu: installs what is missing).

  cargo xtask demo     show the main job against a practice tenant; without a display it tells the story
                         --headless    tell the story even where there is a display
  cargo xtask test     run every test, and a tenth of the torture, to a closing line that counts them
                         anything more is handed to `cargo test`, e.g. `cargo xtask test -p valetkey-entra`
  cargo xtask check    formatting and clippy, warnings denied
  cargo xtask figures  measure the app: size, start, memory; click to receipt
  cargo xtask torture  kill, cut the power, fill the disk, spoil the network: break it all, and write docs/torture.md
                         --tenth         about a tenth, as `test` has it; writes target/torture/torture.md instead
                         --only PART     kills, random, power, faults, callers, clocks, network or models; writes no page
  cargo xtask fuzz     attack everything that reads what strangers send, and write docs/fuzz.md
                         TARGET…         only these; --runs N, or --full for the promised count
                         --minutes N     each at most so long; --jobs N at once
                         --keep          instead, choose of what was grown before what is worth committing
  cargo xtask setup    only set the machine up
";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    // What follows `test` is cargo's own.
    if task.as_deref() != Some("test") && rest.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        run::say(HELP);
        return Ok(());
    }
    match task.as_deref() {
        Some("setup") => setup::machine(),
        Some("check") => {
            setup::machine()?;
            test::check()
        }
        Some("test") => {
            setup::machine()?;
            test::run(&rest)
        }
        Some("demo") => {
            setup::machine()?;
            demo::run(&rest)
        }
        Some("figures") => {
            setup::machine()?;
            demo::figures()
        }
        Some("torture") => {
            setup::machine()?;
            torture::run(&rest)
        }
        Some("fuzz") => fuzz::run(&rest),
        None | Some("help" | "--help" | "-h") => {
            run::say(HELP);
            Ok(())
        }
        Some(other) => bail!("there is no task `{other}`\n\n{HELP}"),
    }
}
