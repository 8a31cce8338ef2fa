//! A real, headless Chromium through chromedriver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use crate::tenant::PASSWORD;

/// Nothing of Chromium's own may touch the network, and no two browsers share a profile.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,700",
];
/// Chromium on a busy two-core machine; a sign-in itself takes under a second.
const TIMEOUT: Duration = Duration::from_secs(60);
/// WebDriver has no event for "another page is there": it is asked this often.
const POLL: Duration = Duration::from_millis(50);
/// For the farewell to chromedriver in `drop`, which must not hang a test.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A browser window. Chromium and chromedriver end when it is dropped.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    port: u16,
    session: String,
    /// Killed after the session has ended, since a killed chromedriver leaves its Chromium behind.
    _driver: Child,
    _profile: TempDir,
}

/// What the window shows.
#[derive(Clone, Debug)]
pub struct Page {
    pub url: Url,
    pub title: String,
    /// The visible text.
    pub text: String,
}

impl Browser {
    pub async fn start() -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("chromedriver could not be started: run `cargo xtask setup`")?;
        let output = driver.stdout.take().context("no standard output")?;
        let port = tokio::time::timeout(TIMEOUT, port_from(output))
            .await
            .context("chromedriver took too long to start")??;

        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": flags } });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().cloned().unwrap_or_default())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .context("Chromium could not be started")?;
        let session = client.session_id().await?.context("no session")?;
        Ok(Self { client, port, session, _driver: driver, _profile: profile })
    }

    pub async fn goto(&self, url: &str) -> anyhow::Result<()> {
        Ok(self.client.goto(url).await?)
    }

    /// Opens an authorize address, fills in the practice tenant's form, and waits until the browser is somewhere else.
    ///
    /// # Errors
    /// What the form objects to, and a sign-in that never leaves the tenant.
    pub async fn sign_in(&self, url: &str, user: &str) -> anyhow::Result<Page> {
        self.goto(url).await?;
        self.fill("#username", user).await?;
        self.fill("#password", PASSWORD).await?;
        self.click("#submit").await?;
        self.page_away_from(url).await
    }

    /// The page, once the browser has left the origin of `url`.
    pub async fn page_away_from(&self, url: &str) -> anyhow::Result<Page> {
        let origin = Url::parse(url)?.origin();
        tokio::time::timeout(TIMEOUT, async {
            loop {
                if self.client.current_url().await?.origin() != origin {
                    return self.page().await;
                }
                if let Ok(problem) = self.client.find(Locator::Css("#problem")).await {
                    bail!("the sign-in page says: {}", problem.text().await?);
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
        .context("the sign-in did not end")?
    }

    pub async fn page(&self) -> anyhow::Result<Page> {
        Ok(Page {
            url: self.client.current_url().await?,
            title: self.client.title().await?,
            text: self.text().await?,
        })
    }

    /// The visible text of the page.
    pub async fn text(&self) -> anyhow::Result<String> {
        Ok(self.client.wait().at_most(TIMEOUT).for_element(Locator::Css("body")).await?.text().await?)
    }

    /// Empties a field and types into it.
    pub async fn fill(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let field = self
            .client
            .wait()
            .at_most(TIMEOUT)
            .for_element(Locator::Css(css))
            .await
            .context(css.to_owned())?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    pub async fn click(&self, css: &str) -> anyhow::Result<()> {
        Ok(self
            .client
            .wait()
            .at_most(TIMEOUT)
            .for_element(Locator::Css(css))
            .await
            .context(css.to_owned())?
            .click()
            .await?)
    }

    /// What a field holds now.
    pub async fn value(&self, css: &str) -> anyhow::Result<String> {
        let field = self
            .client
            .wait()
            .at_most(TIMEOUT)
            .for_element(Locator::Css(css))
            .await
            .context(css.to_owned())?;
        Ok(field.prop("value").await?.unwrap_or_default())
    }

    /// Saves the window as a PNG file.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let mut file = tokio::fs::File::create(path).await?;
        file.write_all(&self.client.screenshot().await?).await?;
        Ok(file.flush().await?)
    }

    /// Everything else that WebDriver can do.
    pub const fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Best effort: a test that failed because the browser is gone must still end.
        let farewell = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(FAREWELL_TIMEOUT))?;
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut Vec::new())?;
            Ok(())
        };
        let _ = farewell();
    }
}

/// Reads on after the port, so that chromedriver never writes into a full pipe.
async fn port_from(output: tokio::process::ChildStdout) -> anyhow::Result<u16> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        let port = line
            .split_once("started successfully on port ")
            .map(|(_, rest)| rest.trim_end_matches('.').trim());
        if let Some(port) = port.and_then(|port| port.parse().ok()) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(port);
        }
    }
    bail!("chromedriver ended without naming its port")
}
