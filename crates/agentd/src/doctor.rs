//! `doctor`: looks at everything the agent needs, and says of each thing in one sentence how it is and what to do.
//!
//! [`look`] gathers the facts, [`decide`] says what they mean. A fact holds nothing secret; the report, which may be sent
//! to somebody, names nobody either.

mod decide;
mod facts;
mod look;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use valetkey_checkup::{Redactor, Report, has_problem, shown};

use crate::ask::Asker;
use crate::doctor::facts::{Facts, Met};
use crate::show::{self, Printer, plain};

/// The report goes to the standard output.
const STDOUT: &str = "-";

/// Looks, tells, and returns the exit code: 1 if something does not work.
pub async fn examine(asker: &Asker, report: Option<&Path>, printer: Printer) -> Result<u8> {
    let facts = look::look(asker).await;
    let mut findings = decide::findings(&facts);
    for finding in &mut findings {
        finding.text = printer.complete(&finding.text);
        finding.action = finding.action.take().map(|action| printer.complete(&action));
    }
    let code = u8::from(has_problem(&findings));
    if let Some(path) = report {
        let version = ("valetkey-agent", env!("CARGO_PKG_VERSION"));
        let text = Report::new(version, facts.at, &findings, &facts).text(&mut redactor(&facts));
        if path == Path::new(STDOUT) {
            show::bytes(plain(&text, true).as_bytes())?;
            return Ok(code);
        }
        write_new(path, &text).with_context(|| format!("cannot write the report to {}", path.display()))?;
        let written = json!({ "report": path, "findings": findings });
        printer.answer(&written, |_| {
            format!("Written: {}. Read it before you send it.", plain(&path.display().to_string(), false))
        })?;
        return Ok(code);
    }
    printer.answer(&json!({ "findings": findings }), |_| plain(&shown(&findings), true))?;
    Ok(code)
}

/// Never over another file, and for its owner alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn redactor(facts: &Facts) -> Redactor {
    let redactor = Redactor::new().with_home(std::env::var("HOME").ok());
    match &facts.agent {
        Met::Running { status } | Met::NotRunning { status, .. } => {
            status.accounts.iter().fold(redactor, |redactor, account| redactor.with_person(&account.username))
        }
        Met::Neither { .. } => redactor,
    }
}
