//! Which paths a tree may hold: relative, with `/` between names, and safe to write on every system.
//!
//! A name that means something else to some file system could make a checkout write where it must not (`..`, `.git`, a name
//! with a backslash or a colon, a device), or could not be written there at all.

use std::collections::BTreeMap;

use shard_core::limits::MAX_NAME;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;

/// Longest name of a file or directory in bytes, as file systems have it.
pub const MAX_FILE_NAME: usize = 255;

/// A path or a name that a tree does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path:?} cannot be kept: {reason}")]
pub struct PathError {
    /// The path or name, shortened.
    pub path: String,
    /// Why not.
    pub reason: &'static str,
}

/// Checks a path: relative, names separated by single slashes, at most [`MAX_NAME`] bytes.
///
/// # Errors
/// [`PathError`] for the first name that is not valid.
pub fn validate_path(path: &str) -> Result<(), PathError> {
    validate_path_length(path)?;
    match path.split('/').find_map(name_fault) {
        None => Ok(()),
        Some(reason) => Err(error(path, reason)),
    }
}

/// Checks only that a path of valid names is not too long.
pub(crate) fn validate_path_length(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_NAME { Err(error(path, "the path is too long")) } else { Ok(()) }
}

fn error(path: &str, reason: &'static str) -> PathError {
    PathError { path: path.chars().take(80).collect(), reason }
}

/// Checks the name of a file or directory.
///
/// # Errors
/// [`PathError`] saying why it is not valid.
pub fn validate_name(name: &str) -> Result<(), PathError> {
    match name_fault(name) {
        None => Ok(()),
        Some(reason) => Err(error(name, reason)),
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("a name is empty");
    }
    if name.len() > MAX_FILE_NAME {
        return Some("a name is too long");
    }
    if name == "." || name == ".." {
        return Some("it leaves its directory");
    }
    if name.chars().any(char::is_control) {
        return Some("a name has a control character");
    }
    if name.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']) {
        return Some("a name has one of / \\ : < > \" | ? *");
    }
    if name.ends_with(['.', ' ']) {
        return Some("a name ends in a dot or a space");
    }
    if is_repository_directory(name) {
        return Some("it is a directory of shard or Git");
    }
    is_device(name).then_some("it is a device on Windows")
}

/// `.shard` and `.git` in every spelling that some file system takes for them: other case, code points that HFS+ ignores,
/// short names of NTFS.
fn is_repository_directory(name: &str) -> bool {
    let ignored = |c: &char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let folded = fold(&name.chars().filter(|c| !ignored(c)).collect::<String>());
    [("git", ".git"), ("shard", ".shard")].into_iter().any(|(short, long)| {
        let number = folded.strip_prefix(short).and_then(|rest| rest.strip_prefix('~'));
        folded == long || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => {
            let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
            let mut digits = number.unwrap_or_default().chars();
            matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
        }
    }
}

/// A name as file systems compare it that ignore case, and how characters are composed (Unicode's normalisation forms, as those of
/// macOS do); somewhat coarser than any of them.
pub(crate) fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    // Decomposed first, so that letters are the same letters under their marks, and again, since other case can compose anew.
    let upper = name.nfd().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).nfd().collect()
}

/// The first two paths, or directories of them, that are different but equal on a file system that ignores case or the form in
/// which Unicode is composed.
#[must_use]
pub fn case_fold_clash<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<(String, String)> {
    let mut seen: BTreeMap<String, &'a str> = BTreeMap::new();
    for path in paths {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for prefix in ends.filter_map(|end| path.get(..end)) {
            match seen.insert(fold(prefix), prefix) {
                Some(other) if other != prefix => return Some((other.to_owned(), prefix.to_owned())),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths() {
        for path in [
            "model.safetensors",
            "a/b/c.bin",
            ".gitignore",
            ".gitattributes",
            "..a",
            "shard",
            ".shards",
            "com",
            "com10",
            "console.txt",
            "é/日本語 .txt",
            "git~",
            "a~1",
            "x/".repeat(1000).strip_suffix('/').unwrap(),
        ] {
            assert_eq!(validate_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn bad_paths() {
        let long = "x".repeat(256);
        let deep = ["x/".repeat(2100).as_str(), "x"].concat();
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "C:/x",
            "a:b",
            "x\0",
            "x\n",
            "x\u{7f}",
            "x\u{85}",
            ".shard",
            ".SHARD/x",
            ".Shard",
            "a/.ſhard",
            ".git/hooks/post-checkout",
            ".GIT",
            ".g\u{200c}it",
            "GIT~1",
            "shard~12",
            "x.",
            "x ",
            "a /b",
            "nul",
            "NUL.txt",
            "con",
            "aux.c",
            "COM1",
            "lpt9.x",
            "com¹",
            "Prn .x",
            "CONIN$",
            "a?",
            "a*",
            "<a",
            "a|b",
            "\"",
            &long,
            &deep,
        ] {
            assert!(validate_path(path).is_err(), "{path:?}");
        }
        assert!(validate_name("a/b").is_err());
        assert_eq!(validate_name("a"), Ok(()));
    }

    #[test]
    fn clashes() {
        assert_eq!(case_fold_clash(["a/b", "a/c", "b"]), None);
        assert_eq!(case_fold_clash(["A/b", "a/c"]), Some(("A".to_owned(), "a".to_owned())));
        assert_eq!(case_fold_clash(["x/Straße", "x/STRASSE"]), Some(("x/Straße".to_owned(), "x/STRASSE".to_owned())));
        for (composed, decomposed) in
            [("caf\u{e9}", "cafe\u{301}"), ("\u{ac00}", "\u{1100}\u{1161}"), ("\u{c9}", "e\u{301}")]
        {
            let clash = Some((composed.to_owned(), decomposed.to_owned()));
            assert_eq!(case_fold_clash([composed, decomposed]), clash);
        }
        assert_eq!(case_fold_clash(["cafe", "caf\u{e9}"]), None);
    }
}
