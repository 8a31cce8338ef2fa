//! What the person's browser shows at the end of a sign-in: one page without script or outside parts.
//!
//! The heading takes the focus (`autofocus` with `tabindex`), so that a screen reader begins with the outcome.

use crate::problem::Problem;
use crate::texts::{Language, Text, say};

/// What became of the sign-in, as far as its browser tab is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    SignedIn {
        address: &'a str,
    },
    WrongAccount {
        signed_in_as: &'a str,
        wanted: &'a str,
    },
    Cancelled,
    Problem(&'a Problem),
    /// For an address that is not, or no longer, the one waited for.
    OldLink,
}

/// A whole HTML document in UTF-8, and its title.
pub fn page(outcome: &Outcome<'_>, language: Language) -> (String, String) {
    let text = |text| say(language, text);
    let (mark, title, detail) = match outcome {
        Outcome::SignedIn { address } => ("ok", text(Text::PageSignedIn { address }), text(Text::PageClose)),
        Outcome::WrongAccount { signed_in_as, wanted } => {
            ("no", text(Text::PageWrongAccount), text(Text::PageWrongAccountDetail { signed_in_as, wanted }))
        }
        Outcome::Cancelled => ("none", text(Text::PageCancelled), text(Text::PageCancelledDetail)),
        Outcome::Problem(problem) => {
            let detail =
                format!("{}. {}", text(Text::ProblemWhat(problem)), text(Text::ProblemRemedy(problem)));
            ("no", text(Text::PageProblem), format!("{detail} {}", text(Text::PageBack)))
        }
        Outcome::OldLink => ("none", text(Text::PageOldLink), text(Text::PageBack)),
    };
    let html = format!(
        "<!doctype html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<div class=\"mark {mark}\" aria-hidden=\"true\"></div>\n\
         <h1 tabindex=\"-1\" autofocus>{title}</h1>\n<p>{detail}</p>\n</main>\n</body>\n</html>\n",
        language.tag(),
        title = escape(&title),
        detail = escape(&detail),
    );
    (title, html)
}

const STYLE: &str = "\
:root{--paper:#f6f5f2;--card:#fff;--ink:#1c1b19;--soft:#55524c;--ok:#1d6b42;--no:#a3401f}\
@media(prefers-color-scheme:dark){:root{--paper:#171614;--card:#22201d;--ink:#f3f1ec;--soft:#b9b4aa;--ok:#6ac795;--no:#f0936f}}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);\
font:1rem/1.5 system-ui,sans-serif}\
main{max-width:26rem;margin:1.5rem;padding:2.5rem 2rem;background:var(--card);border-radius:1rem;text-align:center}\
h1{font-size:1.35rem;line-height:1.3;margin:1rem 0 .5rem;outline:none;overflow-wrap:anywhere}\
p{margin:0;color:var(--soft);overflow-wrap:anywhere}\
.mark{width:2.5rem;height:2.5rem;margin:0 auto;border-radius:50%;border:.25rem solid var(--soft);box-sizing:border-box}\
.mark.ok{border-color:var(--ok);background:var(--ok)}\
.mark.no{border-color:var(--no);border-radius:.35rem;transform:rotate(45deg) scale(.8)}\
@media(forced-colors:active){main{border:1px solid}}";

/// For text and for attribute values in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Distrust, SignInProblem};

    fn all() -> Vec<(&'static str, String, String)> {
        let untrusted = SignInProblem::Untrusted(Distrust::Signature).into();
        [
            ("signed-in", Outcome::SignedIn { address: "ana@contoso.example" }),
            (
                "wrong",
                Outcome::WrongAccount { signed_in_as: "bob@fabrikam.example", wanted: "ana@contoso.example" },
            ),
            ("cancelled", Outcome::Cancelled),
            ("problem", Outcome::Problem(&untrusted)),
            ("old link", Outcome::OldLink),
        ]
        .map(|(name, outcome)| {
            let (title, html) = page(&outcome, Language::English);
            (name, title, html)
        })
        .into()
    }

    #[test]
    fn every_page_stands_alone_and_says_its_outcome_in_title_and_heading() {
        for (name, title, html) in all() {
            assert!(html.contains(&format!("<title>{}</title>", escape(&title))), "{name}");
            assert!(html.contains(&format!("autofocus>{}</h1>", escape(&title))), "{name}");
            assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}");
            for outside in ["<script", "<link", "<img", "http:", "https:", "url(", "@import", "onload"] {
                assert!(!html.contains(outside), "{name} has {outside}");
            }
            assert!(html.contains("prefers-color-scheme:dark"), "{name}");
        }
    }

    #[test]
    fn the_signed_in_page_names_the_person_and_lets_them_go() {
        let (title, html) = page(&Outcome::SignedIn { address: "ana@contoso.example" }, Language::English);
        assert_eq!(title, "You're signed in as ana@contoso.example");
        assert!(html.contains("You can close this tab."));
    }

    #[test]
    fn whatever_the_provider_calls_a_person_is_text_and_never_markup() {
        let nasty = "<script>alert(1)</script>\"'&@x";
        let (_, html) =
            page(&Outcome::WrongAccount { signed_in_as: nasty, wanted: nasty }, Language::English);
        assert!(!html.contains("<script"));
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;@x"));
    }
}
