//! Pairing by an invite.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{agent, b64, device, device_signing, enroll, facts, invite, jws, now, parts};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use valetkey_handoff::message::Hello;
use valetkey_handoff::{
    Enrolment, InviteSecret, Keys, OpenError, Sealed, ToAgent, open, open_enroll, seal, seal_enroll,
};

fn sealed() -> Sealed {
    seal_enroll(&device(), &invite(), &facts(), enroll()).unwrap()
}

fn open_at_agent(bytes: &[u8]) -> Result<Enrolment, OpenError> {
    open_enroll(bytes, &invite().secret, &agent(), now())
}

/// The proof as the documentation says it, with other hands.
fn proof_by_hand(secret: &[u8], header: &Value, payload: &[u8]) -> String {
    let device: valetkey_handoff::PublicKeys =
        serde_json::from_value(header["enroll"]["device"].clone()).unwrap();
    let lines = [
        "valetkey/enroll/v1".to_owned(),
        header["aud"].as_str().unwrap().to_owned(),
        header["enroll"]["invite"].as_str().unwrap().to_owned(),
        device.thumbprint().to_string(),
        device.recipient(),
        b64(Sha256::digest(payload)),
    ];
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(lines.join("\n").as_bytes());
    b64(mac.finalize().into_bytes())
}

#[test]
fn an_enrolment_brings_the_devices_keys_and_name() {
    let sealed = sealed();
    let opened = open_at_agent(sealed.as_bytes()).unwrap();
    assert_eq!(opened.device, device().public());
    assert_eq!(opened.enroll, enroll());
    assert_eq!((opened.digest, opened.header.jti), (sealed.digest, sealed.jti));
    assert_eq!(opened.header.expires_at, Some(invite().expires_at));
}

#[test]
fn the_proof_is_the_documented_one() {
    let (header, payload, _) = parts(&sealed().text);
    assert_eq!(header["enroll"]["proof"], proof_by_hand(b"CANARY-4f1d-0123", &header, &payload));
}

#[test]
fn an_enrolment_for_another_invite_is_refused() {
    let other = InviteSecret::generate();
    let opened = open_enroll(sealed().as_bytes(), &other, &agent(), now());
    assert_eq!(opened.err(), Some(OpenError::WrongInvite));
}

#[test]
fn an_enrolment_to_another_agent_is_refused() {
    let opened = open_enroll(sealed().as_bytes(), &invite().secret, &Keys::generate(), now());
    assert_eq!(opened.err(), Some(OpenError::WrongReceiver));
}

/// The topic and the header show the invite's public name to the broker; that must not be enough.
#[test]
fn whoever_saw_an_enrolment_but_not_the_invite_proves_nothing() {
    let eve_signing = ed25519_dalek::SigningKey::from_bytes(&[0x66; 32]);
    let eve = common::keys_of(&eve_signing, Keys::generate().age_identity().expose());
    let (mut header, payload, _) = parts(&sealed().text);
    header["iss"] = json!(eve.thumbprint());
    header["kid"] = json!(eve.thumbprint());
    header["enroll"]["device"] = json!(eve.public());
    let with_the_old_proof = jws(&header.to_string(), &payload, &eve_signing);
    assert_eq!(open_at_agent(&with_the_old_proof).err(), Some(OpenError::WrongProof));

    header["enroll"]["proof"] = json!(proof_by_hand(b"guessed-a-secret", &header, &payload));
    let with_a_guess = jws(&header.to_string(), &payload, &eve_signing);
    assert_eq!(open_at_agent(&with_a_guess).err(), Some(OpenError::WrongProof));

    assert!(open_at_agent(sealed().as_bytes()).is_ok(), "the invite is as good as before");
}

#[test]
fn the_proof_covers_the_recipient_and_the_sealed_file() {
    let (header, payload, _) = parts(&sealed().text);

    let mut other_recipient = header.clone();
    other_recipient["enroll"]["device"]["age"] = json!(Keys::generate().public().recipient());
    let bytes = jws(&other_recipient.to_string(), &payload, &device_signing());
    assert_eq!(open_at_agent(&bytes).err(), Some(OpenError::WrongProof));

    let (_, other_payload, _) = parts(&sealed().text);
    assert_ne!(payload, other_payload);
    let bytes = jws(&header.to_string(), &other_payload, &device_signing());
    assert_eq!(open_at_agent(&bytes).err(), Some(OpenError::WrongProof));

    // 3 and 30 of the true 32 bytes, too.
    let true_proof = header["enroll"]["proof"].as_str().unwrap();
    for proof in ["", "AAAA", &b64([0; 32]), &b64([0; 33]), &true_proof[..4], &true_proof[..40]] {
        let mut changed = header.clone();
        changed["enroll"]["proof"] = json!(proof);
        let bytes = jws(&changed.to_string(), &payload, &device_signing());
        assert_eq!(open_at_agent(&bytes).err(), Some(OpenError::WrongProof), "{proof}");
    }
}

#[test]
fn a_proved_enrolment_must_be_signed_by_the_key_it_brings() {
    let (mut header, payload, _) = parts(&sealed().text);
    let forged = jws(&header.to_string(), &payload, &common::agent_signing());
    assert_eq!(open_at_agent(&forged).err(), Some(OpenError::WrongSignature));

    header["iss"] = json!(agent().thumbprint());
    header["kid"] = json!(agent().thumbprint());
    let renamed = jws(&header.to_string(), &payload, &common::agent_signing());
    assert_eq!(open_at_agent(&renamed).err(), Some(OpenError::WrongSender));
}

#[test]
fn the_proof_is_checked_before_the_signature_and_before_decryption() {
    let (mut header, _, _) = parts(&sealed().text);
    header["enroll"]["proof"] = json!(b64([0; 32]));
    let bytes = jws(&header.to_string(), b"not an age file", &common::agent_signing());
    assert_eq!(open_at_agent(&bytes).err(), Some(OpenError::WrongProof));
}

#[test]
fn a_proved_and_signed_file_with_a_swollen_header_is_still_refused_unread() {
    let (mut header, _, _) = parts(&sealed().text);
    let swollen = format!("age-encryption.org/v1\n{}--- x\n", "-> x\n\n".repeat(10_000)).into_bytes();
    header["enroll"]["proof"] = json!(proof_by_hand(b"CANARY-4f1d-0123", &header, &swollen));
    let bytes = jws(&header.to_string(), &swollen, &device_signing());
    assert_eq!(open_at_agent(&bytes).err(), Some(OpenError::AgeHeader));
}

#[test]
fn an_enrolment_ends_with_its_invite() {
    let at = |time| open_enroll(sealed().as_bytes(), &invite().secret, &agent(), time);
    let expiry = invite().expires_at;
    assert!(at(expiry - jiff::SignedDuration::from_secs(1)).is_ok());
    assert_eq!(at(expiry).err(), Some(OpenError::Expired));
}

#[test]
fn an_enrolment_is_no_message_of_a_paired_device_and_the_other_way_round() {
    let enrolment = open::<ToAgent>(sealed().as_bytes(), &device().public(), &agent(), now());
    assert_eq!(enrolment.err(), Some(OpenError::Malformed));
    let hello = seal(&device(), &agent().public(), &facts(), &ToAgent::from(Hello {})).unwrap();
    assert_eq!(open_at_agent(hello.as_bytes()).err(), Some(OpenError::Malformed));
}

#[test]
fn a_change_of_any_character_is_refused() {
    let sealed = sealed();
    for position in 0..sealed.text.len() {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        assert!(open_at_agent(&bytes).is_err(), "character {position}");
    }
}
