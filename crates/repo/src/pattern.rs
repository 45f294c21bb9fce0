//! Patterns of file names, as shells and Python's `fnmatch` have them, over whole paths.

/// Whether a text matches a pattern: `*` is any text, slashes included, `?` any one character, `[abc]` one of these, `[a-c]` one
/// of a range, `[!abc]` none of these. A bracket that is not closed stands for itself. Case counts. It takes time proportional to
/// the product of the lengths at most.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<Token> = tokens(pattern);
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut in_text) = (0, 0);
    // Where the last `*` was, and how much of the text it has taken.
    let mut star = None;
    loop {
        match (pattern.get(at), text.get(in_text)) {
            (None, None) => return true,
            (Some(Token::Any), _) => {
                star = Some((at, in_text));
                at += 1;
            }
            (Some(token), Some(c)) if token.takes(*c) => (at, in_text) = (at + 1, in_text + 1),
            (_, next) => match star {
                Some((star_at, taken)) if next.is_some() => {
                    star = Some((star_at, taken + 1));
                    (at, in_text) = (star_at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

enum Token {
    Any,
    One,
    Char(char),
    Set { not: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Char(own) => *own == c,
            Self::Set { not, ranges } => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *not,
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        at += 1;
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => match set(chars.get(at..).unwrap_or_default()) {
                Some((set, len)) => {
                    at += len;
                    set
                }
                None => Token::Char('['),
            },
            c => Token::Char(*c),
        });
    }
    tokens
}

/// What follows a bracket up to the one that closes it, and its length. One right at the beginning is a member.
fn set(chars: &[char]) -> Option<(Token, usize)> {
    let not = chars.first() == Some(&'!');
    let start = usize::from(not);
    let members = chars.get(start..)?;
    let close = members.iter().skip(1).position(|c| *c == ']')? + 1;
    let members = members.get(..close)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(first) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(last)) => {
                ranges.push((*first, *last));
                at += 3;
            }
            _ => {
                ranges.push((*first, *first));
                at += 1;
            }
        }
    }
    Some((Token::Set { not, ranges }, start + close + 1))
}

/// Which paths are meant: those that match one of `allow`, where it is given, and none of `ignore`. A pattern that ends in a
/// slash means everything below that folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathFilter {
    /// Only paths that match one of these; all without any.
    pub allow: Option<Vec<String>>,
    /// No paths that match one of these.
    pub ignore: Vec<String>,
}

impl PathFilter {
    /// Whether a path is meant.
    #[must_use]
    pub fn admits(&self, path: &str) -> bool {
        let is_allowed = self.allow.as_ref().is_none_or(|patterns| matches_any(patterns, path));
        is_allowed && !matches_any(&self.ignore, path)
    }

    /// Whether every path is meant.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.ignore.is_empty()
    }
}

/// Whether a path matches one of several patterns.
pub(crate) fn matches_any(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|pattern| {
        let folder = pattern.ends_with('/').then(|| format!("{pattern}*"));
        matches(folder.as_ref().unwrap_or(pattern), path)
    })
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
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // Every star could begin anywhere: this must not take for ever.
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }

    #[test]
    fn filters() {
        let filter =
            PathFilter { allow: Some(vec!["*.bin".to_owned(), "sub/".to_owned()]), ignore: vec!["*/x*".to_owned()] };
        assert!(filter.admits("a.bin") && filter.admits("sub/deep/y") && !filter.admits("other"));
        assert!(!filter.admits("sub/x.bin") && !filter.admits("sub"));
        assert!(PathFilter::default().is_open() && PathFilter::default().admits("anything"));
        let none = PathFilter { allow: Some(Vec::new()), ..PathFilter::default() };
        assert!(!none.is_open() && !none.admits("anything"));
    }
}
