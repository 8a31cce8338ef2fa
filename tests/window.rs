//! The window's page in a plain browser, with the mock behind it: every screen opens under the app's own content policy,
//! and every word on it is one of the companion's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fantoccini::Locator;
use serde_json::{Value, json};
use valetkey_companion::Language;
use valetkey_companion::state::State;
use valetkey_companion::view::view;
use valetkey_tests::browser::Browser;

const SCREENS: [&str; 13] = [
    "checking",
    "not_paired",
    "invited",
    "invited_elsewhere",
    "not_connected",
    "waiting",
    "handing_over",
    "connected",
    "agent_offline",
    "reconnect",
    "wrong_account",
    "blocked",
    "error",
];

/// WebDriver's name for the key.
const ESCAPE: &str = "\u{e00c}";

/// Pictures of all of them land in `target/screens/`.
#[tokio::test]
async fn every_screen_paints_under_the_apps_own_content_policy() -> Result<()> {
    let origin = serve_the_page();
    let browser = Browser::start().await?;
    browser.client().set_window_size(420, 740).await?;
    for screen in SCREENS {
        browser.goto(&format!("{origin}/index.html?state={screen}")).await?;
        browser.client().wait().for_element(Locator::Css("html[data-ready]")).await?;
        let painted = browser.client().find(Locator::Css("html")).await?.attr("data-screen").await?;
        assert_eq!(painted.as_deref(), Some(screen));
        let headline = browser.client().find(Locator::Css("#headline")).await?.text().await?;
        let said =
            browser.client().execute("return document.getElementById('status').textContent", vec![]).await?;
        assert!(!headline.is_empty(), "{screen} has no headline");
        let said = said.as_str().unwrap_or_default().replace('\u{a0}', " ");
        assert!(
            said.starts_with(&headline.replace('\u{a0}', " ")),
            "a screen reader hears “{said}”, not “{headline}”"
        );
        let unlabelled = "return [...document.querySelectorAll('button')].filter(b => b.checkVisibility() && !b.textContent).length";
        assert_eq!(
            browser.client().execute(unlabelled, vec![]).await?,
            json!(0),
            "a button of {screen} says nothing"
        );
        browser.screenshot(&target_dir().join(format!("screens/window-{screen}.png"))).await?;
    }
    Ok(())
}

/// In the smallest window that there is, with the longest names and a language whose words are longer.
#[tokio::test]
async fn nothing_sticks_out_of_the_smallest_window_whatever_it_is_called() -> Result<()> {
    const OUTSIDE: &str = "return [...document.querySelectorAll('main *, footer *, dialog *')].filter(one => \
         one.checkVisibility() && !one.closest('.unseen') && one.getBoundingClientRect().right > innerWidth + 1)\
         .map(one => `${one.tagName} ${one.id} ${one.textContent}`)";
    let origin = serve_the_page();
    let browser = Browser::start().await?;
    browser.client().set_window_size(320, 740).await?;
    for screen in SCREENS {
        browser.goto(&format!("{origin}/index.html?state={screen}&long")).await?;
        browser.client().wait().for_element(Locator::Css("html[data-ready]")).await?;
        assert_eq!(browser.client().execute(OUTSIDE, vec![]).await?, json!([]), "{screen}");
        browser.screenshot(&target_dir().join(format!("screens/narrow-{screen}.png"))).await?;
    }
    browser.click("#open-check-up").await?;
    browser.client().wait().for_element(Locator::Css("#check-up-lines li")).await?;
    assert_eq!(browser.client().execute(OUTSIDE, vec![]).await?, json!([]), "the check");
    browser.screenshot(&target_dir().join("screens/narrow-check-up.png")).await?;
    // The control: the measure finds what does stick out.
    let wide = "document.getElementById('headline').style.width = '700px'";
    browser.client().execute(wide, vec![]).await?;
    assert_ne!(browser.client().execute(OUTSIDE, vec![]).await?, json!([]));
    Ok(())
}

