//! Which files are kept by shard beside a Git repository: patterns in a block of `.gitignore` that shard manages.
//!
//! A pattern is one of `gitignore(5)`: without a slash, but for one at its end, it is a file's name in any folder; otherwise a path
//! from the folder of `.gitignore` on. `*`, `?` and `[…]` match within a name, `**` any folders.

use std::fs;
use std::path::Path;

use shard_core::text::visible;
use shard_history::glob::Glob;

use crate::beneath::Place;
use crate::error::{RepoError, Result};

/// What the names of pointers end in.
pub(super) const POINTER: &str = ".shard.json";

const IGNORE: &str = ".gitignore";
const ATTRIBUTES: &str = ".gitattributes";
const BEGIN: &str = "# >>> shard: written by `shard track` and `shard untrack`";
const END: &str = "# <<< shard";
/// Longest file with a block that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`.
    Folders,
    Name(Glob),
}

impl Pattern {
    /// Reads a pattern as users give it: a folder, with a slash at its end, stands for all that is in it.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub(super) fn new(text: &str) -> std::result::Result<Self, String> {
        if visible(text) != text || text.trim() != text || text.is_empty() {
            return Err("it is empty, or has characters at its ends or in it that are not seen".to_owned());
        }
        if text.starts_with(['!', '#']) || text.contains('\\') {
            return Err("it begins with ! or #, or has a \\ in it".to_owned());
        }
        let path = text.strip_prefix('/').unwrap_or(text);
        let (path, is_folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let is_anywhere = !text.starts_with('/') && !path.contains('/') && !is_folder;
        let mut parts = if is_anywhere { vec![Part::Folders] } else { Vec::new() };
        for name in path.split('/') {
            parts.push(match name {
                "" | "." | ".." => return Err("a part of it is empty, or leaves the folder".to_owned()),
                "**" => Part::Folders,
                name if name.contains("**") => return Err("** stands alone between slashes".to_owned()),
                name => Part::Name(Glob::new(name).map_err(|error| error.to_string())?),
            });
        }
        if is_folder {
            parts.push(Part::Folders);
        }
        let slash = if is_anywhere || text.starts_with('/') { "" } else { "/" };
        let all = if is_folder { "**" } else { "" };
        Ok(Self { text: format!("{slash}{text}{all}"), parts })
    }

    /// The pattern as it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is a file's name, and not that of a folder above it.
    pub(super) fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        // Which numbers of names the parts so far can stand for.
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for (index, part) in self.parts.iter().enumerate() {
            let mut next = vec![false; names.len() + 1];
            match part {
                Part::Folders => {
                    // At the end it is everything inside, so at least one name.
                    let least = usize::from(index + 1 == self.parts.len());
                    let first = reached.iter().position(|reached| *reached).map(|first| first + least);
                    if let Some(open) = first.and_then(|first| next.get_mut(first..)) {
                        open.fill(true);
                    }
                }
                Part::Name(glob) => {
                    for (at, name) in names.iter().enumerate() {
                        next[at + 1] = reached[at] && glob.matches(name);
                    }
                }
            }
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }
}

/// The patterns of the block in a folder's `.gitignore`; `None` where it has none.
pub(super) fn read(folder: &Path) -> Result<Option<Vec<Pattern>>> {
    let place = folder.join(IGNORE);
    // Whatever else is in there is Git's business, and no reason to fail.
    if !fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE) {
        return Ok(None);
    }
    let bytes = fs::read(&place).map_err(RepoError::io("cannot read", &place))?;
    let text = String::from_utf8_lossy(&bytes);
    let Some((_, block, _)) = split(&text, &place)? else { return Ok(None) };
    let lines = block.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let pattern = |line: &str| {
        let why = |why: String| RepoError::Path {
            path: place.clone(),
            why: format!("the line {:?} between the marks of shard is no pattern: {why}", visible(line)),
        };
        Pattern::new(line).map_err(why)
    };
    lines.map(pattern).collect::<Result<_>>().map(Some)
}

/// Makes these the patterns of a folder: the block of `.gitignore`, and beside it that of `.gitattributes`; no block where there
/// are none.
pub(super) fn write(folder: &Path, patterns: &[Pattern]) -> Result<()> {
    let mut ignore = String::new();
    let mut attributes = String::new();
    if !patterns.is_empty() {
        for pattern in patterns {
            // Folders stay open to Git: their pointers are in them.
            ignore.push_str(&format!("{}\n!{}/\n", pattern.text(), pattern.text()));
        }
        ignore.push_str(&format!("!*{POINTER}\n"));
        attributes.push_str(&format!("*{POINTER} binary\n"));
    }
    // While only one of the two is written, nothing that belongs to shard goes to Git.
    replace(folder, IGNORE, &ignore)?;
    replace(folder, ATTRIBUTES, &attributes)
}

