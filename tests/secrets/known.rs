//! Every secret there is in a world: what the provider tells it gave out, the keys, the passwords, the invites.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use valetkey_handoff::Keys;

use crate::search::{Kind, MARK_BYTES, Secret};
use crate::support::{AGENT_PASSWORD, DEVICE_PASSWORD, World};

/// What a provider might write into an error: a person's name, a policy's, an address.
pub const ERROR_TEXT: &str = "the-providers-own-words-about-what-went-wrong";

/// All that is secret in this world.
pub async fn secrets(world: &World, device: &Keys, agent: &Keys) -> Vec<Secret> {
    let tenant = world.tenant.secrets().await.unwrap();
    let tokens = tenant.access_tokens.iter().chain(&tenant.id_tokens);
    let beginnings: BTreeSet<String> = tokens.map(|token| token[..MARK_BYTES].to_owned()).collect();
    let mut secrets: Vec<Secret> = [
        (Kind::Code, tenant.codes),
        (Kind::Verifier, tenant.verifiers),
        (Kind::AccessToken, tenant.access_tokens),
        (Kind::RefreshToken, tenant.refresh_tokens),
        (Kind::IdToken, tenant.id_tokens),
        (Kind::AnyToken, beginnings.into_iter().collect()),
        (Kind::Mail, tenant.mail),
        (Kind::BrokerPassword, vec![AGENT_PASSWORD.into(), DEVICE_PASSWORD.into()]),
        (Kind::ErrorText, vec![ERROR_TEXT.into()]),
    ]
    .into_iter()
    .flat_map(|(kind, texts)| texts.into_iter().map(move |text| Secret { kind, bytes: text.into() }))
    .collect();
    for (kind, keys) in [(Kind::DeviceKey, device), (Kind::AgentKey, agent)] {
        let json: Value = serde_json::from_str(keys.to_secret_json().expose()).unwrap();
        let (sign, age) = (json["sign"]["d"].as_str().unwrap(), json["age"].as_str().unwrap());
        let raw = URL_SAFE_NO_PAD.decode(sign).unwrap();
        secrets.extend(
            [sign.into(), raw, age.into(), age.to_lowercase().into()].map(|bytes| Secret { kind, bytes }),
        );
    }
    let registry = std::fs::read(world.daemon.state_dir().join("registry.json")).unwrap();
    let registry: Value = serde_json::from_slice(&registry).unwrap();
    for invite in registry["invites"].as_array().unwrap() {
        let text = invite["secret"].as_str().unwrap();
        let raw = URL_SAFE_NO_PAD.decode(text).unwrap();
        secrets.extend([text.into(), raw].map(|bytes| Secret { kind: Kind::Invite, bytes }));
    }
    secrets
}
