//! An MCP client over streamable HTTP (revision 2025-06-18), as far as `tools/list`, that gets its headers as Claude Code does:
//! it runs the server's `headersHelper` in a shell, and adds the object of strings that this prints to its requests.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PROTOCOL: &str = "2025-06-18";
pub const SESSION: &str = "mcp-session-id";
pub const VERSION: &str = "mcp-protocol-version";

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// The command gave no headers.
    Helper { code: Option<i32>, out: String, err: String },
    /// The server's status.
    Refused(u16),
}

/// A directory with `mcp.json` in it. It is the home of what the client runs, too.
pub struct Client {
    directory: TempDir,
}

impl Client {
    pub fn with(mcp_json: &str) -> Self {
        let directory = TempDir::with_prefix("mcp-").unwrap();
        fs::File::create(directory.path().join("mcp.json")).unwrap().write_all(mcp_json.as_bytes()).unwrap();
        Self { directory }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self) -> String {
        fs::read_to_string(self.directory().join("mcp.json")).unwrap()
    }

    pub async fn connect(&self, name: &str) -> Result<Session, NotConnected> {
        let url = self.server(name)["url"].as_str().unwrap().to_owned();
        let headers = self.headers(name)?;
        let mut session = Session { url, headers, id: 0 };
        let hello = json!({
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": { "name": "a client", "version": "1" },
        });
        let response = session.post("initialize", Some(hello)).await?;
        let id = response.headers()[SESSION].clone();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["result"]["protocolVersion"], PROTOCOL, "{answer}");
        session.headers.insert(SESSION, id);
        session.headers.insert(VERSION, HeaderValue::from_static(PROTOCOL));
        assert_eq!(session.post("notifications/initialized", None).await?.status(), 202);
        self.log(&format!("connected to {name}: {}", answer["result"]["serverInfo"]));
        Ok(session)
    }

    fn server(&self, name: &str) -> Value {
        let file: Value = serde_json::from_str(&self.file()).unwrap();
        let server = file["mcpServers"][name].clone();
        assert_eq!(server["type"], "http", "{file}");
        server
    }

    fn headers(&self, name: &str) -> Result<HeaderMap, NotConnected> {
        let mut headers = HeaderMap::new();
        let server = self.server(name);
        let Some(helper) = server["headersHelper"].as_str() else { return Ok(headers) };
        let mut shell = Command::new("sh");
        shell.args(["-c", helper]).current_dir(self.directory()).env_clear().stdin(Stdio::null());
        shell.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.directory());
        shell.env("CLAUDE_CODE_MCP_SERVER_NAME", name);
        shell.env("CLAUDE_CODE_MCP_SERVER_URL", server["url"].as_str().unwrap());
        let output = shell.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        self.log(&format!("the helper of {name} ended with {:?}: {err}", output.status.code()));
        if !output.status.success() {
            return Err(NotConnected::Helper { code: output.status.code(), out, err });
        }
        let printed: Value = serde_json::from_str(&out).expect("one JSON object");
        for (name, value) in printed.as_object().expect("an object") {
            let value = value.as_str().expect("of strings");
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        Ok(headers)
    }

    fn log(&self, line: &str) {
        let folder = self.directory().join("logs");
        fs::create_dir_all(&folder).unwrap();
        let mut file = OpenOptions::new().create(true).append(true).open(folder.join("client.log")).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

pub struct Session {
    url: String,
    headers: HeaderMap,
    id: u64,
}

impl Session {
    /// The names of what the server offers.
    pub async fn tools(&mut self) -> Result<Vec<String>, NotConnected> {
        let response = self.post("tools/list", Some(json!({}))).await?;
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["id"], self.id, "{answer}");
        let tools = answer["result"]["tools"].as_array().unwrap();
        Ok(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect())
    }

    /// As after a 401: the command is run once more, the session stays.
    pub fn headers_again(&mut self, client: &Client, name: &str) -> Result<(), NotConnected> {
        self.headers.extend(client.headers(name)?);
        Ok(())
    }

    pub fn authorization(&self) -> String {
        self.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// Its first letter after the signature's dot becomes another.
    pub fn alter_token(&mut self) {
        let token = self.authorization();
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let altered = format!("{rest}.{other}{}", &signature[1..]);
        self.headers.insert(AUTHORIZATION, HeaderValue::try_from(altered).unwrap());
    }

    /// A request, or without parameters a notification.
    async fn post(
        &mut self,
        method: &str,
        parameters: Option<Value>,
    ) -> Result<reqwest::Response, NotConnected> {
        let mut message = json!({ "jsonrpc": "2.0", "method": method });
        if let Some(parameters) = parameters {
            self.id += 1;
            message["id"] = self.id.into();
            message["params"] = parameters;
        }
        let http = valetkey_tests::http_sign_in::client().unwrap();
        let request = http.post(&self.url).headers(self.headers.clone()).json(&message);
        let response =
            request.header(ACCEPT, "application/json, text/event-stream").send().await.expect("an answer");
        match response.status().as_u16() {
            200..=299 => Ok(response),
            status => Err(NotConnected::Refused(status)),
        }
    }
}
