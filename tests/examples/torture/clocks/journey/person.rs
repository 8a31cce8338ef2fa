//! The person at the desk of a journey: reads the screen, clicks, and signs in.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use valetkey_tests::http_sign_in;
use valetkey_tests::tenant::ALICE;

use super::Journey;

/// Screens on which nothing more happens by itself.
const RESTING: [&str; 7] =
    ["connected", "error", "reconnect", "not_connected", "not_paired", "wrong_account", "blocked"];

impl Journey<'_> {
    pub(super) async fn open_invite(&mut self) -> Result<()> {
        let invite = self.ask(&["invite", "--email", ALICE.mail]).await?;
        let made: jiff::Timestamp = serde_json::from_value(invite["expires_at"].clone())?;
        let ahead = made.duration_since(jiff::Timestamp::now()).as_mins();
        // Or the library does nothing and the whole check is worth nothing.
        let so = (ahead - self.agents_clock.minutes() - 10).abs() <= 3;
        ensure!(so, "the agent's clock was not set: its invite ends {ahead} minutes from now");
        let before = self.screen();
        self.click(&json!({ "do": "paste_invite", "link": invite["link"] })).await?;
        let view = self
            .view("the invite, or why not", |view| {
                view["screen"] == "invited" || view["screen"] == "error" && before != "error"
            })
            .await?;
        if view["screen"] == "invited" {
            self.click(&json!({ "do": "accept_invite" })).await?;
        }
        Ok(())
    }

    pub(super) async fn page_opens(&mut self) -> Result<()> {
        while self.page.is_none() {
            self.view("the sign-in page", |_| false).await?;
        }
        Ok(())
    }

    pub(super) async fn person_signs_in(&mut self) -> Result<()> {
        let page = self.page.take().context("no page is open")?;
        http_sign_in(&page, ALICE.username).await.map(drop)
    }

    /// A click, and the screen it leads to. The one before may still change a little meanwhile.
    pub(super) async fn click(&mut self, click: &Value) -> Result<()> {
        let before = self.screen();
        self.desk.tell(&click.to_string()).await?;
        self.view("what a click does", |view| view["screen"] != before.as_str()).await.map(drop)
    }

    pub(super) async fn shows(&mut self, screen: &str) -> Result<Value> {
        self.view(screen, |view| view["screen"] == screen).await
    }

    pub(super) async fn rests(&mut self) -> Result<Value> {
        self.view("a screen at rest", |view| RESTING.iter().any(|screen| view["screen"] == *screen)).await
    }

    /// The view, once it fits; or the latest one, when a page opens first.
    pub(super) async fn view(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        self.catch_up();
        while !fits(&self.latest) {
            let screen = self.screen();
            let news = |line: &Value| line["event"] == "view" || line["event"] == "open";
            let line = self.desk.until(news).await;
            let line = line.with_context(|| format!("never came to {what}, stays at {screen}"))?;
            self.take(&line.context("the companion has ended")?);
            if self.page.is_some() {
                break;
            }
        }
        Ok(self.latest.clone())
    }

    fn catch_up(&mut self) {
        for line in std::mem::take(&mut self.desk.said) {
            self.take(&line);
        }
    }

    fn take(&mut self, line: &Value) {
        self.desk.said.clear();
        match line["event"].as_str() {
            Some("view") => self.latest = line["view"].clone(),
            Some("open") => self.page = line["url"].as_str().map(str::to_owned),
            _ => {}
        }
    }

    pub(super) fn screen(&self) -> String {
        self.latest["screen"].as_str().unwrap_or_default().to_owned()
    }
}
