//! Every refusal, from the wrong answer of a provider to the words in the window and in the browser.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use common::{Agent, CLIENT_ID, Person, invite, terms};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ACCESS_TOKEN, Answer, KEYS, OTHER_TENANT, Provider, TENANT, header, jwk, sign, unsigned};
use url::Url;
use valetkey_companion::view::{Screen, View};
use valetkey_companion::{Clock, Command, Outlet, Way};
use valetkey_handoff::Keys;
use valetkey_tests::broker::{Broker, BrokerOptions, Certificate};
use valetkey_tests::http_sign_in;
use valetkey_tests::http_sign_in::http_cancel;
use valetkey_tests::tenant::{ALICE, Tenant};

mod common;
#[path = "../../entra/tests/support/mod.rs"]
mod support;

/// Nobody is there, and for a refusal nobody is needed.
const NO_BROKER: &str = "mqtt://localhost:1";
const EMAIL: &str = "alice@contoso.example";

/// A provider that answers as told, and a person who has been sent to it.
struct Bench {
    provider: Provider,
    person: Person,
    http: reqwest::Client,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Person::new()).await
    }

    async fn with(mut person: Person) -> Self {
        let provider = Provider::start().await;
        provider.publish(&json!([jwk(&KEYS[0], Some("k0"))]));
        let metadata = json!({
            "issuer": provider.authority(TENANT).metadata_issuer(),
            "authorization_endpoint": provider.url("/authorize"),
            "token_endpoint": provider.url("/token"),
            "jwks_uri": provider.url("/keys"),
            "code_challenge_methods_supported": ["S256"],
        });
        let discovery = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
        provider.answer(&discovery, [Answer::json(200, &metadata)]);
        person.start();
        let origin = provider.origin.as_str();
        let invite = invite(&Keys::generate(), NO_BROKER, terms(origin, TENANT, EMAIL));
        person.agree_to(invite.to_link().unwrap().expose()).await;
        Self { provider, person, http: valetkey_entra::http::client().unwrap() }
    }

    /// Takes the place of the browser: brings `answer` with the right state to the listener, and shows its page.
    async fn bring(&mut self, opened: &Url, answer: &[(&str, &str)]) -> String {
        self.get(callback(opened, answer)).await.1
    }

    async fn get(&self, url: Url) -> (u16, String) {
        let answer = self.http.get(url.clone()).send().await.unwrap();
        match answer.headers().get("location") {
            Some(location) => {
                let page = url.join(location.to_str().unwrap()).unwrap();
                let shown = self.http.get(page).send().await.unwrap();
                (shown.status().as_u16(), shown.text().await.unwrap())
            }
            None => (answer.status().as_u16(), answer.text().await.unwrap()),
        }
    }

    /// The tokens that a right sign-in gets, with changes to the claims and to the answer; `null` takes something away.
    fn tokens(&self, opened: &Url, claims: &Value, answer: &Value) -> Value {
        let token = sign(&KEYS[0], &header(), &self.claims(opened, claims).to_string());
        changed(
            json!({
                "token_type": "Bearer",
                "access_token": ACCESS_TOKEN,
                "refresh_token": "CANARY-refresh-token",
                "id_token": token,
                "scope": "openid profile User.Read Mail.Read Calendars.Read",
                "expires_in": 3600,
            }),
            answer,
        )
    }

    fn claims(&self, opened: &Url, changes: &Value) -> Value {
        let nonce = opened.query_pairs().find(|(key, _)| key == "nonce").unwrap().1.into_owned();
        let now = Timestamp::now().as_second();
        let mut claims = support::claims(&self.provider.authority(TENANT));
        let times = json!({"nonce": nonce, "iat": now, "nbf": now, "exp": now + 3600});
        claims = changed(claims, &times);
        changed(claims, changes)
    }

    /// One attempt that the provider ends with `tokens`: the page, and what the window shows then.
    async fn attempt(&mut self, tokens: impl FnOnce(&Self, &Url) -> Value) -> (String, View) {
        let opened = self.person.browser_opens().await;
        let tokens = tokens(self, &opened);
        self.provider.answer("/token", [Answer::json(200, &tokens)]);
        let page = self.bring(&opened, &[("code", "CANARY-code")]).await;
        let ended = |view: &View| !matches!(view.screen, Screen::Waiting | Screen::HandingOver);
        let view = self.person.until("the end of the attempt", ended).await;
        (page, view)
    }

    async fn refused(
        &mut self,
        name: &str,
        tokens: impl FnOnce(&Self, &Url) -> Value,
        code: &str,
        words: &str,
    ) {
        let (page, view) = self.attempt(tokens).await;
        assert_eq!(view.code.as_deref(), Some(code), "{name}: {view:?}");
        assert_eq!(view.headline, words, "{name}");
        assert!(page.contains("<title>Signing in didn&#39;t work</title>"), "{name}: {page}");
        assert!(page.contains(&words.replace('\'', "&#39;")), "{name}: {page}");
        let seen = format!("{page}{view:?}{}", self.person.everything_on_disk());
        assert!(!seen.contains("CANARY"), "{name}: a secret is shown or kept");
        assert!(!self.person.everything_on_disk().contains("\"sign_in\""), "{name}: something was sealed");
        self.person.send(Command::Retry);
    }
}

