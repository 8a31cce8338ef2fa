//! What crosses the broker: invites, envelopes of strangers, envelopes of a paired device that has gone mad, and bodies.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;
use url::Url;
use valetkey_handoff::invite::MAX_LINK_CHARS;
use valetkey_handoff::message::Messages;
use valetkey_handoff::seal::read_inner;
use valetkey_handoff::{
    Digest, Invite, InviteError, Judgement, Keys, Label, PublicKeys, Thumbprint, ToAgent, ToDevice, judge,
    open, open_enroll,
};

use crate::people::{self, HONEST_MESSAGES, facts, now};

/// Who they are, made once: keys cost more than most inputs.
struct People {
    agent: Keys,
    agent_public: PublicKeys,
    device: Keys,
    device_public: PublicKeys,
    device_signing: SigningKey,
    device_name: Thumbprint,
    invite: Invite,
}

static PEOPLE: LazyLock<People> = LazyLock::new(|| {
    let (agent, device) = (people::agent(), people::device());
    People {
        agent_public: agent.public(),
        device_public: device.public(),
        device_name: device.thumbprint(),
        agent,
        device,
        device_signing: people::device_signing(),
        invite: people::invite(),
    }
});

/// A pasted text; or, beginning with `{`, the JSON inside a link, which no fuzzer would get through base64.
pub fn invite_link(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let read = if bytes.starts_with(b"{") {
        Invite::parse(&format!("valetkey://invite/{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    } else {
        Invite::parse(&text)
    };
    let Ok(invite) = read else { return false };
    check_invite(&invite);
    match invite.to_link() {
        Ok(link) => {
            assert!(link.expose().len() <= MAX_LINK_CHARS);
            assert_eq!(Invite::parse(link.expose()).as_ref(), Ok(&invite), "another invite after printing");
            let page: Url = "https://contoso.example/key".parse().unwrap();
            let link = invite.to_https_link(&page).unwrap();
            assert!(
                link.expose().split('#').next() == Some(page.as_str()),
                "a part of it goes to the server"
            );
            if link.expose().len() <= MAX_LINK_CHARS {
                assert_eq!(Invite::parse(link.expose()), Ok(invite));
            }
        }
        // Spelled shorter than we would: an omitted default, say.
        Err(error) => assert_eq!(error, InviteError::TooLong),
    }
    true
}

/// What a person is shown and what is contacted.
fn check_invite(invite: &Invite) {
    assert!(matches!(invite.broker.url.scheme(), "mqtt" | "mqtts" | "ws" | "wss"));
    assert!(invite.broker.url.password().is_none() && invite.broker.url.username().is_empty());
    let terms = &invite.terms;
    for address in [Some(&terms.authority), terms.graph.as_ref()].into_iter().flatten() {
        let url: Url = address.parse().unwrap();
        let host = url.host_str().unwrap();
        let here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        assert!(url.scheme() == "https" || (url.scheme() == "http" && here), "{address}");
    }
    let shown =
        [Some(invite.name.as_str()), terms.email.as_deref(), Some(&terms.tenant), Some(&terms.client_id)];
    for text in shown.into_iter().flatten().chain(terms.capabilities.iter().map(String::as_str)) {
        assert!(text.len() <= 4 * 254 && !text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains(['\u{202E}', '\u{200B}', '\u{2028}', '\u{FEFF}']), "{text:?}");
    }
    assert_eq!(invite.name.as_str().parse::<Label>().as_ref(), Ok(&invite.name));
    assert!(terms.capabilities.len() <= 32);
    assert_eq!(invite.id().as_str().len(), 22);
    assert!(invite.is_expired(invite.expires_at));
}

/// Of somebody who holds no key: at the agent as a device's message and as an enrolment, and at the device.
pub fn envelope(bytes: &[u8]) -> bool {
    let them = &*PEOPLE;
    let at_agent = open::<ToAgent>(bytes, &them.device_public, &them.agent, now());
    let at_device = open::<ToDevice>(bytes, &them.agent_public, &them.device, now());
    let enrolment = open_enroll(bytes, &them.invite.secret, &them.agent, now());
    let opened =
        [at_agent.is_ok(), at_device.is_ok(), enrolment.is_ok()].into_iter().filter(|opened| *opened).count();
    assert!(opened <= 1, "one message taken for two");
    if opened == 1 {
        assert!(HONEST_MESSAGES.iter().any(|(_, honest)| *honest == bytes), "a changed message was opened");
    }
    opened == 1
}

/// What a paired device signs, whatever it is: first its header's JSON, then, from the first line break on, what should be
/// an age file.
pub fn signed_envelope(bytes: &[u8]) -> bool {
    /// Accepted before.
    const HIGHEST: u64 = 5;
    let them = &*PEOPLE;
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return false };
    let (header, payload) = (&bytes[..end], &bytes[end + 1..]);
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let mut jws = format!("{}.{}", encode(header), encode(payload));
    let signature = them.device_signing.sign(jws.as_bytes()).to_bytes();
    jws.push('.');
    jws.push_str(&encode(&signature));
    let Ok(opened) = open::<ToAgent>(jws.as_bytes(), &them.device_public, &them.agent, now()) else {
        return false;
    };
    assert_eq!(opened.header.iss, them.device_name, "taken for somebody else's");
    assert_eq!(opened.header.aud, them.agent.thumbprint(), "meant for somebody else");
    assert!(opened.header.expires_at.is_none_or(|end| end > now()), "expired");
    assert_eq!(opened.digest, Digest::of(&jws));
    // Only the seeds' age files can be opened: each names its message, and nobody can make another name fit.
    assert_eq!(opened.header.jti, facts().jti);
    let generation = opened.header.generation;
    let judged = judge(Some((HIGHEST, Digest::of("accepted before"))), (generation, opened.digest));
    assert_eq!(judged == Judgement::Accept, generation > HIGHEST, "the generation went back");
    true
}

/// The sealed JSON, of a sender who was verified: at the agent and at the device.
pub fn message(bytes: &[u8]) -> bool {
    // Both, though a kind is read at one place only.
    let at_agent = read_and_print::<ToAgent>(bytes);
    let at_device = read_and_print::<ToDevice>(bytes);
    assert!(!(at_agent && at_device), "one kind at two places");
    at_agent || at_device
}

fn read_and_print<M: Messages + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let (iss, jti) = (&PEOPLE.device_name, facts().jti);
    let Ok(message) = read_inner::<M>(bytes, iss, jti) else { return false };
    let body = serde_json::to_string(&message).unwrap();
    let printed = format!(r#"{{"v":1,"iss":"{iss}","jti":"{jti}",{}"#, &body[1..]);
    let again = read_inner::<M>(printed.as_bytes(), iss, jti).expect("what was read can be written and read");
    assert!(again == message, "another message after printing");
    // What is passed over, or kept as it is for the vault to read, may have escapes that are no characters.
    if let Ok(outer) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(outer["kind"], message.kind());
        assert_eq!(outer["iss"], iss.as_str(), "somebody else's words");
    }
    // What stands in logs.
    assert!(!format!("{message:?}").contains(r#""secret""#), "a token cache is printed");
    true
}
