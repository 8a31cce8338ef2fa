//! Texts that somebody else wrote, made fit to be shown before they enter the state: an assistant's, or Microsoft's, which
//! has them from whoever runs the other organisation. What an invite holds was checked when it was read.

/// The longest e-mail address there is (RFC 5321).
const MAX_CHARS: usize = 254;

/// One line, without characters that move, hide or reorder what stands around them, or that command a terminal.
pub(crate) fn shown(text: &str) -> String {
    valetkey_handoff::one_line(text, MAX_CHARS)
}

/// For a desktop's notification, where some desktops take `<b>`, links and images in a text for more than words. Look-alikes,
/// because whether a desktop does, and whether it then wants `&lt;`, differs.
pub(crate) fn unmarked(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '<' => '‹',
            '>' => '›',
            '&' => '＆',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_hides_or_commands_and_it_ends() {
        assert_eq!(shown("ana@contoso.example"), "ana@contoso.example");
        assert_eq!(shown("\u{202E}elpmaxe\u{1b}[2J\n\u{9b}x\u{200B}"), "elpmaxe [2J  x");
        assert_eq!(shown(&"x".repeat(10_000)).len(), MAX_CHARS);
    }

    #[test]
    fn a_notification_has_no_markup() {
        let text = unmarked(r#"<a href="https://evil.example">ana</a> &amp;"#);
        assert!(!text.contains(['<', '>', '&']), "{text}");
    }
}
