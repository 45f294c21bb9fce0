//! Text that came from files, made safe to print and to put into markup.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything escaped that would steer a terminal or hide what is there: control characters and
/// characters that change the direction of writing or stand for nothing. Names in model files are a stranger's words.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control()) || !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if is_hidden(c) => {
                // Writing to a String does not fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// What an error says, and what its causes say.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// As [`visible`], for texts of several lines: line ends stay.
pub fn visible_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.lines().map(visible)
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The text for XML and HTML, as content or between quotes: as [`visible`], and with the characters of markup escaped.
#[must_use]
pub fn xml(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            _ => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(visible("layers.0.weight é 名"), "layers.0.weight é 名");
        assert_eq!(visible("a\u{1b}[2Jb\n\u{202e}c\u{9b}"), "a\\u{1b}[2Jb\\n\\u{202e}c\\u{9b}");
        assert_eq!(visible_lines("a\tb\nc").collect::<Vec<_>>(), ["a\\tb", "c"]);
        assert_eq!(visible("\u{61c}a\u{ffff}\u{e0041}"), "\\u{61c}a\\u{ffff}\\u{e0041}");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(xml("</script> & \"a\" 'b'\u{0}"), "&lt;/script&gt; &amp; &quot;a&quot; &#39;b&#39;\\u{0}");
    }
}
