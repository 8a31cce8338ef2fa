//! A report to send to whoever helps. It is text, so that a person can read all of it before they send it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::finding::{Finding, shown};
use crate::redact::Redactor;

/// Said first, to the person who is about to send it.
const INTRODUCTION: &str = "A report about Valet Key, to be read before it is sent. It holds no password, no key, no \
                            sign-in and nobody's name; servers are called by their names.";

/// What the findings rest on, and where and when it was.
#[derive(Debug)]
pub struct Report<'a> {
    pub program: &'static str,
    pub version: &'static str,
    pub at: Timestamp,
    pub findings: &'a [Finding],
    /// Everything that was looked at.
    pub facts: Value,
}

impl<'a> Report<'a> {
    /// Facts that cannot be written as JSON are left out: the findings are what matters.
    pub fn new(
        (program, version): (&'static str, &'static str),
        at: Timestamp,
        findings: &'a [Finding],
        facts: &impl Serialize,
    ) -> Self {
        Self { program, version, at, findings, facts: serde_json::to_value(facts).unwrap_or_default() }
    }

    /// The whole report, with everything taken out that must not be sent.
    pub fn text(&self, redactor: &mut Redactor) -> String {
        let (program, version, at) = (self.program, self.version, self.at);
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        let text = format!(
            "{INTRODUCTION}\n\n{program} {version} on {system} ({machine}), {at:.0}\n\n{}\n\nWhat was found:\n{:#}\n",
            shown(self.findings),
            self.facts
        );
        redactor.redact(&text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_has_the_findings_and_the_facts_and_nobody_in_them() {
        let findings =
            [Finding::problem("account", "ana@contoso.com must reconnect.", "Ask ana@contoso.com.")];
        let facts = json!({ "accounts": [{ "username": "ana@contoso.com", "health": "reconnect_needed" }] });
        let at = "2026-11-21T09:30:00.123Z".parse().unwrap();
        let report = Report::new(("valetkey-agent", "0.1.0"), at, &findings, &facts);
        let text = report.text(&mut Redactor::new());
        assert!(!text.contains("ana@"), "{text}");
        assert!(text.starts_with(INTRODUCTION));
        for part in [
            "valetkey-agent 0.1.0 on ",
            "2026-11-21T09:30:00Z",
            "✗ person-1@contoso.com must reconnect.\n    → Ask person-1@contoso.com.",
            "\"health\": \"reconnect_needed\"",
            "\"username\": \"person-1@contoso.com\"",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
