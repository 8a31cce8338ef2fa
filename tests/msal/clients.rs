//! Microsoft's own libraries, unmodified, against the practice tenant under Microsoft's own names.

use std::path::Path;

use serde_json::Value;
use valetkey_tests::http_sign_in::{http_device_sign_in, http_sign_in_up_to_redirect};
use valetkey_tests::msal::Library;
use valetkey_tests::private_network::enter;
use valetkey_tests::tenant::{ALICE, Reuse, Tenant};

async fn sign_in(library: Library, authority: &str, cache: &Path) -> Value {
    let mut run = library.start(authority, "sign-in", cache).unwrap();
    let url = run.hear().await.unwrap()["open"].as_str().unwrap().to_owned();
    let landing = http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap();
    run.tell(landing.as_str()).await.unwrap();
    run.hear().await.unwrap()
}

async fn device(library: Library, authority: &str, cache: &Path) -> Value {
    let mut run = library.start(authority, "device", cache).unwrap();
    let asked = run.hear().await.unwrap();
    let (page, code) = (asked["verify"].as_str().unwrap(), asked["code"].as_str().unwrap());
    assert!(asked["message"].as_str().unwrap().contains(code));
    let last = http_device_sign_in(page, code, ALICE.username).await.unwrap();
    assert!(last.body.contains("You have signed in"), "{}", last.body);
    run.hear().await.unwrap()
}

fn assert_alice(outcome: &Value) {
    assert_eq!(
        (outcome["mail"].as_str(), outcome["tid"].as_str()),
        (Some(ALICE.mail), Some(ALICE.tid)),
        "{outcome}"
    );
    assert_eq!(outcome["from"], "identity_provider", "the answer came from the tenant, not from a cache");
}

/// Signs in both ways, refreshes silently under strict reuse detection, and is told when that is over.
async fn signs_in_refreshes_and_is_told(library: Library, tenant: &Tenant) {
    let folder = tempfile::tempdir().unwrap();
    let (by_browser, by_code) = (folder.path().join("browser.json"), folder.path().join("device.json"));
    let authority = tenant.authority("organizations");
    tenant.reuse(Reuse::Strict).await.unwrap();
    assert_alice(&sign_in(library, &authority, &by_browser).await);
    assert_alice(&device(library, &authority, &by_code).await);

    let before = tenant.count("token:refresh_token").await.unwrap();
    for cache in [&by_browser, &by_code, &by_browser] {
        assert_alice(&library.outcome(&authority, "silent", cache).await.unwrap());
    }
    assert_eq!(tenant.count("token:refresh_token").await.unwrap() - before, 6);

    tenant.revoke(ALICE).await.unwrap();
    let refused = library.outcome(&authority, "silent", &by_browser).await.unwrap();
    assert_eq!(
        (&refused["error"], &refused["suberror"]),
        (&"invalid_grant".into(), &"bad_token".into()),
        "{refused}"
    );
    if let Library::Node = library {
        assert_eq!(refused["classification"], "InteractionRequiredAuthError");
    }
}

#[tokio::test]
async fn msal_for_python_signs_in_and_refreshes_silently() {
    let name = "msal::msal_for_python_signs_in_and_refreshes_silently";
    if let Some(tenant) = enter(name).await.unwrap() {
        signs_in_refreshes_and_is_told(Library::Python, &tenant).await;
    }
}

#[tokio::test]
async fn msal_for_node_signs_in_and_refreshes_silently() {
    let name = "msal::msal_for_node_signs_in_and_refreshes_silently";
    if let Some(tenant) = enter(name).await.unwrap() {
        signs_in_refreshes_and_is_told(Library::Node, &tenant).await;
    }
}
