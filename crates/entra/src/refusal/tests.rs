use serde_json::json;

use super::*;

fn refused(status: u16, body: &serde_json::Value) -> Refusal {
    classify(status, &ErrorBody::parse(body.to_string().as_bytes()), None)
}

fn reason(body: &serde_json::Value) -> Reason {
    refused(400, body).reason
}

pub(super) const RECONNECT: &[u32] = &[
    50072, 50074, 50076, 50078, 50079, 50173, 50132, 50133, 50055, 50085, 50089, 65001, 65004, 70000, 70008,
    700_082, 70043, 700_020, 700_084,
];
pub(super) const ADMINISTRATOR: &[u32] =
    &[53000, 53001, 53002, 53003, 530_032, 50097, 50105, 50057, 90094, 650_052, 500_011, 1002, 1008];
pub(super) const OPERATOR: &[u32] = &[
    50194, 700_016, 7_000_215, 7_000_218, 7_000_222, 700_025, 9_001_023, 9_002_332, 65002, 650_057, 70011,
    901_002, 9_010_010, 50196,
];
pub(super) const TRANSIENT: &[u32] = &[50033, 50087, 90006, 90012, 90024, 90033, 90055, 70012, 40010];

#[test]
fn every_number_known_is_classified_also_when_only_the_description_has_it() {
    for (class, numbers) in [
        (Class::Reconnect, RECONNECT),
        (Class::Administrator, ADMINISTRATOR),
        (Class::Operator, OPERATOR),
        (Class::Transient, TRANSIENT),
    ] {
        for number in numbers {
            let coded = refused(400, &json!({"error": "invalid_grant", "error_codes": [number]}));
            assert_eq!(coded.class, class, "AADSTS{number}");
            assert_eq!(coded.aadsts, [*number]);
            let described =
                json!({"error": "invalid_grant", "error_description": format!("AADSTS{number}: so it is")});
            assert_eq!(refused(400, &described), coded);
        }
    }
}

#[test]
fn every_number_listed_has_one_class_and_a_reason_of_that_class() {
    let lists = [RECONNECT, ADMINISTRATOR, OPERATOR, TRANSIENT];
    let all: Vec<u32> = lists.concat();
    let different: std::collections::HashSet<u32> = all.iter().copied().collect();
    assert_eq!(different.len(), all.len(), "a number in two lists");
    // Alone, in whatever answer that leaves the decision to it.
    for error in ["invalid_grant", "invalid_request", "invalid_scope", "access_denied", "never_heard_of"] {
        for (list, number) in lists.iter().flat_map(|list| list.iter().map(move |number| (list, number))) {
            let class = refused(400, &json!({"error": error, "error_codes": [number]})).class;
            let expected = refused(400, &json!({"error": error, "error_codes": [list[0]]})).class;
            assert_eq!(class, expected, "{error} AADSTS{number}");
        }
    }
    println!("{} AADSTS numbers, one class each", all.len());
}

/// None is known to the table that is not listed here, so none is classified without somebody having decided how.
#[test]
fn the_table_knows_the_numbers_that_are_listed_and_no_other() {
    let mut listed: Vec<u32> = [RECONNECT, ADMINISTRATOR, OPERATOR, TRANSIENT].concat();
    listed.sort_unstable();
    // Microsoft's have seven digits at most.
    let known: Vec<u32> = (0..10_000_000).filter(|number| numbers::reason(*number).is_some()).collect();
    assert_eq!(known, listed);
}

#[test]
fn every_suberror_decides_by_itself() {
    for (suberror, expected) in [
        ("basic_action", Reason::InteractionRequired),
        ("additional_action", Reason::InteractionRequired),
        ("message_only", Reason::ConditionalAccess),
        ("protection_policy_required", Reason::ConditionalAccess),
        ("consent_required", Reason::Consent),
        ("user_password_expired", Reason::PasswordExpired),
        ("bad_token", Reason::Revoked),
        ("token_expired", Reason::Expired),
        ("client_mismatch", Reason::ClientMismatch),
        ("device_authentication_failed", Reason::Device),
    ] {
        assert_eq!(reason(&json!({"error": "invalid_grant", "suberror": suberror})), expected, "{suberror}");
    }
}

#[test]
fn a_number_refines_a_decision_but_does_not_overturn_it() {
    let with = |suberror: &str, number: u32| {
        reason(&json!({"error": "invalid_grant", "suberror": suberror, "error_codes": [number]}))
    };
    assert_eq!(with("basic_action", 50076), Reason::Mfa);
    assert_eq!(with("bad_token", 50132), Reason::PasswordChanged);
    assert_eq!(with("bad_token", 700_082), Reason::Expired);
    assert_eq!(with("message_only", 53001), Reason::Device);
    assert_eq!(with("message_only", 50076), Reason::ConditionalAccess);
    assert_eq!(with("basic_action", 53003), Reason::InteractionRequired);
    assert_eq!(with("bad_token", 90033), Reason::Revoked);
    let busy = json!({"error": "temporarily_unavailable", "error_codes": [50173]});
    assert_eq!(reason(&busy), Reason::Unavailable);
}

#[test]
fn missing_consent_is_the_administrators_when_the_person_cannot_give_it() {
    let consent = |number: u32| {
        reason(&json!({"error": "invalid_grant", "suberror": "consent_required", "error_codes": [number]}))
    };
    assert_eq!(consent(65001), Reason::Consent);
    assert_eq!(consent(90094), Reason::AdminConsent);
}

#[test]
fn a_bare_invalid_grant_is_a_reason_of_its_own() {
    assert_eq!(reason(&json!({"error": "invalid_grant"})), Reason::InvalidGrant);
    assert_eq!(
        reason(&json!({"error": "invalid_grant", "suberror": "", "error_codes": [123]})),
        Reason::InvalidGrant
    );
    assert_eq!(Reason::InvalidGrant.class(), Class::Reconnect);
}

