//! Lines of text: how wide they are, how they are shortened, and how they are coloured.

use unicode_width::UnicodeWidthChar;

use crate::fit::Ruler;

/// Measures in columns.
const COLUMNS: Ruler = Ruler { advance: columns };

fn columns(c: char) -> usize {
    // The selector makes a narrow emoji before it wide.
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    COLUMNS.width(text)
}

/// The text in at most so many columns.
pub(super) fn shorten(text: &str, room: usize, dots: &str) -> String {
    COLUMNS.shorten(text, room, dots)
}

/// The text in lines of at most so many columns.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    COLUMNS.wrap(text, room)
}

/// The text in the middle of so many columns.
pub(super) fn center(text: &str, room: usize) -> String {
    let space = room.saturating_sub(width(text));
    format!("{}{text}{}", " ".repeat(space / 2), " ".repeat(space - space / 2))
}

/// The text at the right of so many columns.
pub(super) fn right(text: &str, room: usize) -> String {
    format!("{}{text}", " ".repeat(room.saturating_sub(width(text))))
}

/// Items side by side, on as many lines as they need.
pub(super) fn flow(items: &[String], room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items.iter().map(|item| shorten(item, room, "...")) {
        match lines.last_mut() {
            Some(line) if width(line) + 3 + width(&item) <= room => *line = format!("{line}   {item}"),
            _ => lines.push(item),
        }
    }
    lines
}

/// A line that is being written, with styles: parameters of the escape sequence "select graphic rendition" (ECMA-48).
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    style: String,
}

impl Line {
    /// Adds text in a style; the empty one is that of the terminal.
    pub(super) fn put(&mut self, style: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.switch(style);
        self.text.push_str(text);
    }

    fn switch(&mut self, style: &str) {
        if self.style == style {
            return;
        }
        if !self.style.is_empty() {
            self.text.push_str("\x1b[0m");
        }
        if !style.is_empty() {
            self.text.push_str(&format!("\x1b[{style}m"));
        }
        style.clone_into(&mut self.style);
    }

    /// The line with its end, without spaces before it.
    pub(super) fn finish(mut self) -> String {
        self.switch("");
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_placed_by_their_columns() {
        assert_eq!((center("ab", 5), center("名", 2), right("名", 3)), (" ab  ".into(), "名".into(), " 名".into()));
        assert_eq!((width("☀"), width("☀\u{fe0f}"), width("e\u{301}")), (1, 2, 1));
        let items = ["= equal", "+ added", "- removed"].map(str::to_owned);
        assert_eq!(flow(&items, 17), ["= equal   + added", "- removed"]);
    }

    #[test]
    fn runs_of_a_style_are_one() {
        let mut line = Line::default();
        for (style, text) in [("", "a"), ("1", "b"), ("1", "c"), ("", ""), ("2", "d"), ("", "  ")] {
            line.put(style, text);
        }
        assert_eq!(line.finish(), "a\x1b[1mbc\x1b[0m\x1b[2md\x1b[0m\n");
    }
}
