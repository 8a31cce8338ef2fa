//! One thing that was looked at, and what came of it.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Good to know; nothing is wrong.
    Note,
    /// It works, and may not for long.
    Warning,
    /// Something does not work.
    Problem,
}

/// One sentence, and one thing to do if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For programs: what was looked at, in snake case.
    pub check: &'static str,
    pub level: Level,
    pub text: String,
    pub action: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, text: text.into(), action: None }
    }

    pub fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Note, text: text.into(), action: None }
    }

    pub fn warning(check: &'static str, text: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, text: text.into(), action: Some(action.into()) }
    }

    pub fn problem(check: &'static str, text: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, level: Level::Problem, text: text.into(), action: Some(action.into()) }
    }

    /// With something to do, also where nothing is wrong.
    #[must_use]
    pub fn with_action(self, action: impl Into<String>) -> Self {
        Self { action: Some(action.into()), ..self }
    }
}

/// Whether anything does not work: a doctor then exits with 1, otherwise with 0.
pub fn has_problem(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Problem)
}

/// A line for each, and a line below it where there is something to do.
pub fn shown(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = match finding.level {
            Level::Ok => "✓",
            Level::Note => "·",
            Level::Warning => "!",
            Level::Problem => "✗",
        };
        let action = finding.action.as_ref().map(|action| format!("\n    → {action}"));
        format!("{mark} {}{}", finding.text, action.unwrap_or_default())
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_problem_is_a_problem_and_what_to_do_stands_below_it() {
        let fine = [Finding::ok("a", "A is well."), Finding::warning("b", "B is old.", "Renew it.")];
        assert!(!has_problem(&fine));
        assert_eq!(shown(&fine), "✓ A is well.\n! B is old.\n    → Renew it.");
        let broken = [Finding::problem("c", "C is gone.", "Put it back.")];
        assert!(has_problem(&broken));
        assert_eq!(shown(&broken), "✗ C is gone.\n    → Put it back.");
        assert!(Level::Problem > Level::Warning && Level::Note > Level::Ok);
    }
}
