//! What an attacker has: everything that crossed the broker, keys of his own, and a hand that makes messages which our
//! own code would not.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use valetkey_companion::MemoryKeyStore;
use valetkey_companion::pairing::Entry;
use valetkey_handoff::{Keys, Topics};
use valetkey_tests::broker::Recorder;
use valetkey_tests::program::Program;

use crate::support::World;

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unb64(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A compact JWS of any header and payload, correctly signed with this key.
pub fn jws(header: &Value, payload: &[u8], signing: &SigningKey) -> Vec<u8> {
    let signed = format!("{}.{}", b64(header.to_string()), b64(payload));
    let signature = signing.sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", b64(signature)).into_bytes()
}

/// Header and payload of a message that crossed the broker, as anybody can read them.
pub fn parts(message: &[u8]) -> (Value, Vec<u8>) {
    let text = std::str::from_utf8(message).unwrap();
    let mut parts = text.split('.').map(unb64);
    let header = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (header, parts.next().unwrap())
}

/// A message with another payload or other header members, signed by whoever holds `signing`.
pub fn altered(message: &[u8], changes: Value, signing: &SigningKey) -> Vec<u8> {
    let (mut header, payload) = parts(message);
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    header.as_object_mut().unwrap().extend(changes);
    jws(&header, &payload, signing)
}

pub fn signing_of(keys: &Keys) -> SigningKey {
    let json: Value = serde_json::from_str(keys.to_secret_json().expose()).unwrap();
    SigningKey::from_bytes(&unb64(json["sign"]["d"].as_str().unwrap()).try_into().unwrap())
}

/// A computer's keys: what only its owner has, for making what only he could make.
pub fn device_keys(store: &MemoryKeyStore) -> Keys {
    Entry::open(store.entries().last().expect("a paired computer")).unwrap().0
}

/// The agent's own keys: for reading what it said. Attackers use only the public half.
pub fn agent_keys(world: &World) -> Keys {
    let text = std::fs::read_to_string(world.daemon.state_dir().join("agent.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    Keys::from_secret_json(json["keys"].as_str().unwrap()).unwrap()
}

/// An age file whose header alone is meant to do harm: 180 KiB of stanzas.
pub fn swollen_age_file() -> Vec<u8> {
    format!("age-encryption.org/v1\n{}--- {}\n", "-> x\n\n".repeat(180 * 1024 / 6), "A".repeat(43))
        .into_bytes()
}

/// A header that is well-formed, from one to another.
pub fn header(from: &Keys, to: &Keys) -> Value {
    json!({
        "alg": "EdDSA", "typ": "valetkey+age",
        "kid": from.thumbprint(), "iss": from.thumbprint(), "aud": to.thumbprint(),
        "jti": "0f0e0d0c-0b0a-4908-8706-050403020100", "gen": 99, "iat": jiff::Timestamp::now().as_second(),
    })
}

/// Everything recorded on one topic, in order.
pub fn on(wire: &Recorder, topic: &str) -> Vec<Vec<u8>> {
    wire.messages()
        .into_iter()
        .filter(|message| message.topic == topic)
        .map(|message| message.payload)
        .collect()
}

/// The next message on a topic beside those that were there.
pub async fn next_on(wire: &Recorder, topic: &str, there: &[Vec<u8>]) -> Vec<u8> {
    let new = wire.wait_for(|message| message.topic == topic && !there.contains(&message.payload)).await;
    new.unwrap().payload
}

/// Returns once the recorder has all that was published before.
pub async fn caught_up(world: &mut World, wire: &Recorder) {
    let topic = format!("valetkey/v1/{}", uuid::Uuid::new_v4());
    world.broker().publish(&topic, b"", false).await.unwrap();
    wire.wait_for(|message| message.topic == topic).await.unwrap();
}

/// The messages that carry a token cache, each once: nothing else a device says is that large. A busy machine makes it
/// send the same bytes again.
pub async fn handoffs(world: &mut World, wire: &Recorder, inbox: &str) -> Vec<Vec<u8>> {
    caught_up(world, wire).await;
    let mut large: Vec<Vec<u8>> =
        on(wire, inbox).into_iter().filter(|message| message.len() > 3000).collect();
    large.dedup();
    large
}

/// Every account file, by name.
pub fn vault(world: &World) -> BTreeMap<String, Vec<u8>> {
    let dir = std::fs::read_dir(world.daemon.state_dir().join("vault")).unwrap();
    let named = |file: &std::fs::DirEntry| file.file_name().to_string_lossy().into_owned();
    dir.map(|file| file.unwrap()).map(|file| (named(&file), std::fs::read(file.path()).unwrap())).collect()
}

pub fn status(world: &World) -> Value {
    world.daemon.ask(&["status"]).unwrap().1
}

/// Publishes as somebody who may write anywhere; returns why the daemon refused it.
pub async fn refusal(world: &mut World, serving: &mut Program, topic: &str, bytes: &[u8]) -> String {
    world.broker().publish(topic, bytes, false).await.unwrap();
    serving.event("refused").await.unwrap()["reason"].as_str().unwrap().to_owned()
}

pub fn topics(world: &World) -> Topics {
    Topics::new(agent_keys(world).thumbprint())
}
