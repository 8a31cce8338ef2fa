//! What a person at the terminal sees, and the one place where anything is printed.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use qrcode::render::unicode::Dense1x2;
use serde_json::Value;

use crate::control::Problem;

/// Prints for a program or for a person.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub json: bool,
}

impl Printer {
    /// One event of a running daemon: a line for a program; a person reads the log.
    pub fn event(self, event: &Value) {
        if self.json {
            line(&event.to_string());
        }
    }

    /// An answer, as it is for a program and in words for a person.
    pub fn answer(self, value: &Value, words: impl Fn(&Value) -> String) {
        if self.json {
            line(&format!("{value:#}"));
        } else {
            line(&words(value));
        }
    }

    pub fn problem(self, problem: &Problem) {
        if self.json {
            line(&format!("{:#}", serde_json::json!({ "error": problem })));
        } else {
            let _ = writeln!(std::io::stderr(), "valetkey-agent: {}", problem.message);
        }
    }
}

fn line(text: &str) {
    // A reader that went away (`| head`) is not our problem.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("–")
}

fn list(value: &Value, separator: &str) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
}

/// A time for people, in their own time zone.
fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    parsed.map_or_else(
        || "–".to_owned(),
        |time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

pub fn init(value: &Value) -> String {
    let config = if value["config_made"] == true { "Written" } else { "Already there, left as it is" };
    format!(
        "{} is ready. Its four words: {}\n{config}: {}\nNext: valetkey-agent serve",
        text(value, "name"),
        list(&value["words"], " "),
        text(value, "config"),
    )
}

pub fn invite(value: &Value) -> String {
    let link = text(value, "link");
    let mut shown = String::new();
    if std::io::stdout().is_terminal()
        && let Ok(code) = qrcode::QrCode::with_error_correction_level(link, qrcode::EcLevel::L)
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
    text(value, "access_token").to_owned()
}

pub fn device_removed(value: &Value) -> String {
    format!("{} is not paired any more. Its accounts stay until you remove them.", text(value, "name"))
}

pub fn removed(value: &Value) -> String {
    text(value, "message").to_owned()
}

pub fn exported(value: &Value) -> String {
    format!(
        "Written: {}. Whoever has this file can read the account; the program that uses it renews it by itself.",
        text(value, "file")
    )
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
