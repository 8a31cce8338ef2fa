//! Takes out of a text what must not be sent to anybody: people's addresses, links of invites, and whatever looks like a
//! token, a key or a password's hash. Home directories lose their owner's name. Names of servers stay: without them a report
//! helps nobody.
//!
//! What goes into a report holds no secret to begin with. This is the second net.

mod homes;

use std::collections::HashMap;

/// An invite's secret has 22 letters of base64url; nothing shorter of ours is secret.
const SECRET_LETTERS: usize = 20;
/// A digest or a key written in hexadecimal.
const HEX_LETTERS: usize = 32;
/// How our own links begin.
const LINK: &str = "valetkey://";
/// They may stand in an address, and in places more often between other things.
const OFTEN_SEPARATES: [char; 4] = ['/', '=', '?', '&'];
/// RFC 5321, with its quotation marks.
const MOST_LOCAL_LETTERS: usize = 64 + 2;
/// What stands for something that was taken out.
const REMOVED: &str = "[removed]";

/// Replaces the same person by the same name throughout one report.
#[derive(Debug, Default)]
pub struct Redactor {
    /// By the text that is replaced, in lower case.
    people: HashMap<String, usize>,
    /// Names that are no addresses.
    names: Vec<(String, usize)>,
    home: Option<String>,
}

impl Redactor {
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory whose name tells whose computer this is.
    #[must_use]
    pub fn with_home(mut self, home: Option<String>) -> Self {
        self.home = home.filter(|home| home.len() > 1);
        self
    }

    /// A name that is known to be a person's and need not look like an address.
    #[must_use]
    pub fn with_person(mut self, name: &str) -> Self {
        if !name.trim().is_empty() {
            let number = self.number(name);
            if !name.contains('@') {
                self.names.push((name.to_owned(), number));
                // A longer name may have a shorter one in it.
                self.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            }
        }
        self
    }

    /// The text without them.
    pub fn redact(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(home) = &self.home {
            // In JSON with two backslashes for each.
            text = text.replace(home.as_str(), "~").replace(&home.replace('\\', r"\\"), "~");
        }
        let text = self.without_homes(&without_links(&text));
        let mut text = self.without_local_parts(&text);
        for (name, number) in &self.names {
            text = without_word(&text, name, &pseudonym(*number));
        }
        without_secrets(&text)
    }

    fn number(&mut self, who: &str) -> usize {
        let next = self.people.len() + 1;
        *self.people.entry(who.to_lowercase()).or_insert(next)
    }

    /// Whosever they are. What a directory is called by is kept apart from the names of people, who may be called the same.
    fn without_homes(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(home) = homes::next(rest) {
            out += &rest[..home.at];
            match home.owner {
                Some(owner) => out += &format!("~{}", pseudonym(self.number(&format!("~{owner}")))),
                None => out += "~root",
            }
            rest = &rest[home.end..];
        }
        out + rest
    }

    fn without_local_parts(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            let local = local_part(before);
            let domain = beginning(after, is_of_domain);
            out += &before[..before.len() - local.len()];
            if local.is_empty() {
                out.push('@');
            } else {
                // What ends a sentence is no part of a name.
                let domain = domain.trim_end_matches(['.', '-']);
                // The same person, with and without a quotation mark or a field's name before it.
                let who = local.trim_matches(['"', '\\']).trim_start_matches('\'');
                let who = who.rsplit(OFTEN_SEPARATES).next().unwrap_or_default();
                let number = self.number(&format!("{who}@{domain}"));
                out += &format!("{}@", pseudonym(number));
            }
            rest = after;
        }
        out + rest
    }
}

/// Where the name stands alone, and is no part of another word.
fn without_word(text: &str, name: &str, instead: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let touches = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !touches(before.chars().next_back()) && !touches(after.chars().next());
        out += before;
        out += if alone { instead } else { name };
        rest = after;
    }
    out + rest
}

fn pseudonym(number: usize) -> String {
    format!("person-{number}")
}

/// All of an address before its `@`.
fn local_part(before: &str) -> &str {
    if let Some(quoted) = quoted_local_part(before) {
        return quoted;
    }
    let whole = ending(before, is_of_local_part);
    let token = ending(before, |c| !c.is_whitespace() && !"\"<>()".contains(c));
    let is_place =
        token.contains("://") || ["/", "~/", "./", "../"].iter().any(|start| token.starts_with(start));
    if is_place { whole.rsplit(OFTEN_SEPARATES).next().unwrap_or_default() } else { whole }
}

