//! One state of every kind, for the snapshots of the views and of the tray menus.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use url::Url;
use uuid::Uuid;
use valetkey_entra::account::AccountId;
use valetkey_handoff::{BrokerAccess, Invite, InviteSecret, Keys, Label, PublicKeys, Terms};
use valetkey_link::Clock;

use crate::controller::{Options, Way};
use crate::keystore::{EntryName, KeyStore, MemoryKeyStore};
use crate::pairing::{Entry, PairingFile};
use crate::problem::{Distrust, Holder, InviteProblem, KeysProblem, Problem, Program, SignInProblem};
use crate::state::{
    Account, Activity, Assistant, Delivery, Flow, Happening, Health, LinkProblem, LinkState, Offer, Pairing,
    Pinned, SignInLink, State,
};
use crate::texts::Language;

pub(crate) const ANA: AccountId = AccountId { tid: Uuid::from_u128(0xc0), oid: Uuid::from_u128(0xa0a) };

pub(crate) const BOB: AccountId = AccountId { tid: Uuid::from_u128(0xfab), oid: Uuid::from_u128(0xb0b) };

pub(crate) fn now() -> Timestamp {
    "2026-11-21T09:12:00Z".parse().unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_mins(minutes)
}

fn ahead(minutes: i64) -> Timestamp {
    ago(-minutes)
}

pub(crate) fn assistant() -> Assistant {
    Assistant {
        name: "Rocky".into(),
        email: Some("ana@contoso.example".into()),
        capabilities: vec!["mail".into(), "calendar".into()],
        permissions: ["User.Read", "Mail.Read", "Calendars.Read"].map(String::from).into(),
        client_id: "11111111-1111-4111-8111-111111111111".into(),
        tenant: "organizations".into(),
        login_host: "login.microsoftonline.com".into(),
        enrolled: true,
        pinned: None,
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        agent: "Rocky".into(),
        email: Some("ana@contoso.example".into()),
        capabilities: vec!["mail".into(), "calendar".into()],
        words: ["anchor", "violin", "meadow", "copper"].map(String::from),
        expires_at: ahead(9),
        broker_host: "mqtt.contoso.example".into(),
        login_host: "login.microsoftonline.com".into(),
        login_is_microsofts: true,
        replaces: None,
        another_failed: false,
    }
}

/// A companion of a test, which shows nothing to anybody.
pub(crate) fn options(data_dir: &Path, keys: Arc<dyn KeyStore>) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        keys,
        outlets: mpsc::unbounded_channel().0,
        clock: Clock::system(),
        language: Language::English,
        device_name: "a test".into(),
        sign_in: Way::DeviceCode,
        policy_file: None,
        broker_ca: None,
    }
}

/// An invite for whoever opens it, to sign in at Microsoft.
pub(crate) fn invite(name: &str, agent: PublicKeys) -> Invite {
    Invite {
        name: Label::tidy(name),
        agent,
        broker: BrokerAccess {
            url: "mqtts://mqtt.contoso.example".parse().unwrap(),
            username: None,
            password: None,
        },
        secret: InviteSecret::generate(),
        expires_at: Timestamp::MAX,
        terms: Terms {
            email: None,
            authority: "https://login.microsoftonline.com".into(),
            graph: None,
            tenant: "organizations".into(),
            client_id: "11111111-1111-4111-8111-111111111111".into(),
            capabilities: vec!["mail".into()],
        },
    }
}

/// On the disk and in the key store: a pairing with `name`, whose broker is not there.
pub(crate) async fn pairing_with(name: &str, dir: &Path) -> (Invite, Options) {
    let (keys, store) = (Keys::generate(), MemoryKeyStore::default());
    let mut invite = invite(name, Keys::generate().public());
    invite.broker.url = "mqtt://127.0.0.1:1".parse().unwrap();
    PairingFile::create(dir, &invite, &keys).unwrap();
    let entry = Entry::new(&keys, &invite.broker).to_secret().unwrap();
    store.store(EntryName::Device(keys.thumbprint()), entry).await.unwrap();
    (invite, options(dir, Arc::new(store)))
}

fn offer_of_a_look_alike() -> Offer {
    let login_host = "login.microsoftonline.com.evil.example".into();
    Offer { login_host, login_is_microsofts: false, ..offer() }
}

pub(crate) fn account(health: Health) -> Account {
    Account {
        id: ANA,
        address: "ana@contoso.example".into(),
        health,
        reason: match health {
            Health::ReconnectNeeded => Some("sign-in-frequency".into()),
            Health::Blocked => Some("conditional-access".into()),
            _ => None,
        },
        claims: None,
        generation: 1,
        checked_at: Some(ago(4)),
        capabilities: vec!["mail".into(), "calendar".into()],
    }
}

