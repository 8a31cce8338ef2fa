//! A sign-in without a browser: the practice tenant's real form, filled in over plain HTTP.
//!
//! Much faster than Chromium, and enough wherever the browser itself is not what a test is about.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};
use rustls_platform_verifier::BuilderVerifierExt as _;
use url::Url;

use crate::tenant::PASSWORD;

/// A sign-in takes 5 steps; one that goes round in circles must end.
const MAX_STEPS: usize = 20;

/// Where the sign-in ended: the page that the program under test showed at its redirect address.
#[derive(Debug)]
pub struct Landing {
    pub url: Url,
    pub status: StatusCode,
    pub body: String,
}

/// Signs in as `user` at an authorize address and brings the answer to the loopback redirect, as a browser does.
///
/// # Errors
/// What the sign-in page objects to (a wrong tenant, an unknown account), or that nobody listens at the redirect.
pub async fn http_sign_in(url: &str, user: &str) -> anyhow::Result<Landing> {
    Walk::start(url, Person::SignsIn(user))?.run(End::Delivered).await
}

/// As far as the redirect, which is returned and not followed: for tests that forge or delay it.
pub async fn http_sign_in_up_to_redirect(url: &str, user: &str) -> anyhow::Result<Url> {
    Ok(Walk::start(url, Person::SignsIn(user))?.run(End::Redirect).await?.url)
}

/// Presses "Cancel" on the sign-in page, and brings that to the loopback redirect.
pub async fn http_cancel(url: &str) -> anyhow::Result<Landing> {
    Walk::start(url, Person::Cancels)?.run(End::Delivered).await
}

/// As far as the redirect that "Cancel" leads to.
pub async fn http_cancel_up_to_redirect(url: &str) -> anyhow::Result<Url> {
    Ok(Walk::start(url, Person::Cancels)?.run(End::Redirect).await?.url)
}

/// Signs in at the page for device codes, and returns its last page.
pub async fn http_device_sign_in(page: &str, code: &str, user: &str) -> anyhow::Result<Landing> {
    Walk::start(page, Person::HasCode { code, user })?.run(End::PageWithoutForm).await
}

/// A client without proxy or redirects. It trusts what the system does, or `SSL_CERT_FILE`.
pub fn client() -> anyhow::Result<Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    Ok(client)
}

struct Walk<'a> {
    person: Person<'a>,
    http: Client,
    /// The practice tenant's; only it is given cookies and passwords.
    origin: String,
    next: Request,
    cookies: HashMap<String, String>,
}

enum Person<'a> {
    SignsIn(&'a str),
    Cancels,
    HasCode { code: &'a str, user: &'a str },
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The page of whoever listens at the redirect.
    Delivered,
    Redirect,
    /// The tenant's own last word.
    PageWithoutForm,
}

enum Request {
    Get(Url),
    Post(Url, Vec<(String, String)>),
}

impl<'a> Walk<'a> {
    fn start(url: &str, person: Person<'a>) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("the address to start at")?;
        Ok(Self {
            person,
            http: client()?,
            origin: url.origin().ascii_serialization(),
            next: Request::Get(url),
            cookies: HashMap::new(),
        })
    }

    async fn run(mut self, end: End) -> anyhow::Result<Landing> {
        for _ in 0..MAX_STEPS {
            let url = self.next.url().clone();
            let at_home = url.origin().ascii_serialization() == self.origin;
            if !at_home && end == End::Redirect {
                return Ok(Landing { url, status: StatusCode::OK, body: String::new() });
            }
            let response = self.send(at_home).await?;
            let status = response.status();
            if let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
                self.next = Request::Get(url.join(location.to_str()?)?);
                continue;
            }
            let body = response.text().await?;
            if !at_home {
                return Ok(Landing { url, status, body });
            }
            ensure!(
                status.is_success(),
                "the tenant answered {status} at {}: {}",
                url.path(),
                text_of(&body)
            );
            if let Some(problem) = between(&body, r#"id="problem" role="alert">"#, "<") {
                bail!("the sign-in page says: {problem}");
            }
            let Some(mut form) = Form::read(&body, &url) else {
                ensure!(end == End::PageWithoutForm, "no form at {}: {}", url.path(), text_of(&body));
                return Ok(Landing { url, status, body });
            };
            self.person.fill(&mut form);
            self.next = Request::Post(form.action, form.fields);
        }
        bail!("the sign-in did not end after {MAX_STEPS} steps")
    }

    async fn send(&mut self, at_home: bool) -> anyhow::Result<Response> {
        let mut request = match &self.next {
            Request::Get(url) => self.http.get(url.clone()),
            Request::Post(url, fields) => self.http.post(url.clone()).form(fields),
        };
        if at_home {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        let response = request.send().await?;
        for cookie in response.headers().get_all(SET_COOKIE).iter().filter(|_| at_home) {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(response)
    }
}

impl Person<'_> {
    /// Forms that ask nothing are sent as they are: "Is this your code?", and oidc-provider's `form_post`.
    fn fill(&self, form: &mut Form) {
        let (form_asks_who, form_asks_code) = (form.asks_for("username"), form.asks_for("user_code"));
        match *self {
            Self::SignsIn(user) | Self::HasCode { user, .. } if form_asks_who => {
                form.fill(&[("username", user), ("password", PASSWORD), ("action", "sign-in")]);
            }
            Self::Cancels if form_asks_who => form.fill(&[("action", "cancel")]),
            Self::HasCode { code, .. } if form_asks_code => form.fill(&[("user_code", code)]),
            _ => {}
        }
    }
}

impl Request {
    const fn url(&self) -> &Url {
        match self {
            Self::Get(url) | Self::Post(url, _) => url,
        }
    }
}

/// The first form of a page: enough HTML for the tenant's own pages and oidc-provider's `form_post`.
struct Form {
    action: Url,
    fields: Vec<(String, String)>,
}

impl Form {
    fn read(page: &str, base: &Url) -> Option<Self> {
        let from = page.find("<form")?;
        let form = &page[from..from + page[from..].find("</form>")?];
        let opening = &form[..form.find('>')?];
        let action = attribute(opening, "action")
            .map_or_else(|| Ok(base.clone()), |action| base.join(&action))
            .ok()?;
        let inputs = form.split("<input").skip(1).filter_map(|rest| {
            let input = &rest[..rest.find('>')?];
            Some((attribute(input, "name")?, attribute(input, "value").unwrap_or_default()))
        });
        Some(Self { action, fields: inputs.collect() })
    }

    fn asks_for(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    fn fill(&mut self, values: &[(&str, &str)]) {
        for (name, value) in values {
            self.fields.retain(|(field, _)| field != name);
            self.fields.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    between(tag, &format!(" {name}=\""), "\"").map(unescape)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let from = text.find(start)? + start.len();
    Some(&text[from..from + text[from..].find(end)?])
}

/// The named and numbered references that the two writers of these pages use.
fn unescape(text: &str) -> String {
    let pairs = [
        ("&#38;", "&"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&quot;", "\""),
        ("&amp;", "&"),
    ];
    pairs.iter().fold(text.to_owned(), |text, (reference, char)| text.replace(reference, char))
}

fn text_of(page: &str) -> String {
    between(page, "<body>", "</body>")
        .unwrap_or(page)
        .split('<')
        .filter_map(|part| part.split_once('>').map(|(_, text)| text.trim()))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
