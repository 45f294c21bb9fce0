//! What Git would call the same things: the SHA-1 ids of its blobs, trees and commits.
//!
//! A commit has a Git twin: the commit that Git itself would make of the same files, messages, times and parents, where files
//! from a certain size on are pointers of Git LFS. Its ids are aliases, for tools that know only them. No identity or integrity
//! rests on SHA-1 here: what is read is proven by SHA-256.
//!
//! Formats: `gitformat-pack` and `git-commit-tree` of Git's documentation, and version 1 of the pointer files of Git LFS.

use std::fmt;

use sha1::{Digest as _, Sha1};
use shard_core::Digest;

use crate::commit::Commit;
use crate::tree::FileMode;

/// From this size on, in bytes, a file is a pointer in Git twins, unless a repository says otherwise.
pub const LARGE_FILE_THRESHOLD: u64 = 16 << 20;

/// Who made a commit that does not say.
pub const NOBODY: &str = "shard <shard@localhost>";

/// The id of an object of Git: a SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitId(pub [u8; Self::LEN]);

impl GitId {
    /// Bytes of an id.
    pub const LEN: usize = 20;

    /// 40 lowercase hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads 40 lowercase hexadecimal digits, and nothing else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect();
        let id = <[u8; Self::LEN]>::try_from(bytes).ok()?;
        (digits.len() == 2 * Self::LEN).then_some(Self(id))
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Takes in the bytes of an object of a length that is known before.
pub struct GitHasher(Sha1);

impl GitHasher {
    /// Begins with a blob of `len` bytes.
    #[must_use]
    pub fn blob(len: u64) -> Self {
        Self::object("blob", len)
    }

    fn object(kind: &str, len: u64) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("{kind} {len}\0"));
        Self(hash)
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id of the object.
    #[must_use]
    pub fn finish(self) -> GitId {
        GitId(self.0.finalize().into())
    }
}

fn object_id(kind: &str, bytes: &[u8]) -> GitId {
    let mut hash = GitHasher::object(kind, bytes.len() as u64);
    hash.update(bytes);
    hash.finish()
}

/// The id of a blob.
#[must_use]
pub fn blob_id(bytes: &[u8]) -> GitId {
    object_id("blob", bytes)
}

/// The pointer of Git LFS that stands for a file. That of an empty file is empty.
#[must_use]
pub fn lfs_pointer(sha256: &Digest, size: u64) -> String {
    if size == 0 {
        return String::new();
    }
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

/// An entry of a tree of Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitEntry {
    /// The name.
    pub name: String,
    /// What the file is; `None` for a directory.
    pub mode: Option<FileMode>,
    /// The id of the blob or tree.
    pub id: GitId,
}

/// The bytes of a tree. Entries may be in any order; each name is there once.
#[must_use]
pub fn tree_bytes(mut entries: Vec<GitEntry>) -> Vec<u8> {
    // Git orders directories as if their names ended in a slash.
    let key = |entry: &GitEntry| {
        let mut key = entry.name.clone().into_bytes();
        key.extend(entry.mode.is_none().then_some(b'/'));
        key
    };
    entries.sort_by_cached_key(key);
    let mut bytes = Vec::new();
    for GitEntry { name, mode, id } in entries {
        bytes.extend_from_slice(mode.map_or("40000", FileMode::as_str).as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&id.0);
    }
    bytes
}

/// The id of a tree.
#[must_use]
pub fn tree_id(entries: Vec<GitEntry>) -> GitId {
    object_id("tree", &tree_bytes(entries))
}

/// The bytes of the twin of a commit, from the twins of its tree and of its parents. Author and committer are the commit's
/// author, or else [`NOBODY`], at its time in whole seconds and in UTC. The message ends in a line feed, as that of `git commit`
/// does.
#[must_use]
pub fn commit_bytes(commit: &Commit, tree: &GitId, parents: &[GitId]) -> Vec<u8> {
    let mut text = format!("tree {tree}\n");
    for parent in parents {
        text.push_str(&format!("parent {parent}\n"));
    }
    // Git has no times before 1970.
    let seconds = commit.time().map_or(0, |time| time.unix_seconds().max(0));
    let who = identity(commit.author.as_deref().unwrap_or_default());
    for role in ["author", "committer"] {
        text.push_str(&format!("{role} {who} {seconds} +0000\n"));
    }
    text.push('\n');
    // Git refuses a NUL in a message.
    text.extend(commit.message.chars().filter(|c| *c != '\0'));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.into_bytes()
}

/// The id of the twin of a commit.
#[must_use]
pub fn commit_id(commit: &Commit, tree: &GitId, parents: &[GitId]) -> GitId {
    object_id("commit", &commit_bytes(commit, tree, parents))
}

/// An author as Git has it, `NAME <ADDRESS>`, without what Git leaves out of either.
fn identity(author: &str) -> String {
    let (name, address) = match author.split_once('<') {
        Some((name, rest)) => (name, rest.split_once('>').map_or(rest, |(address, _)| address)),
        None => (author, ""),
    };
    let (name, address) = (clean(name), clean(address));
    if name.is_empty() && address.is_empty() {
        return NOBODY.to_owned();
    }
    let name = if name.is_empty() { address.clone() } else { name };
    format!("{name} <{address}>")
}