#[test]
fn protocol_errors_without_a_number_are_classified() {
    for (error, expected) in [
        ("interaction_required", Reason::InteractionRequired),
        ("login_required", Reason::InteractionRequired),
        ("consent_required", Reason::Consent),
        ("access_denied", Reason::Declined),
        ("authorization_declined", Reason::Declined),
        ("expired_token", Reason::TimedOut),
        ("invalid_client", Reason::ClientMisconfigured),
        ("unauthorized_client", Reason::ClientMisconfigured),
        ("invalid_request", Reason::ClientMisconfigured),
        ("invalid_scope", Reason::Scope),
        ("invalid_resource", Reason::Scope),
        ("server_error", Reason::Unavailable),
        ("temporarily_unavailable", Reason::Unavailable),
        ("brand_new_error", Reason::Unrecognised),
    ] {
        assert_eq!(reason(&json!({ "error": error })), expected, "{error}");
    }
}

/// Shows J8 for answers that are not the provider's.
#[test]
fn a_busy_or_broken_service_or_a_page_of_a_proxy_is_never_a_sign_out() {
    let revoked = json!({"error": "invalid_grant", "suberror": "bad_token"});
    assert_eq!(refused(429, &revoked).reason, Reason::Throttled);
    for status in [408, 500, 502, 503, 504, 599] {
        assert_eq!(refused(status, &revoked).class, Class::Transient, "{status}");
    }
    for body in ["", "<html>Sign in to the hotel's network</html>", "[]", "null", "{}", "{\"error\": 7}"] {
        for status in [200, 302, 400, 403, 407] {
            let refusal = classify(status, &ErrorBody::parse(body.as_bytes()), None);
            assert_eq!(refusal.class, Class::Transient, "{status} {body}");
        }
    }
}

#[test]
fn being_told_that_we_loop_comes_before_everything() {
    let body = json!({"error": "temporarily_unavailable", "error_codes": [90033, 50196]});
    assert_eq!(refused(503, &body).reason, Reason::RequestLoop);
}

#[test]
fn diagnosis_survives_and_claims_are_carried_if_they_are_an_object() {
    let id = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let refusal = refused(
        400,
        &json!({"error": "interaction_required", "error_codes": [50076, 50076], "claims": claims,
               "correlation_id": id, "trace_id": "not a guid"}),
    );
    assert_eq!(refusal.claims.as_deref(), Some(claims));
    assert_eq!(refusal.correlation_id, id.parse().ok());
    assert_eq!(refusal.trace_id, None);
    assert_eq!(refusal.to_string(), "mfa AADSTS50076");
    assert_eq!(refused(400, &json!({"error": "interaction_required", "claims": "nonsense"})).claims, None);
}

#[test]
fn a_callbacks_error_is_classified_by_the_same_table() {
    let no = ErrorBody::from_callback("access_denied", Some("AADSTS65004: User declined to consent"), None);
    assert_eq!(classify(400, &no, None).reason, Reason::Declined);
    let admin = ErrorBody::from_callback("access_denied", Some("AADSTS90094: admin permission"), None);
    assert_eq!(classify(400, &admin, None).reason, Reason::AdminConsent);
}

/// Shows H17 for the classification.
#[test]
fn a_missing_licence_is_neither_expired_nor_worth_a_retry() {
    let graph = |status, code: &str, message: &str| {
        let body = json!({"error": {"code": code, "message": message}}).to_string();
        classify_resource(status, [], body.as_bytes(), None)
    };
    assert_eq!(graph(403, "MailboxNotEnabledForRESTAPI", "").class, Class::Licence);
    assert_eq!(graph(404, "MailboxNotEnabledForRESTAPI", "on-premise").class, Class::Licence);
    assert_eq!(graph(403, "Forbidden", "The tenant does not have a license for this").class, Class::Licence);
    assert_eq!(graph(403, "ErrorAccessDenied", "Access is denied").reason, Reason::Forbidden);
    assert_eq!(graph(404, "ErrorItemNotFound", "").reason, Reason::Unrecognised);
}

#[test]
fn a_resources_401_is_a_claims_challenge_or_a_token_not_taken() {
    let challenge = r#"Bearer error="insufficient_claims", claims="eyJhIjp7fX0=""#;
    let asked = classify_resource(401, [challenge], b"", None);
    assert_eq!((asked.reason, asked.claims.as_deref()), (Reason::ClaimsChallenge, Some(r#"{"a":{}}"#)));
    let refused = classify_resource(401, [r#"Bearer error="invalid_token""#], b"", None);
    assert_eq!((refused.reason, refused.claims), (Reason::Unauthorized, None));
    let wait = SignedDuration::from_secs(7);
    let busy = classify_resource(429, [challenge], b"", Some(wait));
    assert_eq!((busy.reason, busy.retry_after, busy.claims), (Reason::Throttled, Some(wait), None));
    assert_eq!(classify_resource(503, [], b"", None).class, Class::Transient);
}

#[test]
fn nothing_of_the_providers_text_is_printed() {
    let canary = "CANARY-eyJhbGciOi";
    let body = ErrorBody::parse(
        json!({"error": canary, "suberror": canary, "claims": format!("{{\"{canary}\":1}}"),
               "error_description": format!("AADSTS50076: {canary}"), "correlation_id": canary})
        .to_string()
        .as_bytes(),
    );
    let refusal = classify(400, &body, None);
    assert!(refusal.claims.is_some());
    let printed = format!("{body:?} {body:#?} {refusal:?} {refusal:#?} {refusal}");
    assert!(!printed.contains("CANARY"), "{printed}");
}
