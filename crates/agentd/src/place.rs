//! Which directory and which configuration file.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result};
use url::Url;

use crate::cli::Place;
use crate::problem::quoted;

/// In the state directory.
const CONFIG: &str = "agent.toml";

impl Place {
    /// The flag or its variable, systemd's `$STATE_DIRECTORY`, or the system's convention.
    pub fn state_dir(&self) -> Result<PathBuf> {
        choose(self.state_dir.clone(), |name| env::var_os(name))
            .context("no home directory is known; say where to keep things with --state-dir")
    }

    pub fn config_file(&self) -> Result<PathBuf> {
        match &self.config {
            Some(path) => Ok(path.clone()),
            None => Ok(self.state_dir()?.join(CONFIG)),
        }
    }

    /// What another command, from another directory and without our variables, has to be told to mean the same; or nothing.
    pub fn told(&self) -> String {
        let convention =
            |name: &str| matches!(name, "HOME" | "XDG_STATE_HOME").then(|| env::var_os(name)).flatten();
        let (Ok(state_dir), Ok(config)) = (self.state_dir(), self.config_file()) else {
            return String::new();
        };
        let whole = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
        let conventional = choose(None, convention);
        told(conventional.as_deref(), &whole(&state_dir), &whole(&config), self.broker.as_ref())
    }
}

fn told(conventional: Option<&Path>, state_dir: &Path, config: &Path, broker: Option<&Url>) -> String {
    let mut words = Vec::new();
    if conventional != Some(state_dir) {
        words.extend(["--state-dir".to_owned(), quoted(&state_dir.to_string_lossy())]);
    }
    if config != state_dir.join(CONFIG) {
        words.extend(["--config".to_owned(), quoted(&config.to_string_lossy())]);
    }
    // One with a login in it is refused, and is not said again.
    if let Some(broker) = broker.filter(|url| url.username().is_empty() && url.password().is_none()) {
        words.extend(["--broker".to_owned(), quoted(broker.as_str())]);
    }
    words.join(" ")
}

fn choose(flag: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let convention = || {
        if cfg!(target_os = "macos") {
            return Some(set("HOME")?.join("Library/Application Support/valetkey-agent"));
        }
        // XDG Base Directory Specification: a relative path there is to be ignored.
        let base = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(set("HOME")?.join(".local/state")))?;
        Some(base.join("valetkey-agent"))
    };
    // systemd lists several, separated by colons; the first is ours.
    let systemd = || {
        set("STATE_DIRECTORY")
            .and_then(|list| env::split_paths(&list).next().filter(|path| path.is_absolute()))
    };
    flag.or_else(systemd).or_else(convention)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<PathBuf> {
        choose(flag.map(PathBuf::from), |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_flag_wins_then_systemd_then_the_convention() {
        let all = [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(chosen(Some("/flag"), &all), Some("/flag".into()));
        assert_eq!(chosen(None, &all), Some("/var/lib/a".into()));
        if cfg!(target_os = "linux") {
            assert_eq!(chosen(None, &all[1..]), Some("/x/valetkey-agent".into()));
            assert_eq!(chosen(None, &all[2..]), Some("/h/.local/state/valetkey-agent".into()));
            assert_eq!(
                chosen(None, &[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]),
                Some("/h/.local/state/valetkey-agent".into())
            );
        }
        assert_eq!(chosen(None, &[]), None);
    }

    #[test]
    fn only_what_is_not_the_convention_has_to_be_told() {
        let at = |state: &str, config: &str, broker: Option<&str>| {
            let broker = broker.map(|url| url.parse().unwrap());
            told(
                Some(Path::new("/h/.local/state/valetkey-agent")),
                state.as_ref(),
                config.as_ref(),
                broker.as_ref(),
            )
        };
        let usual = "/h/.local/state/valetkey-agent";
        assert_eq!(at(usual, &format!("{usual}/agent.toml"), None), "");
        assert_eq!(at("/srv/a b", "/srv/a b/agent.toml", None), "--state-dir '/srv/a b'");
        assert_eq!(at(usual, "/etc/agent.toml", None), "--config /etc/agent.toml");
        assert_eq!(
            at("/a", "/b", Some("mqtts://broker.example:8883")),
            "--state-dir /a --config /b --broker mqtts://broker.example:8883"
        );
        assert_eq!(at(usual, &format!("{usual}/agent.toml"), Some("mqtt://me:secret@broker.example")), "");
    }
}
