//! `vault`: sealing at rest, its key, and looking at it. What answers here needs no daemon, and most of it none that runs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use valetkey_agent::at_rest::{self, Changed};
use valetkey_agent::{AgentError, StateDirError, VaultKey};
use valetkey_handoff::Sensitive;

use crate::ask::Asker;
use crate::cli::VaultCommand;
use crate::config::Config;
use crate::problem::{OPERATOR, Problem};
use crate::show::{self, Printer, plain};
use crate::vault_key;

pub fn run(command: VaultCommand, asker: &Asker, printer: Printer) -> Result<u8> {
    if let VaultCommand::Keygen { out } = command {
        if let Some(out) = &out {
            vault_key::check_outside("--out", out, &asker.state_dir)?;
        }
        return keygen(out.as_deref(), printer).map(|()| 0);
    }
    asker.check_there_is_an_agent()?;
    let config = Config::load(&asker.config_file, None)?;
    let present = asker.keys.present(&config, &asker.state_dir)?;
    if matches!(command, VaultCommand::Status) {
        return status(&asker.state_dir, present.as_ref(), printer);
    }
    let present = present.ok_or_else(|| {
        Problem::new(
            "vault_key",
            "no key was given; give it with --vault-key-fd N (N</path/to/the/key), or make one with: valetkey-agent vault \
             keygen --out FILE",
        )
    })?;
    let dir = asker.state_dir.as_path();
    let (changed, words): (_, fn(&Value) -> String) = match command {
        VaultCommand::Seal => (at_rest::seal(dir, &present), sealed),
        VaultCommand::Unseal => (at_rest::unseal(dir, &present), unsealed),
        VaultCommand::Rotate { .. } => (at_rest::rotate(dir, &present, &asker.keys.new_one()?), rotated),
        VaultCommand::Keygen { .. } | VaultCommand::Status => return Ok(0),
    };
    let changed: Changed = changed.map_err(in_use)?;
    printer.answer(&json!(changed), words)?;
    Ok(0)
}

fn in_use(error: StateDirError) -> Problem {
    let held = matches!(error, StateDirError::Held { .. });
    let problem = Problem::from(AgentError::from(error));
    if held {
        return Problem::new(
            &problem.code,
            format!("{problem}; stop it first, it reads the key only when it starts"),
        );
    }
    problem
}

fn keygen(out: Option<&Path>, printer: Printer) -> Result<()> {
    let text = key_file(&VaultKey::generate());
    let Some(out) = out else {
        if printer.json {
            let key = text.expose().lines().last().unwrap_or_default();
            return printer.answer(&json!({ "key": key }), |_| String::new());
        }
        return show::bytes(text.expose().as_bytes());
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(out) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let out = out.display();
            return Err(Problem::new(
                "exists",
                format!("{out} is there already, and is not overwritten: the key in it may be the only one"),
            )
            .into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", out.display())),
    };
    // A key that a power cut takes after the vault was sealed with it is the vault lost.
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.write_all(text.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder)?.sync_all())
        .with_context(|| format!("cannot write {}", out.display()))?;
    printer.answer(&json!({ "file": out }), |_| {
        format!("{} holds a new key. Keep a copy elsewhere: without it the sign-ins are lost.", out.display())
    })
}

fn key_file(key: &VaultKey) -> Sensitive<String> {
    let made = format!("# valetkey-agent vault key, made {:.0}\n", Timestamp::now());
    Sensitive::new([&made, key.to_text().expose().as_str(), "\n"].concat())
}

fn status(dir: &Path, key: Option<&VaultKey>, printer: Printer) -> Result<u8> {
    let look = at_rest::look(dir, key).map_err(Problem::from)?;
    let mut value = json!(look);
    value["interrupted"] = (!look.two_keys.is_empty() || !look.astray.is_empty()).into();
    printer.answer(&value, looked)?;
    Ok(if look.opens == Some(false) { OPERATOR } else { 0 })
}

fn looked(value: &Value) -> String {
    let mut shown = match value["sealed"].as_bool() {
        Some(true) => "The vault is sealed.".to_owned(),
        _ => "The vault is not sealed. Seal it with: valetkey-agent vault seal".to_owned(),
    };
    match value["opens"].as_bool() {
        Some(true) => shown += "\nThe given key opens it.",
        Some(false) => shown += "\nThe given key does not open it.",
        None => {}
    }
    for (list, what) in [
        (
            "two_keys",
            "Two keys open these, because changing the key was interrupted. The next start or vault rotate ends it:",
        ),
        ("astray", "These are not like the rest of the vault; vault seal or vault unseal ends it:"),
        ("unopened", "The given key does not open these:"),
    ] {
        shown += &names(value, list, what);
    }
    shown
}

fn names(value: &Value, list: &str, what: &str) -> String {
    let names: Vec<_> = value[list].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        return String::new();
    }
    names.iter().fold(format!("\n{what}"), |shown, name| shown + "\n- " + &plain(name, false))
}

fn sealed(value: &Value) -> String {
    told(
        value,
        "The vault is sealed with the given key. Copies that were made before are not: see docs/operating.md.",
        "The vault is sealed with this key already.",
    )
}

fn unsealed(value: &Value) -> String {
    told(
        value,
        "Everything is in clear again. Take the key out of the service's configuration: with one the agent does not start.",
        "The vault is not sealed.",
    )
}

fn rotated(value: &Value) -> String {
    told(
        value,
        "The vault is sealed with the new key. The present key opens older backups only.",
        "The vault is sealed with the new key already.",
    )
}

fn told(value: &Value, done: &str, nothing: &str) -> String {
    let what = if value["files"] == 0 { nothing } else { done };
    what.to_owned() + &names(value, "left", "These were left as they are, since the key does not open them:")
}
