//! Files of the vault that somebody or something has changed.

use serde_json::Value;
use valetkey_entra::cloud::{Cloud, Tenant};
use valetkey_tests::strangers::feed;

use super::*;

const MEMBER: &str = "ValetKey";
const CACHE: &str = include_str!("../../../../tests/vectors/msal/handoff-example.json");

/// What is read can be written, and is then the same, and of the account that the name says.
#[test]
fn files_of_the_vault_that_were_changed() {
    let name: AccountId =
        "0a11ce00-0000-4000-8000-000000000001.aaaaaaaa-0000-4000-8000-00000000c070".parse().unwrap();
    let mut whole: Value = serde_json::from_str(CACHE).unwrap();
    let now = Timestamp::from_second(1_795_230_000).unwrap();
    let facts = Facts {
        format: FORMAT,
        account: name,
        username: "alice@contoso.example".into(),
        name: Some("Alice".into()),
        expected_email: Some("alice@contoso.example".into()),
        admitted: Tenant::Common,
        authority: Authority { cloud: Cloud::Global, tenant: Tenant::Id(name.tid) },
        client_id: "11111111-1111-4111-8111-111111111111".into(),
        capabilities: vec!["mail".into()],
        resources: vec!["graph".into()],
        scopes: vec!["Mail.Read".into()],
        device: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().unwrap(),
        seen: [].into(),
        expires_at: now,
        refresh_at: now,
        condition: Condition::untried(now),
        stored_at: now,
        refreshed_at: Some(now),
        removed_at: None,
        previous_refresh_token: Some(Secret::new("before")),
        rotated: true,
        replaced: None,
    };
    whole[MEMBER] = serde_json::to_value(&facts).unwrap();
    // So small that most changes hit something that is read.
    let mut bare = serde_json::json!({ MEMBER: &whole[MEMBER] });
    let (whole, small) = (whole.to_string(), bare.to_string());
    bare[MEMBER]["format"] = 99.into();
    let newer = bare.to_string();
    feed("vault files", &[whole.as_bytes(), small.as_bytes(), newer.as_bytes()], |bytes| {
        let Ok(file) = AccountFile::parse(bytes, &name) else { return false };
        assert!(file.facts.account == name && file.facts.format <= FORMAT);
        let written = file.to_bytes().unwrap();
        assert_eq!(AccountFile::parse(&written, &name).unwrap().to_bytes().unwrap(), written);
        true
    });
}