/// `"ana maria"`, which RFC 5322 allows, too; in JSON with a backslash before each mark.
fn quoted_local_part(before: &str) -> Option<&str> {
    let inside = before.strip_suffix('"')?;
    let inside = inside.strip_suffix('\\').unwrap_or(inside);
    let opening = inside.rfind(['"', '\n']).filter(|at| inside[*at..].starts_with('"'))?;
    let short = inside.len() - opening <= MOST_LOCAL_LETTERS;
    let start = opening - usize::from(inside[..opening].ends_with('\\'));
    short.then(|| &before[start..])
}

/// RFC 5322's atoms, and what words of every language are made of.
fn is_of_local_part(c: char) -> bool {
    ".!#$%&'*+-/=?^_`{|}~\u{2019}".contains(c) || is_of_word(c)
}

fn is_of_domain(c: char) -> bool {
    is_of_word(c) || ".-".contains(c)
}

/// Accents and joiners that stand beside their letters, too, which `char` does not count among these: beyond ASCII all that
/// is no space, quotation mark or arrow. Too much taken out is better than too little.
fn is_of_word(c: char) -> bool {
    let separates = c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{2010}'..='\u{2BFF}' | '\u{3000}'..='\u{303F}' | '«' | '»' | '¡' | '¿' | '·');
    c.is_ascii_alphanumeric() || (!c.is_ascii() && !separates)
}

fn ending(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let start = text.char_indices().rev().find(|(_, c)| !belongs(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    &text[start..]
}

fn beginning(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.char_indices().find(|(_, c)| !belongs(*c)).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn without_links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(LINK) {
        out += &rest[..at];
        out += "[a link]";
        let link = beginning(&rest[at..], |c| !c.is_whitespace() && !"\"'<>`\\".contains(c));
        rest = &rest[at + link.len()..];
    }
    out + rest
}

fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = beginning(rest, |c| c.is_ascii_alphanumeric() || "-_+=".contains(c));
        if run.is_empty() {
            let end = rest.chars().next().map_or(rest.len(), char::len_utf8);
            out += &rest[..end];
            rest = &rest[end..];
        } else {
            out += if is_secret(run) { REMOVED } else { run };
            rest = &rest[run.len()..];
        }
    }
    out
}

