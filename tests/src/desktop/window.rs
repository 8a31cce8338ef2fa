//! The app's window, looked at and clicked through WebKit's own driver, which starts the app.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::timeout;

use super::{Desktop, PATIENCE, binary};
use crate::process::free_port;

/// A web view, its web process and its network process start on two busy cores.
const START: Duration = Duration::from_secs(60);
/// The driver says nothing when it listens, and a page nothing when it changes: both are asked this often.
const POLL: Duration = Duration::from_millis(50);

/// The app with its window open. Both end when it is dropped.
#[derive(Debug)]
pub struct Window {
    client: Client,
    _driver: Child,
}

impl Window {
    /// Starts the app on this desktop, with its window.
    pub async fn open(desktop: &Desktop, arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let driver = desktop
            .command("WebKitWebDriver")
            .arg(format!("--port={port}"))
            .arg("--host=127.0.0.1")
            .env("TAURI_WEBVIEW_AUTOMATION", "true")
            .stdout(Stdio::null())
            .spawn()
            .context("WebKitWebDriver could not be started (package webkit2gtk-driver)")?;
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, listens).await.context("WebKitWebDriver does not listen")?;
        let data_dir = desktop.data_dir().display().to_string();
        let arguments: Vec<&str> =
            ["--open", "--data-dir", &data_dir].into_iter().chain(arguments.iter().copied()).collect();
        let mut capabilities = Capabilities::new();
        let app = json!({ "binary": binary()?, "args": arguments });
        capabilities.insert("webkitgtk:browserOptions".into(), app);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client =
            timeout(START, builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")))
                .await
                .context("the window did not open")??;
        let window = Self { client, _driver: driver };
        window.element("html[data-ready]").await?;
        Ok(window)
    }

    /// Waits for an element, and gives its visible text.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.element(css).await?.text().await?)
    }

    /// Waits until the headline is as wanted.
    pub async fn headline(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let reached = timeout(PATIENCE, async {
            loop {
                last = self.text("#headline").await?.replace('\u{a0}', " ");
                if wanted(&last) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        });
        reached.await.with_context(|| format!("the window still says “{last}”"))??;
        Ok(last)
    }

    pub async fn click(&self, css: &str) -> Result<()> {
        Ok(self.element(css).await?.click().await?)
    }

    /// Types into a field, or presses keys in it.
    pub async fn type_into(&self, css: &str, text: &str) -> Result<()> {
        Ok(self.element(css).await?.send_keys(text).await?)
    }

    /// Runs a script in the page, `arguments` as its `arguments`.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.client.execute(script, arguments).await?)
    }

    async fn element(&self, css: &str) -> Result<fantoccini::elements::Element> {
        self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await.context(css.to_owned())
    }
}
