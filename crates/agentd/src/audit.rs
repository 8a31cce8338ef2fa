//! The audit for whoever asks: its last lines, and whether it is as it was written.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use valetkey_agent::audit::{self, Report};
use valetkey_agent::{Agent, AgentError, StateDirError};

use crate::problem::Problem;
use crate::show::{count, plain, time};

/// Lines in one answer: some 3 MiB.
pub const MAX_LINES: u32 = 10_000;

/// What is to be known.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Last(u32),
    Verify,
}

/// From the agent that is open here.
pub async fn of_agent(agent: &Agent, wish: Wish) -> Result<Value, Problem> {
    let agent = agent.clone();
    // It reads files, perhaps many.
    let read = tokio::task::spawn_blocking(move || match wish {
        Wish::Last(count) => agent.audit_lines(count as usize).map(|lines| events(&lines)),
        Wish::Verify => agent.verify_audit().map(|report| findings(&report)),
    });
    read.await
        .map_err(|error| Problem::new("internal", error))?
        .map_err(|error| AgentError::from(error).into())
}

/// From a directory on which no agent runs. Opening one would write to the audit.
pub fn of_directory(state_dir: &Path, wish: Wish) -> Result<Value, AgentError> {
    let read = || -> Result<Value, StateDirError> {
        Ok(match wish {
            Wish::Last(count) => events(&audit::last_lines(state_dir, count as usize)?),
            Wish::Verify => findings(&audit::verify(state_dir)?),
        })
    };
    Ok(read()?)
}

fn events(lines: &[String]) -> Value {
    let event = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| json!({ "unreadable": line }));
    json!({ "events": lines.iter().map(event).collect::<Vec<Value>>() })
}

fn findings(report: &Report) -> Value {
    let mut value = json!(report);
    value["problems"] = report.findings.iter().map(ToString::to_string).collect();
    value
}

/// One line an event.
pub fn shown(value: &Value) -> String {
    let events = value["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if events.is_empty() {
        return "Nothing has happened yet.".into();
    }
    events.iter().map(event).collect::<Vec<_>>().join("\n")
}

fn event(event: &Value) -> String {
    let mut shown = match event["event"].as_str() {
        Some(name) => format!("{}  {}", time(&event["at"]), plain(name, false)),
        None => "not a line of the audit".to_owned(),
    };
    for (key, value) in event.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "seq" | "at" | "prev" | "event") && !value.is_null() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            shown += &format!("  {}={}", plain(key, false), plain(&text, false));
        }
    }
    shown
}

pub fn verified(value: &Value) -> String {
    let number = |key: &str| value[key].as_u64().unwrap_or_default();
    let lines = count(number("lines"), "line");
    let what = match (number("first"), number("last")) {
        (first, last) if first == last => format!("{lines}, number {last}"),
        (first, last) => format!("{lines}, number {first} to {last}"),
    };
    let hash = plain(value["last_hash"].as_str().unwrap_or("–"), false);
    if is_intact(value) {
        return format!(
            "The audit is as it was written: {what}, the last of {}.\nSHA-256 of the last line: {hash}",
            time(&value["last_at"])
        );
    }
    let mut shown = format!("The audit is not as it was written ({what}):");
    for problem in value["problems"].as_array().into_iter().flatten() {
        shown += &format!("\n- {}", plain(problem.as_str().unwrap_or("–"), false));
    }
    shown
}

pub fn is_intact(value: &Value) -> bool {
    value["intact"] == true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_calls_itself_cannot_command_the_terminal() {
        let lines = [
            json!({ "event": "device_enrolled", "name": "x\u{1b}[2J\n\u{202e}" }).to_string(),
            "\u{7}".into(),
        ];
        let shown = shown(&events(&lines));
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{shown:?}");
        assert_eq!(shown.lines().count(), 2);
    }
}
