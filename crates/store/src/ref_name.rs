//! Names of refs, and how they become file names that are the same on every file system.

use thiserror::Error;

/// Longest ref name as a file name, in bytes.
const MAX_ESCAPED: usize = 240;

/// Why a text is not the name of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} cannot be the name of a ref: {problem}")]
pub struct RefNameError {
    /// The text, cut to a length that can be shown.
    pub name: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Checks a ref name: components joined by `/`, by the rules of `git check-ref-format`, so that every ref can go to Git.
///
/// # Errors
/// [`RefNameError`].
pub fn check(name: &str) -> Result<(), RefNameError> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "it holds a control character or a space"
    } else if name.contains(['\\', '~', '^', ':', '?', '*', '[']) {
        "it holds one of \\ ~ ^ : ? * ["
    } else if name.contains("..") || name.contains("@{") || name == "@" {
        "it holds '..' or '@{', or is '@'"
    } else if name.split('/').any(str::is_empty) {
        "a component is empty"
    } else if name.split('/').any(|part| part.starts_with(['.', '-']) || part.ends_with('.')) {
        "a component starts with '.' or '-', or ends with '.'"
    } else if name.split('/').any(|part| part.ends_with(".lock")) {
        "a component ends with '.lock'"
    } else if escape(name).len() > MAX_ESCAPED {
        "it is too long"
    } else {
        return Ok(());
    };
    Err(RefNameError { name: name.chars().take(100).collect(), problem })
}

/// The name as one file name: `a`-`z`, `0`-`9`, `_`, `-` and inner `.` stand for themselves, every other byte is `%` and two
/// hexadecimal digits. No two names differ only in case, and none is a device of Windows.
#[must_use]
pub fn escape(name: &str) -> String {
    let last = name.len().saturating_sub(1);
    let device = is_device(name);
    let mut out = String::with_capacity(name.len() + 8);
    for (at, byte) in name.bytes().enumerate() {
        let plain = match byte {
            b'a'..=b'z' | b'0'..=b'9' => !(device && at == 0),
            b'_' | b'-' => true,
            b'.' => at != 0 && at != last,
            _ => false,
        };
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

/// The name that a file name stands for, if it is exactly its escaped form.
#[must_use]
pub fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (check(&name).is_ok() && escape(&name) == escaped).then_some(name)
}

/// Whether Windows takes a file of this name for a device, whatever its extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    matches!(stem, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::check_name;
    use proptest::prelude::*;

    #[test]
    fn fault_27_names_that_would_be_something_else_are_refused() {
        for good in ["HEAD", "stage", "heads/main", "tags/v1.0", "heads/Ümläut", "heads/a.b-c_d", "nul", "heads/x@y"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "a".repeat(241);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "../etc/passwd",
            ".a",
            "a/.b",
            "a.",
            "heads/x.lock",
            "x.lock/y",
            "a\0",
            "a\nb",
            "a\u{7f}",
            "a b",
            "a\\b",
            "c:",
            "@",
            "a@{1}",
            "-rf",
            "a/-b",
            "a*",
            &long,
            "a\u{2028}b",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fault_27_file_names_are_flat_case_safe_and_no_devices() {
        assert_eq!(escape("heads/main"), "heads%2fmain");
        assert_eq!(escape("HEAD"), "%48%45%41%44");
        assert_eq!(escape("con"), "%63on");
        assert_eq!(escape("com1.x"), "%63om1.x");
        assert_eq!(escape("heads/con"), "heads%2fcon");
        for bad in ["HEAD", "%2F", "heads%2Fmain", "%61", "a%", "a%2", "a%zz", "..", "%2e%2e", "%00", "con", ""] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn escaping_round_trips(name in "[a-zA-Z0-9/._%+ü-]{1,60}") {
            if check(&name).is_ok() {
                let escaped = escape(&name);
                let path = format!("refs/{escaped}/x");
                prop_assert!(check_name(&path).is_ok());
                prop_assert_eq!(unescape(&escaped), Some(name));
            }
        }

        #[test]
        fn whatever_is_read_has_one_form(escaped in "[a-z0-9%._-]{0,20}") {
            if let Some(name) = unescape(&escaped) {
                prop_assert_eq!(escape(&name), escaped);
            }
        }
    }
}