/// Git trims control characters, spaces and some marks at both ends, and leaves out what would end a field.
fn clean(text: &str) -> String {
    let crud = |c: char| c <= ' ' || matches!(c, ',' | ':' | ';' | '<' | '>' | '"' | '\\' | '\'');
    text.trim_matches(crud).chars().filter(|c| !matches!(c, '\n' | '<' | '>' | '\0')).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use shard_core::sha256;

    fn git(dir: &Path, args: &[&str], envs: &[(&str, &str)], input: &[u8]) -> String {
        let mut command = Command::new("git");
        command.current_dir(dir).args(args).envs(envs.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "git {args:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q"], &[], b"");
        dir
    }

    fn blob(dir: &Path, bytes: &[u8]) -> GitId {
        GitId::from_hex(&git(dir, &["hash-object", "-w", "--stdin"], &[], bytes)).unwrap()
    }

    #[test]
    fn blobs_are_those_of_git() {
        let dir = repository();
        for bytes in [&b""[..], b"hello\n", &[0, 255, 10, 13], &[7; 100_000]] {
            assert_eq!(blob_id(bytes), blob(dir.path(), bytes));
        }
        let pointer = lfs_pointer(&sha256(b"x"), 12345);
        assert_eq!(pointer.lines().last(), Some("size 12345"));
        assert_eq!(blob_id(pointer.as_bytes()), blob(dir.path(), pointer.as_bytes()));
        assert_eq!(lfs_pointer(&sha256(b""), 0), "");
    }

    #[test]
    fn trees_and_commits_are_those_of_git() {
        let dir = repository();
        let at = dir.path();
        let one = blob(at, b"one");
        let entry = |name: &str, mode| GitEntry { name: name.to_owned(), mode, id: one };
        let below = tree_id(vec![entry("x", Some(FileMode::Executable))]);
        git(at, &["mktree"], &[], format!("100755 blob {one}\tx\n").as_bytes());
        // In the order of Git a directory `a` comes after `a.b` and before `a0`.
        let mut entries = vec![
            entry("a0", Some(FileMode::Regular)),
            entry("a.b", Some(FileMode::Regular)),
            entry("é", Some(FileMode::Symlink)),
        ];
        entries.push(GitEntry { name: "a".to_owned(), mode: None, id: below });
        let listed =
            format!("100644 blob {one}\ta0\n100644 blob {one}\ta.b\n120000 blob {one}\té\n040000 tree {below}\ta\n");
        let tree = tree_id(entries);
        assert_eq!(tree.to_hex(), git(at, &["mktree"], &[], listed.as_bytes()));

        let mut commit = Commit {
            tree: sha256(b""),
            parents: Vec::new(),
            created_at: "2025-01-02T03:04:05.678Z".to_owned(),
            author: Some("Ada Lovelace, <ada@example.com>".to_owned()),
            message: "Title\n\nBody".to_owned(),
            records: Vec::new(),
            extra: Default::default(),
        };
        let made = |commit: &Commit, who: [&str; 2], parents: &[GitId], message: &str| {
            let date = format!("{} +0000", commit.time().unwrap().unix_seconds().max(0));
            let envs = [
                ("GIT_AUTHOR_NAME", who[0]),
                ("GIT_COMMITTER_NAME", who[0]),
                ("GIT_AUTHOR_EMAIL", who[1]),
                ("GIT_COMMITTER_EMAIL", who[1]),
                ("GIT_AUTHOR_DATE", &date),
                ("GIT_COMMITTER_DATE", &date),
            ];
            let parents: Vec<String> = parents.iter().map(|parent| format!("-p{parent}")).collect();
            let tree = tree.to_hex();
            let mut args = vec!["commit-tree", &tree];
            args.extend(parents.iter().map(String::as_str));
            git(at, &args, &envs, message.as_bytes())
        };
        let first = commit_id(&commit, &tree, &[]);
        assert_eq!(first.to_hex(), made(&commit, ["Ada Lovelace, ", "ada@example.com"], &[], "Title\n\nBody\n"));
        commit.message = "Second\n".to_owned();
        commit.author = None;
        let second = commit_id(&commit, &tree, &[first]);
        assert_eq!(second.to_hex(), made(&commit, ["shard", "shard@localhost"], &[first], "Second\n"));
        commit.author = Some("\"Bob\" the\n 2nd, <b@x>".to_owned());
        let merge = commit_id(&commit, &tree, &[second, first]);
        assert_eq!(merge.to_hex(), made(&commit, ["\"Bob\" the\n 2nd,", "b@x"], &[second, first], "Second\n"));
        commit.author = Some("only@address".to_owned());
        let other = commit_id(&commit, &tree, &[]);
        assert_eq!(other.to_hex(), made(&commit, ["only@address", ""], &[], "Second\n"));
    }

    #[test]
    fn fault_26_only_forty_lowercase_digits_are_an_id() {
        let id = blob_id(b"");
        assert_eq!(id.to_hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(GitId::from_hex(&id.to_hex()), Some(id));
        for text in [
            "",
            "e69d",
            &id.to_hex().to_uppercase(),
            &format!("{id}0"),
            &format!("{id}00"),
            "../../../../etc/passwd/////////////////x",
        ] {
            assert_eq!(GitId::from_hex(text), None, "{text}");
        }
    }
}