fn changed(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value.clone(),
        }
    }
    object
}

const NOT_GENUINE: &str = "The sign-in couldn't be proved genuine";

/// Shows M2, and J3 but for the person: each wrong token has its own code, the same plain words, and leaves nothing behind.
#[tokio::test]
async fn a_proof_of_sign_in_that_is_not_right_in_every_way_is_refused() {
    let mut bench = Bench::new().await;
    let b = &mut bench;
    let forged = |b: &Bench, opened: &Url| {
        let token = sign(&KEYS[1], &header(), &b.claims(opened, &json!({})).to_string());
        b.tokens(opened, &json!({}), &json!({ "id_token": token }))
    };
    b.refused("another key", forged, "untrusted-signature", NOT_GENUINE).await;
    let unsigned_token = |b: &Bench, opened: &Url| {
        let claims = b.claims(opened, &json!({})).to_string();
        let token = format!("{}.AAAA", unsigned(&json!({"alg": "none"}), &claims));
        b.tokens(opened, &json!({}), &json!({ "id_token": token }))
    };
    b.refused("alg none", unsigned_token, "untrusted-algorithm", NOT_GENUINE).await;
    let no_proof = |b: &Bench, opened: &Url| b.tokens(opened, &json!({}), &json!({ "id_token": null }));
    b.refused("no ID token", no_proof, "untrusted-claims", NOT_GENUINE).await;

    let other_tenants = b.provider.authority(TENANT).issuer(OTHER_TENANT.parse().unwrap());
    let now = Timestamp::now().as_second();
    let wrong_claims = [
        ("aud", json!({"aud": "somebody-else"}), "untrusted-audience", NOT_GENUINE),
        ("iss", json!({"iss": "https://evil.example/v2.0"}), "untrusted-issuer", NOT_GENUINE),
        ("nonce", json!({"nonce": "another"}), "untrusted-nonce", NOT_GENUINE),
        ("no oid", json!({"oid": null}), "untrusted-claims", NOT_GENUINE),
        ("expired", json!({"exp": now - 3600}), "clock-wrong", "Your computer's clock looks wrong"),
        (
            "tenant",
            json!({"tid": OTHER_TENANT, "iss": other_tenants}),
            "wrong-tenant",
            "That account belongs to another organisation",
        ),
    ];
    for (name, claims, code, words) in wrong_claims {
        b.refused(name, |b, opened| b.tokens(opened, &claims, &json!({})), code, words).await;
    }
    let (_, view) =
        b.attempt(|b, opened| b.tokens(opened, &json!({"nbf": now + 12 * 60 + 30}), &json!({}))).await;
    assert_eq!(view.headline, "Your computer's clock looks wrong by 12 minutes");
    b.person.stop().await;
}

