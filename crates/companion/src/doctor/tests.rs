use std::collections::HashSet;

use jiff::SignedDuration;
use valetkey_checkup::{Finding, Level, has_problem};
use valetkey_entra::reach::NotReached;
use valetkey_link::Problem;

use super::facts::{
    Account, Assistant, Broker, Facts, Kept, Keys, Login, Pairing, Policy, Unusable, Waiting,
};
use super::{Check, Sheet, findings, report};
use crate::samples::now;
use crate::state::Health;
use crate::texts::Language;

const ENGLISH: Language = Language::English;

fn account(health: Health) -> Account {
    Account { address: "ana@contoso.example".into(), health, reason: None }
}

/// Linked, connected, and nothing to complain of.
fn well() -> Facts {
    Facts {
        at: now(),
        browser: true,
        loopback: true,
        data_dir: "/home/ana/.local/share/valet-key-cli".into(),
        data_dir_problem: None,
        policy_file: Some("/etc/valet-key/policy.toml".into()),
        policy: Policy::None,
        certificates_problem: None,
        pairing: Pairing::Paired,
        keys: Keys::There,
        in_use: false,
        login: Some(Login {
            host: "login.microsoftonline.com".into(),
            proxy: None,
            problem: None,
            clock_ahead: Some(-1),
        }),
        broker: Some(Broker {
            host: "mqtt.contoso.example".into(),
            secure: true,
            proxy: None,
            problem: None,
        }),
        assistant: Some(Assistant {
            answered_at: Some(now()),
            said_online: Some(true),
            accounts: vec![account(Health::Connected)],
        }),
        waiting: vec![],
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = well();
    change(&mut facts);
    findings(&facts, ENGLISH)
}

fn level(found: &[Finding], check: &str) -> Level {
    found.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("{check}: {found:#?}")).level
}

/// Every check in every way it can be.
fn every_check() -> Vec<Check> {
    let host = || "mqtt.contoso.example".to_owned();
    let proxy = || Some("proxy.contoso.example:3128".to_owned());
    let mut all = Vec::new();
    for good in [true, false] {
        all.push(Check::Browser { found: good });
        all.push(Check::Loopback { works: good });
        all.push(Check::DataDir { path: "/d".into(), problem: (!good).then(|| "storage full".into()) });
        for said_online in [None, Some(true), Some(false)] {
            all.push(Check::Assistant { answered: good, said_online });
        }
    }
    for state in [Policy::None, Policy::InForce, Policy::Forbids, Policy::Unreadable] {
        all.push(Check::Policy { file: "/etc/valet-key/policy.toml".into(), state });
    }
    all.extend([Pairing::Missing, Pairing::Unusable, Pairing::Begun, Pairing::Paired].map(Check::Pairing));
    let keys = [Keys::NotAsked, Keys::There, Keys::Missing, Keys::Locked, Keys::NoKeyring, Keys::Unusable];
    all.extend(keys.map(Check::Keys));
    let service = [
        NotReached::Unreachable,
        NotReached::Untrusted,
        NotReached::Expired,
        NotReached::Status(503),
        NotReached::Malformed,
        NotReached::Certificates,
    ];
    for problem in service.into_iter().map(Some).chain([None]) {
        all.push(Check::SignInService { host: "login.microsoftonline.com".into(), proxy: proxy(), problem });
    }
    all.extend([0, 90, -720, 86_400].map(|ahead| Check::Clock { ahead }));
    all.extend([Some("/etc/valet-key/client.pem".to_owned()), None].map(|file| Check::Certificate { file }));
    all.push(Check::BrokerNotSecure { host: host() });
    for problem in Problem::ALL.into_iter().map(Some).chain([None]) {
        all.push(Check::Broker { host: host(), proxy: proxy(), problem });
    }
    let healths =
        [Health::Connected, Health::Retrying, Health::Unknown, Health::ReconnectNeeded, Health::Blocked];
    all.extend(healths.map(|health| Check::Account { address: "ana@contoso.example".into(), health }));
    all.extend(
        [Kept::Link, Kept::SignIn, Kept::Disconnect].map(|what| Check::Waiting { what, since: now() }),
    );
    all.extend([Check::NothingWaits, Check::InUse]);
    all
}

