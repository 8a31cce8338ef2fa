//! Home directories in a text, of whichever system: their last part is somebody's name.

/// Where they are, on Linux (two forms) and macOS. Longer ones first, where one ends with another.
const UNIX: [&str; 3] = ["/var/home/", "/home/", "/Users/"];
/// On Windows, after a drive's letter; the second as JSON writes it. In lower case: there, that is the same.
const WINDOWS: [&str; 3] = [r":\users\", r":\\users\\", ":/users/"];
const ROOT: &str = "/root";
/// A name on Windows may have spaces. In a line without anything behind the name, not all of the line is one.
const MOST_WINDOWS_LETTERS: usize = 40;

/// A home directory in a text: from where to where, and whose. `None` is root, who is nobody.
pub struct Home<'a> {
    pub at: usize,
    pub end: usize,
    pub owner: Option<&'a str>,
}

/// The first one.
pub fn next(text: &str) -> Option<Home<'_>> {
    // As long as the text, letter for letter.
    let lower = text.to_ascii_lowercase();
    let unix = UNIX.iter().flat_map(|start| places(text, start).filter_map(|at| unix(text, at, start)));
    let windows =
        WINDOWS.iter().flat_map(|start| places(&lower, start).filter_map(|at| windows(text, at, start)));
    let root = places(text, ROOT).filter_map(|at| root(text, at));
    unix.chain(windows).chain(root).min_by_key(|home| (home.at, std::cmp::Reverse(home.end)))
}

fn places<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(start).map(|(at, _)| at)
}

fn unix<'a>(text: &'a str, at: usize, start: &str) -> Option<Home<'a>> {
    let from = at + start.len();
    owner(text, from, |c| c.is_whitespace() || "/\\\"'`<>|:;,()[]{}*?".contains(c), at)
}

fn windows<'a>(text: &'a str, colon: usize, start: &str) -> Option<Home<'a>> {
    let from = colon + start.len();
    let at = colon.checked_sub(1).filter(|at| text.as_bytes()[*at].is_ascii_alphabetic())?;
    let ends = |c: char| c.is_control() || "/\\\"'`<>|:;,*?".contains(c);
    let home = owner(text, from, ends, at)?;
    let closed = text[home.end..].starts_with(['/', '\\', '"', '\'']);
    if closed && home.end - from <= MOST_WINDOWS_LETTERS {
        return Some(home);
    }
    owner(text, from, |c| ends(c) || c.is_whitespace(), at)
}

fn owner(text: &str, from: usize, ends: impl Fn(char) -> bool, at: usize) -> Option<Home<'_>> {
    let length = text[from..].find(ends).unwrap_or(text.len() - from);
    // What ends a sentence is no part of a name.
    let owner = text[from..from + length].trim_end_matches('.');
    (!owner.is_empty()).then(|| Home { at, end: from + owner.len(), owner: Some(owner) })
}

/// `/root` and what is in it; not `/chroot/root` or `/rooted`.
fn root(text: &str, at: usize) -> Option<Home<'_>> {
    let end = at + ROOT.len();
    let of_name = |c: char| c.is_alphanumeric() || "._-/~".contains(c);
    let begins = !text[..at].chars().next_back().is_some_and(of_name);
    let goes_on = text[end..].chars().next().is_some_and(|c| of_name(c) && c != '/' && c != '.');
    (begins && !goes_on).then_some(Home { at, end, owner: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<(&str, Option<&str>)> {
        next(text).map(|home| (&text[home.at..home.end], home.owner))
    }

    #[test]
    fn a_home_is_known_by_where_it_lies() {
        for (text, home, owner) in [
            ("cannot read /home/ana/.local/x: no", "/home/ana", Some("ana")),
            ("in /home/ana.", "/home/ana", Some("ana")),
            ("/var/home/ana", "/var/home/ana", Some("ana")),
            ("\"/Users/ana.maria/Library\"", "/Users/ana.maria", Some("ana.maria")),
            ("/home/CONTOSO/ana", "/home/CONTOSO", Some("CONTOSO")),
            (r"C:\Users\Ana Maria\AppData", r"C:\Users\Ana Maria", Some("Ana Maria")),
            (r"c:\users\ana and more words, which are no name at all", r"c:\users\ana", Some("ana")),
            (r#"{"x": "D:\\Users\\ana\\x"}"#, r"D:\\Users\\ana", Some("ana")),
            ("C:/Users/ana/x", "C:/Users/ana", Some("ana")),
            ("/root/.local/state: no", "/root", None),
            ("It is in /root.", "/root", None),
        ] {
            assert_eq!(shown(text), Some((home, owner)), "{text}");
        }
    }

    #[test]
    fn what_is_no_home_stays() {
        for text in [
            "/home",
            "/home/",
            "/var/lib/valetkey-agent",
            "/chroot/root",
            "/rooted",
            "/root-ca.pem",
            "users/ana",
            "/v1.0/users/x",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