/// Shows of L6 that without a refresh token, or with other scopes than those asked, nothing is kept or sealed.
#[tokio::test]
async fn a_sign_in_that_would_not_last_or_allows_less_is_not_handed_over() {
    let mut bench = Bench::new().await;
    let b = &mut bench;
    let no_refresh =
        |b: &Bench, opened: &Url| b.tokens(opened, &json!({}), &json!({ "refresh_token": null }));
    b.refused("no refresh token", no_refresh, "no-lasting-access", "Microsoft gave access for an hour only")
        .await;
    let less =
        |b: &Bench, opened: &Url| b.tokens(opened, &json!({}), &json!({ "scope": "User.Read Mail.Read" }));
    let words = "Microsoft didn't allow everything that was asked";
    b.refused("fewer permissions", less, "access-missing", words).await;
    // More than was asked for, which the person was never told of.
    let scope = "User.Read Mail.Read Calendars.Read https://graph.microsoft.com/Mail.ReadWrite\u{202E}";
    let more = |b: &Bench, opened: &Url| b.tokens(opened, &json!({}), &json!({ "scope": scope }));
    let words = "Microsoft allowed more than was asked";
    b.refused("more permissions", more, "access-exceeded", words).await;
    // Somebody whose address differs, and Graph cannot be asked whose mailbox it is.
    let unsure = |b: &Bench, opened: &Url| {
        b.tokens(opened, &json!({ "preferred_username": "a.upn@contoso.example" }), &json!({}))
    };
    b.refused(
        "no word from Graph",
        unsure,
        "person-unconfirmed",
        "Microsoft didn't confirm whose mailbox this is",
    )
    .await;
    b.person.stop().await;
}

/// Shows M17 on the person's computer, and of M15 that a sign-in that was not saved is not sent.
#[tokio::test]
async fn a_disk_that_takes_nothing_is_reported_and_nothing_is_sent() {
    let mut bench = Bench::new().await;
    let b = &mut bench;
    let right = |b: &Bench, opened: &Url| {
        let outbox = b.person.dir.path().join("outbox");
        std::fs::remove_dir_all(&outbox).unwrap();
        std::fs::File::create(&outbox).unwrap();
        b.tokens(opened, &json!({}), &json!({}))
    };
    b.refused("no room", right, "cannot-save", "This computer couldn't save what it must").await;
    b.person.stop().await;
}

#[tokio::test]
async fn what_the_provider_refuses_is_said_in_words_that_help() {
    let mut bench = Bench::new().await;
    let b = &mut bench;
    let opened = b.person.browser_opens().await;
    let refusal =
        [("error", "access_denied"), ("error_description", "AADSTS90094: CANARY an admin must consent")];
    let page = b.bring(&opened, &refusal).await;
    assert!(page.contains("An administrator must allow this first") && !page.contains("CANARY"), "{page}");
    let view = b.person.until_screen(Screen::Blocked).await;
    let request = view.copy_text.unwrap();
    for part in ["Mail.Read", CLIENT_ID, "AADSTS90094", TENANT] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
    b.person.send(Command::CopyRequest);
    let copied = b.person.outlet("the request", |outlet| match outlet {
        Outlet::Clipboard(text) => Some(text),
        _ => None,
    });
    assert_eq!(copied.await, request);
    b.person.send(Command::Retry);

    let opened = b.person.browser_opens().await;
    let page = b.bring(&opened, &[("code", "x"), ("iss", "https://evil.example/v2.0")]).await;
    assert!(page.contains("The answer came from another sign-in service"), "{page}");
    let view = b.person.until_screen(Screen::Error).await;
    assert_eq!(view.code.as_deref(), Some("untrusted-mixed-up"));
    b.person.send(Command::Retry);

    let opened = b.person.browser_opens().await;
    let body = json!({"error": "invalid_client", "error_description": "AADSTS700016: no such app", "error_codes": [700_016]});
    b.provider.answer("/token", [Answer::json(401, &body)]);
    b.bring(&opened, &[("code", "x")]).await;
    let view = b.person.until_screen(Screen::Error).await;
    assert_eq!(view.headline, "Your assistant isn't set up right at Microsoft");
    assert!(view.detail.unwrap().contains("AADSTS700016"));
    b.person.send(Command::Retry);

    let opened = b.person.browser_opens().await;
    b.provider.answer("/token", [Answer { status: 503, headers: vec![], body: String::new() }]);
    b.bring(&opened, &[("code", "x")]).await;
    let view = b.person.until_screen(Screen::Error).await;
    assert_eq!(view.headline, "Microsoft is too busy just now");
    b.person.stop().await;
}