/// Random letters have capitals and others among them; names of hosts, files and fields are written small.
fn is_secret(run: &str) -> bool {
    let has = |test: fn(&u8) -> bool| run.as_bytes().iter().any(test);
    let mixed = has(u8::is_ascii_uppercase) && (has(u8::is_ascii_lowercase) || has(u8::is_ascii_digit));
    let hex = run.len() >= HEX_LETTERS && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    (run.len() >= SECRET_LETTERS && mixed) || hex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redacted(text: &str) -> String {
        Redactor::new().redact(text)
    }

    #[test]
    fn a_person_has_one_name_throughout_and_the_domain_stays() {
        let mut redactor = Redactor::new();
        assert_eq!(
            redactor.redact("ana@contoso.com waits; bob@fabrikam.com too. \"Ana@Contoso.com\"!"),
            "person-1@contoso.com waits; person-2@fabrikam.com too. \"person-1@Contoso.com\"!"
        );
        assert_eq!(redactor.redact("for ana@contoso.com"), "for person-1@contoso.com");
        for whole in [
            "zoë.o'neil+x",
            "o\u{2019}neil",
            "a/b=c?d",
            "\"ana maria\"",
            "\\\"ana maria\\\"",
            "user='ana",
            "{a|b}^~`",
        ] {
            assert_eq!(
                redacted(&format!("for {whole}@contoso.com.")),
                "for person-1@contoso.com.",
                "{whole}"
            );
        }
        let mut redactor = Redactor::new();
        for same in ["ana@contoso.com", "'ana@contoso.com", "user=ana@contoso.com", "\"ana\"@contoso.com"] {
            assert_eq!(redactor.redact(same), "person-1@contoso.com", "{same}");
        }
        assert_eq!(
            redacted("https://login.example/x?a=1&login_hint=ana@contoso.com, mqtts://ana@mqtt.example"),
            "https://login.example/x?a=1&login_hint=person-1@contoso.com, mqtts://person-2@mqtt.example"
        );
        assert_eq!(
            redacted("“jose\u{301}@contoso.com” → श्याम@contoso.com"),
            "“person-1@contoso.com” → person-2@contoso.com"
        );
        assert_eq!(redacted("12:00 @ noon"), "12:00 @ noon");
    }

    #[test]
    fn a_name_that_is_no_address_goes_too_and_so_does_the_home() {
        let mut redactor = Redactor::new()
            .with_person("ana")
            .with_person("ana maria")
            .with_person("")
            .with_home(Some("/home/ana".into()));
        assert_eq!(redactor.redact("ana maria at /home/ana/.local"), "person-2 at ~/.local");
        assert_eq!(redactor.redact("ana, not a banana"), "person-1, not a banana");
        assert_eq!(redactor.redact("ana@contoso.com"), "person-3@contoso.com");
        let mut redactor = Redactor::new().with_home(Some("/home/ana".into()));
        assert_eq!(
            redactor.redact("/home/ana/x, /home/bob/x, /home/bob, /home/eve"),
            "~/x, ~person-1/x, ~person-1, ~person-2"
        );
        let mut redactor = Redactor::new().with_home(Some(r"C:\Users\ana".into()));
        assert_eq!(redactor.redact(r#"C:\Users\ana\x, "C:\\Users\\ana\\x""#), r#"~\x, "~\\x""#);
    }

    #[test]
    fn links_tokens_keys_and_hashes_go() {
        for secret in [
            "valetkey://invite/eyJhIjoxfQ#x",
            "VALETKEY://invite/abc",
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ0.c2lnbmF0dXJlLXRoYXQtaXM",
            "AGE-SECRET-KEY-1QQPQYZQ7TPZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "1.AXEAs2K0zYk8Vk2xWb6bqQW1ZtLSeD_longer",
            "0.AVYAq1w2e3r4t5y6u7i8o9p0AAAA",
        ] {
            let text = redacted(&format!("said \"{secret}\", then nothing"));
            for part in secret.split(['/', '.']).filter(|part| part.len() > 8) {
                assert!(!text.contains(part), "{text}");
            }
            assert!(text.starts_with("said \"") && text.ends_with("\", then nothing"), "{text}");
        }
    }

    #[test]
    fn what_helps_stays() {
        for text in [
            "mqtts://contoso-production-broker-01.example.com:8883 is not reached",
            "login.microsoftonline.com, 2026-11-21T09:30:00Z, mosquitto 2.0.11",
            "aaaaaaaa-0000-4000-8000-00000000c070",
            "/var/lib/valetkey-agent/quarantine is of user 1000 with mode 755",
            "{\"conditional_access\": \"multi-factor\", \"client_credentials_expired\": true}",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_random_key_and_no_local_part_is_ever_left(
            bytes in prop::array::uniform32(any::<u8>()),
            local in "[a-z][a-z0-9.+-]{3,20}",
            around in "[ a-z\"{}:,\\n]{0,20}",
        ) {
            const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let key: String = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect();
            let text = redacted(&format!("{around} {key} {around} {local}@contoso.com {around}"));
            prop_assert!(!text.contains(&key), "{}", text);
            let address = format!("{local}@");
            prop_assert!(!text.contains(&address), "{}", text);
            prop_assert!(text.contains("@contoso.com"), "{}", text);
        }

        /// Whatever RFC 5322 allows in it, and more; a text that begins with a slash is a path.
        #[test]
        fn nothing_of_a_local_part_is_left_beside_what_stands_for_it(
            local in "[a-z0-9!#$%&'*+=?^_`{|}\\-éßश][a-z0-9.!#$%&'*+=?^_`{|}/~\\-éßश\u{301}]{0,30}",
            before in "[ \"<(,;:]",
            after in "[ \">),;:]",
        ) {
            let text = redacted(&format!("is{before}{local}@contoso.com{after}is"));
            prop_assert_eq!(text, format!("is{before}person-1@contoso.com{after}is"));
        }

        #[test]
        fn no_homes_owner_is_left(
            home in prop::sample::select(vec!["/home/", "/Users/", "/var/home/", "C:\\Users\\", "d:\\users\\", "C:\\\\Users\\\\"]),
            owner in "[a-z][a-z0-9._-]{1,12}[a-z0-9]",
            after in prop::sample::select(vec!["", "/x", "\\x", "\\\\x", ": no", "\"", ", and", "'"]),
        ) {
            let text = redacted(&format!("is \"{home}{owner}{after}"));
            prop_assert_eq!(text, format!("is \"~person-1{after}"));
        }
    }
}