/// What a check found is a list of plain sentences under the headline, with what to do; a screen reader hears the marks in
/// words. Nothing is wider than the window.
#[tokio::test]
async fn a_check_of_the_set_up_opens_at_the_foot_of_the_window() -> Result<()> {
    let origin = serve_the_page();
    let browser = Browser::start().await?;
    browser.client().set_window_size(420, 740).await?;
    browser.goto(&format!("{origin}/index.html?state=agent_offline")).await?;
    browser.client().wait().for_element(Locator::Css("html[data-ready]")).await?;
    browser.click("#open-check-up").await?;
    browser.client().wait().for_element(Locator::Css("#check-up-lines li")).await?;
    let said = browser.client().find(Locator::Css("#check-up")).await?.text().await?;
    for sentence in [
        "2 things don't work",
        "Your computer's clock looks wrong by 12 minutes (behind).",
        "Let your computer set its date and time by itself.",
        "Your browser can be opened.",
        "Copy report",
    ] {
        assert!(said.contains(sentence), "“{sentence}” is not in {said}");
    }
    let script = "return document.querySelector('#check-up-lines li').textContent";
    let heard = browser.client().execute(script, vec![]).await?;
    assert!(heard.as_str().unwrap_or_default().contains("Doesn't work: Your computer's clock"), "{heard}");
    let wide = "return ['check-up', 'check-up-found'].some(id => { const box = document.getElementById(id); return \
                box.scrollWidth > box.clientWidth })";
    assert_eq!(browser.client().execute(wide, vec![]).await?, json!(false), "something sticks out");
    browser.screenshot(&target_dir().join("screens/window-check-up.png")).await?;

    browser.click("#check-up summary").await?;
    let report = browser.client().find(Locator::Css("#check-up-text")).await?.text().await?;
    assert!(report.starts_with("A report about Valet Key"), "{report}");
    browser.client().find(Locator::Css("body")).await?.send_keys(ESCAPE).await?;
    browser.client().wait().for_element(Locator::Css("#check-up:not([open])")).await?;
    Ok(())
}

/// A page that opens a link of its own just before the click, or before Enter, gets nothing for it.
///
/// Shows of J1 that what is confirmed is what was seen.
#[tokio::test]
async fn an_invite_that_has_only_just_come_cannot_be_agreed_to() -> Result<()> {
    const AGREE: &str = "[data-action=accept_invite]";
    const WATCH: &str = "window.acts = []; console.info = (...said) => acts.push(said.join(' '))";
    const ACTS: &str = "return acts";
    let origin = serve_the_page();
    let browser = Browser::start().await?;
    browser.goto(&format!("{origin}/index.html?state=not_paired")).await?;
    browser.client().wait().for_element(Locator::Css("html[data-ready]")).await?;
    browser.client().execute(WATCH, vec![]).await?;
    let click = format!("document.querySelector('{AGREE}').click()");
    browser.client().execute(&format!("mockShow('invited'); {click}"), vec![]).await?;
    let enabled = format!("{AGREE}:enabled");
    browser.client().wait().for_element(Locator::Css(&enabled)).await?;
    assert_eq!(browser.client().execute(ACTS, vec![]).await?, json!([]), "it had just come");

    // Whoever was about to press Enter on the first one has not pressed it on the second.
    let replaced = format!(
        "document.querySelector('{AGREE}').focus(); mockShow('invited_elsewhere'); {click}; return document.activeElement.id"
    );
    assert_eq!(browser.client().execute(&replaced, vec![]).await?, json!("headline"));
    assert_eq!(browser.client().execute(ACTS, vec![]).await?, json!([]), "another in its place");

    browser.client().wait().for_element(Locator::Css(&enabled)).await?;
    // The same invite painted again is the one that was read.
    browser.client().execute(&format!("mockShow('invited_elsewhere'); {click}"), vec![]).await?;
    let agreed = json!(["act {\"do\":\"accept_invite\",\"invite\":\"invite-2\"}"]);
    assert_eq!(browser.client().execute(ACTS, vec![]).await?, agreed);
    Ok(())
}

