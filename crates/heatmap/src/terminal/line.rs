//! Lines of text: how wide they are, how they are shortened, and how they are coloured.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The start of a text, or with `from_end` its end, as much as fits into so many columns.
fn part(text: &str, room: usize, from_end: bool) -> &str {
    let mut end = 0;
    let mut used = 0;
    let mut step = |c: char| {
        // Makes a narrow emoji before it wide.
        let more = usize::from(c == '\u{fe0f}');
        used += c.width().unwrap_or(0) + more;
        end += if used <= room { c.len_utf8() } else { 0 };
        used <= room
    };
    if from_end {
        text.chars().rev().take_while(|c| step(*c)).for_each(drop);
        text.get(text.len() - end..).unwrap_or_default()
    } else {
        text.chars().take_while(|c| step(*c)).for_each(drop);
        text.get(..end).unwrap_or_default()
    }
}

/// The text in at most so many columns; what is too long loses its middle, which tells least of names.
pub(super) fn shorten(text: &str, room: usize, dots: &str) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let Some(left) = room.checked_sub(width(dots)).filter(|left| *left >= 2) else {
        return part(text, room, false).to_owned();
    };
    let start = part(text, left.div_ceil(2), false);
    let end = part(text, left / 2, true);
    format!("{start}{dots}{end}")
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

/// The text in lines of at most so many columns, broken at spaces, and within words that are longer than a line.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let room = room.max(2);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for mut word in text.split(' ').filter(|word| !word.is_empty()) {
        let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&joined) <= room {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while width(word) > room {
            let start = part(word, room, false);
            if start.is_empty() {
                break;
            }
            lines.push(start.to_owned());
            word = word.get(start.len()..).unwrap_or_default();
        }
        line = word.to_owned();
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
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
    fn the_middle_is_left_out() {
        assert_eq!(shorten("model.layers.12", 15, "…"), "model.layers.12");
        assert_eq!(shorten("model.layers.12", 9, "…"), "mode…s.12");
        assert_eq!(shorten("model.layers.12", 9, "..."), "mod....12");
        assert_eq!((shorten("abc", 2, "..."), shorten("abc", 0, "…")), ("ab".to_owned(), String::new()));
        assert_eq!(shorten("名前名前", 6, "…"), "名…前");
        assert_eq!((center("ab", 5), center("名", 2), right("名", 3)), (" ab  ".into(), "名".into(), " 名".into()));
    }

    #[test]
    fn lines_break_at_spaces_and_within_long_words() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("one abcdefghij k", 4), ["one", "abcd", "efgh", "ij k"]);
        assert_eq!(wrap("名前名", 3), ["名", "前", "名"]);
        assert!(wrap("", 5).is_empty());
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
