//! A repository in which something is about to happen, what it looks like before and after, and what has to hold where the
//! process was killed in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use shard_datasets::cases::Versions;
use tempfile::TempDir;

use crate::process::{Shard, exit};
use crate::tree::{copy, digests, files_ending, write};

/// What `log` and `status` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Commit ids, newest first.
    pub commits: Vec<String>,
    /// `status --short`.
    pub status: String,
}

impl State {
    /// The state of the repository that `shard` runs in.
    #[must_use]
    pub fn of(shard: &Shard) -> Self {
        Self { commits: shard.commits(), status: shard.status() }
    }
}

/// The two steps that make a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `shard add`.
    Add,
    /// `shard commit`.
    Commit,
}

impl Step {
    /// Its command line. A commit's time is given, so that its id is the same whenever it is made.
    #[must_use]
    pub fn args(self) -> &'static [&'static str] {
        match self {
            Self::Add => &["add", "model.safetensors", "new.bin"],
            Self::Commit => &["commit", "-m", "Second", "--created-at", "2026-01-02T00:00:00Z"],
        }
    }
}

/// A repository with one commit, whose work tree has a changed model and a new file.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
    shard: Shard,
    /// Nothing is staged.
    pub unstaged: State,
    /// The changes are staged.
    pub staged: State,
    /// The changes are committed.
    pub committed: State,
    first: BTreeMap<String, String>,
    second: BTreeMap<String, String>,
}

impl Scene {
    /// Prepares it; the model has about `kib` KiB. `binary` is a test's `env!("CARGO_BIN_EXE_shard")`.
    #[must_use]
    pub fn prepare(binary: &str, kib: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let base = folder.path().join("base");
        fs::create_dir(&base).unwrap();
        let shard = Shard::new(binary, &base).with_globals(&["--threads", "1"]);
        // Four matrices of rows of 512 bf16 words: 1 KiB a row.
        let mut versions = Versions::new(7, 4, (kib / 4).max(1), 512, 0.3);
        let (v1, v2) = (versions.next().unwrap().unwrap(), versions.next().unwrap().unwrap());
        shard.ok(&["init"]);
        write(&base.join("model.safetensors"), &v1);
        write(&base.join("notes.txt"), b"first\n");
        shard.ok(&["add", "-A"]);
        shard.ok(&["commit", "-m", "First", "--created-at", "2026-01-01T00:00:00Z"]);
        let first = digests(&base);
        write(&base.join("model.safetensors"), &v2);
        let noise: Vec<u8> = (0..kib as u32 * 32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        write(&base.join("new.bin"), &noise);
        let second = digests(&base);

        let rehearsal = folder.path().join("rehearsal");
        copy(&base, &rehearsal);
        let there = shard.at(&rehearsal);
        let unstaged = State::of(&there);
        there.ok(Step::Add.args());
        let staged = State::of(&there);
        there.ok(Step::Commit.args());
        let committed = State::of(&there);
        assert_eq!(unstaged.commits.len(), 1, "the log has one commit before: {unstaged:?}");
        assert_eq!(staged.commits, unstaged.commits, "staging makes no commit");
        assert_ne!(staged.status, unstaged.status, "status shows what is staged");
        assert_eq!(committed.commits.len(), 2, "the log has two commits after: {committed:?}");
        assert_eq!(committed.commits[1..], unstaged.commits, "a commit has the earlier one as its parent");
        assert_eq!(committed.status, "", "nothing differs after the commit");
        Self { folder, shard, unstaged, staged, committed, first, second }
    }

    /// The binary in a copy of the repository, ready for `step`.
    #[must_use]
    pub fn ready_for(&self, step: Step, name: &str) -> Shard {
        let place = self.place(name);
        copy(&self.folder.path().join("base"), &place);
        let shard = self.shard.at(&place);
        if step == Step::Commit {
            shard.ok(Step::Add.args());
        }
        shard
    }

    /// A folder of this name beside the repository, which is not there yet.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The states that may be found after `step` was interrupted: as before it, or as after it.
    #[must_use]
    pub fn allowed(&self, step: Step) -> [&State; 2] {
        match step {
            Step::Add => [&self.unstaged, &self.staged],
            Step::Commit => [&self.staged, &self.committed],
        }
    }

    /// Checks a repository after `step` was interrupted: it is in the state before or after it, exactly; it is whole; and it
    /// can be gone on with. `context` says when the interruption was, for messages. Gives whether it was in the state after.
    pub fn check_interrupted(&self, shard: &Shard, step: Step, context: &str) -> bool {
        let found = State::of(shard);
        let allowed = self.allowed(step);
        assert!(
            allowed.contains(&&found),
            "{context}: expected the state before or after, exactly\n{allowed:#?}\nfound {found:#?}"
        );
        let verified = shard.run(&["verify", "--full"]);
        assert_eq!(verified.code, Some(exit::DONE), "{context}: expected nothing wrong\n{verified}");
        found == *allowed[1]
    }

    /// Goes on after an interruption: stages and commits, and checks that both commits come back byte for byte and that
    /// nothing unfinished is left behind.
    pub fn check_goes_on(&self, shard: &Shard, context: &str) {
        let _ = shard.run(Step::Add.args()).expect(exit::DONE);
        // Where the commit was made before the kill, there is nothing left to commit.
        let _ = shard.run(Step::Commit.args()).expect_one_of(&[exit::DONE, exit::REFUSED]);
        assert_eq!(
            State::of(shard),
            self.committed,
            "{context}: expected the same two commits as without interruption"
        );
        for (revision, expected) in [("HEAD~1", &self.first), ("HEAD", &self.second)] {
            let out = shard.folder().join(format!("out-{revision}"));
            shard.ok(&["checkout", revision, "-o", out.to_str().unwrap()]);
            assert_eq!(digests(&out), *expected, "{context}: expected {revision} byte for byte");
            fs::remove_dir_all(&out).unwrap();
        }
        let left = files_ending(&shard.folder().join(".shard/tmp"), "");
        assert!(left.is_empty(), "{context}: expected no unfinished files after the next write, found {left:?}");
    }

    /// Removes a copy again.
    pub fn discard(&self, shard: &Shard) {
        assert_ne!(shard.folder(), self.shard.folder());
        remove(shard.folder());
    }
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}
