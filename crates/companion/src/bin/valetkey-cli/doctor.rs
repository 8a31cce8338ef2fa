//! `doctor`: the check of the set-up, line by line, or as a report to send.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use valetkey_checkup::{has_problem, shown};
use valetkey_companion::doctor::{findings, look, report};
use valetkey_companion::{Language, Options};

use crate::terminal::{Exit, line};

/// The report goes to the standard output.
const STDOUT: &str = "-";

pub async fn examine(options: &Options, json: bool, to: Option<&Path>) -> anyhow::Result<Exit> {
    let language = Language::English;
    let facts = look(options).await;
    let found = findings(&facts, language);
    let exit = if has_problem(&found) { Exit::Failed } else { Exit::Done };
    if let Some(path) = to {
        let text = report(&facts, "valetkey-cli", language);
        if path == Path::new(STDOUT) {
            line(text.trim_end());
            return Ok(exit);
        }
        write_new(path, &text)
            .with_context(|| format!("the report could not be written to {}", path.display()))?;
        if !json {
            line(&format!("Written: {}. Read it before you send it.", path.display()));
            return Ok(exit);
        }
    }
    if json {
        line(&serde_json::to_string_pretty(&serde_json::json!({ "findings": found }))?);
    } else {
        line(&shown(&found));
    }
    Ok(exit)
}

/// Never over another file, and for its owner alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