fn replace(folder: &Path, name: &str, block: &str) -> Result<()> {
    let place = &folder.join(name);
    let old = read_file(place)?;
    let block = if block.is_empty() { String::new() } else { format!("{BEGIN}\n{block}{END}\n") };
    let new = match split(&old, place)? {
        Some((before, _, after)) => format!("{before}{block}{after}"),
        None if old.is_empty() || old.ends_with('\n') => format!("{old}{block}"),
        None => format!("{old}\n{block}"),
    };
    if new == old {
        return Ok(());
    }
    if new.is_empty() {
        return fs::remove_file(place).map_err(RepoError::io("cannot remove", place));
    }
    Place::make(folder, name)?.put_bytes(new.as_bytes())
}

/// A file that Git would read, too; empty where there is none.
fn read_file(place: &Path) -> Result<String> {
    let refuse = |why: &str| RepoError::Path { path: place.to_owned(), why: why.to_owned() };
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(RepoError::io("cannot read", place)(error)),
        Ok(metadata) if !metadata.is_file() => return Err(refuse("is no file, and Git would not read it either")),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(refuse("is too long")),
        Ok(_) => {}
    }
    let bytes = fs::read(place).map_err(RepoError::io("cannot read", place))?;
    String::from_utf8(bytes).map_err(|_| refuse("is not valid UTF-8"))
}

/// What is before the block, in it, and after it.
fn split<'a>(text: &'a str, place: &Path) -> Result<Option<(&'a str, &'a str, &'a str)>> {
    let mut marks = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let trimmed = line.trim_end();
        if trimmed == BEGIN || trimmed == END {
            marks.push((trimmed == BEGIN, at, end));
        }
        at = end;
    }
    let parts = match marks[..] {
        [] => return Ok(None),
        [(true, start, from), (false, to, end)] => {
            text.get(..start).zip(text.get(from..to)).zip(text.get(end..)).map(|((a, b), c)| (a, b, c))
        }
        _ => None,
    };
    let why = || format!("the lines {BEGIN:?} and {END:?} are not there once each, in that order: mend it by hand");
    parts.map(Some).ok_or_else(|| RepoError::Path { path: place.to_owned(), why: why() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_git_s() {
        for (pattern, path, expected) in [
            ("*.bin", "a.bin", true),
            ("*.bin", "x/y/a.bin", true),
            ("*.bin", "a.bin/b", false),
            ("*.bin", "a.bin.shard.json", false),
            ("/a.bin", "a.bin", true),
            ("/a.bin", "x/a.bin", false),
            ("models/", "models/x/y", true),
            ("models/", "models", false),
            ("models/", "x/models/y", false),
            ("m/*.bin", "m/a.bin", true),
            ("m/*.bin", "m/x/a.bin", false),
            ("m/**/*.bin", "m/a.bin", true),
            ("m/**/*.bin", "m/x/y/a.bin", true),
            ("**/w?.bin", "x/w1.bin", true),
            ("step-[0-9].pt", "run/step-7.pt", true),
            ("step-[!0-9].pt", "run/step-7.pt", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
        for bad in ["", "!x", "#x", "a\\b", "a/../b", "a//b", "..", "x\ny", " x", "a**b/c", "[a", "x\u{202e}y", "/"] {
            assert!(Pattern::new(bad).is_err(), "{bad:?}");
        }
        // What is written is read as the same.
        for pattern in ["*.bin", "/a", "models/", "a/b", "**/x"] {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(Pattern::new(pattern.text()), Ok(pattern));
        }
    }

    #[test]
    fn the_block_and_nothing_else_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(".gitignore");
        let pattern = |text: &str| Pattern::new(text).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        fs::write(&place, "build/\r\n*.log").unwrap();
        write(folder.path(), &[pattern("*.bin")]).unwrap();
        let text = fs::read_to_string(&place).unwrap();
        assert_eq!(text, format!("build/\r\n*.log\n{BEGIN}\n*.bin\n!*.bin/\n!*.shard.json\n{END}\n"));
        let attributes = fs::read_to_string(folder.path().join(".gitattributes")).unwrap();
        assert_eq!(attributes, format!("{BEGIN}\n*.shard.json binary\n{END}\n"));
        fs::write(&place, format!("{text}last\n")).unwrap();
        write(folder.path(), &[pattern("*.bin"), pattern("m/")]).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(vec![pattern("*.bin"), pattern("m/")]));
        write(folder.path(), &[]).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "build/\r\n*.log\nlast\n");
        assert!(!folder.path().join(".gitattributes").exists());
        fs::write(&place, b"\xe9t\xe9\n").unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        assert!(write(folder.path(), &[pattern("x")]).is_err());
        for broken in [format!("{BEGIN}\n"), format!("{END}\n{BEGIN}\n"), format!("{BEGIN}\n{END}\n{BEGIN}\n{END}\n")] {
            fs::write(&place, &broken).unwrap();
            assert!(read(folder.path()).is_err() && write(folder.path(), &[pattern("x")]).is_err(), "{broken}");
            assert_eq!(fs::read_to_string(&place).unwrap(), broken);
        }
    }
}
