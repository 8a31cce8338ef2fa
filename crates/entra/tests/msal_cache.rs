//! The token cache, against files that Microsoft's own libraries wrote.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{CLIENT, OID, TENANT};
use valetkey_entra::account::AccountId;
use valetkey_entra::cache::{CacheError, MsalCache};
use valetkey_entra::capability::Resource;
use valetkey_entra::cloud::{Authority, Cloud, Tenant};
use valetkey_entra::id_token::Claims;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenResponse;

const DOTNET: &str = include_str!("../../../tests/vectors/msal/dotnet-reserialized-gen-python-tenant.json");
const NODE: &str = include_str!("../../../tests/vectors/msal/gen-node-tenant.json");
const PYTHON_COMMON: &str = include_str!("../../../tests/vectors/msal/gen-python-common.json");
const PYTHON: &str = include_str!("../../../tests/vectors/msal/gen-python-tenant.json");
const HANDOFF: &str = include_str!("../../../tests/vectors/msal/handoff-example.json");
const ALL: [(&str, &str); 5] = [
    ("MSAL.NET", DOTNET),
    ("msal-node", NODE),
    ("msal for Python on common", PYTHON_COMMON),
    ("msal for Python", PYTHON),
    ("a handoff", HANDOFF),
];

const SCOPE: &str =
    "https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/User.Read openid profile";
const IMAP: &str = "https://outlook.office.com/IMAP.AccessAsUser.All";

fn now() -> Timestamp {
    Timestamp::from_second(1_795_230_000).unwrap()
}

fn account() -> AccountId {
    AccountId { tid: TENANT.parse().unwrap(), oid: OID.parse().unwrap() }
}

fn id_token(changes: &Value) -> String {
    let mut claims = json!({"iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "aud": CLIENT,
        "sub": "VLhLqu_6coRaGTO8Lr7dqKAMZyEsumbzQTbN-Ko3MEs", "tid": TENANT, "oid": OID, "iat": 1, "exp": 2});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn client_info(oid: &str, tid: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"uid": oid, "utid": tid}).to_string())
}

fn tokens(access: &str, refresh: Option<&str>, scope: &str) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new(access),
        refresh_token: refresh.map(Secret::new),
        id_token: None,
        scope: scope.to_owned(),
        expires_in: SignedDuration::from_secs(3600),
        ext_expires_in: Some(SignedDuration::from_secs(7200)),
        refresh_in: Some(SignedDuration::from_secs(1800)),
        client_info: Some(client_info(OID, TENANT)),
    }
}

fn new_cache(tokens: &TokenResponse) -> Result<MsalCache, CacheError> {
    let authority = Authority { cloud: Cloud::Global, tenant: Tenant::Organizations };
    let claims = Claims {
        account: account(),
        subject: "s".to_owned(),
        name: Some("Alice Adams".to_owned()),
        username: Some("alice@contoso.example".to_owned()),
        email: None,
        guest: false,
        issued_at: now(),
        expires_at: now(),
    };
    MsalCache::from_tokens(&authority, CLIENT, &claims, tokens, now())
}

fn value(cache: &MsalCache) -> Value {
    serde_json::from_slice(&cache.to_json().unwrap()).unwrap()
}

fn read(json: &str) -> MsalCache {
    MsalCache::parse(json.as_bytes()).unwrap()
}

#[test]
fn what_each_of_microsofts_libraries_wrote_is_read_and_written_back_unchanged() {
    for (library, json) in ALL {
        let cache = read(json);
        assert_eq!(value(&cache), serde_json::from_str::<Value>(json).unwrap(), "{library}");
    }
}

/// Shows H18 for the cache itself.
#[test]
fn account_expiry_and_scopes_are_told_without_knowing_the_form() {
    for (library, json) in ALL {
        let info = read(json).account_info().unwrap();
        assert_eq!(info.account, account(), "{library}");
        assert_eq!(info.username.as_deref(), Some("alice@contoso.example"));
        assert_eq!(info.client_id, CLIENT);
        assert!(info.scopes.contains(&"https://graph.microsoft.com/Mail.Read".to_owned()));
        let expires = info.expires_at.unwrap().as_second();
        assert!((1_795_229_430..=1_795_229_433).contains(&expires), "{library}: {expires}");
    }
}

