//! Invites as people pass them on, and as people might abuse them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{b64, invite, now, unb64};
use jiff::SignedDuration;
use serde_json::{Value, json};
use url::Url;
use valetkey_handoff::invite::{Field, MAX_LINK_CHARS};
use valetkey_handoff::{BrokerAccess, Invite, InviteError, InviteId, InviteSecret, Terms};

fn link() -> String {
    invite().to_link().unwrap().expose().clone()
}

fn https_link() -> String {
    let page = "https://contoso.example/valet-key?from=mail".parse().unwrap();
    invite().to_https_link(&page).unwrap().expose().clone()
}

/// A link around any JSON.
fn link_of(json: &Value) -> String {
    format!("valetkey://invite/{}", b64(json.to_string()))
}

fn json() -> Value {
    serde_json::from_slice(&unb64(link().strip_prefix("valetkey://invite/").unwrap())).unwrap()
}

#[test]
fn both_links_hold_the_whole_invite() {
    assert_eq!(Invite::parse(&link()), Ok(invite()));
    assert_eq!(Invite::parse(&https_link()), Ok(invite()));
}

#[test]
fn the_https_link_shows_the_web_server_nothing() {
    let url: Url = https_link().parse().unwrap();
    assert_eq!((url.path(), url.query()), ("/valet-key", Some("from=mail")));
    assert!(invite().to_https_link(&"http://contoso.example/".parse().unwrap()).is_err());
}

#[test]
fn a_link_is_read_however_it_was_pasted() {
    for link in [link(), https_link()] {
        let (start, end) = link.split_at(link.len() / 2);
        let mut wrapped = String::new();
        for (index, c) in link.chars().enumerate() {
            if index % 76 == 75 {
                wrapped.push_str("\r\n  ");
            }
            wrapped.push(c);
        }
        for pasted in [
            format!("  {link}\n"),
            format!("<{link}>"),
            format!("\"{link}\"."),
            format!("„{link}“"),
            format!("({link}),"),
            format!("{start}\u{200B}{end}"),
            format!("\u{FEFF}{start}\n{end}"),
            link.replacen("valetkey", "ValetKey", 1).replacen("https", "HTTPS", 1),
            wrapped,
        ] {
            assert_eq!(Invite::parse(&pasted), Ok(invite()), "{pasted}");
        }
    }
    assert_eq!(Invite::parse(&format!("{}/", link())), Ok(invite()));
}

#[test]
fn what_is_no_invite_is_called_so() {
    for text in [
        "",
        "hello",
        "valetkey://",
        "valetkey://invite",
        "valetkey://invite/",
        "valetkey://other/AAAA",
        "https://contoso.example/",
        "https://contoso.example/#",
        "é",
    ] {
        assert_eq!(Invite::parse(text), Err(InviteError::NotAnInvite), "{text}");
    }
    assert_eq!(Invite::parse(&https_link().replacen("https", "http", 1)), Err(InviteError::NotAnInvite));
    assert_eq!(Invite::parse(&link().replacen("valetkey", "javascript", 1)), Err(InviteError::NotAnInvite));
}

#[test]
fn a_link_cut_anywhere_is_damaged_not_something_else() {
    let link = link();
    for length in "valetkey://invite/".len() + 1..link.len() {
        assert_eq!(Invite::parse(&link[..length]), Err(InviteError::Damaged), "{length} characters");
    }
    for garbage in ["valetkey://invite/AAAA", "valetkey://invite/%00", "https://contoso.example/#top"] {
        assert_eq!(Invite::parse(garbage), Err(InviteError::Damaged), "{garbage}");
    }
}

#[test]
fn a_huge_paste_is_refused_by_its_size() {
    let at = |length: usize| format!("valetkey://invite/{}", "A".repeat(length - "valetkey://invite/".len()));
    assert_eq!(Invite::parse(&at(MAX_LINK_CHARS)), Err(InviteError::Damaged));
    assert_eq!(Invite::parse(&at(MAX_LINK_CHARS + 1)), Err(InviteError::TooLong));
    assert_eq!(Invite::parse(&" ".repeat(1 << 20)), Err(InviteError::TooLong));
}

#[test]
fn a_newer_invite_is_called_so() {
    let newer = link_of(&json!({"v": 2, "everything": "else"}));
    assert_eq!(Invite::parse(&newer), Err(InviteError::UnsupportedVersion(2)));
}

#[test]
fn a_usual_invite_fits_a_qr_code() {
    let mut longest = invite();
    longest.name = "The assistant of the Contoso legal team".parse().unwrap();
    longest.broker.username = Some("3f0c2a34b1d24e6f9c58a7d1e0b4c693".into());
    longest.broker.password = Some(b64([7; 24]).as_str().into());
    longest.terms.email = Some("maximiliane.von-und-zu-mustermann@subsidiary.contoso.example".into());
    longest.terms.capabilities =
        ["mail", "calendar", "mail-shared", "calendar-shared"].map(String::from).into();
    let length = longest.to_link().unwrap().expose().len();
    assert!(length < 1_300, "{length} characters");
    assert!(link().len() < 1_200, "{} characters", link().len());
}

#[test]
fn an_invite_ends_at_its_time() {
    let invite = invite();
    assert!(!invite.is_expired(now()));
    assert!(!invite.is_expired(invite.expires_at - SignedDuration::from_secs(1)));
    assert!(invite.is_expired(invite.expires_at));
}

