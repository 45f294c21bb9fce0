//! Colour, where it is wanted.

use std::borrow::Cow;

/// What a piece of text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    /// Plain text.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// What is gone or wrong.
    Red,
    /// What is new or right.
    Green,
    /// What changed.
    Yellow,
    /// Names and ids.
    Cyan,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Red => Some("31"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Cyan => Some("36"),
        }
    }

    /// The text in this style, or as it is where colour is off.
    pub(crate) fn paint(self, text: &str, color: bool) -> Cow<'_, str> {
        match self.code().filter(|_| color) {
            None => Cow::Borrowed(text),
            Some(code) => Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colour_means_no_escape_sequence() {
        assert_eq!(Style::Red.paint("x", false), "x");
        assert_eq!(Style::Red.paint("x", true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Style::Plain.paint("x", true), "x");
    }
}