/// Paired, connected to the broker, and told by the assistant that it has no account.
pub(crate) fn paired() -> State {
    State {
        pairing: Pairing::Paired(assistant()),
        link: LinkState::Up,
        agent_online: Some(true),
        agent_last_seen: Some(ago(1)),
        heard: Some(Vec::new()),
        ..State::default()
    }
}

pub(crate) fn heard(health: Health) -> State {
    let pinned = Some(Pinned { id: ANA, address: "ana@contoso.example".into() });
    State {
        pairing: Pairing::Paired(Assistant { pinned, ..assistant() }),
        heard: Some(vec![account(health)]),
        activity: [
            (4, Happening::Renewed { address: String::new() }),
            (60, Happening::Connected { address: "ana@contoso.example".into() }),
        ]
        .map(|(minutes, what)| Activity { at: ago(minutes), what })
        .into(),
        ..paired()
    }
}

fn delivery(delivered: bool) -> Delivery {
    Delivery { account: ANA, address: "ana@contoso.example".into(), generation: 1, delivered }
}

fn flow(flow: Flow) -> State {
    State { flow, ..paired() }
}

fn failed(problem: impl Into<Problem>) -> State {
    flow(Flow::Failed(problem.into()))
}

fn waiting(device_code: Option<&str>) -> State {
    let url: Url = match device_code {
        None => "https://login.microsoftonline.com/organizations/oauth2/v2.0/authorize?state=x",
        Some(_) => "https://login.microsoft.com/device",
    }
    .parse()
    .unwrap();
    flow(Flow::Waiting {
        id: 1,
        link: SignInLink::new(&url),
        until: ahead(4),
        device_code: device_code.map(str::to_owned),
    })
}

fn down(state: State, reason: LinkProblem) -> State {
    State { link: LinkState::Down { since: ago(3), reason }, agent_online: None, ..state }
}