/// Where the browser is sent with `answer` and the right state.
fn callback(opened: &Url, answer: &[(&str, &str)]) -> Url {
    let asked = |name| opened.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let mut callback: Url = asked("redirect_uri").parse().unwrap();
    callback.query_pairs_mut().extend_pairs(answer).append_pair("state", &asked("state"));
    callback
}

/// Shows of M10 that what is not the answer waited for ends nothing, and that the answer is taken once.
#[tokio::test]
async fn a_missing_a_forged_and_a_used_state_change_nothing() {
    let mut bench = Bench::new().await;
    let b = &mut bench;
    let opened = b.person.browser_opens().await;
    let redirect: Url =
        opened.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.parse().unwrap();
    for query in ["code=stolen", "code=stolen&state=forged", "error=access_denied&state=forged"] {
        let mut url = redirect.clone();
        url.set_query(Some(query));
        let (status, page) = b.get(url).await;
        assert_eq!(status, 400, "{query}");
        assert!(page.contains("isn&#39;t in use any more"), "{page}");
    }
    assert_eq!(b.get(redirect.join("/favicon.ico").unwrap()).await.0, 404);
    assert_eq!(b.person.view().screen, Screen::Waiting);

    let tokens = b.tokens(&opened, &json!({ "aud": "somebody-else" }), &json!({}));
    b.provider.answer("/token", [Answer::json(200, &tokens)]);
    let right = callback(&opened, &[("code", "right")]);
    let (first, again) = tokio::join!(b.http.get(right.clone()).send(), b.http.get(right.clone()).send());
    let pages =
        [first, again].map(|answer| answer.unwrap().headers()["location"].to_str().unwrap().to_owned());
    assert_eq!(pages[0], pages[1], "both are sent to the same page");
    let (_, page) = b.get(right.join(&pages[0]).unwrap()).await;
    assert!(page.contains("didn&#39;t work"), "{page}");
    b.person.until_screen(Screen::Error).await;
    assert_eq!(b.provider.received("/token").len(), 1, "a code is exchanged once");
    b.person.stop().await;
}

/// Shows of J7 that going back, or saying no, is not an error.
#[tokio::test]
async fn cancelling_and_saying_no_in_the_browser_end_quietly() {
    let (tenant, broker) = tokio::join!(Tenant::start(), Broker::start(BrokerOptions::default()));
    let (tenant, broker) = (tenant.unwrap(), broker.unwrap());
    let agent = Agent::start(&broker.url(), terms(&tenant.origin, "organizations", ALICE.mail));
    let mut person = Person::new();
    person.start();
    person.agree_to(&agent.link_of_invite()).await;
    let url = person.browser_opens().await;
    let page = http_cancel(url.as_str()).await.unwrap();
    assert!(page.body.contains("<title>Sign-in cancelled</title>"), "{}", page.body);
    let view = person.until_screen(Screen::NotConnected).await;
    assert_eq!((view.headline.as_str(), view.code), ("Microsoft 365 isn't connected", None));

    tenant.consent(ALICE, false).await.unwrap();
    person.send(Command::Connect);
    let url = person.browser_opens().await;
    let page = http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    assert!(page.body.contains("Nothing was sent"), "{}", page.body);
    let view = person.until_screen(Screen::NotConnected).await;
    assert_eq!(view.activity[0].text, "Signing in was cancelled; nothing was sent");
    person.stop().await;
}

