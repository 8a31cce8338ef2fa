//! What `open` accepts and, above all, what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    age_file, agent, b64, cache_updated, device, device_signing, facts, header, inner, jws, now, parts,
    to_agent, to_device,
};
use serde_json::{Value, json};
use valetkey_handoff::message::Hello;
use valetkey_handoff::{
    Digest, Keys, MAX_MESSAGE_BYTES, OpenError, Opened, SealError, Sensitive, ToAgent, ToDevice, open, seal,
};

fn open_at_agent(bytes: &[u8]) -> Result<Opened<ToAgent>, OpenError> {
    open(bytes, &device().public(), &agent(), now())
}

fn refusal(bytes: &[u8]) -> OpenError {
    open_at_agent(bytes).expect_err("must be refused")
}

/// A hello with some members of the header and of the sealed JSON changed; null takes one away.
fn hello_with(header_changes: Value, inner_changes: Value) -> Vec<u8> {
    let payload = age_file(&changed(inner(), inner_changes).to_string(), &agent());
    jws(&changed(header(), header_changes).to_string(), &payload, &device_signing())
}

fn changed(mut object: Value, changes: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    object
}

#[test]
fn every_kind_arrives_as_it_was_sent() {
    for message in to_agent() {
        let sealed = seal(&device(), &agent().public(), &facts(), &message).unwrap();
        let opened = open_at_agent(sealed.as_bytes()).unwrap();
        assert_eq!(opened.message, message);
        assert_eq!((opened.digest, opened.header.jti), (sealed.digest, facts().jti));
        assert_eq!(opened.digest, Digest::of(sealed.as_bytes()));
        assert_eq!((opened.header.generation, opened.header.issued_at), (7, now()));
        assert_eq!((opened.header.iss, opened.header.aud), (device().thumbprint(), agent().thumbprint()));
    }
    for message in to_device() {
        let sealed = seal(&agent(), &device().public(), &facts(), &message).unwrap();
        let opened: Opened<ToDevice> = open(sealed.as_bytes(), &agent().public(), &device(), now()).unwrap();
        assert_eq!(opened.message, message);
    }
}

#[test]
fn a_message_made_by_other_tools_is_opened() {
    let opened = open_at_agent(&hello_with(json!({}), json!({}))).unwrap();
    assert_eq!(opened.message, Hello {}.into());
}

#[test]
fn the_token_cache_arrives_byte_for_byte() {
    let ToAgent::CacheUpdated(opened) = open_at_agent(
        seal(&device(), &agent().public(), &facts(), &ToAgent::from(cache_updated())).unwrap().as_bytes(),
    )
    .unwrap()
    .message
    else {
        panic!("another kind")
    };
    assert_eq!(opened.cache.expose(), cache_updated().cache.expose());
}

