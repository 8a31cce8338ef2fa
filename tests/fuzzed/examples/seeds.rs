//! Writes what is missing under `honest/` and `corpora/*/seeds/`; nothing that is there is changed.
//!
//! `cargo run -p valetkey-fuzzed --example seeds`. Sealing and signing use random numbers, so the honest messages and tokens
//! are made once and kept; whoever needs a new one removes the old one and runs this twice (the library has them built in).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, pkcs1v15};
use serde_json::{Value, json};
use sha2::Sha256;
use valetkey_fuzzed::{
    ACCOUNT, CLIENT, HONEST_MESSAGES, HONEST_TOKENS, HONEST_VAULT_FILE, KEY_SET, NONCE, PORT, STATE, TENANT,
    VAULT_KEY, agent, agents_authority, device, facts, facts as sealed_facts, invite, now,
};
use valetkey_handoff::message::{
    AccessSet, AccountDetails, AccountDisconnect, AccountRef, AccountState, AuthExpired, CacheUpdated,
    Enroll, Enrolled, Health, Hello, Messages, Outcome, Receipt, State,
};
use valetkey_handoff::{Label, Sensitive, ToAgent, ToDevice, age_file, seal, seal_enroll};

const CACHES: [(&str, &str); 5] = [
    ("dotnet", include_str!("../../vectors/msal/dotnet-reserialized-gen-python-tenant.json")),
    ("node", include_str!("../../vectors/msal/gen-node-tenant.json")),
    ("python-common", include_str!("../../vectors/msal/gen-python-common.json")),
    ("python", include_str!("../../vectors/msal/gen-python-tenant.json")),
    ("handoff", include_str!("../../vectors/msal/handoff-example.json")),
];

fn main() {
    honest_messages();
    honest_tokens();
    invites();
    packets();
    envelopes();
    signed_envelopes();
    bodies();
    callbacks();
    tokens_and_keys();
    caches_and_files();
    configurations();
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn keep(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // An empty one is a place for the compiler to find.
    if bytes.is_empty() || fs::metadata(path).is_ok_and(|facts| facts.len() > 0) {
        return;
    }
    File::create(path).unwrap().write_all(bytes).unwrap();
    println!("{}", path.display());
}

fn honest(name: &str, make: impl FnOnce() -> Vec<u8>) {
    let path = here().join("honest").join(name);
    if fs::metadata(&path).is_ok_and(|facts| facts.len() > 0) {
        return;
    }
    keep(&path, &make());
}

fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    keep(&here().join("corpora").join(target).join("seeds").join(name), bytes.as_ref());
}

fn account() -> AccountRef {
    let (oid, tid) = ACCOUNT.split_once('.').unwrap();
    AccountRef { tid: tid.parse().unwrap(), oid: oid.parse().unwrap() }
}

fn in_an_hour() -> Timestamp {
    Timestamp::from_second(now().as_second() + 3600).unwrap()
}

