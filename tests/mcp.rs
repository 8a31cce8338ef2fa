//! An MCP client works through the agent with no credential in its `mcp.json`, and the companion needs no rights for it.
//!
//! The client reads the very file of `docs/operating.md`; the server is of a Microsoft kind: it takes only tokens that the
//! practice tenant signed for it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "mcp/client.rs"]
mod client;
#[path = "mcp/rights.rs"]
mod rights;
#[allow(dead_code, reason = "there are more kinds of secrets than an MCP client could have")]
#[path = "secrets/search.rs"]
mod search;
#[path = "mcp/server.rs"]
mod server;
mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::World;
use valetkey_tests::program::program;
use valetkey_tests::tenant::{ALICE, Lifetimes, Tenant};

use crate::client::{Client, NotConnected};
use crate::search::{Exhibit, Kind, MARK_BYTES, Search, Secret};
use crate::server::McpServer;

const DOCUMENT: &str = include_str!("../docs/operating.md");
/// Within the agent's five minutes of caution, so that it renews before every call; and long enough for a whole test.
const ALWAYS_DUE: Lifetimes = Lifetimes { access: Some(240), refresh: None, id: None, refresh_in: None };
/// Soon over, and long enough to connect with on a busy machine.
const SHORT_LIVED: Lifetimes = Lifetimes { access: Some(15), ..ALWAYS_DUE };

/// The documented file, with what is particular to this test put in. Each replacement must be one.
fn mcp_json(world: &World, server: &str, resource: &str) -> String {
    let (_, rest) = DOCUMENT.split_once("```mcp.json\n").expect("the file is documented");
    let documented = rest.split_once("```").unwrap().0;
    let agent = program("valetkey-agent").unwrap();
    let ours = [
        ("https://workiq.svc.cloud.microsoft/mcp", server.to_owned()),
        ("valetkey-agent token", format!("{} --state-dir {} token", agent.display(), state_dir(world))),
        ("ana@contoso.com", ALICE.mail.to_owned()),
        ("--resource workiq", format!("--resource {resource}")),
    ];
    ours.into_iter().fold(documented.to_owned(), |text, (theirs, ours)| {
        assert_eq!(text.matches(theirs).count(), 1, "{theirs}");
        text.replace(theirs, &ours)
    })
}

fn state_dir(world: &World) -> String {
    world.daemon.state_dir().display().to_string()
}

/// A person who has allowed mail and Work IQ, and a daemon that serves.
async fn connected() -> (World, valetkey_tests::program::Program) {
    let world = World::with_operators_broker().await;
    world.tenant.lifetimes(ALWAYS_DUE).await.unwrap();
    let serving = world.daemon.serve().await.unwrap();
    let (code, invite) =
        world.daemon.ask(&["invite", "--email", ALICE.mail, "--allow", "mail,workiq"]).unwrap();
    assert_eq!(code, 0, "{invite}");
    let mut desk = world.desk();
    desk.connect(invite["link"].as_str().unwrap(), ALICE).await;
    desk.stop().await;
    (world, serving)
}

