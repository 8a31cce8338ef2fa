//! A person's computer as a process: the companion behind a shell that prints what it shows, one JSON object a line.
//!
//! It obeys lines on its input, each a click as the window sends it, and ends with its input.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::sync::mpsc;
use valetkey_companion::{Clock, Companion, KeyFile, Language, Options, Outlet, View, Way};

use crate::victim::{input, say};

/// Runs until its input ends.
pub async fn run(dir: &Path) -> Result<()> {
    let (outlets, mut outlet) = mpsc::unbounded_channel();
    let companion = Companion::start(Options {
        data_dir: dir.to_owned(),
        keys: Arc::new(KeyFile::new(dir.with_extension("keys"))),
        outlets,
        clock: Clock::system(),
        language: Language::English,
        device_name: "A tortured computer".into(),
        sign_in: Way::Browser { port: None },
        policy_file: None,
        broker_ca: None,
    });
    let mut views = companion.views();
    let mut clicks = input();
    say(&json!({ "event": "ready", "pid": std::process::id() }));
    show(&views.borrow_and_update());
    loop {
        tokio::select! {
            changed = views.changed() => {
                changed.context("the companion has ended")?;
                show(&views.borrow_and_update());
            }
            Some(outlet) = outlet.recv() => {
                if let Outlet::OpenBrowser(url) = outlet {
                    say(&json!({ "event": "open", "url": url }));
                }
            }
            click = clicks.recv() => match click {
                Some(click) => companion.send(serde_json::from_str(&click)?),
                None => return Ok(()),
            },
        }
    }
}

fn show(view: &View) {
    say(&json!({ "event": "view", "now": Clock::system().now(), "view": view }));
}