fn to_agent() -> [(&'static str, ToAgent); 4] {
    let terms = invite().terms;
    let cache = r#"{"RefreshToken": {"k" : {"secret":"a refresh token"}},"A":1.0}"#;
    let updated = CacheUpdated {
        account: AccountDetails {
            id: account(),
            username: "ana@contoso.example".into(),
            name: Some("Ana".into()),
        },
        authority: terms.authority,
        tenant: terms.tenant,
        client_id: terms.client_id,
        scopes: vec!["User.Read".into(), "Mail.Read".into()],
        capabilities: vec!["mail".into()],
        expires_at: in_an_hour(),
        cache: Sensitive::new(cache.into()),
    };
    let access = AccessSet {
        account: account(),
        client: Some(Label::tidy("calendar-bot")),
        capabilities: vec!["calendar".into()],
    };
    [
        ("hello", Hello {}.into()),
        ("cache-updated", updated.into()),
        ("access-set", access.into()),
        ("account-disconnect", AccountDisconnect { account: account() }.into()),
    ]
}

fn to_device() -> [(&'static str, ToDevice); 6] {
    let receipt = |account, outcome| Receipt { of: facts().jti, generation: 7, account, outcome };
    let state = |health, reason: Option<&str>, checked_at| AccountState {
        account: account(),
        username: "ana@contoso.example".into(),
        health,
        reason: reason.map(|code| code.parse().unwrap()),
        claims: None,
        generation: 7,
        checked_at,
        capabilities: vec!["mail".into()],
    };
    let all = State {
        accounts: vec![
            state(Health::Connected, None, Some(now())),
            state(Health::ReconnectNeeded, Some("revoked"), None),
        ],
        at: now(),
        answers: Some(facts().jti),
    };
    let expired = AuthExpired {
        account: account(),
        reason: "conditional-access".parse().unwrap(),
        claims: Some(r#"{"access_token":{"nbf":{"essential":true}}}"#.into()),
    };
    [
        ("enrolled", Enrolled { agent_name: invite().name, terms: invite().terms }.into()),
        ("receipt", receipt(Some(account()), Outcome::Stored { refreshed_at: now() }).into()),
        ("receipt-done", receipt(Some(account()), Outcome::Done).into()),
        ("receipt-refused", receipt(None, Outcome::Refused { reason: "older".parse().unwrap() }).into()),
        ("state", all.into()),
        ("auth-expired", expired.into()),
    ]
}

fn honest_messages() {
    for (name, message) in to_agent() {
        honest(&format!("{name}.jws"), || {
            seal(&device(), &agent().public(), &facts(), &message).unwrap().text.into_bytes()
        });
    }
    for (name, message) in to_device() {
        if !name.contains("receipt-") {
            honest(&format!("{name}.jws"), || {
                seal(&agent(), &device().public(), &facts(), &message).unwrap().text.into_bytes()
            });
        }
    }
    honest("enrolment.jws", || {
        let enroll = Enroll { device_name: Label::tidy("Ana's laptop") };
        seal_enroll(&device(), &invite(), &facts(), enroll).unwrap().text.into_bytes()
    });
}

fn claims() -> Value {
    let (oid, tid) = ACCOUNT.split_once('.').unwrap();
    json!({
        "iss": agents_authority().issuer(tid.parse().unwrap()), "aud": CLIENT, "sub": "the-subject",
        "exp": now().as_second() + 3600, "iat": now().as_second(), "nbf": now().as_second(), "nonce": NONCE,
        "tid": tid, "oid": oid, "name": "Ana", "preferred_username": "ana@contoso.example",
        "email": "ana@contoso.example", "xms_edov": true, "ver": "2.0",
    })
}

/// All three at once, and the private key is gone.
fn honest_tokens() {
    if KEY_SET.is_empty() {
        let key = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let number = |number: &rsa::BigUint| encode(&number.to_bytes_be());
        let set = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "honest",
            "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
            "n": number(key.n()), "e": number(key.e())}]});
        honest("key-set.json", || set.to_string().into_bytes());
        let signing = pkcs1v15::SigningKey::<Sha256>::new(key);
        let token = |header: Value| {
            let signed = format!(
                "{}.{}",
                encode(header.to_string().as_bytes()),
                encode(claims().to_string().as_bytes())
            );
            let signature = signing.sign_with_rng(&mut OsRng, signed.as_bytes()).to_vec();
            format!("{signed}.{}", encode(&signature)).into_bytes()
        };
        honest("token.jwt", || token(json!({"alg": "RS256", "typ": "JWT", "kid": "honest"})));
        honest("token-of-an-unnamed-key.jwt", || token(json!({"alg": "RS256"})));
    }
}

