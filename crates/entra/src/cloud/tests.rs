use uuid::uuid;

use super::*;

const CONTOSO: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000c070");
const FABRIKAM: Uuid = uuid!("bbbbbbbb-0000-4000-8000-00000000fab0");

fn global(tenant: Tenant) -> Authority {
    Authority { cloud: Cloud::Global, tenant }
}

fn practice() -> Cloud {
    Cloud::from_addresses("http://localhost:4000", Some("http://localhost:4000")).unwrap()
}

#[test]
fn each_of_microsofts_clouds_is_recognised_by_its_addresses_and_survives_serde() {
    for cloud in [Cloud::Global, Cloud::UsGovernment, Cloud::UsGovernmentDod, Cloud::China, practice()] {
        let json = serde_json::to_string(&cloud).unwrap();
        assert_eq!(serde_json::from_str::<Cloud>(&json).unwrap(), cloud, "{json}");
    }
    assert_eq!(Cloud::from_addresses("https://login.microsoftonline.us", None), Ok(Cloud::UsGovernment));
    assert_eq!(Cloud::from_addresses("https://LOGIN.microsoftonline.com/", None), Ok(Cloud::Global));
}

#[test]
fn microsofts_sign_in_is_never_paired_with_somebody_elses_graph() {
    for login in [
        "https://login.microsoftonline.com",
        "https://login.windows.net",
        "https://login.microsoftonline.com.",
        "https://login.microsoft.com",
        "https://microsoftonline.com",
    ] {
        let refused = Cloud::from_addresses(login, Some("https://graph.evil.example"));
        assert!(matches!(refused, Err(CloudError::ForeignGraph { .. })), "{login}: {refused:?}");
    }
    assert!(Cloud::from_addresses("https://notmicrosoft.com", Some("https://graph.example")).is_ok());
}

#[test]
fn a_custom_cloud_is_https_or_on_this_computer_and_has_a_graph() {
    assert!(matches!(practice(), Cloud::Custom(_)));
    assert!(Cloud::from_addresses("https://id.example", Some("https://graph.example")).is_ok());
    assert!(Cloud::from_addresses("http://[::1]:9", Some("http://127.0.0.1:9")).is_ok());
    for (login, graph) in [
        ("http://id.example", "https://graph.example"),
        ("https://id.example", "http://graph.example"),
        ("https://id.example/path", "https://graph.example"),
        ("https://u:p@id.example", "https://graph.example"),
        ("https://id.example/?q", "https://graph.example"),
        ("ftp://localhost", "https://graph.example"),
        ("http://localhost.evil.example", "https://graph.example"),
    ] {
        let refused = Cloud::from_addresses(login, Some(graph));
        assert!(matches!(refused, Err(CloudError::NotAPlainOrigin(_))), "{login}: {refused:?}");
    }
    assert!(matches!(Cloud::from_addresses("https://id.example", None), Err(CloudError::GraphMissing(_))));
    assert!(matches!(Cloud::from_addresses("nonsense", None), Err(CloudError::NotAnAddress(_))));
}

#[test]
fn a_cloud_is_on_this_computer_when_both_of_its_addresses_are() {
    for (login, graph, here) in [
        ("http://localhost:4000", "http://127.0.0.1:4000", true),
        ("https://[::1]", "https://localhost", true),
        ("http://localhost:4000", "https://graph.example", false),
        ("https://id.example", "http://localhost:4000", false),
        ("https://localhost.evil.example", "https://localhost", false),
    ] {
        let cloud = Cloud::from_addresses(login, Some(graph)).unwrap();
        assert_eq!(cloud.is_on_this_computer(), here, "{login} {graph}");
    }
    assert!(!Cloud::Global.is_on_this_computer());
}

#[test]
fn addresses_are_microsofts() {
    let organisation = global(Tenant::Id(CONTOSO));
    assert_eq!(
        organisation.metadata_url().as_str(),
        format!("https://login.microsoftonline.com/{CONTOSO}/v2.0/.well-known/openid-configuration")
    );
    assert_eq!(organisation.issuer(CONTOSO), format!("https://login.microsoftonline.com/{CONTOSO}/v2.0"));
    assert_eq!(global(Tenant::Common).metadata_issuer(), "https://login.microsoftonline.com/{tenantid}/v2.0");
    assert_eq!(
        global(Tenant::Consumers).metadata_issuer(),
        format!("https://login.microsoftonline.com/{PERSONAL_TENANT}/v2.0")
    );
    assert_eq!(organisation.cache_environment(), "login.windows.net");
    assert_eq!(practice().cache_environment(), "localhost");
    assert_eq!(Cloud::UsGovernmentDod.graph().as_str(), "https://dod-graph.microsoft.us/");
}

#[test]
fn each_tenant_admits_its_own_people_only() {
    let who = |tenant| [CONTOSO, FABRIKAM, PERSONAL_TENANT].map(|tid| global(tenant).permits(tid));
    assert_eq!(who(Tenant::Id(CONTOSO)), [true, false, false]);
    assert_eq!(who(Tenant::Organizations), [true, true, false]);
    assert_eq!(who(Tenant::Consumers), [false, false, true]);
    assert_eq!(who(Tenant::Common), [true, true, true]);
    let china = Authority { cloud: Cloud::China, tenant: Tenant::Common };
    assert!(!china.permits(PERSONAL_TENANT));
}

#[test]
fn an_account_is_refreshed_in_its_own_tenant_and_a_personal_one_on_consumers() {
    let common = global(Tenant::Common);
    let tenant_of = |tid| common.for_account(&AccountId { tid, oid: FABRIKAM }).tenant;
    assert_eq!(tenant_of(CONTOSO), Tenant::Id(CONTOSO));
    assert_eq!(tenant_of(PERSONAL_TENANT), Tenant::Consumers);
}

#[test]
fn a_tenant_is_written_and_read_as_text() {
    for text in ["organizations", "consumers", "common", &CONTOSO.to_string()] {
        assert_eq!(text.parse::<Tenant>().unwrap().to_string(), text);
    }
    assert_eq!("Common".parse(), Ok(Tenant::Common));
    assert_eq!(PERSONAL_TENANT.to_string().parse(), Ok(Tenant::Consumers));
    for text in ["", "contoso.com", "../common", "common/x"] {
        assert!(text.parse::<Tenant>().is_err(), "{text}");
    }
}