/// Shows of M18 that a busy port fails fast.
#[tokio::test]
async fn a_taken_port_fails_at_once_and_says_so() {
    let taken = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut person = Person::new();
    person.way = Way::Browser { port: Some(taken.local_addr().unwrap().port()) };
    let bench = Bench::with(person).await;
    let view = bench.person.until_screen(Screen::Error).await;
    assert_eq!(view.code.as_deref(), Some("port-busy"));
    assert_eq!(view.headline, "Your browser has no way back to Valet Key");
}

/// Shows of M18 that the flow times out.
#[tokio::test]
async fn a_sign_in_that_nobody_finishes_ends_after_five_minutes() {
    let mut bench = Bench::with(Person::with_clock(Clock::tokio_from(Timestamp::now()))).await;
    let opened = bench.person.browser_opens().await;
    let view = bench.person.until_screen(Screen::Waiting).await;
    let left = view.countdown_until.unwrap() - Timestamp::now().as_second();
    assert!((290..=300).contains(&left), "{left}");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(301)).await;
    tokio::time::resume();
    let view = bench.person.until_screen(Screen::Error).await;
    assert_eq!(
        (view.code.as_deref(), view.headline.as_str()),
        (Some("timed-out"), "Signing in took too long")
    );

    // Who comes then finds nobody there, or is told; nothing is exchanged.
    if let Ok(late) = bench.http.get(callback(&opened, &[("code", "late")])).send().await {
        assert_eq!(late.status(), 400);
        assert!(late.text().await.unwrap().contains("isn&#39;t in use any more"));
    }
    assert_eq!(bench.provider.received("/token").len(), 0);
    assert_eq!(bench.person.view().code.as_deref(), Some("timed-out"));
}

/// Shows J8 for no network.
#[tokio::test]
async fn no_network_is_not_signed_out() {
    let mut person = Person::new();
    person.start();
    let nobody = invite(&Keys::generate(), NO_BROKER, terms("http://localhost:1", TENANT, EMAIL));
    person.agree_to(nobody.to_link().unwrap().expose()).await;
    let view = person.until_screen(Screen::Error).await;
    assert_eq!(
        (view.code.as_deref(), view.headline.as_str()),
        (Some("no-network"), "Microsoft can't be reached")
    );
    person.stop().await;
}

/// A network that checks secure traffic, with a certificate that is not installed here.
#[tokio::test]
async fn a_sign_in_service_with_an_untrusted_certificate_is_not_taken_for_no_network() {
    let tls = BrokerOptions { tls: Some(Certificate::Valid), ..BrokerOptions::default() };
    let in_between = Broker::start(tls).await.unwrap();
    let origin = format!("https://localhost:{}", in_between.port());
    let mut person = Person::new();
    person.start();
    let invite = invite(&Keys::generate(), NO_BROKER, terms(&origin, TENANT, EMAIL));
    person.agree_to(invite.to_link().unwrap().expose()).await;
    let view = person.until_screen(Screen::Error).await;
    assert_eq!(
        (view.code.as_deref(), view.headline.as_str()),
        (Some("not-secure"), "A secure connection to Microsoft couldn't be made")
    );
    assert!(view.detail.unwrap().contains("certificate must be installed"));
    person.stop().await;
}

