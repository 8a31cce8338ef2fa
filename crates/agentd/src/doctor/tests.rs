use jiff::{SignedDuration, Timestamp};
use valetkey_checkup::{Finding, Level, Report, has_problem};

use super::decide::findings;
use super::facts::{
    Account, Audit, Broker, Device, Directory, Facts, Link, Login, Met, Mosquitto, Status, Tried, Trouble,
    Vault,
};
use super::redactor;
use crate::vault_key::Source;

fn now() -> Timestamp {
    "2026-11-21T09:30:00Z".parse().unwrap()
}

fn status() -> Status {
    Status {
        link: Link { state: "up".into(), since: Some(now()), problem: None },
        accounts: vec![account("connected")],
        devices: vec![Device { enrolled_at: now(), heard_at: Some(now()) }],
        open_invites: 0,
        refused_messages: 0,
        troubles: vec![],
        vault_key_from: None,
    }
}

fn account(health: &str) -> Account {
    Account {
        username: "ana@contoso.example".into(),
        health: health.into(),
        reason: Some("revoked".into()),
        since: now() - SignedDuration::from_mins(7),
        refreshed_at: Some(now()),
    }
}

fn operators() -> Broker {
    Broker::Operators { url: "mqtts://mqtt.contoso.example".into(), tls: true, loopback: false, proxy: None }
}