#[test]
fn the_public_name_is_made_of_the_secret_alone_and_does_not_show_it() {
    let secret = InviteSecret::from_bytes([1; 16]);
    assert_eq!(secret.id(), InviteSecret::from_bytes([1; 16]).id());
    assert_ne!(secret.id(), InviteSecret::from_bytes([2; 16]).id());
    // printf 'valetkey/invite-id/v1\1\1…' | sha256sum, the first 16 bytes.
    assert_eq!(secret.id().as_str(), "EGj33qMtnGh6N9l8DoKqVQ");
    assert_eq!(secret.id().as_str().parse::<InviteId>(), Ok(secret.id()));
    for wrong in ["", "+", "AAAA", &"A".repeat(23), "AAAAAAAAAAAAAAAAAAAA/A"] {
        assert!(wrong.parse::<InviteId>().is_err(), "{wrong}");
    }
    assert_ne!(InviteSecret::generate(), InviteSecret::generate());
}

#[test]
fn names_that_could_deceive_are_refused() {
    for name in ["", "Contoso\u{202E}", "Con\u{200B}toso", "Contoso\nIT", &"C".repeat(65)] {
        let mut changed = json();
        changed["name"] = json!(name);
        assert_eq!(Invite::parse(&link_of(&changed)), Err(InviteError::Damaged), "{name:?}");
    }
}

#[test]
fn only_mqtt_brokers_are_contacted() {
    for good in [
        "mqtt://10.0.0.1",
        "mqtts://b.example:8883",
        "ws://b.example/mqtt",
        "wss://b.example:443/mqtt",
        "mqtt://[::1]:1883",
    ] {
        let mut changed = invite();
        changed.broker.url = good.parse().unwrap();
        assert_eq!(Invite::parse(changed.to_link().unwrap().expose()), Ok(changed), "{good}");
    }
    for bad in [
        "https://b.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "tcp://b.example",
        "mqtt:b.example",
        "mqtt://",
        "mqtts://ana@b.example",
        "mqtts://:secret@b.example",
        "mqtts://b.example/#x",
        &format!("mqtts://{}.example", "b".repeat(300)),
    ] {
        let mut changed = json();
        changed["broker"]["url"] = json!(bad);
        assert_eq!(Invite::parse(&link_of(&changed)), Err(InviteError::Unacceptable(Field::Broker)), "{bad}");
    }
}

#[test]
fn terms_that_could_deceive_or_lead_elsewhere_are_neither_made_nor_read() {
    let cases: [(&str, Value, Field); 18] = [
        ("email", json!("ana"), Field::Email),
        ("email", json!("@contoso.example"), Field::Email),
        ("email", json!("ana@contoso.example (your boss)"), Field::Email),
        ("email", json!("ana\u{202E}@contoso.example"), Field::Email),
        ("email", json!(format!("{}@contoso.example", "a".repeat(254))), Field::Email),
        ("authority", json!("http://login.example"), Field::Authority),
        ("authority", json!("https://ana@login.example"), Field::Authority),
        ("authority", json!("https://:secret@login.example"), Field::Authority),
        ("authority", json!("https://login.example/?x=1"), Field::Authority),
        ("authority", json!("login.example"), Field::Authority),
        ("authority", json!("http://localhost.evil.example"), Field::Authority),
        ("graph", json!("file:///etc/passwd"), Field::Graph),
        ("tenant", json!(""), Field::Tenant),
        ("tenant", json!("common/../evil"), Field::Tenant),
        ("client_id", json!("id&scope=all"), Field::ClientId),
        ("client_id", json!("x".repeat(255)), Field::ClientId),
        ("capabilities", json!(["Read your mail"]), Field::Capabilities),
        ("capabilities", json!(vec!["mail"; 33]), Field::Capabilities),
    ];
    for (member, value, field) in cases {
        let mut changed = json();
        changed["terms"][member] = value;
        assert_eq!(Invite::parse(&link_of(&changed)), Err(InviteError::Unacceptable(field)), "{changed}");

        let terms: Terms = serde_json::from_value(changed["terms"].clone()).unwrap();
        let made = Invite { terms, ..invite() }.to_link();
        assert_eq!(made.err(), Some(InviteError::Unacceptable(field)));
    }
    for authority in [
        "http://localhost:4000",
        "http://127.0.0.1:4000",
        "http://[::1]:4000",
        "https://login.partner.microsoftonline.cn/",
    ] {
        let terms = Terms { authority: authority.into(), ..common::terms() };
        assert_eq!(terms.check(), Ok(()), "{authority}");
    }
}

#[test]
fn an_invite_too_long_to_be_read_back_is_not_made() {
    let broker = BrokerAccess {
        username: Some("é".repeat(254)),
        password: Some("é".repeat(254).as_str().into()),
        ..invite().broker
    };
    let terms = Terms { capabilities: vec!["c".repeat(48); 32], ..common::terms() };
    assert_eq!(Invite { broker, terms, ..invite() }.to_link().err(), Some(InviteError::TooLong));
}

#[test]
fn a_damaged_key_or_secret_is_damage() {
    for (pointer, value) in [
        ("/agent/age", json!("age1qqqq")),
        ("/agent/sign/x", json!(b64([0; 32]))),
        ("/secret", json!(b64([0; 15]))),
        ("/secret", json!(null)),
        ("/exp", json!("soon")),
        ("/v", json!("1")),
    ] {
        let mut changed = json();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert_eq!(Invite::parse(&link_of(&changed)), Err(InviteError::Damaged), "{pointer}");
    }
}