#[tokio::test]
async fn invites_that_are_damaged_over_or_not_allowed_are_refused_before_anything_is_contacted() {
    let mut person = Person::new();
    let policy = person.dir.path().join("policy.toml");
    person.policy = Some(policy.clone());
    person.start();
    person.until_screen(Screen::NotPaired).await;
    let agent = Keys::generate();
    let good = invite(&agent, NO_BROKER, terms("https://login.microsoftonline.com", TENANT, EMAIL));
    let mut over = good.clone();
    over.expires_at = Timestamp::now() - SignedDuration::from_secs(1);
    let mut written = tempfile::NamedTempFile::new_in(person.dir.path()).unwrap();
    std::io::Write::write_all(&mut written, b"brokers = [\"mqtt.contoso.example\"]\n").unwrap();
    let link = |invite: &valetkey_handoff::Invite| invite.to_link().unwrap().expose().clone();
    let ask = |link: &str| Command::PasteInvite { link: valetkey_companion::InviteLink::new(link) };
    for (name, text, code) in [
        ("cut short", link(&good)[..200].to_owned(), "invite-unreadable"),
        ("a policy file that was named and is not there", link(&good), "invite-forbidden"),
        ("over", link(&over), "invite-expired"),
    ] {
        person.send(ask(&text));
        let view = person.until(name, |view| view.code.as_deref() == Some(code)).await;
        assert_eq!(view.screen, Screen::Error);
    }
    written.persist(&policy).unwrap();
    person.send(ask(&link(&good)));
    let view = person.until("the policy", |view| view.code.as_deref() == Some("invite-forbidden")).await;
    assert_eq!(view.headline, "Your organisation doesn't allow this assistant");
    person.send(Command::AcceptInvite { invite: None });
    person.send(Command::Dismiss);
    person.until_screen(Screen::NotPaired).await;
    person.stop().await;
}

/// Where no organisation rules anything.
#[tokio::test]
async fn an_invite_to_sign_in_anywhere_but_at_microsoft_is_not_even_offered() {
    let mut person = Person::new();
    person.start();
    person.until_screen(Screen::NotPaired).await;
    let elsewhere = invite(&Keys::generate(), NO_BROKER, terms("https://login.evil.example", TENANT, EMAIL));
    let link = valetkey_companion::InviteLink::new(elsewhere.to_link().unwrap().expose());
    person.send(Command::PasteInvite { link });
    let view = person.until("refused", |view| view.code.as_deref() == Some("invite-elsewhere")).await;
    assert_eq!((view.screen, view.invite.is_none()), (Screen::Error, true));
    person.send(Command::AcceptInvite { invite: Some(elsewhere.id().to_string()) });
    person.send(Command::Dismiss);
    person.until_screen(Screen::NotPaired).await;
    person.stop().await;
}

/// What was agreed to before the organisation forbade it ends with the next start, and comes back with the permission.
#[tokio::test]
async fn a_pairing_that_the_organisation_no_longer_allows_is_not_served() {
    let mut person = Person::new();
    let policy = person.dir.path().join("policy.toml");
    let put = |rules: &str| {
        let mut written = tempfile::NamedTempFile::new_in(policy.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut written, rules.as_bytes()).unwrap();
        written.persist(&policy).unwrap();
    };
    person.policy = Some(policy.clone());
    put("");
    person.start();
    let nobody = invite(&Keys::generate(), NO_BROKER, terms("http://localhost:1", TENANT, EMAIL));
    person.agree_to(nobody.to_link().unwrap().expose()).await;
    person.until("the pairing", |view| view.assistant.is_some()).await;
    person.stop().await;
    for rules in
        ["brokers = []", "agents = []", "logins = []", "graphs = []", "client_ids = []", "not toml ["]
    {
        put(rules);
        person.start();
        let view = person.until_screen(Screen::Error).await;
        assert_eq!((view.code.as_deref(), view.assistant), (Some("pairing-forbidden"), None), "{rules}");
        person.stop().await;
    }
    put("logins = [\"http://localhost:1\"]\ngraphs = [\"http://localhost:1\"]");
    person.start();
    person.until("the pairing", |view| view.assistant.is_some()).await;
    person.stop().await;
}