/// What begins meanwhile, such as a sign-in from the tray, would be undone by the answer, or undo it.
#[tokio::test]
async fn a_question_goes_when_what_it_asks_about_cannot_be_done_any_more() -> Result<()> {
    const ASK: &str = "window.acts = []; console.info = (...said) => acts.push(said.join(' ')); \
                       document.querySelector('[data-action=disconnect]').click()";
    let origin = serve_the_page();
    let browser = Browser::start().await?;
    browser.goto(&format!("{origin}/index.html?state=connected")).await?;
    browser.client().wait().for_element(Locator::Css("html[data-ready]")).await?;
    for (then, stays) in [("mockShow('waiting')", false), ("mockShow('connected')", true)] {
        browser.client().execute("mockShow('connected')", vec![]).await?;
        browser.client().execute(ASK, vec![]).await?;
        browser.client().wait().for_element(Locator::Css("#confirm[open]")).await?;
        let open = format!("{then}; return document.getElementById('confirm').open");
        assert_eq!(browser.client().execute(&open, vec![]).await?, json!(stays), "{then}");
    }
    // Somebody said yes in the very moment in which it went.
    let late = "document.getElementById('confirm-yes').click(); mockShow('waiting')";
    browser.client().execute(late, vec![]).await?;
    browser.client().wait().for_element(Locator::Css("#confirm:not([open])")).await?;
    assert_eq!(browser.client().execute("return acts", vec![]).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn an_invite_is_found_in_whatever_was_pasted() -> Result<()> {
    let browser = Browser::start().await?;
    browser.goto(&format!("{}/index.html", serve_the_page())).await?;
    // {"v":1,"name":"Ana's helper"} in URL-safe base64.
    let link = "valetkey://invite/eyJ2IjoxLCJuYW1lIjoiQW5hJ3MgaGVscGVyIn0";
    let (start, end) = link.split_at(40);
    let page = "https://example.com/invite#eyJ2IjoxLCJuYW1lIjoiQW5hJ3MgaGVscGVyIn0";
    let nonsense = "Hello Ana, see you at https://example.com/#lunch today";
    for (pasted, found) in [
        (link.to_owned(), link),
        (format!("Hi Ana,\n\n{link}\n\nThanks, Tom"), link),
        (format!("Hi,\n{start}\r\n  {end}\r\nThanks"), link),
        (format!("Click <{link}>."), link),
        (format!("Open {page} please"), page),
        (nonsense.to_owned(), nonsense),
    ] {
        let script = "const [text, done] = arguments; import('./invite.js').then(m => done(m.linkIn(text)))";
        let answer = browser.client().execute_async(script, vec![json!(pasted)]).await?;
        assert_eq!(answer, json!(found), "in {pasted:?}");
    }
    Ok(())
}

#[test]
fn the_page_uses_the_companions_words_and_the_mock_has_the_same() {
    let known: BTreeSet<String> = view(&State::default(), jiff::Timestamp::UNIX_EPOCH, Language::English)
        .labels
        .into_keys()
        .map(String::from)
        .collect();
    let mut used = BTreeSet::new();
    for file in ["checkup.js", "index.html", "main.js", "paint.js", "panels.js", "time.js"] {
        let text = read(file);
        for (mark, end) in [("data-label=\"", '"'), ("labels.", ' '), ("\"help_", '"')] {
            for piece in text.split(mark).skip(1) {
                let word: String = piece
                    .chars()
                    .take_while(|c| *c != end && (c.is_ascii_lowercase() || *c == '_'))
                    .collect();
                used.insert(if mark == "\"help_" { format!("help_{word}") } else { word });
            }
        }
    }
    used.remove(""); // `labels[…]` is not a name.
    let missing: Vec<_> = used.difference(&known).collect();
    assert!(missing.is_empty(), "the companion has no words for {missing:?}");
    let mock = read("mock.js");
    let mocked = mock.split_once("const labels = {").unwrap().1.split_once("};").unwrap().0;
    let unmocked: Vec<_> = used.iter().filter(|word| !mocked.contains(&format!("\n  {word}:"))).collect();
    assert!(unmocked.is_empty(), "the mock has no words for {unmocked:?}");
}

/// Serves `ui/` on loopback with the policy that the app sets. Ends with the test's process.
fn serve_the_page() -> String {
    let configuration: Value = serde_json::from_str(
        &std::fs::read_to_string(workspace().join("src-tauri/tauri.conf.json")).unwrap(),
    )
    .unwrap();
    let policy = configuration["app"]["security"]["csp"].as_str().unwrap().to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let path = request.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/");
            let kind = match path.rsplit('.').next() {
                Some("html") => "text/html",
                Some("js") => "text/javascript",
                Some("css") => "text/css",
                _ => "application/octet-stream",
            };
            let file = Path::new(path).file_name().map(|name| workspace().join("ui").join(name));
            let (status, body) = match file.and_then(|file| std::fs::read(file).ok()) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Security-Policy: {policy}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            );
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
        }
    });
    origin
}

fn read(file: &str) -> String {
    std::fs::read_to_string(workspace().join("ui").join(file)).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