fn invites() {
    let link = invite().to_link().unwrap();
    seed("invite", "link", link.expose());
    let page = "https://contoso.example/key".parse().unwrap();
    seed("invite", "page", invite().to_https_link(&page).unwrap().expose());
    let broken: Vec<&str> =
        link.expose().as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
    seed("invite", "wrapped", format!("<{}>.\r\n", broken.join("\r\n ")));
    let mut json = serde_json::to_value(invite()).unwrap();
    json["v"] = 1.into();
    seed("invite", "inside", json.to_string());
    json["broker"] = json!({"url": "ws://[::1]:9001/mqtt"});
    json["terms"]["graph"] = "http://127.0.0.1:8080".into();
    json["terms"]["authority"] = "http://localhost:8080".into();
    json["terms"]["email"] = Value::Null;
    json["name"] = "Zoë & Søn 助手".into();
    seed("invite", "inside-of-a-practice-tenant", json.to_string());
    json["v"] = 2.into();
    seed("invite", "inside-of-a-later-version", json.to_string());
}

/// What a broker says in the life of a connection. The first byte is for the target: the version and the size of pieces.
fn packets() {
    let publish = |how: u8, properties: &[u8]| {
        let topic = b"valetkey/v1/a/in/b";
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic);
        body.extend([0, 7]);
        body.extend(properties);
        body.extend(b"header.payload.signature");
        let mut packet = vec![how, 0x32, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    };
    let both = |name: &str, v311: &[u8], v5: &[u8]| {
        for (how, packets) in [(6, v311), (7, v5)] {
            let version = if how == 6 { "v311" } else { "v5" };
            seed("packet", &format!("{name}-{version}"), [&[how][..], packets].concat());
        }
    };
    let properties = b"\x03\x00\x00\x24\x11\x00\x00\x00\x3c\x21\x00\x14\x24\x01\x25\x01\x27\x00\x05\x00\x00\x12\x00\x01c\x13\x00\x3c\x22\x00\x0a";
    let mut connack = b"\x20".to_vec();
    let mut body = b"\x00\x00".to_vec();
    body.push(u8::try_from(properties.len() - 4).unwrap());
    body.extend(&properties[4..]);
    connack.push(u8::try_from(body.len()).unwrap());
    connack.extend(body);
    both("connack", b"\x20\x02\x01\x00", &connack);
    both("connack-refused", b"\x20\x02\x00\x05", b"\x20\x03\x00\x87\x00");
    both("suback", b"\x90\x03\x00\x01\x01", b"\x90\x04\x00\x01\x00\x01");
    both("suback-refused", b"\x90\x03\x00\x01\x80", b"\x90\x09\x00\x01\x05\x1f\x00\x02no\x87");
    both("unsuback", b"\xb0\x02\x00\x02", b"\xb0\x04\x00\x02\x00\x00");
    both("puback", b"\x40\x02\x00\x02", b"\x40\x0a\x00\x02\x10\x06\x1f\x00\x03why");
    both(
        "puback-of-the-publish",
        b"\x90\x03\x00\x01\x01\x40\x02\x00\x02",
        b"\x90\x04\x00\x01\x00\x01\x40\x02\x00\x02",
    );
    both("qos-2", b"\x50\x02\x00\x02\x70\x02\x00\x02", b"\x50\x02\x00\x02\x70\x02\x00\x02");
    both(
        "qos-2-released",
        b"\x34\x07\x00\x01t\x00\x09ab\x62\x02\x00\x09",
        b"\x34\x08\x00\x01t\x00\x09\x00ab\x62\x02\x00\x09",
    );
    both("pingresp", b"\xd0\x00\xd0\x00", b"\xd0\x00\xd0\x00");
    both("disconnect", b"\xe0\x00", b"\xe0\x08\x8e\x06\x1f\x00\x03why");
    both("auth", b"\xf0\x00", b"\xf0\x0b\x18\x09\x15\x00\x01m\x16\x00\x02da");
    both(
        "connect",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
        b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c",
    );
    both("subscribe", b"\x82\x06\x00\x01\x00\x01t\x01", b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    both("unsubscribe", b"\xa2\x05\x00\x01\x00\x01t", b"\xa2\x06\x00\x01\x00\x00\x01t");
    both("too-large", b"\x30\xff\xff\xff\x7f", b"\x30\xff\xff\xff\x7f");
    both("length-of-five-bytes", b"\x30\x80\x80\x80\x80\x01", b"\x30\x80\x80\x80\x80\x01");
    seed("packet", "publish-v311", publish(6, b""));
    seed("packet", "publish-v5", publish(7, b"\x00"));
    let all = b"\x30\x01\x01\x02\x00\x00\x00\x3c\x23\x00\x05\x08\x00\x01r\x09\x00\x02id\x26\x00\x01k\x00\x01v\x0b\x07\x03\x00\x10application/jose";
    let mut properties = vec![u8::try_from(all.len() - 1).unwrap()];
    properties.extend(&all[1..]);
    seed("packet", "publish-with-properties-v5", publish(255, &properties));
}

fn envelopes() {
    for (name, bytes) in HONEST_MESSAGES {
        seed("envelope", name, bytes);
    }
}

/// The same taken apart: header, line break, age file.
fn signed_envelopes() {
    for (name, bytes) in &HONEST_MESSAGES[..4] {
        let mut parts =
            bytes.split(|byte| *byte == b'.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
        let (header, payload) = (parts.next().unwrap(), parts.next().unwrap());
        seed("signed_envelope", name, [&header[..], b"\n", &payload].concat());
        if *name == "hello" {
            let mut expiring: Value = serde_json::from_slice(&header).unwrap();
            expiring["exp"] = (now().as_second() + 60).into();
            seed("signed_envelope", "expiring", [expiring.to_string().as_bytes(), b"\n", &payload].concat());
            for (name, file) in [
                ("passphrase", &include_bytes!("../../vectors/cctv-age/scrypt")[..]),
                ("grease", include_bytes!("../../vectors/cctv-age/x25519_grease")),
                ("two-recipients", include_bytes!("../../vectors/cctv-age/x25519_multiple_recipients")),
                ("low-order", include_bytes!("../../vectors/cctv-age/x25519_low_order")),
                ("no-final-chunk", include_bytes!("../../vectors/cctv-age/stream_no_final")),
            ] {
                // The vectors' own description ends with an empty line.
                let start = file.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
                seed("signed_envelope", name, [&header[..], b"\n", &file[start..]].concat());
            }
        }
    }
}

fn bodies() {
    let body = |message: Value| {
        let mut all = json!({"v": 1, "iss": device().thumbprint(), "jti": facts().jti});
        all.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
        all.to_string()
    };
    for (name, message) in to_agent() {
        assert!(name.len() < message.kind().len() + 10);
        seed("message", name, body(serde_json::to_value(message).unwrap()));
    }
    for (name, message) in to_device() {
        seed("message", name, body(serde_json::to_value(message).unwrap()));
    }
}

fn callbacks() {
    let host = format!("Host: localhost:{PORT}\r\n");
    let form = format!("code=c&state={STATE}&iss=https%3A%2F%2Flogin.example");
    let length = form.len();
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (first, second) = form.split_at(20);
    let rest = second.len();
    for (name, request) in [
        ("code", format!("GET /?code=c&state={STATE} HTTP/1.1\r\n{host}Connection: close\r\n\r\n")),
        (
            "refusal",
            format!("GET /?error=access_denied&error_subcode=cancel&state={STATE} HTTP/1.1\r\n{host}\r\n"),
        ),
        ("code-twice", format!("GET /?code=c&code=d&state={STATE} HTTP/1.1\r\n{host}\r\n")),
        ("other-state", format!("GET /?code=c&state=guessed HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n")),
        (
            "whole-address",
            format!("GET http://localhost:{PORT}/?code=c&state={STATE} HTTP/1.1\r\n{host}\r\n"),
        ),
        ("form", format!("POST / HTTP/1.1\r\n{host}{kind}Content-Length: {length}\r\n\r\n{form}")),
        (
            "chunks",
            format!(
                "POST / HTTP/1.1\r\n{host}{kind}Transfer-Encoding: chunked\r\n\r\n14\r\n{first}\r\n{rest:x}\r\n{second}\r\n0\r\n\r\n"
            ),
        ),
        (
            "expect-continue",
            format!(
                "POST / HTTP/1.1\r\n{host}{kind}Expect: 100-continue\r\nContent-Length: 9\r\n\r\ncode=code"
            ),
        ),
        ("page", format!("GET /done HTTP/1.1\r\n{host}Cookie: a=b\r\n\r\n")),
        ("other-host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned()),
        ("old-version", format!("GET /?code=c&state={STATE} HTTP/1.0\r\n{host}\r\n")),
        ("upgrade", format!("GET / HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")),
        (
            "two-requests",
            format!("GET / HTTP/1.1\r\n{host}\r\nGET /?code=c&state={STATE} HTTP/1.1\r\n{host}\r\n"),
        ),
    ] {
        seed("callback", name, request);
    }
}

fn tokens_and_keys() {
    let [named, unnamed] = HONEST_TOKENS;
    seed("id_token", "token", named);
    seed("id_token", "unnamed-key", unnamed);
    let (signed, _) = named.rsplit_once('.').unwrap_or_default();
    let payload = signed.split_once('.').map_or("", |(_, payload)| payload);
    let with =
        |header: Value| format!("{}.{payload}.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()));
    seed("id_token", "none", with(json!({"alg": "none"})));
    seed("id_token", "symmetric", with(json!({"alg": "HS256", "typ": "JWT", "kid": "honest"})));
    seed(
        "id_token",
        "critical",
        with(json!({"alg": "RS256", "crit": ["b64"], "b64": false, "kid": "honest"})),
    );
    seed("id_token", "payload", claims().to_string());
    let mut odd = claims();
    odd["aud"] = json!([CLIENT]);
    odd["azp"] = CLIENT.into();
    odd["idp"] = "https://sts.windows.net/other/".into();
    odd["email_verified"] = "true".into();
    odd["xms_edov"] = 1.into();
    odd["groups"] = json!(["a", {"b": [null, -1.5, 1e300]}]);
    seed("id_token", "payload-of-a-guest", odd.to_string());
    odd["at_hash"] = "x".into();
    odd["tid"] = "9188040d-6c67-4c5b-b112-36a304b66dad".into();
    seed("id_token", "payload-of-a-personal-account", odd.to_string());

    seed("jwks", "honest", KEY_SET);
    let mut set: Value = serde_json::from_slice(KEY_SET).unwrap_or_default();
    let ours = set["keys"][0].clone();
    let mut public = ours.clone();
    public["x5c"] = json!(["MIIC"]);
    public["x5t"] = "x".into();
    public["e"] = "AAEAAQ".into();
    set["keys"] = json!([
        public, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "RSA", "kid": "honest", "n": "wQ", "e": "AQAB"},
        {"kty": "RSA", "kid": "honest", "alg": "PS256", "key_ops": ["verify"], "n": ours["n"], "e": "AQAB"},
    ]);
    seed("jwks", "several", set.to_string());
    set["keys"] = json!([{"kty": "RSA", "kid": "honest", "n": ours["n"], "e": ours["n"], "use": "sig"}]);
    seed("jwks", "huge-exponent", set.to_string());
    seed("jwks", "none", r#"{"keys":[]}"#);
}

fn caches_and_files() {
    for (name, cache) in CACHES {
        seed("msal_cache", name, cache);
    }
    let mut small: Value = serde_json::from_str(CACHES[4].1).unwrap();
    let (_, tid) = ACCOUNT.split_once('.').unwrap();
    let at = now().to_string();
    let facts = json!({
        "format": 1, "account": account(), "username": "ana@contoso.example", "name": "Ana",
        "expected_email": "ana@contoso.example",
        "authority": serde_json::to_value(agents_authority()).unwrap(),
        "client_id": CLIENT, "capabilities": ["mail"], "resources": ["graph"], "scopes": ["Mail.Read"],
        "device": device().thumbprint(),
        "seen": {device().thumbprint().as_str(): {
            "gen": 7, "digest": "ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs",
            "jti": sealed_facts().jti, "verdict": {"result": "stored", "refreshed_at": at}, "brought": true,
        }},
        "expires_at": in_an_hour().to_string(), "refresh_at": at,
        "condition": {"health": "connected", "since": at},
        "stored_at": at, "refreshed_at": at, "previous_refresh_token": "the one before",
    });
    assert_eq!(tid, TENANT);
    small["ValetKey"] = facts.clone();
    seed("vault_file", "whole", serde_json::to_string_pretty(&small).unwrap());
    seed("vault_file", "without-a-cache", json!({"ValetKey": facts}).to_string());
    honest("vault-file.age", || {
        let key: age::x25519::Identity = VAULT_KEY.parse().unwrap();
        age_file::encrypt_to(small.to_string().as_bytes(), &[&key.to_public()]).unwrap()
    });
    seed("vault_file", "sealed", HONEST_VAULT_FILE);
    let mut newer = facts.clone();
    newer["format"] = 99.into();
    seed("vault_file", "of-a-later-version", json!({"ValetKey": newer}).to_string());
    let mut replacing = facts.clone();
    replacing["replaced"] = json!({"ValetKey": facts});
    replacing["removed_at"] = at.into();
    replacing["seen"][device().thumbprint().as_str()]["verdict"] =
        json!({"result": "refused", "reason": "older"});
    seed("vault_file", "with-a-replaced-one", json!({"ValetKey": replacing}).to_string());
}

fn configurations() {
    let template = valetkey_agentd::config::TEMPLATE;
    let bare: String =
        template.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    seed("configuration", "template", bare);
    let switched_on = |line: &str| match line.strip_prefix('#') {
        // A comment for people has a space after its mark; a switched-off key has none.
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        Some(_) => String::new(),
        None => format!("{line}\n"),
    };
    seed("configuration", "every-key", template.lines().map(switched_on).collect::<String>());
    seed(
        "configuration",
        "own-broker",
        "name = \"Zoë's assistant\"\nclient_id = \"11111111-1111-4111-8111-111111111111\"\ntenant = \"consumers\"\n\
         cloud = \"custom\"\nlogin_url = \"http://localhost:8080\"\ngraph_url = \"http://localhost:8081\"\n\
         allow = [\"mail\", \"files\"]\ninvite_expires = \"7d\"\nlink_base = \"https://contoso.example/key\"\n\
         [own_broker]\naddress = \"0.0.0.0\"\nport = 8883\ndevice_url = \"mqtts://me.example:8883\"\n\
         certificate_file = \"/c\"\nkey_file = \"/k\"\n",
    );
    seed(
        "configuration",
        "operators-broker",
        "[broker]\nurl = \"wss://mqtt.contoso.example/mqtt\"\nusername = \"agent\"\npassword_file = \"/p\"\n\
         client_certificate_file = \"/c\"\nclient_key_file = \"/k\"\ndevice_url = \"mqtts://mqtt.contoso.example\"\n\
         device_credential_command = [\"/bin/make\", \"{device}\"]\n",
    );
    let agent = agent().thumbprint();
    seed(
        "policy",
        "everything",
        format!(
            "agents = [\"{agent}\"]\nbrokers = [\"broker.contoso.example\"]\n\
             logins = ['login.microsoftonline.com']\ngraphs = [\"https://graph.microsoft.com/\"]\nclient_ids = [\"\"\"{CLIENT}\"\"\"]\n"
        ),
    );
    seed("policy", "nothing-is-allowed", "agents = []\n");
    seed("policy", "another-broker", "brokers = [\"evil.example\", \"\\u0062roker\"] # comment\n");
    seed(
        "policy",
        "whole-addresses",
        "brokers = [\"mqtts://Broker.contoso.example:8883/\", \"wss://b.example/mqtt\"]\n",
    );
    seed("policy", "empty", "\n");
}
