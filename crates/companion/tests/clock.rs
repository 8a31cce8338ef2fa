//! A sign-in while this computer's clock is set.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use common::{PATIENCE, Person, invite, terms};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::{Answer, Provider, TENANT};
use valetkey_companion::view::Screen;
use valetkey_companion::{Clock, Way};
use valetkey_handoff::Keys;

mod common;
#[path = "../../entra/tests/support/mod.rs"]
mod support;

#[tokio::test]
async fn a_clock_that_is_put_back_does_not_keep_the_answer_to_a_device_code_waiting() {
    let provider = Provider::start().await;
    let metadata = json!({
        "issuer": provider.authority(TENANT).metadata_issuer(),
        "authorization_endpoint": provider.url("/authorize"),
        "device_authorization_endpoint": provider.url("/devicecode"),
        "token_endpoint": provider.url("/token"),
        "jwks_uri": provider.url("/keys"),
        "code_challenge_methods_supported": ["S256"],
    });
    provider
        .answer(&format!("/{TENANT}/v2.0/.well-known/openid-configuration"), [Answer::json(200, &metadata)]);
    let device = json!({
        "device_code": "a-device-code",
        "user_code": "ABCD1234",
        "verification_uri": provider.url("/device"),
        "expires_in": 900,
        "interval": 1,
    });
    provider.answer("/devicecode", [Answer::json(200, &device)]);
    provider.answer("/token", [Answer::json(400, &json!({"error": "authorization_pending"}))]);
    let mut person = Person::with_clock(Clock::tokio_from(Timestamp::now()));
    person.way = Way::DeviceCode;
    person.start();
    let terms = terms(provider.origin.as_str(), TENANT, "alice@contoso.example");
    let invite = invite(&Keys::generate(), "mqtt://localhost:1", terms);
    person.agree_to(invite.to_link().unwrap().expose()).await;
    person.until_screen(Screen::Waiting).await;
    let asked = async |times: usize| {
        while provider.received("/token").len() < times {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked(1)).await.expect("the first question");
    // In the middle of the wait for the next one.
    person.clock.set_ahead(SignedDuration::from_hours(-1));
    let so_far = provider.received("/token").len();
    tokio::time::timeout(PATIENCE, asked(so_far + 2)).await.expect("nobody asks any more");
    person.stop().await;
}
