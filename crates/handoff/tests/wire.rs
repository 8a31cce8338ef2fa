//! What stands on the wire, kept as snapshots: a change there is a change of the protocol. And that other people's
//! tools read it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{agent, device, enroll, facts, invite, parts, to_agent, to_device, unb64};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use valetkey_handoff::message::Messages;
use valetkey_handoff::{Keys, Sealed, seal, seal_enroll};

/// The sealed JSON, decrypted by the age crate itself.
fn inside(sealed: &Sealed, receiver: &Keys) -> Value {
    let identity: age::x25519::Identity = receiver.age_identity().expose().parse().unwrap();
    let (_, payload, _) = parts(&sealed.text);
    serde_json::from_slice(&age::decrypt(&identity, &payload).unwrap()).unwrap()
}

/// Sorted, so that it reads the same whichever features of `serde_json` the rest of a build switches on.
fn snapshot(name: &str, json: &Value) {
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(name, json) });
}

#[test]
fn headers_look_like_this() {
    let message = seal(&device(), &agent().public(), &facts(), &to_agent()[0]).unwrap();
    snapshot("header", &parts(&message.text).0);
    let enrolment = seal_enroll(&device(), &invite(), &facts(), enroll()).unwrap();
    let (mut header, _, _) = parts(&enrolment.text);
    header["enroll"]["proof"] = json!("changes with the sealed file");
    snapshot("header-enroll", &header);
}

/// What `docs/security.md` says that a broker sees of a header, byte by byte, is what is there.
#[test]
fn the_bytes_that_a_broker_is_said_to_see_are_those_of_a_message() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| bytes | say |\n|---|---|\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let said: Vec<&str> = table.lines().map(|row| row.split('`').nth(1).unwrap()).collect();
    let (enrolment, message) = said.split_last().unwrap();

    let raw = |sealed: &Sealed| String::from_utf8(unb64(sealed.text.split('.').next().unwrap())).unwrap();
    let header = raw(&seal(&device(), &agent().public(), &facts(), &to_agent()[0]).unwrap());
    assert_eq!(in_order(&header, &format!("{}}}", message.concat())), Some(""));
    let header = raw(&seal_enroll(&device(), &invite(), &facts(), enroll()).unwrap());
    assert_eq!(in_order(&header, enrolment), Some("}"), "and the header's own end");
}

/// What is left of `text` behind all pieces of `said`, which has `…` where it leaves something out.
fn in_order<'a>(text: &'a str, said: &str) -> Option<&'a str> {
    said.split('…').try_fold(text, |text, piece| text.split_once(piece).map(|(_, rest)| rest))
}

#[test]
fn sealed_messages_look_like_this() {
    for message in to_agent() {
        let sealed = seal(&device(), &agent().public(), &facts(), &message).unwrap();
        snapshot(message.kind(), &inside(&sealed, &agent()));
    }
    for (number, message) in to_device().into_iter().enumerate() {
        let sealed = seal(&agent(), &device().public(), &facts(), &message).unwrap();
        snapshot(&format!("{}-{number}", message.kind()), &inside(&sealed, &device()));
    }
    let enrolment = seal_enroll(&device(), &invite(), &facts(), enroll()).unwrap();
    snapshot("enroll", &inside(&enrolment, &agent()));
}

#[test]
fn an_invite_looks_like_this() {
    let link = invite().to_link().unwrap();
    let data = link.expose().strip_prefix("valetkey://invite/").unwrap();
    snapshot("invite", &serde_json::from_slice(&unb64(data)).unwrap());
}

#[test]
fn a_jose_library_checks_the_signature() {
    let sealed = seal(&device(), &agent().public(), &facts(), &to_agent()[0]).unwrap();
    let header = jsonwebtoken::decode_header(&sealed.text).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some("valetkey+age")));
    assert_eq!(header.kid, Some(device().thumbprint().to_string()));

    let public = json!(device().public());
    let key = DecodingKey::from_ed_components(public["sign"]["x"].as_str().unwrap()).unwrap();
    let (signed, signature) = sealed.text.rsplit_once('.').unwrap();
    let verify = |signed: &str| {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, Algorithm::EdDSA).unwrap()
    };
    assert!(verify(signed));
    assert!(!verify(&signed[1..]));
}

/// The line of the documentation, run by a shell with coreutils and the `age` command. (Older coreutils complain of
/// the missing `=` at the end, after having written every byte.)
#[test]
fn coreutils_and_the_age_command_print_a_messages_json() {
    let key_file =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("agent-{}.key", std::process::id()));
    let mut file = std::fs::File::create(&key_file).unwrap();
    writeln!(file, "{}", agent().age_identity().expose()).unwrap();

    let mut printed = Vec::new();
    for message in to_agent() {
        let sealed = seal(&device(), &agent().public(), &facts(), &message).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", r#"cut -d. -f2 | basenc -d --base64url | age -d -i "$1""#, "sh"])
            .arg(&key_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(sealed.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        assert!(output.status.success(), "are coreutils and age installed?");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json, inside(&sealed, &agent()));
        printed.push(json);
    }
    std::fs::remove_file(&key_file).unwrap();
    assert_eq!(printed[1]["body"]["cache"]["RefreshToken"]["k"]["secret"], common::CANARY);
}
