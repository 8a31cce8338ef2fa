//! What the tray app may do: as little as before anybody used MCP.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The window hears the views that it paints; no plugin, no file, no network and no command line is open to it. A right more
/// is to be thought about, here.
const RIGHTS: [&str; 2] = ["core:event:allow-listen", "core:event:allow-unlisten"];

fn app() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src-tauri")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Shows of H14 that the companion needs no new rights.
#[test]
fn the_tray_apps_window_has_exactly_these_rights() {
    let files: Vec<PathBuf> =
        std::fs::read_dir(app().join("capabilities")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, [app().join("capabilities/main.json")], "one capability, in one file");
    let capability = read(&files[0]);
    assert_eq!(capability["permissions"], json!(RIGHTS));
    assert_eq!(capability["windows"], json!(["main"]));
    assert!(capability.get("webviews").is_none() && capability.get("remote").is_none(), "{capability}");

    let configuration = read(&app().join("tauri.conf.json"));
    assert_eq!(configuration["app"]["security"]["capabilities"], json!(["main"]));
    let policy = configuration["app"]["security"]["csp"].as_str().unwrap();
    assert!(policy.contains("connect-src ipc: http://ipc.localhost;"), "it reaches no server: {policy}");
    assert!(!app().join("permissions").exists(), "no permission of its own making");
}
