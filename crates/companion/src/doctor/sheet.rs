//! What the window shows of a check.

use serde::Serialize;
use valetkey_checkup::{Finding, Level};

use super::{Facts, findings, report};
use crate::texts::{Language, Text, say};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sheet {
    pub headline: String,
    /// What is to be done first; among equals in the order of the way from the browser to the assistant.
    pub lines: Vec<Line>,
    /// For whoever helps; the person can read all of it before it leaves the window.
    pub report: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub level: Level,
    /// The level in words, for whoever does not see its mark.
    pub spoken: String,
    pub text: String,
    pub action: Option<String>,
}

impl Sheet {
    pub fn of(facts: &Facts, program: &'static str, language: Language) -> Self {
        let mut found = findings(facts, language);
        let count = |level| found.iter().filter(|finding| finding.level == level).count();
        let headline = Text::Checked { problems: count(Level::Problem), warnings: count(Level::Warning) };
        let headline = say(language, headline);
        found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let line = |Finding { level, text, action, .. }: Finding| Line {
            level,
            spoken: say(language, Text::Level(level)),
            text,
            action,
        };
        let lines = found.into_iter().map(line).collect();
        Self { headline, lines, report: report(facts, program, language) }
    }
}