#[test]
fn where_all_is_well_everything_has_a_tick() {
    let found = findings(&well(), ENGLISH);
    assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:#?}");
    let checks: HashSet<&str> = found.iter().map(|finding| finding.check).collect();
    let all = [
        "browser",
        "loopback",
        "data_directory",
        "pairing",
        "keyring",
        "sign_in_service",
        "clock",
        "broker",
        "assistant",
        "account",
        "waiting",
    ];
    assert_eq!(checks, HashSet::from(all));
}

#[test]
fn whatever_is_wrong_has_one_thing_to_do_in_words_without_the_trades() {
    for check in every_check() {
        let said = crate::texts::check(ENGLISH, &check);
        if said.level >= Level::Warning {
            assert!(said.action.is_some(), "{said:?}");
        }
        let words = format!("{} {}", said.text, said.action.as_deref().unwrap_or_default());
        let lower = words.to_lowercase().replace("mqtt.contoso.example", "");
        for word in ["token", "oauth", "simply", "mqtt", "json", "tls", "broker", "error:", "localhost"] {
            assert!(!lower.contains(word), "{words}");
        }
        assert!(
            said.text.ends_with('.') && said.action.is_none_or(|action| action.ends_with('.')),
            "{words}"
        );
    }
}

#[test]
fn every_reason_that_a_person_can_do_something_about_has_words_of_its_own() {
    let server = |problem| {
        let check = Check::Broker { host: "h".into(), proxy: None, problem: Some(problem) };
        let said = crate::texts::check(ENGLISH, &check);
        assert_eq!(said.level, Level::Problem);
        (said.text, said.action)
    };
    let said: HashSet<_> = [
        Problem::Unreachable,
        Problem::TlsUntrusted,
        Problem::TlsWrongName,
        Problem::TlsExpired,
        Problem::Refused(valetkey_link::Refusal::NotAuthorized),
        Problem::Refused(valetkey_link::Refusal::ClientCertificate),
        Problem::Proxy,
        Problem::ProtocolError,
    ]
    .into_iter()
    .map(server)
    .collect();
    assert_eq!(said.len(), 8);
}

/// Shows J8 of the check: an assistant that is away, a locked keyring and what waits are no failures.
#[test]
fn what_passes_by_itself_is_no_problem() {
    let found = with(|facts| {
        facts.keys = Keys::Locked;
        facts.assistant = Some(Assistant { said_online: Some(false), ..Assistant::default() });
        facts.waiting = vec![Waiting { what: Kept::SignIn, since: now() - SignedDuration::from_hours(9) }];
    });
    assert!(!has_problem(&found), "{found:#?}");
    for check in ["keyring", "assistant", "waiting"] {
        assert_eq!(level(&found, check), Level::Warning);
    }
    let waits = found.iter().find(|finding| finding.check == "waiting").unwrap();
    assert!(waits.text.contains("A sealed sign-in of 2026-11-21 00:12 UTC"), "since when: {waits:?}");
    assert!(waits.action.as_ref().is_some_and(|action| action.contains("sent again until it is confirmed")));
}