/// Every screen, and every refusal, by a name for its snapshot.
#[expect(clippy::too_many_lines, reason = "one entry a state; splitting would only hide which are missing")]
pub(crate) fn all() -> Vec<(&'static str, State)> {
    let administrator = || ("admin-consent".to_owned(), vec![90_094]);
    vec![
        ("checking", State::default()),
        ("checking_paired", State { hello_since: Some(now()), heard: None, ..heard(Health::Connected) }),
        ("not_paired", State { pairing: Pairing::Missing, ..State::default() }),
        ("invited", State { pairing: Pairing::Missing, offer: Some(offer()), ..State::default() }),
        (
            "invited_elsewhere",
            State { pairing: Pairing::Missing, offer: Some(offer_of_a_look_alike()), ..State::default() },
        ),
        (
            "invited_replacing",
            State { offer: Some(Offer { replaces: Some("Old Rocky".into()), ..offer() }), ..paired() },
        ),
        (
            "invited_another_failed",
            State {
                pairing: Pairing::Missing,
                offer: Some(Offer { another_failed: true, ..offer() }),
                ..State::default()
            },
        ),
        ("pairing", State { flow: Flow::Pairing, offer: Some(offer()), ..State::default() }),
        ("not_connected", paired()),
        ("starting", flow(Flow::Starting { id: 1 })),
        ("waiting", waiting(None)),
        ("waiting_device_code", waiting(Some("ABCD-EFGH"))),
        ("handing_over_signed_in", flow(Flow::Finishing { id: 1, signed_in: true, checked: false })),
        ("handing_over_sealed", State { delivery: Some(delivery(false)), ..paired() }),
        ("handing_over_delivered", State { delivery: Some(delivery(true)), ..paired() }),
        ("connected", heard(Health::Connected)),
        ("connected_retrying", heard(Health::Retrying)),
        ("agent_offline", State { agent_online: Some(false), ..heard(Health::Connected) }),
        (
            "agent_offline_pending",
            State { agent_online: Some(false), delivery: Some(delivery(true)), ..paired() },
        ),
        ("no_network", down(heard(Health::Connected), LinkProblem::Unreachable)),
        ("broker_not_secure", down(heard(Health::Connected), LinkProblem::NotSecure)),
        ("broker_wrong_name", down(heard(Health::Connected), LinkProblem::WrongName)),
        ("broker_expired", down(heard(Health::Connected), LinkProblem::Expired)),
        ("broker_refused", down(heard(Health::Connected), LinkProblem::Refused)),
        ("broker_wants_certificate", down(heard(Health::Connected), LinkProblem::NoCertificate)),
        ("reconnect", heard(Health::ReconnectNeeded)),
        ("wrong_account", flow(Flow::WrongAccount { signed_in_as: "bob@fabrikam.example".into() })),
        ("blocked", {
            let (reason, aadsts) = administrator();
            flow(Flow::Blocked { reason, aadsts })
        }),
        ("blocked_by_agent", heard(Health::Blocked)),
        (
            "keyring_locked",
            State {
                pairing: Pairing::NoKeys { problem: KeysProblem::Locked, since: now() },
                ..State::default()
            },
        ),
        ("keyring_unavailable", failed(KeysProblem::Unavailable)),
        (
            "keys_unreadable",
            State {
                pairing: Pairing::NoKeys { problem: KeysProblem::Unreadable, since: now() },
                ..State::default()
            },
        ),
        (
            "pairing_forbidden",
            State {
                pairing: Pairing::NoKeys { problem: KeysProblem::Forbidden, since: now() },
                ..State::default()
            },
        ),
        (
            "broker_certificates",
            State {
                pairing: Pairing::NoKeys { problem: KeysProblem::Certificates, since: now() },
                ..State::default()
            },
        ),
        ("invite_certificates", failed(InviteProblem::Certificates)),
        (
            "in_use",
            State {
                pairing: Pairing::NoKeys {
                    problem: KeysProblem::InUse(Some(Holder { program: Program::Terminal, pid: 4711 })),
                    since: now(),
                },
                ..State::default()
            },
        ),
        ("invite_unreadable", State { pairing: Pairing::Missing, ..failed(InviteProblem::Unreadable) }),
        ("invite_expired", failed(InviteProblem::Expired)),
        ("invite_forbidden", failed(InviteProblem::Forbidden)),
        ("invite_elsewhere", failed(InviteProblem::Elsewhere)),
        ("invite_used", failed(InviteProblem::Used)),
        ("timed_out", failed(SignInProblem::TimedOut)),
        ("port_busy", failed(SignInProblem::PortBusy { by: None })),
        ("port_busy_by", failed(SignInProblem::PortBusy { by: Some("python3 (process 4242)".into()) })),
        ("provider_unreachable", failed(SignInProblem::NoNetwork)),
        ("provider_not_secure", failed(SignInProblem::NotSecure { expired: false })),
        ("provider_certificate_over", failed(SignInProblem::NotSecure { expired: true })),
        ("provider_unavailable", failed(SignInProblem::ProviderUnavailable)),
        ("provider_malformed", failed(SignInProblem::ProviderMalformed)),
        ("untrusted_signature", failed(SignInProblem::Untrusted(Distrust::Signature))),
        ("untrusted_algorithm", failed(SignInProblem::Untrusted(Distrust::Algorithm))),
        ("untrusted_audience", failed(SignInProblem::Untrusted(Distrust::Audience))),
        ("untrusted_issuer", failed(SignInProblem::Untrusted(Distrust::Issuer))),
        ("untrusted_nonce", failed(SignInProblem::Untrusted(Distrust::Nonce))),
        ("untrusted_claims", failed(SignInProblem::Untrusted(Distrust::Claims))),
        ("untrusted_mixed_up", failed(SignInProblem::Untrusted(Distrust::MixedUp))),
        ("clock_wrong", failed(SignInProblem::ClockWrong { behind_minutes: Some(12) })),
        ("clock_wrong_expired", failed(SignInProblem::ClockWrong { behind_minutes: None })),
        ("wrong_tenant", failed(SignInProblem::WrongTenant)),
        ("person_unconfirmed", failed(SignInProblem::PersonUnconfirmed)),
        ("no_lasting_access", failed(SignInProblem::NoLastingAccess)),
        (
            "access_missing",
            failed(SignInProblem::AccessMissing { permissions: vec!["Calendars.Read".into()] }),
        ),
        (
            "access_exceeded",
            failed(SignInProblem::AccessExceeded { permissions: vec!["Mail.ReadWrite".into()] }),
        ),
        (
            "operator",
            failed(SignInProblem::Operator { reason: "client-misconfigured".into(), aadsts: vec![700_016] }),
        ),
        ("no_licence", failed(SignInProblem::NoLicence)),
        ("refused", failed(SignInProblem::Refused("mfa".into()))),
        ("handoff_refused", failed(Problem::HandoffRefused("terms-mismatch".into()))),
        ("cannot_save", failed(Problem::CannotSave)),
    ]
}
