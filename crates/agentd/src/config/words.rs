//! What is wrong with a TOML file, for whoever wrote it: the line, the key, and what to write instead. Never a value but one
//! that the reader of TOML itself names, which is a number or a keyword.

use toml::Table;
use toml::de::Error;

/// In one line.
pub fn plain(text: &str, error: &Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
    let what =
        if text.parse::<Table>().is_err() { unreadable(&message, key) } else { unusable(&message, key) };
    format!("line {number}: {what}")
}

/// It is not TOML.
fn unreadable(message: &str, key: &str) -> String {
    if message.starts_with("duplicate key") {
        return format!("{key} is there already, further up. Take one of them away");
    }
    format!("this cannot be read ({message}). Each line is a key = \"text\", a [section] or a # note")
}

/// It is TOML, and not for us.
fn unusable(message: &str, key: &str) -> String {
    if let Some((unknown, known)) =
        message.strip_prefix("unknown field ").and_then(|rest| rest.split_once(", "))
    {
        let known = known.trim_start_matches("expected one of ").trim_start_matches("expected ");
        return format!("there is no key {unknown}. Look for a slip in its name; there are {known}");
    }
    if let Some(missing) = message.strip_prefix("missing field ") {
        return format!(
            "{missing} is missing in this section. Write it there, or switch the section off with # before each line"
        );
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, wanted)) = wrong.and_then(|rest| rest.split_once(", expected ")) else {
        return format!("{key} cannot be used ({message}). Write another value");
    };
    let found = match found.split(' ').next() {
        Some("integer") => "this number",
        Some("string") => "a text",
        Some("sequence") => "a list",
        Some("boolean") => "true or false",
        _ => "something else",
    };
    let instead = match wanted {
        "a string" => "a text: write it in \"quotation marks\"",
        "a sequence" => "a list: write it in [brackets], with commas",
        "a boolean" => "true or false, without quotation marks",
        "u16" => "a number from 0 to 65535, without quotation marks",
        other => other,
    };
    format!("{key} has {found} and needs {instead}")
}