/// The companion has ended by then, so nothing is its doing.
///
/// Shows H14's "No credential in `mcp.json`".
#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_client_connects_before_and_after_a_tokens_end_with_no_credential_in_its_files() {
    let (world, serving) = connected().await;
    let server = McpServer::start(&world.tenant, ALICE.tid).await;
    let client = Client::with(&mcp_json(&world, &server.url, "workiq"));
    let written = client.file();

    world.tenant.lifetimes(SHORT_LIVED).await.unwrap();
    let mut session = client.connect("workiq").await.expect("connected");
    assert_eq!(session.tools().await.unwrap(), ["ask"]);
    assert_eq!(server.callers(), BTreeSet::from([ALICE.username.to_owned()]));

    // The same headers are refused once the token has ended; only the provider's clock says when.
    world.tenant.lifetimes(ALWAYS_DUE).await.unwrap();
    let first = session.authorization();
    while session.tools().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(session.tools().await.unwrap_err(), NotConnected::Refused(401));
    let mut next = client.connect("workiq").await.expect("connected again");
    assert_eq!(next.tools().await.unwrap(), ["ask"]);
    assert_ne!(next.authorization(), first, "another token");
    // A client that stays runs the command again when it is refused, and goes on in the same session.
    session.headers_again(&client, "workiq").unwrap();
    assert_eq!(session.tools().await.unwrap(), ["ask"]);
    assert_eq!(client.file(), written, "mcp.json is as it was");

    // Taken back: no headers, and words for the person.
    world.tenant.revoke(ALICE).await.unwrap();
    let Err(NotConnected::Helper { code, out, err }) = client.connect("workiq").await else {
        panic!("a revoked sign-in gave headers")
    };
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert!(err.contains("Reconnect"), "{err}");

    let search = everything_secret(&world.tenant).await;
    assert_eq!(
        client.exposed(&search),
        BTreeSet::new(),
        "mcp.json or another file of the client holds a secret"
    );
    // The same search finds what people wrote there before, and what a careless client would keep.
    let tokens = world.tenant.secrets().await.unwrap();
    let before = written.replace(
        "\"headersHelper\"",
        &format!("\"headers\": {{ \"Authorization\": \"Bearer {}\" }},\n\"x\"", tokens.access_tokens[0]),
    );
    plant(&client.directory().join("mcp.json"), &before);
    plant(&client.directory().join("logs/kept"), &format!("{:?}", tokens.refresh_tokens[0].as_bytes()));
    assert_eq!(
        client.exposed(&search),
        BTreeSet::from([
            (Kind::AccessToken, "mcp.json".into()),
            (Kind::AnyToken, "mcp.json".into()),
            (Kind::RefreshToken, "logs/kept".into())
        ])
    );
    serving.stop().unwrap();
}

/// What the test above rests on: the server lets nobody in without a token, with another server's, or with an altered one.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_helper_or_with_a_token_for_somebody_else_the_server_answers_401() {
    let (world, serving) = connected().await;
    let server = McpServer::start(&world.tenant, ALICE.tid).await;
    let documented = mcp_json(&world, &server.url, "workiq");
    let mut bare: Value = serde_json::from_str(&documented).unwrap();
    let helper = bare["mcpServers"]["workiq"].as_object_mut().unwrap().remove("headersHelper");
    assert!(helper.is_some());
    let for_graph = mcp_json(&world, &server.url, "graph");
    for refused in [bare.to_string(), for_graph] {
        let answer = Client::with(&refused).connect("workiq").await;
        assert_eq!(answer.err(), Some(NotConnected::Refused(401)), "{refused}");
    }
    let mut session = Client::with(&documented).connect("workiq").await.expect("with the helper");
    session.alter_token();
    assert_eq!(session.tools().await.unwrap_err(), NotConnected::Refused(401));
    assert_eq!(server.refused(), 3);
    serving.stop().unwrap();
}

/// Every token that the tenant ever gave out, and how tokens begin.
async fn everything_secret(tenant: &Tenant) -> Search {
    let all = tenant.secrets().await.unwrap();
    for (kind, tokens) in [("access", &all.access_tokens), ("refresh", &all.refresh_tokens)] {
        assert!(tokens.len() >= 4, "{kind}: {}", tokens.len());
    }
    let jwts = all.access_tokens.iter().chain(&all.id_tokens);
    let beginnings: BTreeSet<String> = jwts.map(|token| token[..MARK_BYTES].to_owned()).collect();
    let secrets: Vec<Secret> = [
        (Kind::AccessToken, all.access_tokens),
        (Kind::RefreshToken, all.refresh_tokens),
        (Kind::IdToken, all.id_tokens),
        (Kind::AnyToken, beginnings.into_iter().collect()),
        (Kind::Code, all.codes),
        (Kind::Verifier, all.verifiers),
    ]
    .into_iter()
    .flat_map(|(kind, texts)| texts.into_iter().map(move |text| Secret { kind, bytes: text.into() }))
    .collect();
    Search::for_secrets(&secrets)
}

fn plant(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

impl Client {
    /// What of all this any file of the client holds, and which.
    fn exposed(&self, search: &Search) -> BTreeSet<(Kind, String)> {
        let mut exhibits = Vec::new();
        let mut folders = vec![self.directory().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let place = path.strip_prefix(self.directory()).unwrap().display().to_string();
                exhibits.push(Exhibit { place, bytes: std::fs::read(&path).unwrap(), may: &[] });
            }
        }
        assert!(exhibits.len() >= 2, "mcp.json and the client's log are looked at");
        search.findings(&exhibits).0.into_iter().map(|found| (found.kind, found.place)).collect()
    }
}
