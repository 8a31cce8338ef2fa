//! Microsoft's own libraries go on with what the agent stored: with an exported copy, and with the vault file itself.
//!
//! The journey before that is ours, configured as for Microsoft: in a network where Microsoft's names are the practice tenant's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::World;
use valetkey_tests::msal::Library;
use valetkey_tests::private_network::enter;
use valetkey_tests::program::Program;
use valetkey_tests::tenant::{ALICE, Lifetimes, Reuse, Tenant};

/// Shorter than the five minutes of caution that the agent and Microsoft's libraries have alike: every call refreshes.
const ALWAYS_DUE: Lifetimes = Lifetimes { access: Some(60), refresh: None, id: None, refresh_in: None };
const AN_HOUR: Lifetimes = Lifetimes { access: Some(3600), refresh: None, id: None, refresh_in: None };

/// What makes a file an MSAL cache, and nothing else.
const CACHE_MEMBERS: [&str; 5] = ["AccessToken", "Account", "AppMetadata", "IdToken", "RefreshToken"];

async fn connected(world: &World) -> Program {
    let mut serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let mut desk = world.desk();
    desk.connect(&link, ALICE).await;
    desk.stop().await;
    serving.event("stored").await.unwrap();
    serving
}

fn export(world: &World, name: &str) -> PathBuf {
    let file = world.folder.path().join(name);
    let (code, answer) =
        world.daemon.ask(&["export", "--account", ALICE.mail, "--msal", file.to_str().unwrap()]).unwrap();
    assert_eq!(code, 0, "{answer}");
    file
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn refresh_tokens(cache: &Value) -> Vec<&str> {
    cache["RefreshToken"]
        .as_object()
        .unwrap()
        .values()
        .map(|entry| entry["secret"].as_str().unwrap())
        .collect()
}

async fn refreshes(tenant: &Tenant) -> u64 {
    tenant.count("token:refresh_token").await.unwrap()
}

/// The library's answer is a token for Alice that works at Graph, from its cache or from the identity provider.
async fn assert_token(library: Library, verb: &str, cache: &Path, tenant: &Tenant, from: &str) {
    let outcome = library.outcome(&tenant.authority(ALICE.tid), verb, cache).await.unwrap();
    assert_eq!(outcome["mail"], ALICE.mail, "{outcome}");
    assert_eq!(outcome["from"], from, "{outcome}");
}

async fn library_goes_on_with_an_exported_sign_in(library: Library, tenant: Tenant) {
    let world = World::under_microsofts_names(tenant);
    let tenant = &world.tenant;
    tenant.lifetimes(ALWAYS_DUE).await.unwrap();
    let serving = connected(&world).await;

    // The stored access token is due, so the library refreshes silently, and keeps what it got.
    let copy = export(&world, "due.json");
    let exported = json(&copy);
    assert_eq!(refresh_tokens(&exported).len(), 1);
    for _ in 0..2 {
        assert_token(library, "token", &copy, tenant, "identity_provider").await;
    }
    assert_ne!(refresh_tokens(&json(&copy)), refresh_tokens(&exported));
    // Where a replaced refresh token still works, as at Microsoft, the agent goes on beside it.
    assert_eq!(world.graph_me(ALICE).await, 200);

    // A fresh access token is used as it is: exported without the daemon, so that nobody else refreshes.
    tenant.lifetimes(AN_HOUR).await.unwrap();
    assert_eq!(world.graph_me(ALICE).await, 200);
    serving.stop().unwrap();
    let copy = export(&world, "fresh.json");
    let before = refreshes(tenant).await;
    assert_token(library, "token", &copy, tenant, "cache").await;
    assert_eq!(refreshes(tenant).await, before);

    // What is exported is the newest refresh token, and the library goes on from there: a replaced one would be refused.
    // msal for Python leaves ours in the file beside its own, and must not turn to it.
    tenant.reuse(Reuse::Strict).await.unwrap();
    for _ in 0..2 {
        assert_token(library, "silent", &copy, tenant, "identity_provider").await;
    }
    assert_eq!(refreshes(tenant).await, before + 4, "two by each run");
    let log = tenant.log().await.unwrap();
    let refused: Vec<_> = log.iter().filter(|line| line.endpoint == "token" && line.status >= 400).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn msal_for_python_goes_on_with_an_exported_sign_in() {
    if let Some(tenant) = enter("msal_for_python_goes_on_with_an_exported_sign_in").await.unwrap() {
        library_goes_on_with_an_exported_sign_in(Library::Python, tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn msal_for_node_goes_on_with_an_exported_sign_in() {
    if let Some(tenant) = enter("msal_for_node_goes_on_with_an_exported_sign_in").await.unwrap() {
        library_goes_on_with_an_exported_sign_in(Library::Node, tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_vault_file_is_read_as_it_is_and_what_is_ours_survives_a_rewrite() {
    let name = "a_copy_of_the_vault_file_is_read_as_it_is_and_what_is_ours_survives_a_rewrite";
    let Some(tenant) = enter(name).await.unwrap() else { return };
    let world = World::under_microsofts_names(tenant);
    connected(&world).await.stop().unwrap();
    let vault = world.daemon.vault_file().unwrap();
    let stored = json(&vault);
    assert!(stored["ValetKey"].is_object());

    for library in [Library::Python, Library::Node] {
        let copy = world.folder.path().join(format!("{library:?}.json"));
        fs::copy(&vault, &copy).unwrap();
        assert_token(library, "token", &copy, &world.tenant, "cache").await;
        assert_token(library, "silent", &copy, &world.tenant, "identity_provider").await;
        let rewritten = json(&copy);
        assert_ne!(refresh_tokens(&rewritten), refresh_tokens(&stored), "{library:?} wrote the file");
        assert_eq!(rewritten["ValetKey"], stored["ValetKey"], "{library:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_its_owners_alone_holds_nothing_of_ours_and_overwrites_nothing() {
    let world = World::with_own_broker().await;
    let serving = connected(&world).await;

    let copy = export(&world, "cache.json");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
    let mut members: Vec<String> = json(&copy).as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, CACHE_MEMBERS);

    // Refused while somebody's file is there, with the daemon and without.
    let theirs = world.folder.path().join("theirs.json");
    fs::copy(world.folder.path().join("agent.log"), &theirs).unwrap();
    let before = fs::read(&theirs).unwrap();
    let refused = || {
        let (code, said) = world
            .daemon
            .run(&["export", "--account", ALICE.mail, "--msal", theirs.to_str().unwrap()])
            .unwrap();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("theirs.json"), "{said}");
        assert_eq!(fs::read(&theirs).unwrap(), before);
    };
    refused();
    serving.stop().unwrap();
    refused();
}
