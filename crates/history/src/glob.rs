//! Patterns for names: of tensors, refs and files.
//!
//! `*` stands for any characters, `?` for one, `[a-c5]` for one of those and `[!a-c]` for one of the others; `\` takes the
//! special meaning from the character after it. Dots and slashes are characters like others, so that `encoder.*` is all of the
//! encoder. A pattern matches whole names, in their case.

use std::fmt;

use shard_core::limits::MAX_NAME;
use thiserror::Error;

/// A text that is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GlobError {
    /// A pattern without characters.
    #[error("a pattern is empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a pattern of more than {MAX_NAME} bytes")]
    TooLong,
    /// A `[` without its `]`.
    #[error("a pattern has a [ without ]")]
    Unclosed,
    /// A range such as `[9-0]`.
    #[error("a pattern has the range {0:?} to {1:?}, which holds nothing")]
    Range(char, char),
    /// A `\` at the end.
    #[error("a pattern ends in \\")]
    Escape,
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `*`.
    Any,
    /// `?`.
    One,
    Char(char),
    /// One character in any of the ranges, or in none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`GlobError`].
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(GlobError::TooLong);
        }
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                // A second star says nothing new.
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '[' => class(&mut chars, true)?,
                '\\' => Part::Char(chars.next().ok_or(GlobError::Escape)?),
                c => Part::Char(c),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Reads a pattern as Python's `fnmatch` does, which takes any text: `\` is a character like others, as is a `[` that is not
    /// closed, and a range may hold nothing.
    #[must_use]
    pub fn fnmatch(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '[' => {
                    let mut ahead = chars.clone();
                    match class(&mut ahead, false) {
                        Ok(class) => {
                            chars = ahead;
                            class
                        }
                        Err(_) => Part::Char('['),
                    }
                }
                c => Part::Char(c),
            });
        }
        Self { text: text.to_owned(), parts }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches the whole name.
    ///
    /// The time is at most that of comparing each character with each part.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut parts, mut rest) = (self.parts.as_slice(), name.chars());
        // What follows the last star, and the name that has not been tried with it. Earlier stars need no second try: they took
        // the fewest characters that they could.
        let mut retry = None;
        loop {
            let mut next = rest.clone();
            match (parts.split_first(), next.next()) {
                (None, None) => return true,
                (Some((Part::Any, after)), _) => {
                    (parts, retry) = (after, Some((after, rest.clone())));
                    continue;
                }
                (Some((part, after)), Some(c)) if part.matches(c) => {
                    (parts, rest) = (after, next);
                    continue;
                }
                _ => {}
            }
            let Some((after, mut from)) = retry else { return false };
            if from.next().is_none() {
                return false;
            }
            (parts, rest, retry) = (after, from.clone(), Some((after, from)));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// What is between `[` and `]`. A `]` at the start is a character. `strict`: `\` takes the meaning from what follows, and ranges
/// hold something.
fn class(chars: &mut std::str::Chars<'_>, strict: bool) -> Result<Part, GlobError> {
    let negated = chars.as_str().starts_with('!');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let from = match chars.next().ok_or(GlobError::Unclosed)? {
            ']' if !ranges.is_empty() => return Ok(Part::Class { negated, ranges }),
            '\\' if strict => chars.next().ok_or(GlobError::Unclosed)?,
            c => c,
        };
        let mut ahead = chars.clone();
        let to = match (ahead.next(), ahead.next()) {
            // A `-` at the end is a character.
            (Some('-'), Some(to)) if to != ']' => {
                *chars = ahead;
                if strict && to == '\\' { chars.next().ok_or(GlobError::Unclosed)? } else { to }
            }
            _ => from,
        };
        if strict && from > to {
            return Err(GlobError::Range(from, to));
        }
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "deep/below/a.txt", true),
            ("*.txt", "a.txt.bak", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", true),
            ("a?c", "ac", false),
            ("[ab]x", "bx", true),
            ("[!ab]x", "bx", false),
            ("[!ab]x", "cx", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[]]x", "]x", true),
            ("[!]]x", "]x", false),
            ("[a-]x", "-x", true),
            ("[c-a]x", "bx", false),
            ("[ab", "[ab", true),
            ("[ab", "a", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("**/x", "a/b/x", true),
            ("é?", "éß", true),
            ("A", "a", false),
            ("v?.?", "v1.0", true),
            ("a*b*c", "a-bb-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?", "", false),
            ("v1", "v1.0", false),
        ] {
            assert_eq!(Glob::fnmatch(pattern).matches(text), expected, "{pattern} {text}");
        }
        // Every star could begin anywhere: this must not take for ever.
        assert!(!Glob::fnmatch(&"*a".repeat(500)).matches(&"a".repeat(499)));
    }
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn what_patterns_match() {
        for (pattern, name) in [
            ("encoder.*", "encoder.layer.0.weight"),
            ("*.bias", "h.0.ln.bias"),
            ("*", ""),
            ("**a**", "a"),
            ("*a*b*c", "xaxbxcxc"),
            ("h.?.w", "h.7.w"),
            ("?", "é"),
            ("h.[0-35].w", "h.2.w"),
            ("h.[0-35].w", "h.5.w"),
            ("h.[!0-3].w", "h.é.w"),
            ("[]a]", "]"),
            ("[a-]", "-"),
            ("[\\]-\\]]", "]"),
            ("params\\['x'\\]", "params['x']"),
            ("a\\*", "a*"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("encoder.*", "decoder.encoder.x"),
            ("*.bias", "bias"),
            ("a", "A"),
            ("a", "ab"),
            ("ab", "a"),
            ("*a", "ab"),
            ("h.[0-35].w", "h.4.w"),
            ("[!a]", "a"),
            ("[!a]", ""),
            ("a\\*", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn refusals() {
        let error = |text: &str| Glob::new(text).unwrap_err();
        assert_eq!([error(""), error(&"x".repeat(4097))], [GlobError::Empty, GlobError::TooLong]);
        assert_eq!([error("a["), error("[]"), error("[a-"), error("[a-\\")], [GlobError::Unclosed; 4]);
        assert_eq!(error("[9-0]"), GlobError::Range('9', '0'));
        assert_eq!(error("a\\"), GlobError::Escape);
    }

    #[test]
    fn no_pattern_takes_forever() {
        let (pattern, name) = ("a*".repeat(2000) + "b", "a".repeat(4096));
        assert!(!matches(&pattern, &name));
    }

    /// Matching by its definition.
    fn by_definition(parts: &[Part], name: &[char]) -> bool {
        match (parts.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((Part::Any, after)), _) => (0..=name.len()).any(|taken| by_definition(after, &name[taken..])),
            (Some((part, after)), Some((c, rest))) => part.matches(*c) && by_definition(after, rest),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(pattern in "([ab*?]|\\[!?[ab]\\]){1,8}", name in "[abc]{0,8}") {
            let glob = Glob::new(&pattern).unwrap();
            let chars: Vec<char> = name.chars().collect();
            prop_assert_eq!(glob.matches(&name), by_definition(&glob.parts, &chars));
        }

        #[test]
        fn any_text_is_read_or_refused(pattern: String, name: String) {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&name);
                prop_assert_eq!(glob.to_string(), pattern);
            }
        }
    }
}
