//! Bytes of strangers, and of friends who have gone mad: nothing panics, nothing takes long, and what is taken is whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    age_file, agent, b64, device, device_signing, enroll, facts, header, inner, invite, now, to_agent,
    to_device,
};
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};
use valetkey_handoff::{
    Invite, InviteError, Keys, OpenError, Opened, Presence, PublicKeys, ToAgent, ToDevice, Topics, open,
    open_enroll, seal, seal_enroll,
};
use valetkey_tests::strangers::feed;

/// What the device seals and signs, whatever it is.
fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = device_signing().sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", b64(signature)).into_bytes()
}

fn open_at_agent(bytes: &[u8]) -> Result<Opened<ToAgent>, OpenError> {
    open(bytes, &device().public(), &agent(), now())
}

#[test]
fn invite_links_of_strangers() {
    let link = invite().to_link().unwrap().expose().clone();
    let page =
        invite().to_https_link(&"https://contoso.example/key".parse().unwrap()).unwrap().expose().clone();
    feed("invite links", &[link.as_bytes(), page.as_bytes()], |bytes| {
        match Invite::parse(&String::from_utf8_lossy(bytes)) {
            Ok(read) => read.agent == invite().agent,
            Err(_) => false,
        }
    });
}

/// What is taken can be passed on, and is then the same.
#[test]
fn the_json_inside_an_invite_link_of_strangers() {
    let json = serde_json::to_value(invite()).unwrap();
    let with = |changes: Value| {
        let mut all = json.clone();
        all["v"] = 1.into();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all.to_string()
    };
    let seeds = [with(json!({})), with(json!({"broker": {"url": "ws://broker.example/mqtt"}}))];
    feed("invites inside links", &seeds.each_ref().map(String::as_bytes), |bytes| {
        let Ok(read) = Invite::parse(&format!("valetkey://invite/{}", b64(bytes))) else { return false };
        match read.to_link() {
            Ok(link) => assert_eq!(Invite::parse(link.expose()), Ok(read)),
            Err(error) => assert_eq!(error, InviteError::TooLong),
        }
        true
    });
}

/// Nothing but the very message is taken from somebody without the device's key.
#[test]
fn envelopes_of_strangers() {
    let sealed: Vec<String> = to_agent()
        .iter()
        .map(|message| seal(&device(), &agent().public(), &facts(), message).unwrap().text)
        .collect();
    let seeds: Vec<&[u8]> = sealed.iter().map(String::as_bytes).collect();
    feed("envelopes", &seeds, |bytes| {
        let opened = open_at_agent(bytes).is_ok();
        assert!(!opened || seeds.contains(&bytes), "a changed message was taken");
        opened
    });
}

#[test]
fn enrolments_of_strangers() {
    let sealed = seal_enroll(&device(), &invite(), &facts(), enroll()).unwrap().text;
    feed("enrolments", &[sealed.as_bytes()], |bytes| {
        let opened = open_enroll(bytes, &invite().secret, &agent(), now()).is_ok();
        assert!(!opened || bytes == sealed.as_bytes(), "a changed enrolment was taken");
        opened
    });
}

#[test]
fn protected_headers_signed_by_a_device_that_has_gone_mad() {
    let payload = age_file(&inner().to_string(), &agent());
    let mut expiring = header();
    expiring["exp"] = (now().as_second() + 60).into();
    let seeds = [header().to_string(), expiring.to_string()];
    feed("protected headers", &seeds.each_ref().map(String::as_bytes), |header| {
        open_at_agent(&signed(header, &payload)).is_ok_and(|opened| {
            assert_eq!(opened.header.iss, device().thumbprint());
            true
        })
    });
}

/// A paired device can seal anything for its agent, and an agent for its device.
#[test]
fn message_bodies_of_a_device_and_an_agent_that_have_gone_mad() {
    let body = |message: Value| {
        let mut all = inner();
        all.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
        all.to_string()
    };
    let to_agent = to_agent().into_iter().map(|message| body(serde_json::to_value(message).unwrap()));
    let to_device = to_device().into_iter().map(|message| body(serde_json::to_value(message).unwrap()));
    let bodies: Vec<String> = to_agent.chain(to_device).collect();
    let seeds: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
    let header = header().to_string();
    feed("bodies", &seeds, |text| {
        let sealed = signed(header.as_bytes(), &age_file(&String::from_utf8_lossy(text), &agent()));
        // The reader does not care who is called agent: the same sender, the other kinds.
        let to_device = open::<ToDevice>(&sealed, &device().public(), &agent(), now());
        open_at_agent(&sealed).is_ok() || to_device.is_ok()
    });
}

#[test]
fn keys_topics_and_presence_of_strangers() {
    let secret = agent().to_secret_json().expose().clone();
    feed("secret keys", &[secret.as_bytes()], |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| Keys::from_secret_json(text).is_ok())
    });
    let public = serde_json::to_string(&agent().public()).unwrap();
    feed("public keys", &[public.as_bytes()], |bytes| serde_json::from_slice::<PublicKeys>(bytes).is_ok());
    let topics = Topics::new(agent().thumbprint());
    let inbox = topics.inbox(&device().thumbprint());
    let enroll = topics.enroll(&invite().id());
    feed("topics", &[inbox.as_bytes(), enroll.as_bytes()], |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| topics.parse(text).is_some())
    });
    feed("presence", &[b"online", b"offline"], |bytes| Presence::parse(bytes).is_some());
}
