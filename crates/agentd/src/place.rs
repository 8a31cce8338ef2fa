//! Which directory and which configuration file.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cli::Place;

impl Place {
    /// The flag or its variable, systemd's `$STATE_DIRECTORY`, or the system's convention.
    pub fn state_dir(&self) -> Result<PathBuf> {
        choose(self.state_dir.clone(), |name| env::var_os(name))
            .context("no home directory is known; say where to keep things with --state-dir")
    }

    pub fn config_file(&self) -> Result<PathBuf> {
        match &self.config {
            Some(path) => Ok(path.clone()),
            None => Ok(self.state_dir()?.join("agent.toml")),
        }
    }
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
}