#[test]
fn a_new_cache_is_written_with_the_keys_and_members_that_all_three_libraries_find() {
    let mut tokens = tokens("access-1", Some("refresh-1"), SCOPE);
    tokens.id_token = Some(Secret::new("the.id.token"));
    let home = format!("{OID}.{TENANT}");
    let target = SCOPE.to_lowercase();
    let expected = json!({
        "AccessToken": {format!("{home}-login.windows.net-accesstoken-{CLIENT}-{TENANT}-{target}-"): {
            "home_account_id": home, "environment": "login.windows.net", "credential_type": "AccessToken",
            "client_id": CLIENT, "secret": "access-1", "realm": TENANT, "target": SCOPE, "token_type": "Bearer",
            "cached_at": "1795230000", "expires_on": "1795233600", "extended_expires_on": "1795237200",
            "refresh_on": "1795231800"
        }},
        "RefreshToken": {format!("{home}-login.windows.net-refreshtoken-{CLIENT}---"): {
            "home_account_id": home, "environment": "login.windows.net", "credential_type": "RefreshToken",
            "client_id": CLIENT, "secret": "refresh-1", "target": SCOPE
        }},
        "IdToken": {format!("{home}-login.windows.net-idtoken-{CLIENT}-{TENANT}--"): {
            "home_account_id": home, "environment": "login.windows.net", "realm": TENANT,
            "credential_type": "IdToken", "client_id": CLIENT, "secret": "the.id.token"
        }},
        "Account": {format!("{home}-login.windows.net-{TENANT}"): {
            "home_account_id": home, "environment": "login.windows.net", "realm": TENANT, "local_account_id": OID,
            "username": "alice@contoso.example", "authority_type": "MSSTS", "name": "Alice Adams",
            "client_info": client_info(OID, TENANT)
        }},
        "AppMetadata": {format!("appmetadata-login.windows.net-{CLIENT}"): {
            "client_id": CLIENT, "environment": "login.windows.net"
        }}
    });
    let cache = new_cache(&tokens).unwrap();
    assert_eq!(value(&cache), expected);
    assert_eq!(
        cache.to_json().unwrap(),
        new_cache(&tokens).unwrap().to_json().unwrap(),
        "always the same bytes"
    );
    assert_eq!(read(std::str::from_utf8(&cache.to_json().unwrap()).unwrap()), cache);
}

#[test]
fn a_guest_is_kept_under_the_account_at_home_and_known_by_the_tenant_visited() {
    let mut tokens = tokens("a", Some("r"), SCOPE);
    let home = "bbbbbbbb-0000-4000-8000-00000000fab0";
    tokens.client_info = Some(client_info(home, home));
    let cache = new_cache(&tokens).unwrap();
    assert_eq!(cache.accounts.values().next().unwrap().home_account_id, format!("{home}.{home}"));
    assert_eq!(cache.account_info().unwrap().account, account());
}

#[test]
fn without_a_refresh_token_there_is_nothing_to_hand_over() {
    assert_eq!(new_cache(&tokens("a", None, SCOPE)), Err(CacheError::RefreshTokenNotGiven));
}