#[test]
fn a_handoff_that_waited_in_an_outbox_for_months_is_still_opened() {
    let sealed = seal(&device(), &agent().public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    let much_later = now() + jiff::SignedDuration::from_hours(24 * 90);
    assert!(open::<ToAgent>(sealed.as_bytes(), &device().public(), &agent(), much_later).is_ok());
    // And by a clock that is behind the sender's.
    let earlier = now() - jiff::SignedDuration::from_hours(24 * 90);
    assert!(open::<ToAgent>(sealed.as_bytes(), &device().public(), &agent(), earlier).is_ok());
}

#[test]
fn an_expiry_that_is_there_is_honoured() {
    let expires = |seconds: i64| hello_with(json!({"exp": now().as_second() + seconds}), json!({}));
    assert!(open_at_agent(&expires(1)).is_ok());
    assert_eq!(refusal(&expires(0)), OpenError::Expired);
}

#[test]
fn a_change_of_any_character_is_refused() {
    let sealed = seal(&device(), &agent().public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    for position in 0..sealed.text.len() {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        assert!(open_at_agent(&bytes).is_err(), "character {position}");
        bytes[position] = b'.';
        assert!(bytes == sealed.as_bytes() || open_at_agent(&bytes).is_err(), "character {position}");
    }
}

#[test]
fn a_message_cut_at_any_length_or_with_anything_added_is_refused() {
    let sealed = seal(&device(), &agent().public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    for length in 0..sealed.text.len() {
        assert!(open_at_agent(&sealed.as_bytes()[..length]).is_err(), "{length} characters");
    }
    for added in ["\n", " ", "=", "A", ".", ".A"] {
        assert_eq!(refusal(format!("{}{added}", sealed.text).as_bytes()), OpenError::Malformed, "{added:?}");
        assert_eq!(refusal(format!("{added}{}", sealed.text).as_bytes()), OpenError::Malformed, "{added:?}");
    }
}

#[test]
fn a_message_from_somebody_else_is_refused() {
    let eve = Keys::generate();
    let sealed = seal(&eve, &agent().public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    assert_eq!(refusal(sealed.as_bytes()), OpenError::WrongSender);
}

#[test]
fn a_message_that_only_claims_to_be_from_the_device_is_refused() {
    let payload = age_file(&inner().to_string(), &agent());
    let forged = jws(&header().to_string(), &payload, &common::agent_signing());
    assert_eq!(refusal(&forged), OpenError::WrongSignature);
}

#[test]
fn a_message_to_somebody_else_is_refused_even_if_readdressed() {
    let other = Keys::generate();
    let sealed = seal(&device(), &other.public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    assert_eq!(refusal(sealed.as_bytes()), OpenError::WrongReceiver);

    let (_, payload, signature) = parts(&sealed.text);
    let readdressed = format!("{}.{}.{}", b64(header().to_string()), b64(&payload), b64(signature));
    assert_eq!(refusal(readdressed.as_bytes()), OpenError::WrongSignature);
    let signed_again = jws(&header().to_string(), &payload, &device_signing());
    assert_eq!(refusal(&signed_again), OpenError::Undecryptable);
}

#[test]
fn another_devices_sealed_file_cannot_be_signed_as_ones_own() {
    let eve_signing = ed25519_dalek::SigningKey::from_bytes(&[0x66; 32]);
    let eve = common::keys_of(&eve_signing, &Keys::generate().age_identity().expose().to_owned());
    let sealed = seal(&device(), &agent().public(), &facts(), &ToAgent::from(cache_updated())).unwrap();
    let (mut stolen, payload, _) = parts(&sealed.text);
    stolen["iss"] = json!(eve.thumbprint());
    stolen["kid"] = json!(eve.thumbprint());
    let resigned = jws(&stolen.to_string(), &payload, &eve_signing);
    let opened = open::<ToAgent>(&resigned, &eve.public(), &agent(), now());
    assert_eq!(opened.err(), Some(OpenError::Mismatch));
}

#[test]
fn a_sealed_file_cannot_be_sent_again_under_a_new_name() {
    let other_name = json!({"jti": "11111111-1111-4111-8111-111111111111"});
    assert_eq!(refusal(&hello_with(other_name.clone(), json!({}))), OpenError::Mismatch);
    assert_eq!(refusal(&hello_with(json!({}), other_name)), OpenError::Mismatch);
}

#[test]
fn a_message_cannot_be_played_in_the_other_direction() {
    let sealed = seal(&agent(), &device().public(), &facts(), &to_device()[0]).unwrap();
    let opened = open::<ToAgent>(sealed.as_bytes(), &agent().public(), &device(), now());
    assert_eq!(opened.err(), Some(OpenError::UnknownKind));
}

#[test]
fn only_one_profile_of_header_is_read() {
    for changes in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "eddsa"}),
        json!({"alg": null}),
        json!({"typ": "JWT"}),
        json!({"typ": null}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"b64": false}),
        json!({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(device_signing().verifying_key())}}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5c": []}),
        json!({"zip": "DEF"}),
        json!({"enroll": {"invite": b64([0; 16]), "device": device().public(), "proof": b64([0; 32])}}),
        json!({"kid": agent().thumbprint()}),
        json!({"kid": null}),
        json!({"iss": null}),
        json!({"iss": "short"}),
        json!({"aud": null}),
        json!({"aud": [agent().thumbprint()]}),
        json!({"jti": "not a uuid"}),
        json!({"gen": -1}),
        json!({"gen": 1.5}),
        json!({"gen": "7"}),
        json!({"gen": null}),
        json!({"iat": i64::MAX}),
        json!({"iat": null}),
        json!({"exp": "soon"}),
    ] {
        assert_eq!(refusal(&hello_with(changes.clone(), json!({}))), OpenError::Malformed, "{changes}");
    }
}

#[test]
fn a_header_member_may_stand_only_once() {
    let payload = age_file(&inner().to_string(), &agent());
    let header = header().to_string();
    for member in [r#""gen":8"#, r#""alg":"EdDSA""#, r#""exp":null"#] {
        let twice = format!("{},{member},{member}}}", header.trim_end_matches('}'));
        assert_eq!(refusal(&jws(&twice, &payload, &device_signing())), OpenError::Malformed, "{member}");
    }
    for header in ["", "null", "[]", "{}", "{", &format!("{header}{header}"), &format!("{header} x")] {
        assert_eq!(refusal(&jws(header, &payload, &device_signing())), OpenError::Malformed, "{header}");
    }
}

#[test]
fn a_swollen_header_is_refused() {
    let padded = format!("{}{}", " ".repeat(2048), header());
    let payload = age_file(&inner().to_string(), &agent());
    assert_eq!(refusal(&jws(&padded, &payload, &device_signing())), OpenError::Malformed);
}

#[test]
fn a_signed_age_file_with_64_kib_of_stanzas_is_refused_unread() {
    let mut swollen = b"age-encryption.org/v1\n".to_vec();
    swollen.extend_from_slice("-> x\n\n".repeat(64 * 1024 / 6).as_bytes());
    swollen.extend_from_slice(format!("--- {}\n", "A".repeat(43)).as_bytes());
    swollen.extend_from_slice(&[0; 64]);
    assert_eq!(refusal(&jws(&header().to_string(), &swollen, &device_signing())), OpenError::AgeHeader);
}

#[test]
fn a_signed_file_that_is_not_age_is_refused() {
    for payload in [&b""[..], b"hello", &[0; 4096]] {
        assert_eq!(refusal(&jws(&header().to_string(), payload, &device_signing())), OpenError::AgeHeader);
    }
}

#[test]
fn nothing_larger_than_the_limit_is_read_or_made() {
    let size = MAX_MESSAGE_BYTES + 1;
    assert_eq!(refusal(&vec![b'A'; size]), OpenError::TooLarge { size });
    assert_eq!(refusal(&vec![b'A'; MAX_MESSAGE_BYTES]), OpenError::Malformed);

    let sealed_size = |cache_bytes: usize| {
        let cache = Sensitive::new(format!("\"{}\"", "x".repeat(cache_bytes - 2)));
        let message = ToAgent::from(valetkey_handoff::message::CacheUpdated { cache, ..cache_updated() });
        let sealed = seal(&device(), &agent().public(), &facts(), &message)?;
        assert!(open_at_agent(sealed.as_bytes()).is_ok());
        Ok(sealed.text.len())
    };
    assert!(sealed_size(190 * 1024).unwrap() <= MAX_MESSAGE_BYTES);
    assert_eq!(sealed_size(196 * 1024), Err(SealError::TooLarge));
    assert_eq!(sealed_size(MAX_MESSAGE_BYTES), Err(SealError::TooLarge));
}

#[test]
fn a_cache_that_is_not_json_is_not_sealed() {
    for text in ["", "{", "{} {}", "not json"] {
        let message =
            ToAgent::from(valetkey_handoff::message::CacheUpdated { cache: text.into(), ..cache_updated() });
        let sealed = seal(&device(), &agent().public(), &facts(), &message);
        assert_eq!(sealed.err(), Some(SealError::Body), "{text:?}");
    }
}

#[test]
fn newer_versions_and_unknown_kinds_are_named_as_such() {
    let refused = |changes| refusal(&hello_with(json!({}), changes));
    assert_eq!(refused(json!({"v": 2, "jti": null, "shape": "new"})), OpenError::UnsupportedVersion(2));
    assert_eq!(refused(json!({"kind": "hello.again"})), OpenError::UnknownKind);
    assert_eq!(refused(json!({"kind": "enroll"})), OpenError::UnknownKind);
    assert_eq!(
        refused(json!({"kind": "account.disconnect"})),
        OpenError::Body { kind: "account.disconnect" }
    );
    for damaged in [json!({"v": null}), json!({"v": "1"}), json!({"kind": null}), json!({"body": null})] {
        assert_eq!(refused(damaged.clone()), OpenError::Inner, "{damaged}");
    }
}

#[test]
fn a_body_may_grow_members_that_this_version_does_not_know() {
    let newer = hello_with(json!({}), json!({"body": {"app": "9.9"}, "more": true}));
    assert_eq!(open_at_agent(&newer).unwrap().message, Hello {}.into());

    let health = |word: &str| {
        json!({"kind": "state", "body": {"at": 1, "accounts": [{
            "account": common::account(), "username": "a", "health": word, "gen": 1, "capabilities": []
        }]}})
    };
    let text = changed(inner(), health("hibernating")).to_string();
    let mut header = header();
    header["aud"] = json!(agent().thumbprint());
    let bytes = jws(&header.to_string(), &age_file(&text, &agent()), &device_signing());
    let ToDevice::State(state) =
        open::<ToDevice>(&bytes, &device().public(), &agent(), now()).unwrap().message
    else {
        panic!("another kind")
    };
    assert_eq!(state.accounts[0].health, valetkey_handoff::message::Health::Unknown);
}

#[test]
fn no_error_and_no_debug_output_shows_a_secret() {
    let sealed = seal(&device(), &agent().public(), &facts(), &ToAgent::from(cache_updated())).unwrap();
    let opened = open_at_agent(sealed.as_bytes()).unwrap();
    let damaged_body =
        hello_with(json!({}), json!({"kind": "auth.cache.updated", "body": {"expires_at": common::CANARY}}));
    let printed = [
        format!("{opened:?} {opened:#?} {sealed:?}"),
        format!("{:?} {:?}", cache_updated(), common::invite()),
        format!("{:?} {:?}", agent(), agent().to_secret_json()),
        format!("{:?} {:?}", agent().age_identity(), common::invite().to_link()),
        format!("{0} {0:?}", refusal(&damaged_body)),
    ]
    .concat();
    let secret_bytes = format!("{:?}", b"CANARY");
    for secret in [
        common::CANARY,
        "AGE-SECRET-KEY-",
        "nWGxne_9WmC6hEr0kuws",
        &b64("CANARY-4f1d-0123"),
        secret_bytes.trim_matches(['[', ']']),
    ] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
