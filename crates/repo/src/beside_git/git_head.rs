//! The commit that Git has checked out, read from its files: no program is run, and nothing in its configuration is looked at.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use shard_store::ref_name;

/// Longest small file of Git that is read, in bytes.
const SMALL: u64 = 4096;
/// Longest list of packed refs that is read, in bytes.
const PACKED: u64 = 64 << 20;
/// Most symbolic refs that are followed one after the other.
const MAX_SYMBOLIC: usize = 5;

/// The folder of the Git repository that a folder is in: `.git`, or where a file of that name leads.
pub(super) fn git_dir(folder: &Path) -> Option<PathBuf> {
    for folder in folder.ancestors() {
        let git = folder.join(".git");
        if git.is_dir() {
            return Some(git);
        }
        if let Some(text) = small(&git) {
            let dir = folder.join(text.strip_prefix("gitdir: ")?);
            return dir.is_dir().then_some(dir);
        }
    }
    None
}

/// The commit that Git has checked out; `None` where there is none, or where refs are kept in a form that this does not read.
pub(super) fn head(git_dir: &Path) -> Option<String> {
    let common = match small(&git_dir.join("commondir")) {
        Some(text) => git_dir.join(text),
        None => git_dir.to_owned(),
    };
    let mut text = small(&git_dir.join("HEAD"))?;
    for _ in 0..MAX_SYMBOLIC {
        let Some(name) = text.strip_prefix("ref: ") else { return id(&text) };
        // A name is a path here, so it must be one that Git itself would take.
        if !name.starts_with("refs/") || ref_name::check(name).is_err() {
            return None;
        }
        text = match [git_dir, common.as_path()].iter().find_map(|dir| small(&dir.join(name))) {
            Some(text) => text,
            None => return packed(&common, name),
        };
    }
    None
}

/// A commit id of either of Git's hashes.
fn id(text: &str) -> Option<String> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_hex && matches!(text.len(), 40 | 64)).then(|| text.to_owned())
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let file = BufReader::new(File::open(common.join("packed-refs")).ok()?.take(PACKED));
    file.lines().map_while(Result::ok).find_map(|line| {
        let (commit, other) = line.split_once(' ')?;
        if other == name { id(commit) } else { None }
    })
}

/// The one line of a small file.
fn small(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(SMALL).read_to_string(&mut text).ok()?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_head() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let (one, two) = ("1".repeat(40), "2".repeat(64));
        assert_eq!(git_dir(folder.path()), None);
        put(".git/HEAD", &format!("{one}\n"));
        let git = git_dir(&folder.path().join(".git")).unwrap();
        assert_eq!(head(&git), Some(one.clone()));
        put(".git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(head(&git), None);
        put(".git/packed-refs", &format!("# pack-refs\n{two} refs/heads/main\n^{one}\n{one} refs/heads/other\n"));
        assert_eq!(head(&git), Some(two));
        put(".git/refs/heads/main", &format!("{one}\n"));
        assert_eq!(head(&git), Some(one.clone()));
        // A further work tree.
        put("other/.git", &format!("gitdir: {}\n", folder.path().join(".git/worktrees/other").display()));
        put(".git/worktrees/other/HEAD", "ref: refs/heads/main\n");
        put(".git/worktrees/other/commondir", "../..\n");
        assert_eq!(head(&git_dir(&folder.path().join("other")).unwrap()), Some(one));
    }

    #[test]
    fn fault_27_names_that_lead_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join("x/.git");
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::write(folder.path().join("secret"), "1".repeat(40)).unwrap();
        for bad in ["refs/../../../secret", "../../secret", "/etc/hostname", "refs/heads/.invalid", "refs/heads/a\\b"] {
            fs::write(git.join("HEAD"), format!("ref: {bad}\n")).unwrap();
            assert_eq!(head(&git), None, "{bad}");
        }
        for bad in ["", "x", &"g".repeat(40), &"1".repeat(41), "ref: refs/heads/loop"] {
            fs::write(git.join("HEAD"), bad).unwrap();
            fs::write(git.join("refs/heads/loop"), "ref: refs/heads/loop").unwrap();
            assert_eq!(head(&git), None, "{bad}");
        }
    }
}