/// Shows H5 for the cache: a refresh rotates in place, and the same again changes nothing.
#[test]
fn a_refresh_rotates_in_place_and_an_unchanged_cache_says_so() {
    for (library, json) in ALL {
        let before = read(json);
        let mut cache = before.clone();
        let mut new =
            tokens("access-2", Some("refresh-2"), &before.access_tokens.values().next().unwrap().target);
        new.id_token = Some(Secret::new(id_token(&json!({"iat": 3}))));
        assert_eq!(cache.apply(&new, now()), Ok(true), "{library}");
        assert_eq!(cache.refresh_token().unwrap().expose(), "refresh-2", "{library}");
        assert_eq!(cache.id_token(), new.id_token.as_ref(), "{library}");
        assert!(cache.refresh_tokens.keys().eq(before.refresh_tokens.keys()), "{library}: in place");
        assert_eq!(cache.access_tokens.len(), 1, "{library}");
        let token = cache.access_token(Resource::Graph, &Cloud::Global).unwrap();
        assert_eq!((token.secret.expose(), token.expires_at.as_second()), ("access-2", 1_795_233_600));
        assert_eq!(cache.accounts, before.accounts);

        let after = cache.clone();
        let later = now() + SignedDuration::from_secs(1);
        assert_eq!(cache.apply(&new, later), Ok(false), "{library}");
        assert_eq!(cache, after, "{library}");
        new.refresh_token = None;
        new.id_token = None;
        assert_eq!(cache.apply(&new, later), Ok(false), "{library}: not rotated");
        assert_eq!(cache.refresh_token().unwrap().expose(), "refresh-2");
    }
}

#[test]
fn each_resource_has_an_access_token_of_its_own() {
    let mut cache = new_cache(&tokens("graph-1", Some("refresh-1"), "User.Read Mail.Read openid")).unwrap();
    let secret = |cache: &MsalCache, resource| {
        cache.access_token(resource, &Cloud::Global).map(|token| token.secret.expose().to_owned())
    };
    assert_eq!(secret(&cache, Resource::Graph).as_deref(), Some("graph-1"), "short scopes are Graph's");
    assert_eq!(secret(&cache, Resource::Outlook), None);

    assert_eq!(cache.apply(&tokens("imap-1", Some("refresh-2"), IMAP), now()), Ok(true));
    assert_eq!(cache.apply(&tokens("graph-2", None, SCOPE), now()), Ok(true));
    assert_eq!(secret(&cache, Resource::Outlook).as_deref(), Some("imap-1"));
    assert_eq!(secret(&cache, Resource::Graph).as_deref(), Some("graph-2"));
    assert_eq!(secret(&cache, Resource::WorkIq), None);
    assert_eq!(cache.access_tokens.len(), 2, "the old one of Graph is gone, though its scopes were others");
}

/// The conformance suite's `refresh-ok` and `refresh-sub`.
#[test]
fn refreshed_tokens_of_somebody_else_change_nothing() {
    let other = "bbbbbbbb-0000-4000-8000-00000000fab0";
    let refreshed = |changes: &Value| {
        let mut new = tokens("access-2", Some("refresh-2"), SCOPE);
        new.id_token = Some(Secret::new(id_token(changes)));
        new
    };
    let mut somebody = tokens("access-2", Some("refresh-2"), SCOPE);
    somebody.client_info = Some(client_info(other, TENANT));
    let mut garbage = tokens("access-2", Some("refresh-2"), SCOPE);
    garbage.id_token = Some(Secret::new("garbage"));
    for wrong in [
        refreshed(&json!({"sub": "another"})),
        refreshed(&json!({"oid": other})),
        refreshed(&json!({"tid": other})),
        refreshed(&json!({"iss": "https://evil.example"})),
        refreshed(&json!({"aud": other})),
        somebody,
        garbage,
    ] {
        let mut cache = read(HANDOFF);
        assert_eq!(cache.apply(&wrong, now()), Err(CacheError::OtherAccount));
        assert_eq!(cache, read(HANDOFF));
    }
    assert_eq!(read(HANDOFF).apply(&refreshed(&json!({})), now()), Ok(true));
}

#[test]
fn what_others_wrote_at_the_root_and_on_entries_survives_a_refresh() {
    let mut json: Value = serde_json::from_str(PYTHON).unwrap();
    json["ValetKey"] = json!({"version": 1, "generation": 7, "health": {"state": "connected"}});
    json["Later"] = json!([1, "two", null]);
    let entries = json["RefreshToken"].as_object_mut().unwrap();
    entries.values_mut().for_each(|entry| entry["flavour"] = json!({"deep": [true]}));
    let mut cache = read(&json.to_string());
    assert_eq!(value(&cache), json);
    assert_eq!(cache.apply(&tokens("access-2", Some("refresh-2"), SCOPE), now()), Ok(true));
    let after = value(&cache);
    for kept in ["ValetKey", "Later", "Account", "AppMetadata", "IdToken"] {
        assert_eq!(after[kept], json[kept], "{kept}");
    }
    let entry = cache.refresh_tokens.values().next().unwrap();
    assert_eq!(entry.other["flavour"], json!({"deep": [true]}));
    let touched = entry.last_modification_time.as_ref().and_then(valetkey_entra::cache::Epoch::at);
    assert_eq!(touched, Some(now()), "MSAL for Python orders by it");
}

