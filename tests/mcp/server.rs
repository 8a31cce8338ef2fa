//! An MCP server over streamable HTTP that takes only tokens of one tenant, made for it: signature, issuer, audience, expiry
//! without allowance, and permission are checked at every request.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::Tenant;

use crate::client::{PROTOCOL, SESSION, VERSION};

/// Work IQ's, as Microsoft publishes it.
const AUDIENCE: &str = "api://workiq.svc.cloud.microsoft";
const PERMISSION: &str = "WorkIQAgent.Ask";
const THE_SESSION: &str = "the-one-session-of-this-server";

type Answer = Response<Full<Bytes>>;

/// It ends with the test's runtime.
pub struct McpServer {
    pub url: String,
    state: Arc<State>,
}

struct State {
    keys: JwkSet,
    rules: Validation,
    callers: Mutex<BTreeSet<String>>,
    refused: Mutex<usize>,
}

impl McpServer {
    pub async fn start(tenant: &Tenant, tid: &str) -> Self {
        let http = http_sign_in::client().unwrap();
        let get = async |url: String| -> Value {
            http.get(url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
        };
        let metadata = get(format!("{}/v2.0/.well-known/openid-configuration", tenant.authority(tid))).await;
        let keys = get(metadata["jwks_uri"].as_str().unwrap().to_owned()).await;
        let mut rules = Validation::new(Algorithm::RS256);
        rules.leeway = 0;
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[metadata["issuer"].as_str().unwrap()]);
        rules.set_required_spec_claims(&["exp", "aud", "iss"]);
        let state = Arc::new(State {
            keys: serde_json::from_value(keys).unwrap(),
            rules,
            callers: Mutex::default(),
            refused: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, state.clone()));
        Self { url, state }
    }

    /// Who was let in.
    pub fn callers(&self) -> BTreeSet<String> {
        self.state.callers.lock().unwrap().clone()
    }

    /// Requests without a good token.
    pub fn refused(&self) -> usize {
        *self.state.refused.lock().unwrap()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            // A client that goes away is no matter.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let Some(caller) = self.caller(&header(AUTHORIZATION.as_str())) else {
            *self.refused.lock().unwrap() += 1;
            let mut refusal = status(StatusCode::UNAUTHORIZED);
            refusal.headers_mut().insert(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".parse().unwrap());
            return refusal;
        };
        self.callers.lock().unwrap().insert(caller);
        let accepts = header(ACCEPT.as_str());
        if request.method() != Method::POST || request.uri().path() != "/mcp" {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        if !accepts.contains("application/json") || !accepts.contains("text/event-stream") {
            return status(StatusCode::NOT_ACCEPTABLE);
        }
        let known = header(SESSION) == THE_SESSION && header(VERSION) == PROTOCOL;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let Ok(message) = serde_json::from_slice::<Value>(&body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        match message["method"].as_str() {
            Some("initialize") => {
                let result = json!({
                    "protocolVersion": PROTOCOL,
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "a server", "version": "1" },
                });
                let mut answer = result_of(&message, &result);
                answer.headers_mut().insert(SESSION, THE_SESSION.parse().unwrap());
                answer
            }
            _ if !known => status(StatusCode::BAD_REQUEST),
            Some("notifications/initialized") => status(StatusCode::ACCEPTED),
            Some("tools/list") => {
                let ask = json!({ "name": "ask", "inputSchema": { "type": "object" } });
                result_of(&message, &json!({ "tools": [ask] }))
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    /// Whose token it is, if it is one for this server and good now.
    fn caller(&self, authorization: &str) -> Option<String> {
        let token = authorization.strip_prefix("Bearer ")?;
        let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
        let key = DecodingKey::from_jwk(self.keys.find(&kid)?).ok()?;
        let claims = jsonwebtoken::decode::<Value>(token, &key, &self.rules).ok()?.claims;
        let permitted = claims["scp"].as_str()?.split(' ').any(|one| one == PERMISSION);
        permitted.then(|| claims["upn"].as_str().map(str::to_owned))?
    }
}

fn status(code: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = code;
    answer
}

fn result_of(message: &Value, result: &Value) -> Answer {
    let text = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
    let mut answer = Response::new(Full::from(text));
    answer.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    answer
}
