//! A write that put its file in place and could not have that on the disk.
#![cfg(target_os = "linux")]

use std::process::Command;

use serde_json::json;

use super::*;

const ACCOUNT: &str = "0a11ce00-0000-4000-8000-000000000001.aaaaaaaa-0000-4000-8000-00000000c070";
const INSIDE: &str = "VALETKEY_TEST_VAULT";
const NAME: &str =
    "vault::tests::what_a_failed_write_left_in_place_is_on_the_disk_before_anybody_relies_on_it";

/// Shows of M15 that what stands in a file counts only once it outlives a power cut.
#[test]
fn what_a_failed_write_left_in_place_is_on_the_disk_before_anybody_relies_on_it() {
    if let Some(path) = std::env::var_os(INSIDE) {
        return inside(path.as_ref());
    }
    let home = tempfile::tempdir().unwrap();
    let (state, log) = (home.path().join("state"), home.path().join("calls"));
    drop(StateDir::open(&state).unwrap());
    let inside = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "-o"])
        .arg(&log)
        .arg("-P")
        .arg(state.join("vault"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(INSIDE, &state)
        .output()
        .unwrap();
    assert!(inside.status.success(), "{inside:?}");
    let calls = std::fs::read_to_string(log).unwrap();
    let synced: Vec<&str> = calls.lines().filter(|call| call.contains("fsync(")).collect();
    assert!(
        matches!(synced.as_slice(), [failed, again] if failed.contains("EIO") && !again.contains("EIO")),
        "{synced:?}"
    );
}

/// The first sync of the folder fails here.
fn inside(path: &std::path::Path) {
    let (account, now) = (ACCOUNT.parse().unwrap(), "2026-11-21T09:12:00Z".parse().unwrap());
    let facts = json!({
        "format": 1,
        "account": account,
        "username": "alice@contoso.example",
        "authority": { "cloud": { "login": "https://login.microsoftonline.com/" },
                       "tenant": "aaaaaaaa-0000-4000-8000-00000000c070" },
        "client_id": "11111111-1111-4111-8111-111111111111",
        "capabilities": ["mail"],
        "resources": ["graph"],
        "scopes": [],
        "device": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "seen": {},
        "expires_at": "2026-01-01T13:00:00Z",
        "refresh_at": "2026-01-01T12:50:00Z",
        "condition": { "health": "connected", "since": "2026-01-01T12:00:00Z" },
        "stored_at": "2026-01-01T12:00:00Z",
    });
    let bytes = serde_json::to_vec(&json!({ "ValetKey": facts })).unwrap();
    let (vault, _) = Vault::open(Arc::new(StateDir::open(path).unwrap()), now).unwrap();
    let file = AccountFile::parse(&bytes, &account).unwrap();
    vault.change(&account, now, |_| Change::Write(Box::new(file), ())).unwrap_err();
    let stands = vault.change(&account, now, |current| Change::Leave(current.is_some())).unwrap();
    assert!(stands);
}
