//! `init`: the directory, the keys and a configuration to start from. What is there already stays as it is.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::config::{Config, TEMPLATE};
use crate::problem::Problem;
use crate::setup::open_agent;
use crate::vault_key::Keys;

/// What `init` was told.
#[derive(Debug, Default)]
pub struct Wishes {
    pub name: Option<String>,
    pub client_id: Option<String>,
    pub tenant: Option<String>,
}

pub fn init(state_dir: &Path, config_file: &Path, wishes: &Wishes, keys: &Keys) -> Result<Value> {
    let config_made = !config_file.exists();
    let (agent, config) = if config_made {
        let text = template(wishes);
        let config = Config::parse(&text, None)?;
        // Opened first: it makes the directory, private from the beginning.
        let agent = open_agent(state_dir, &config, keys)?;
        write_new(config_file, &text).with_context(|| format!("cannot make {}", config_file.display()))?;
        (agent, config)
    } else {
        let config = Config::load(config_file, None)?;
        check_wishes(wishes, &config, config_file)?;
        (open_agent(state_dir, &config, keys)?, config)
    };
    Ok(json!({
        "name": agent.name(),
        "agent": agent.id(),
        "words": agent.public_keys().words(),
        "state_dir": state_dir,
        "config": config_file,
        "config_made": config_made,
        "client_id": config.client_id,
    }))
}

/// A configuration that is there is not changed; whoever wants it otherwise is told where.
fn check_wishes(wishes: &Wishes, there: &Config, file: &Path) -> Result<(), Problem> {
    let other: Vec<String> = [
        ("name", &wishes.name, Some(&there.name)),
        ("client_id", &wishes.client_id, there.client_id.as_ref()),
        ("tenant", &wishes.tenant, Some(&there.tenant)),
    ]
    .into_iter()
    .filter_map(|(key, wish, there)| {
        let wish = wish.as_ref().filter(|wish| Some(*wish) != there)?;
        let text = |value: &str| toml::Value::from(value).to_string();
        let there =
            there.map_or_else(|| "it is not set".to_owned(), |there| format!("it is {}", text(there)));
        Some(format!("{key} = {} (now {there})", text(wish)))
    })
    .collect();
    if other.is_empty() {
        return Ok(());
    }
    let file = file.display();
    Err(Problem::new(
        "exists",
        format!(
            "{file} is there already, and init changes nothing in it. If you want it otherwise, write into it: {}; then restart the agent",
            other.join(", ")
        ),
    ))
}

/// Whole or not at all, and never in the place of another.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

/// The commented template with the wishes filled in.
fn template(wishes: &Wishes) -> String {
    let wish = |line: &str, key: &str, value: &Option<String>| -> Option<String> {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let value = value.as_ref().filter(|_| bare.starts_with(&format!("{key} =")))?;
        Some(format!("{key} = {}\n", toml::Value::from(value.as_str())))
    };
    TEMPLATE
        .lines()
        .map(|line| {
            wish(line, "name", &wishes.name)
                .or_else(|| wish(line, "client_id", &wishes.client_id))
                .or_else(|| wish(line, "tenant", &wishes.tenant))
                .unwrap_or_else(|| format!("{line}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_land_in_the_template_and_the_rest_stays_commented() {
        let wishes = Wishes {
            name: Some("Ana's \"own\" assistant".into()),
            client_id: Some("11111111-2222-3333-4444-555555555555".into()),
            tenant: Some("consumers".into()),
        };
        let config = Config::parse(&template(&wishes), None).unwrap();
        assert_eq!(config.name, "Ana's \"own\" assistant");
        assert_eq!(config.client_id, wishes.client_id);
        assert_eq!(config.tenant, "consumers");
        assert!(config.broker.is_none());
        assert_eq!(template(&Wishes::default()), TEMPLATE);
    }

    #[test]
    fn a_wish_that_the_file_does_not_have_is_said_with_what_to_write() {
        let there = Config::parse("name = \"Rocky\"\ntenant = \"consumers\"", None).unwrap();
        let check = |name: Option<&str>, client_id: Option<&str>, tenant: Option<&str>| {
            let [name, client_id, tenant] = [name, client_id, tenant].map(|wish| wish.map(str::to_owned));
            check_wishes(&Wishes { name, client_id, tenant }, &there, Path::new("/a.toml"))
        };
        assert_eq!(check(None, None, None), Ok(()));
        assert_eq!(check(Some("Rocky"), None, Some("consumers")), Ok(()));
        let problem = check(Some("Rocky"), Some("x"), Some("common")).unwrap_err();
        assert_eq!(problem.code, "exists");
        for part in [
            "/a.toml is there already",
            "client_id = \"x\" (now it is not set)",
            "tenant = \"common\" (now it is \"consumers\")",
        ] {
            assert!(problem.message.contains(part), "{problem}");
        }
        assert!(!problem.message.contains("Rocky"), "{problem}");
    }
}