#[test]
fn of_several_refresh_tokens_the_youngest_is_used_and_the_rest_goes_when_it_rotates() {
    let mut json: Value = serde_json::from_str(PYTHON).unwrap();
    let entries = json["RefreshToken"].as_object_mut().unwrap();
    let (key, entry) = entries.iter().next().map(|(key, entry)| (key.clone(), entry.clone())).unwrap();
    let mut older = entry.clone();
    older["secret"] = "older".into();
    older["last_modification_time"] = "1795000000".into();
    entries.insert(format!("{key} mail.send"), older);
    let mut cache = read(&json.to_string());
    assert_eq!(cache.refresh_token().unwrap().expose(), entry["secret"]);
    cache.apply(&tokens("access-2", Some("refresh-2"), SCOPE), now()).unwrap();
    assert!(cache.refresh_tokens.keys().eq([&key]));
}

#[test]
fn what_is_no_cache_of_one_account_is_refused_with_its_reason() {
    for not_a_cache in ["", "[]", "null", "{\"AccessToken\":[]}", "{\"RefreshToken\":{\"k\":{}}}", "{} {}"] {
        assert_eq!(MsalCache::parse(not_a_cache.as_bytes()), Err(CacheError::Malformed), "{not_a_cache}");
    }
    assert_eq!(read("{}").account_info(), Err(CacheError::NoAccount));
    let changed = |change: fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(HANDOFF).unwrap();
        change(&mut json);
        read(&json.to_string()).account_info()
    };
    assert_eq!(changed(|json| json["RefreshToken"] = json!({})), Err(CacheError::NoRefreshToken));
    assert_eq!(
        changed(|json| {
            let account = json["Account"].as_object().unwrap().values().next().unwrap().clone();
            json["Account"]["another"] = account;
        }),
        Err(CacheError::SeveralAccounts)
    );
    assert_eq!(
        changed(|json| {
            let entries = json["RefreshToken"].as_object_mut().unwrap();
            entries.values_mut().for_each(|entry| entry["secret"] = "".into());
        }),
        Err(CacheError::NoRefreshToken)
    );
}

#[test]
fn times_are_read_as_numbers_too_and_nonsense_is_no_time() {
    let as_number = HANDOFF.replace("\"1795229430\"", "1795229430");
    assert_eq!(read(&as_number), read(HANDOFF));
    let nonsense = HANDOFF.replace("\"1795229430\"", "\"soon\"");
    assert_eq!(read(&nonsense).account_info().unwrap().expires_at, None);
    assert!(read(&nonsense).access_token(Resource::Graph, &Cloud::Global).is_none());
}

#[test]
fn nothing_of_a_cache_is_printed() {
    let mut new = tokens("CANARY-a", Some("CANARY-r"), SCOPE);
    new.id_token = Some(Secret::new("CANARY-i"));
    let mut cache = new_cache(&new).unwrap();
    cache.other.insert("ValetKey".to_owned(), json!("CANARY-v"));
    let refresh_token = cache.refresh_tokens.values_mut().next().unwrap();
    refresh_token.other.insert("copy".to_owned(), json!("CANARY-o"));
    let token = cache.access_token(Resource::Graph, &Cloud::Global);
    let printed = format!(
        "{cache:?} {cache:#?} {:?} {:?} {:?} {token:?} {new:?}",
        cache.access_tokens, cache.refresh_tokens, cache.id_tokens
    );
    assert!(!printed.contains("CANARY"), "{printed}");
}
