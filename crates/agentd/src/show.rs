//! What a person at the terminal sees, and the one place where anything is printed.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value, json};

use crate::problem::{LATER, OPERATOR, PERSON, Problem};
use crate::suggest;

/// Prints for a program or for a person.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub json: bool,
    /// See [`suggest`].
    pub told: &'static str,
}

impl Printer {
    /// Something that happens in a running daemon: a line for a program, or for a person if there are words.
    /// The daemon runs on if nobody can read it.
    pub fn event(self, event: &Value, words: impl Fn() -> String) {
        let text = if self.json { event.to_string() } else { self.complete(&words()) };
        if !text.is_empty() {
            let _ = line(&text);
        }
    }

    /// An answer, as it is for a program and in words for a person.
    pub fn answer(self, value: &Value, words: impl Fn(&Value) -> String) -> Result<()> {
        if self.json { line(&format!("{value:#}")) } else { line(&self.complete(&words(value))) }
    }

    /// With commands that can be copied as they stand.
    pub fn complete(self, text: &str) -> String {
        suggest::complete(text, self.told)
    }

    pub fn problem(self, problem: &Problem) {
        let message = self.complete(&problem.message);
        if self.json {
            let _ = line(&format!("{:#}", json!({ "error": { "code": problem.code, "message": message } })));
        } else {
            let _ = writeln!(std::io::stderr(), "valetkey-agent: {}", plain(&message, true));
        }
    }
}

fn line(text: &str) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// As it is, onto the standard output.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) is not our problem; a full disk is.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print the answer"),
        _ => Ok(()),
    }
}