#[test]
fn what_a_person_or_an_administrator_must_do_is_a_problem() {
    for (found, check) in [
        (
            with(|facts| facts.assistant.as_mut().unwrap().accounts = vec![account(Health::ReconnectNeeded)]),
            "account",
        ),
        (with(|facts| facts.policy = Policy::Forbids), "policy"),
        (with(|facts| facts.policy = Policy::Unreadable), "policy"),
        (
            with(|facts| {
                facts.certificates_problem = Some(Unusable::File("/etc/valet-key/client.pem".into()));
                (facts.broker, facts.assistant) = (None, None);
            }),
            "broker_certificate",
        ),
        (with(|facts| facts.keys = Keys::Missing), "keyring"),
        (with(|facts| facts.loopback = false), "loopback"),
        (with(|facts| facts.data_dir_problem = Some("storage full".into())), "data_directory"),
        (with(|facts| facts.login.as_mut().unwrap().clock_ahead = Some(300)), "clock"),
        (with(|facts| facts.pairing = Pairing::Unusable), "pairing"),
    ] {
        assert_eq!(level(&found, check), Level::Problem);
        assert!(has_problem(&found));
    }
    assert_eq!(
        level(&with(|facts| facts.login.as_mut().unwrap().clock_ahead = Some(-61)), "clock"),
        Level::Warning
    );
}

#[test]
fn a_computer_that_is_not_linked_has_no_problem_and_one_thing_to_do() {
    let found = with(|facts| {
        facts.pairing = Pairing::Missing;
        facts.keys = Keys::NotAsked;
        (facts.login, facts.broker, facts.assistant) = (None, None, None);
    });
    assert!(!has_problem(&found), "{found:#?}");
    let pairing = found.iter().find(|finding| finding.check == "pairing").unwrap();
    assert!(pairing.action.as_ref().is_some_and(|action| action.contains("invite link")), "{pairing:?}");
    assert!(
        !found.iter().any(|finding| ["keyring", "broker", "waiting"].contains(&finding.check)),
        "{found:#?}"
    );
}

#[test]
fn a_report_names_servers_and_nobody() {
    let mut facts = well();
    let named = Account { address: "ana".into(), ..account(Health::ReconnectNeeded) };
    facts.assistant.as_mut().unwrap().accounts.push(named);
    let text = report(&facts, "valetkey-cli", ENGLISH);
    assert!(!text.contains("ana@") && !text.contains("as ana."), "{text}");
    for part in [
        "person-1@contoso.example is connected",
        "login.microsoftonline.com",
        "mqtt.contoso.example",
        "\"health\": \"ReconnectNeeded\"",
        "valetkey-cli 0.",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // The words to the person have it, so the search would have found it.
    assert!(findings(&facts, ENGLISH).iter().any(|finding| finding.text.contains("ana@")));
}

/// Facts as a person might have them, by a name for the snapshot.
fn days() -> [(&'static str, Facts); 4] {
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = well();
        change(&mut facts);
        facts
    };
    [
        ("well", well()),
        (
            "not_linked",
            with(&|facts| {
                (facts.pairing, facts.keys) = (Pairing::Missing, Keys::NotAsked);
                (facts.login, facts.broker, facts.assistant) = (None, None, None);
            }),
        ),
        (
            "in_a_hotel",
            with(&|facts| {
                facts.login.as_mut().unwrap().problem = Some(NotReached::Malformed);
                facts.login.as_mut().unwrap().clock_ahead = None;
                facts.broker.as_mut().unwrap().problem = Some(Problem::Unreachable);
                facts.assistant = None;
                facts.waiting = vec![Waiting { what: Kept::SignIn, since: now() }];
            }),
        ),
        (
            "a_wrong_clock",
            with(&|facts| {
                facts.login.as_mut().unwrap().clock_ahead = Some(-720);
                facts.assistant = Some(Assistant { said_online: Some(false), ..Assistant::default() });
            }),
        ),
    ]
}

#[test]
fn the_window_says_first_what_is_to_be_done_and_its_report_is_the_one_that_names_nobody() {
    for (name, facts) in days() {
        let sheet = Sheet::of(&facts, "valet-key", ENGLISH);
        assert!(sheet.lines.is_sorted_by_key(|line| std::cmp::Reverse(line.level)), "{name}");
        assert_eq!(sheet.lines.len(), findings(&facts, ENGLISH).len());
        assert_eq!(sheet.report, report(&facts, "valet-key", ENGLISH));
        assert!(!sheet.report.contains("ana@"), "{}", sheet.report);
        insta::assert_json_snapshot!(name, sheet, { ".report" => "[report]" });
    }
}
