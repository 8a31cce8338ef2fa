//! A copy of a sign-in as a file: its owner's alone from the beginning, and never in the place of another.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::problem::Problem;

pub fn write(path: &Path, answer: &Value) -> Result<()> {
    let cache = answer["cache"].as_str().context("the running agent is of another version; restart it")?;
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let path = path.display();
            return Err(Problem::new(
                "exists",
                format!("{path} is there already, and is not overwritten; move it away or name another file"),
            )
            .into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
    };
    let written = file.write_all(cache.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| {
        // Half a cache would be taken for a whole one.
        let _ = fs::remove_file(path);
        format!("cannot write {}", path.display())
    })
}