/// A text from somewhere else, without what a terminal would obey or what turns the reading direction.
pub fn plain(text: &str, lines: bool) -> String {
    let obeyed = |c: char| {
        (c.is_control() && !(lines && c == '\n'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn text(value: &Value, key: &str) -> String {
    plain(value[key].as_str().unwrap_or("–"), false)
}

fn list(value: &Value, separator: &str) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let items: Vec<String> = items.iter().filter_map(Value::as_str).map(|item| plain(item, false)).collect();
    items.join(separator)
}

/// `1 line`, `2 lines`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A time for people, in their own time zone.
pub fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    parsed.map_or_else(
        || "–".to_owned(),
        |time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

pub fn init(value: &Value) -> String {
    let config = if value["config_made"] == true {
        "Written"
    } else {
        "Already there, left as it is (edit it to change it)"
    };
    let (state, next) = if value["client_id"].is_null() {
        (
            "has its keys, and one thing is missing",
            "Missing: the application (client) id of your app registration. Without it nobody can be invited; docs/entra.md \
             says how to get one.\nNext: set client_id there, then: valetkey-agent serve",
        )
    } else {
        ("is ready", "Next: valetkey-agent serve")
    };
    format!(
        "{} {state}. Its four words: {}\n{config}: {}\n{next}",
        text(value, "name"),
        list(&value["words"], " "),
        text(value, "config"),
    )
}

pub fn invite(value: &Value) -> String {
    let link = text(value, "link");
    let mut shown = String::new();
    if std::io::stdout().is_terminal()
        && let Ok(code) = qrcode::QrCode::with_error_correction_level(&link, qrcode::EcLevel::L)
    {
        shown += &code.render::<Dense1x2>().quiet_zone(true).build();
        shown.push('\n');
    }
    shown += &format!(
        "\nSend this link to {}. It works once, until {}:\n\n{link}\n",
        value["email"].as_str().unwrap_or("one person"),
        time(&value["expires_at"]),
    );
    if let Some(https) = value["https_link"].as_str() {
        shown += &format!("\nor, where only web links are clickable:\n\n{https}\n");
    }
    shown += &format!(
        "\nIt asks for: {}\nThe person sees these four words before they agree: {}",
        list(&value["capabilities"], ", "),
        list(&value["words"], " "),
    );
    if value["this_machine_only"] == true {
        shown += "\n\nThis link works on this machine only, because the broker in it is at a loopback address. For a computer \
                  elsewhere, give devices an address that they reach (device_url in the configuration; docs/operating.md, \
                  \"The broker\"), and make another invite.";
    }
    shown
}

pub fn devices(value: &Value) -> String {
    let devices = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if devices.is_empty() {
        return "No computer is paired. Make an invite: valetkey-agent invite --email …".into();
    }
    let line = |device: &Value| {
        format!(
            "{}  {}  for {}  paired {}  last heard {}",
            text(device, "id").get(..10).unwrap_or_default(),
            text(device, "name"),
            text(device, "email"),
            time(&device["enrolled_at"]),
            time(&device["heard_at"]),
        )
    };
    devices.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn accounts(value: &Value) -> String {
    let accounts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if accounts.is_empty() {
        return "Nobody is connected. Make an invite: valetkey-agent invite --email …".into();
    }
    accounts.iter().map(account).collect::<Vec<_>>().join("\n")
}

fn account(account: &Value) -> String {
    let health = match (account["health"].as_str(), account["reason"].as_str()) {
        (Some("connected"), _) => format!("connected, renewed {}", time(&account["refreshed_at"])),
        (Some("retrying"), Some("storage")) => "what is new cannot be saved; doctor says why".into(),
        (Some("retrying"), reason) => {
            format!("Microsoft cannot be asked at the moment ({})", reason.unwrap_or("waiting"))
        }
        (Some("reconnect_needed"), reason) => {
            format!("the person must click Reconnect in Valet Key ({})", reason.unwrap_or("expired"))
        }
        (Some("blocked"), reason) => format!("blocked ({})", reason.unwrap_or("unknown")),
        _ => "unknown".into(),
    };
    format!("{}  {}  {health}", text(account, "username"), list(&account["capabilities"], ","))
}

pub fn token(value: &Value) -> String {
    text(value, "access_token")
}

/// What a request says of itself with this token.
pub fn headers(value: &Value) -> Result<Value> {
    let token =
        value["access_token"].as_str().context("the running agent is of another version; restart it")?;
    Ok(json!({ "Authorization": format!("Bearer {token}") }))
}

pub fn device_removed(value: &Value) -> String {
    format!("{} is not paired any more. Its accounts stay until you remove them.", text(value, "name"))
}

pub fn removed(value: &Value) -> String {
    text(value, "message")
}

pub fn exported(value: &Value) -> String {
    format!(
        "Written: {}. Whoever has this file can read the account; the program that uses it renews it by itself.",
        text(value, "file")
    )
}

/// What `status` exits with. Nothing is renewed while nobody serves, so that comes first.
pub fn status_code(status: &Value) -> u8 {
    let accounts = status["accounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let any = |health: &str| accounts.iter().any(|account| account["health"] == health);
    match status["link"]["state"].as_str() {
        Some("stopped") | None => 1,
        _ if any("reconnect_needed") => PERSON,
        _ if any("blocked") => OPERATOR,
        Some("up") => 0,
        Some(_) => LATER,
    }
}

pub fn status(value: &Value) -> String {
    let link = match value["link"]["state"].as_str() {
        Some("up") => format!("connected to the broker since {}", time(&value["link"]["since"])),
        Some("down") => format!("not connected to the broker: {}", text(&value["link"], "problem")),
        Some("connecting") => "connecting to the broker".into(),
        _ => "not serving; start it with: valetkey-agent serve".into(),
    };
    let mut shown = format!("{}: {link}\n{}", text(value, "name"), accounts(&value["accounts"]));
    for trouble in value["troubles"].as_array().map(Vec::as_slice).unwrap_or_default() {
        shown += &format!("\n{}: {}", text(trouble, "file"), text(trouble, "problem"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_calls_an_account_cannot_command_the_terminal() {
        let account =
            json!({ "username": "ana\u{1b}]0;x\u{7}\u{202e}\n", "health": "connected", "capabilities": [] });
        let shown = accounts(&json!([account]));
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\n']), "{shown:?}");
        assert!(shown.starts_with("ana"));
    }

    #[test]
    fn nothing_is_ready_without_a_client_id() {
        let shown =
            |client_id: Value| init(&json!({ "name": "Rocky", "words": ["a"], "client_id": client_id }));
        assert!(shown("x".into()).starts_with("Rocky is ready."));
        let missing = shown(Value::Null);
        assert!(!missing.contains("is ready") && missing.contains("set client_id"), "{missing}");
    }

    #[test]
    fn a_link_for_this_machine_alone_says_so() {
        let shown =
            |only: Value| invite(&json!({ "link": "valetkey://invite/x", "this_machine_only": only }));
        assert!(shown(true.into()).contains("works on this machine only"));
        // As a daemon of an earlier version answers.
        for none in [false.into(), Value::Null] {
            assert!(!shown(none).contains("this machine"));
        }
    }

    #[test]
    fn the_status_code_says_who_has_to_do_something() {
        let code = |link: &str, health: &str| {
            status_code(&json!({ "link": { "state": link }, "accounts": [{ "health": health }] }))
        };
        assert_eq!(code("up", "connected"), 0);
        assert_eq!(code("up", "retrying"), 0);
        assert_eq!(code("stopped", "connected"), 1);
        assert_eq!(code("up", "reconnect_needed"), PERSON);
        assert_eq!(code("down", "reconnect_needed"), PERSON);
        assert_eq!(code("up", "blocked"), OPERATOR);
        assert_eq!(code("down", "connected"), LATER);
    }
}