/// Everything works.
fn well() -> Facts {
    Facts {
        at: now(),
        directory: Directory {
            path: "/var/lib/valetkey-agent".into(),
            exists: true,
            is_plain: true,
            has_agent: true,
            owner: 1000,
            us: 1000,
            mode: 0o700,
            unwritable: None,
            free_bytes: Some(1 << 40),
            holder: Some(4711),
        },
        configuration_problem: None,
        configuration_file: "/etc/its agent.toml".into(),
        has_client_id: true,
        vault: Some(Vault {
            sealed: true,
            interrupted: false,
            key_from: Some(Source::Credential),
            key_file: None,
        }),
        agent: Met::Running { status: status() },
        broker: Some(Broker::Own {
            mosquitto: Some(Mosquitto {
                program: "/usr/sbin/mosquitto".into(),
                version: Some("2.0.11".into()),
            }),
            max_queued_messages: 1000,
            address: "mqtt://127.0.0.1:18883".into(),
            open_without_tls: false,
        }),
        login: Some(Login {
            host: "login.microsoftonline.com".into(),
            proxy: None,
            problem: None,
            clock_ahead: Some(1),
        }),
        audit: Some(Audit { intact: true, lines: 12, problems: vec![] }),
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = well();
    change(&mut facts);
    findings(&facts)
}

fn with_status(change: impl FnOnce(&mut Status)) -> Vec<Finding> {
    let mut status = status();
    change(&mut status);
    with(|facts| facts.agent = Met::Running { status })
}

/// The one finding of this check, its level, and a part of what it says or advises.
#[track_caller]
fn assert_says(found: &[Finding], check: &str, level: Level, parts: &[&str]) {
    let one: Vec<&Finding> = found.iter().filter(|finding| finding.check == check).collect();
    let [one] = one.as_slice() else { panic!("{check}: {found:#?}") };
    assert_eq!(one.level, level, "{one:?}");
    for part in parts {
        let said = one.text.contains(part) || one.action.as_ref().is_some_and(|action| action.contains(part));
        assert!(said, "{part}: {one:?}");
    }
    assert_eq!(
        one.level >= Level::Warning,
        one.action.is_some(),
        "whatever is wrong has one thing to do: {one:?}"
    );
}

#[test]
fn where_all_is_well_nothing_is_worse_than_good_to_know() {
    let found = findings(&well());
    assert!(found.iter().all(|finding| finding.level <= Level::Note), "{found:#?}");
    assert!(!has_problem(&found));
    for check in [
        "state_directory",
        "disk",
        "configuration",
        "agent",
        "vault",
        "mosquitto",
        "broker",
        "sign_in_service",
        "clock",
        "devices",
        "account",
        "audit",
    ] {
        assert_says(&found, check, Level::Ok, &[]);
    }
}

#[test]
fn a_directory_of_somebody_else_or_open_to_others_comes_with_the_command_that_mends_it() {
    let neither = || Met::Neither { code: "state_dir".into(), message: "no".into() };
    let found = with(|facts| {
        facts.directory.owner = 0;
        facts.agent = neither();
    });
    assert_says(&found, "state_directory", Level::Problem, &["user 0", "this is user 1000", "sudo -u '#0'"]);
    assert!(!found.iter().any(|finding| finding.check == "agent"), "said once: {found:#?}");
    let found = with(|facts| {
        facts.directory.mode = 0o755;
        facts.agent = neither();
    });
    assert_says(
        &found,
        "state_directory",
        Level::Problem,
        &["mode 755", "chmod 700 /var/lib/valetkey-agent"],
    );
    let found = with(|facts| facts.directory.is_plain = false);
    assert_says(&found, "state_directory", Level::Problem, &["not a directory", "Move it away"]);
}

#[test]
fn where_there_is_no_agent_that_is_all_there_is_to_say_of_it() {
    let found = with(|facts| {
        facts.directory = Directory { path: "/nowhere".into(), ..Directory::default() };
        facts.agent = Met::Neither { code: "configuration".into(), message: "there is no agent".into() };
        facts.configuration_problem = Some("cannot read".into());
        facts.vault = None;
        facts.broker = None;
        facts.login = None;
        facts.audit = None;
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_says(&found, "state_directory", Level::Problem, &["/nowhere", "valetkey-agent init"]);
}

/// Shows of the vault sealed at rest that an operator sees whether it is, and by what key.
#[test]
fn whether_the_vault_is_sealed_and_where_its_key_comes_from_is_said() {
    let vault = |sealed, interrupted, key_from| {
        let key_file = Some("/etc/valetkey/vault-key".into());
        with(|facts| facts.vault = Some(Vault { sealed, interrupted, key_from, key_file }))
    };
    for (source, part) in [
        (Some(Source::Descriptor), "file descriptor"),
        (Some(Source::Credential), "credential vault-key"),
        (Some(Source::File), "in /etc/valetkey/vault-key"),
        (None, "nobody gave this command"),
    ] {
        assert_says(&vault(true, false, source), "vault", Level::Ok, &["is sealed at rest", part]);
    }
    let open = vault(false, false, Some(Source::File));
    let one = open.iter().find(|finding| finding.check == "vault").unwrap();
    assert!(
        one.level == Level::Note && one.text.contains("not sealed at rest") && one.action.is_some(),
        "{one:?}"
    );
    assert_says(&vault(true, true, None), "vault", Level::Warning, &["interrupted", "vault status"]);
}

#[test]
fn a_disk_that_is_full_or_takes_nothing_is_said_before_it_hurts() {
    for (free, level) in [(1 << 20, Level::Problem), (32 << 20, Level::Warning), (1 << 30, Level::Ok)] {
        assert_says(&with(|facts| facts.directory.free_bytes = Some(free)), "disk", level, &["MiB"]);
    }
    let found = with(|facts| facts.directory.unwritable = Some("read-only filesystem".into()));
    assert_says(&found, "disk", Level::Problem, &["read-only filesystem"]);
}

#[test]
fn an_agent_that_does_not_run_or_does_not_answer_is_a_problem() {
    let found = with(|facts| facts.agent = Met::NotRunning { status: status(), try_broker: None });
    assert_says(&found, "agent", Level::Problem, &["no sign-in is renewed", "valetkey-agent serve"]);
    let found = with(|facts| facts.agent = Met::Neither { code: "held".into(), message: "x".into() });
    assert_says(&found, "agent", Level::Problem, &["process 4711"]);
    let found = with(|facts| facts.configuration_problem = Some("in agent.toml: line 3".into()));
    assert_says(&found, "configuration", Level::Problem, &["line 3"]);
    assert_says(
        &with(|facts| facts.has_client_id = false),
        "configuration",
        Level::Warning,
        &["client_id in /etc/its agent.toml"],
    );
}

/// Shows of the queue's limit that it is said for a broker of either kind, with why no sign-in is lost by it.
#[test]
fn a_brokers_queue_limit_is_said_and_why_it_loses_nothing() {
    for (broker, limit) in
        [(well().broker, "up to 1000 messages"), (Some(operators()), "max_queued_messages, 1000")]
    {
        let found = with(|facts| facts.broker = broker);
        let parts =
            [limit, "without a word", "sends it again until the agent's receipt", "valetkey-cli doctor"];
        let one = found.iter().find(|finding| finding.check == "broker_queue").unwrap();
        assert_eq!(one.level, Level::Note);
        assert!(parts.iter().all(|part| one.text.contains(part)), "{one:?}");
    }
}

#[test]
fn every_reason_to_be_without_a_broker_is_said_in_words_with_what_to_do() {
    let mut actions = std::collections::HashSet::new();
    for problem in valetkey_link::Problem::ALL {
        let problem = problem.to_string();
        for running in [true, false] {
            let found = with(|facts| {
                facts.broker = Some(operators());
                let mut status = status();
                facts.agent = if running {
                    status.link = Link { state: "down".into(), since: None, problem: Some(problem.clone()) };
                    Met::Running { status }
                } else {
                    Met::NotRunning { status, try_broker: Some(Tried::Failed(problem.clone())) }
                };
            });
            assert_says(&found, "broker", Level::Problem, &[&problem]);
            actions
                .extend(found.into_iter().filter(|one| one.check == "broker").filter_map(|one| one.action));
        }
    }
    assert!(actions.len() >= 8, "{actions:#?}");
    let found = with_status(|status| {
        status.link.state = "down".into();
        status.link.problem = Some("the broker's certificate is not valid at this time".into());
    });
    assert_says(&found, "broker", Level::Problem, &["started again by itself"]);
    let found = with(|facts| {
        let try_broker = Some(Tried::Unusable("cannot read /ca.pem".into()));
        facts.agent = Met::NotRunning { status: status(), try_broker };
    });
    assert_says(&found, "broker", Level::Problem, &["/ca.pem"]);
}

#[test]
fn a_broker_that_is_missing_or_open_to_the_network_is_said() {
    let own = |mosquitto, open_without_tls| {
        Some(Broker::Own {
            mosquitto,
            max_queued_messages: 1000,
            address: "mqtt://0.0.0.0:1".into(),
            open_without_tls,
        })
    };
    let found = with(|facts| facts.broker = own(None, false));
    assert_says(&found, "mosquitto", Level::Problem, &["not installed", "apt install mosquitto"]);
    let installed = Mosquitto { program: "/m".into(), version: None };
    let found = with(|facts| facts.broker = own(Some(installed), true));
    assert_says(&found, "broker_tls", Level::Warning, &["read on the way", "certificate_file"]);
    let found = with(|facts| {
        let url = "mqtt://mqtt.contoso.example".into();
        let proxy = Some("proxy.contoso.example:3128".into());
        facts.broker = Some(Broker::Operators { url, tls: false, loopback: false, proxy });
    });
    assert_says(&found, "broker_tls", Level::Warning, &["mqtts://"]);
    assert_says(&found, "broker_proxy", Level::Note, &["proxy.contoso.example:3128"]);
}

#[test]
fn a_clock_is_wrong_from_five_minutes_on_and_off_from_one() {
    let clock = |ahead| with(|facts| facts.login.as_mut().unwrap().clock_ahead = Some(ahead));
    for (ahead, level) in
        [(0, Level::Ok), (59, Level::Ok), (60, Level::Warning), (-299, Level::Warning), (300, Level::Problem)]
    {
        assert_says(&clock(ahead), "clock", level, &[]);
    }
    assert_says(&clock(-720), "clock", Level::Problem, &["720 seconds behind", "timedatectl"]);
}

#[test]
fn a_sign_in_service_that_is_of_no_use_is_said_with_why() {
    for (problem, action) in [
        ("it cannot be reached", "HTTPS_PROXY"),
        ("its certificate is not of an authority that this computer trusts", "install its certificate"),
        ("it answered with status 503", "login_url"),
    ] {
        let found = with(|facts| {
            let login = facts.login.as_mut().unwrap();
            (login.problem, login.clock_ahead) = (Some(problem.into()), None);
        });
        assert_says(&found, "sign_in_service", Level::Problem, &[problem, action]);
        assert!(!found.iter().any(|finding| finding.check == "clock"), "not known: {found:#?}");
    }
}

#[test]
fn every_health_of_an_account_has_its_level_and_its_advice() {
    for (health, level, part) in [
        ("connected", Level::Ok, "renewed 2026-11-21 09:30 UTC"),
        ("retrying", Level::Warning, "for 7 minutes"),
        ("reconnect_needed", Level::Problem, "click Reconnect"),
        ("blocked", Level::Problem, "docs/entra.md"),
        ("unknown", Level::Warning, "ana@contoso.example"),
    ] {
        let found = with_status(|status| status.accounts = vec![account(health)]);
        assert_says(&found, "account", level, &[part]);
    }
    let unsaved = Account { reason: Some("storage".into()), ..account("retrying") };
    let found = with_status(|status| status.accounts = vec![unsaved]);
    assert_says(&found, "account", Level::Problem, &["can be saved", "files"]);
}

#[test]
fn invites_refused_messages_silent_devices_and_troubles_are_said() {
    let found = with_status(|status| {
        status.open_invites = 2;
        status.refused_messages = 9;
        status.devices[0].heard_at = None;
        status.accounts.clear();
        status.troubles = vec![Trouble { file: "x.json".into(), problem: "it is damaged".into() }];
    });
    assert_says(&found, "invites", Level::Note, &["2"]);
    assert_eq!(
        found.iter().filter(|finding| finding.check == "messages" && finding.text.contains('9')).count(),
        1
    );
    assert_says(&found, "devices", Level::Note, &["none heard"]);
    assert_says(&found, "accounts", Level::Note, &["Nobody"]);
    assert_says(&found, "files", Level::Problem, &["x.json: it is damaged"]);
}

#[test]
fn an_audit_that_was_altered_is_a_problem() {
    let problems = vec!["audit.jsonl, line 3: this line or the one before it was altered".into()];
    let found = with(|facts| facts.audit = Some(Audit { intact: false, lines: 9, problems }));
    assert_says(&found, "audit", Level::Problem, &["line 3"]);
    assert_says(&with(|facts| facts.audit = None), "audit", Level::Warning, &["audit verify"]);
}

#[test]
fn a_report_names_servers_and_nobody() {
    let mut facts = well();
    let mut named = account("reconnect_needed");
    named.username = "ana".into();
    let accounts = vec![account("connected"), named];
    facts.agent = Met::Running { status: Status { accounts, ..status() } };
    let found = findings(&facts);
    let text = Report::new(("valetkey-agent", "1"), now(), &found, &facts).text(&mut redactor(&facts));
    assert!(!text.contains("ana@") && !text.contains("ana must"), "{text}");
    for part in
        ["@contoso.example is connected", "person-2 must sign in again", "login.microsoftonline.com", "4711"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
