//! Errors for people: what happened, why, what to do next, and the exit code.

mod network;
mod problem;

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use shard_history::RevisionError;
use shard_repo::{RepoError, Repository};
use shard_store::refs::RefError;
use shard_store::{RecordError, StoreError};

use crate::report::size::human;
use crate::report::style::Style;
use crate::report::text::visible_lines;

/// Exit codes: part of the interface.
pub(crate) mod code {
    /// Done.
    pub(crate) const DONE: u8 = 0;
    /// The answer is "no", or there are differences.
    pub(crate) const DIFFERENT: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// Something named is not there.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// Refused: something would be lost, there is nothing to do, or another writer was first.
    pub(crate) const REFUSED: u8 = 4;
    /// Damaged data.
    pub(crate) const DAMAGED: u8 = 5;
    /// The system refused: I/O error, full disk, permission.
    pub(crate) const SYSTEM: u8 = 6;
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened.
    what: String,
    /// The causes, nearest first.
    why: Vec<String>,
    /// What to do.
    next: Option<String>,
    /// The exit code.
    code: u8,
    /// A name that was looked up in vain: similar ones are suggested.
    unknown: Option<Box<Unknown>>,
    /// Whether nobody reads our output any more.
    closed_pipe: bool,
}

#[derive(Debug)]
enum Unknown {
    Revision(String),
    Path { revision: String, path: String },
}

impl Failure {
    pub(crate) fn new(code: u8, what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), next: None, code, unknown: None, closed_pipe: false }
    }

    /// With a cause.
    pub(crate) fn because(mut self, why: impl Display) -> Self {
        self.why.push(why.to_string());
        self
    }

    /// With another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// With what to do, in place of what was there.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// An error of the engine, with what this command offers where changes would be lost.
    pub(crate) fn or_lost(error: RepoError, next: &str) -> Self {
        match error {
            RepoError::WouldOverwrite { .. } => Self::from(error).next(next),
            other => other.into(),
        }
    }

    /// A failed operation on a path.
    pub(crate) fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        from_io(format!("{}: {doing}", path.display()), error, Some(path))
    }

    /// Output that could not be written.
    pub(crate) fn stdout(error: io::Error) -> Self {
        let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { closed_pipe, ..from_io("cannot write the output".to_owned(), &error, None) }
    }

    /// A failure to read an archive: what is damaged is the archive, not a repository.
    pub(crate) fn in_archive(error: RepoError, archive: &Path) -> Self {
        let is_file = match archive.metadata() {
            Ok(metadata) => metadata.is_file(),
            Err(missing) => return Self::io(archive, "cannot read", &missing),
        };
        let mut failure = Self::from(error);
        if !is_file {
            return failure.next("give the path of an archive, as `shard pack` makes them");
        }
        if failure.code == code::DAMAGED {
            let shown = archive.display();
            let problem = std::mem::replace(&mut failure.what, format!("{shown}: it is damaged, or is no archive"));
            failure.why.insert(0, problem);
            failure.next =
                Some(format!("copy it again from where it came; `shard verify {shown}` lists what is damaged"));
        }
        failure
    }

    /// Names the command where the next step is to read about it.
    pub(crate) fn in_command(&mut self, name: &str) {
        if let Some(next) = &mut self.next {
            *next = next.replace("`shard help COMMAND`", &format!("`shard help {name}`"));
        }
    }

    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Adds names that are like the one that was not found.
    pub(crate) fn suggest(&mut self, repository: &Repository) {
        match self.unknown.take().map(|unknown| *unknown) {
            None => {}
            Some(Unknown::Revision(text)) => {
                let names: Vec<String> =
                    repository.named_refs().unwrap_or_default().into_iter().map(|named| named.name).collect();
                let name = text.split(['~', '^', ':']).next().unwrap_or(&text);
                self.next = Some(match closest(name, names.iter().map(String::as_str)).join(", ") {
                    close if !close.is_empty() => format!("did you mean {close}? `shard log` lists commits"),
                    _ if names.is_empty() => {
                        "there are no commits yet: `shard add` files and `shard commit`".to_owned()
                    }
                    _ => format!("`shard log` lists commits; there are these names: {}", first(&names)),
                });
            }
            Some(Unknown::Path { revision, path }) => {
                let tree = repository.resolve(&revision).and_then(|commit| repository.files_of(commit));
                let Ok(tree) = tree else { return };
                let close = closest(&path, tree.files().keys().map(String::as_str)).join(", ");
                self.next = Some(if close.is_empty() {
                    format!("`shard ls-tree -r {revision}` lists its files")
                } else {
                    format!("did you mean {close}?")
                });
            }
        }
    }

    /// Three kinds of lines: `error:`, `why:`, `next:`.
    pub(crate) fn to_text(&self, color: bool) -> String {
        let mut out = String::new();
        let mut block = |label: &str, style, text: &str| {
            for (index, line) in visible_lines(text).enumerate() {
                let head = if index == 0 { label.to_owned() } else { " ".repeat(label.len()) };
                out.push_str(&style_label(&head, style, color));
                out.push_str(&line);
                out.push('\n');
            }
        };
        block("error: ", Style::Red, &self.what);
        for why in &self.why {
            block("  why: ", Style::Yellow, why);
        }
        if let Some(next) = &self.next {
            block("  next: ", Style::Green, next);
        }
        out
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {"what": self.what, "why": self.why, "next": self.next, "code": self.code}})
    }
}

fn style_label(label: &str, style: Style, color: bool) -> String {
    style.paint(label, color).into_owned()
}

/// The texts of an error's causes that are not part of what is said already.
fn causes(what: &str, error: &dyn Error) -> Vec<String> {
    let mut said = what.to_owned();
    let mut why = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.clone_from(&text);
            why.push(text);
        }
        source = cause.source();
    }
    why
}

/// What to do about damage.
pub(crate) const RESTORE: &str = "`shard verify --full` shows what is affected, `shard verify --repair --from COPY` takes it from a clone, a \
                       backup or any other copy of the repository";

/// Names shown in an error at most.
const NAMES: usize = 8;

fn first(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES {
        text.push_str(", …");
    }
    text
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let what = error.to_string();
        let with = |code: u8, next: &str| Self {
            why: causes(&what, &error),
            next: (!next.is_empty()).then(|| next.to_owned()),
            ..Self::new(code, what.clone())
        };
        match &error {
            RepoError::NotARepository(_) => {
                with(code::NOT_FOUND, "`shard init` makes a repository here; `shard -C DIR …` works in another folder")
            }
            RepoError::NoRepository(address) => {
                with(code::NOT_FOUND, &format!("`shard init --bare {address}` makes one"))
            }
            RepoError::Away(address) => {
                with(code::USAGE, &format!("`shard clone {address}` makes a repository here, with its files"))
            }
            RepoError::NoHead { .. } => with(
                code::DAMAGED,
                "nothing is collected or rewritten like this: `shard verify --repair --from COPY` takes the refs from another copy of \
                 the repository; where there is none, leave `.shard` as it is, since its packs still hold what the refs named",
            ),
            RepoError::LostBranch { branch, commit, .. } => with(
                code::DAMAGED,
                &format!(
                    "nothing was deleted: `shard verify --repair --from COPY` takes the ref from another copy of the repository, \
                     `shard branch {branch} {commit}` makes it anew; if nothing of them is wanted, `shard gc --prune-now` deletes what \
                     no ref leads to"
                ),
            ),
            RepoError::Unfinished(_) => with(
                code::REFUSED,
                "nothing is kept in it yet: run `shard init` again (--bare for a bare one) to finish it",
            ),
            RepoError::Bare(_) => with(
                code::USAGE,
                "`shard commit --add PATH=FILE` commits without a work tree, `shard snapshot` and `shard cat` read without one",
            ),
            RepoError::BadPath { .. } => with(
                code::USAGE,
                "a path is names with / between them, as in models/v1/model.safetensors, that every system can have",
            ),
            RepoError::Clash { .. } => {
                with(code::REFUSED, "nothing was committed: choose another path, or delete what is in the way")
            }
            RepoError::InTheWay { .. } => {
                with(code::REFUSED, "it is left as it is: move it away, and run the command again")
            }
            RepoError::AlreadyARepository(_) => {
                with(code::REFUSED, "nothing needs to be done: `shard status` shows where it stands")
            }
            RepoError::Io { path, doing, source } => Self::io(path, doing, source),
            RepoError::Store(store) => from_store(store, what.clone(), causes(&what, &error)),
            RepoError::Object { .. }
            | RepoError::History { .. }
            | RepoError::Missing { .. }
            | RepoError::Decode { .. }
            | RepoError::WrongBytes { .. }
            | RepoError::WrongLength { .. }
            | RepoError::TooDeep { .. }
            | RepoError::BadBase { .. }
            | RepoError::NotRepeated(_)
            | RepoError::OtherCompressor { .. }
            | RepoError::Cycle(_)
            | RepoError::WrongFile { .. } => with(code::DAMAGED, RESTORE),
            RepoError::Encode { .. } | RepoError::Internal(_) => with(
                code::SYSTEM,
                "this is a fault of shard: please report it; another --level may get around it meanwhile",
            ),
            RepoError::Changed(_) => {
                with(code::REFUSED, "nothing was recorded: wait until the file is written, and run the command again")
            }
            RepoError::BadModel { .. } => with(
                code::DAMAGED,
                "get the file again; `shard show FILE` lists what can be told of it, and `shard add` keeps it byte for byte",
            ),
            RepoError::SeveralModels(_) => with(
                code::USAGE,
                "name one of its files, or compare all of them in order with `shard diff --series FILE…`",
            ),
            RepoError::Path { path, .. } => {
                let is_there = std::fs::symlink_metadata(path).is_ok();
                if is_there {
                    with(
                        code::USAGE,
                        "give the path of a file or folder inside the repository; one whose name cannot be kept is renamed, or \
                         left out by naming the others",
                    )
                } else {
                    with(code::NOT_FOUND, "check the spelling; paths are relative to the current folder")
                }
            }
            RepoError::Revision(revision) => from_revision(revision, with),
            RepoError::NoSuchPath { revision, path } => Self {
                unknown: Some(Box::new(Unknown::Path { revision: revision.clone(), path: path.clone() })),
                ..with(code::NOT_FOUND, "paths of a revision are relative to the repository's root")
            },
            RepoError::NoLease(_) => with(code::NOT_FOUND, "`shard leases` lists them; it may have ended by itself"),
            RepoError::NothingToDo(_) => {
                with(code::REFUSED, "`shard add PATH…` stages files; `shard status` shows what changed")
            }
            RepoError::Approximation { .. } => {
                with(code::REFUSED, "choose a folder outside of the repository, and the paths without such files")
            }
            RepoError::WouldOverwrite { what, paths } => Self {
                what: format!("{what}: {}", paths.join(", ")),
                ..with(
                    code::REFUSED,
                    "commit them (`shard add`, `shard commit`) or move them away; --force overwrites them",
                )
            },
            RepoError::Ref(problem) => {
                let (code, next) = problem::from_ref(problem);
                with(code, &next)
            }
            RepoError::Merge(problem) => {
                let (code, next) = problem::from_merge(problem);
                with(code, next)
            }
            RepoError::Git(problem) => {
                let (code, next) = problem::from_git(problem);
                with(code, next)
            }
            RepoError::Bisect(problem) => {
                let (code, next) = problem::from_bisect(problem);
                with(code, next)
            }
            RepoError::Plan(problem) => {
                let (code, next) = problem::from_plan(problem);
                with(code, next)
            }
            RepoError::Undo(problem) => {
                let (code, next) = problem::from_undo(problem);
                with(code, next)
            }
            RepoError::Sync(problem) => {
                let (code, next) = problem::from_sync(problem);
                with(code, next)
            }
            RepoError::NotAt { .. } => with(
                code::REFUSED,
                "nothing was changed: `shard log` shows what came since; name the commit that it is at, if that is right",
            ),
            RepoError::Raced(_) => with(code::REFUSED, "nothing was lost: run the command again"),
            RepoError::Argument(_) => with(code::USAGE, "`shard help COMMAND` shows how it is used"),
            RepoError::Manifest { .. } => with(code::SYSTEM, "nothing was recorded"),
            _ => with(code::SYSTEM, ""),
        }
    }
}

fn from_revision(error: &RevisionError, with: impl Fn(u8, &str) -> Failure) -> Failure {
    match error {
        RevisionError::Unknown(text) => Failure {
            unknown: Some(Box::new(Unknown::Revision(text.clone()))),
            ..with(code::NOT_FOUND, "`shard log` lists commits")
        },
        RevisionError::Unborn => with(code::NOT_FOUND, "`shard add PATH…` and `shard commit -m …` make the first one"),
        RevisionError::Ambiguous { .. } => with(
            code::NOT_FOUND,
            "give the name in full, as in heads/NAME or tags/NAME, or more digits of the commit id",
        ),
        RevisionError::NotInLog(text) => {
            let name = text.split("@{").next().unwrap_or(text);
            with(code::NOT_FOUND, &format!("`shard reflog {name}` lists what the ref was"))
        }
        RevisionError::NoParent { .. } => with(code::NOT_FOUND, "`shard log` lists commits"),
        RevisionError::Syntax { .. } => {
            with(code::USAGE, "a revision is HEAD, a branch, a tag or a commit id; ~N and ^N go back")
        }
    }
}

fn from_store(error: &StoreError, what: String, why: Vec<String>) -> Failure {
    if let Some(io) = error.io() {
        return Failure { why, ..from_io(what, io, None) };
    }
    let (code, next) = match error {
        StoreError::Elsewhere { .. } => {
            (code::SYSTEM, "run the command again when it can be reached; `shard remote set-url` says where it is now")
        }
        StoreError::NotARepository(_) => (code::NOT_FOUND, "`shard init` makes a repository here"),
        StoreError::AlreadyARepository(_) => (code::REFUSED, "nothing needs to be done"),
        StoreError::NoFormat(_) => (
            code::DAMAGED,
            "nothing was written: `shard verify --repair --from COPY` takes the file from another copy of this very repository; where \
             there is none, leave the folder as it is, since its packs still hold everything",
        ),
        StoreError::Record { file, problem: RecordError::Checksum } if file == "format" => (
            code::DAMAGED,
            "`shard verify --repair --from COPY` takes it from another copy of this very repository, and from no other; where there is \
             none, leave the folder as it is, since its packs still hold everything",
        ),
        StoreError::Index(_) => (code::SYSTEM, "`shard reindex` builds the index anew; nothing is lost with it"),
        StoreError::Claimed(_) => {
            (code::REFUSED, "wait for it; `shard leases` lists it, and `shard leases --break` ends one that is dead")
        }
        StoreError::Held(_) => (
            code::REFUSED,
            "nothing was deleted: run the command again when they are done, or with a longer --wait; `shard leases` lists \
             them, and `shard leases --break` ends those that are dead",
        ),
        StoreError::ClaimLost => (code::REFUSED, "nothing was lost: run the command again, and it is finished"),
        StoreError::Retry { .. } => (code::REFUSED, "nothing was lost: run the command again"),
        StoreError::Ref(error) => match error.as_ref() {
            RefError::Conflict { .. } | RefError::Starved(_) | RefError::Partial { .. } => {
                (code::REFUSED, "nothing was lost: run the command again")
            }
            RefError::Name(_) | RefError::Message(_) => (code::USAGE, "choose another name or a shorter message"),
            _ => (code::DAMAGED, RESTORE),
        },
        // Of a collection: it has nothing that another copy would have to give back.
        StoreError::Record { file, .. } if file.starts_with("epochs/") => {
            (code::DAMAGED, "`shard verify --repair` puts it right; no other copy is needed, and nothing is lost")
        }
        StoreError::TooLarge { .. } | StoreError::Poisoned(_) => (code::SYSTEM, "nothing was recorded"),
        _ => (code::DAMAGED, RESTORE),
    };
    Failure { why, ..Failure::new(code, what).next(next) }
}

/// What the system said, and what can be done about it.
fn from_io(what: String, error: &io::Error, path: Option<&Path>) -> Failure {
    let (code, next) = match error.kind() {
        io::ErrorKind::NotFound => {
            (code::NOT_FOUND, "check the spelling; paths are relative to the current folder".to_owned())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let free = free_bytes(path.unwrap_or(Path::new("."))).map(|free| format!(" ({} are free)", human(free)));
            let free = free.unwrap_or_default();
            (
                code::SYSTEM,
                format!("make room on the disk{free} and run the command again: the repository is as it was"),
            )
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (code::SYSTEM, "check who owns the file and its folder, and their permissions".to_owned())
        }
        _ => (code::SYSTEM, "the repository is as it was; once the cause is gone, run the command again".to_owned()),
    };
    Failure::new(code, what).because(error).next(next)
}

/// Bytes that this user may still write to the file system of a path or of the nearest folder above it.
fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let path = std::path::absolute(path).ok()?;
        let stat = path.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// The names most like a wrong one, best first: at most three.
fn closest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wrong_lower = wrong.to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let is_part = wrong_lower.len() >= 3 && (lower.contains(&wrong_lower) || wrong_lower.contains(&lower));
            let distance = if is_part { 1 } else { distance(&wrong_lower, &lower) };
            let limit = (wrong_lower.chars().count().max(lower.chars().count()) / 3).max(1);
            (distance <= limit).then_some((distance, name))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text the other (the optimal string alignment
/// distance). Only the beginnings of long texts are compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(200).collect(), b.chars().take(200).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("main", "main"), 0);
        assert_eq!(distance("mian", "main"), 1);
        assert_eq!(closest("mian", ["main", "release", "maintenance"].into_iter()), ["main"]);
        assert_eq!(closest("v1", ["v2", "release-1"].into_iter()), ["v2"]);
        assert_eq!(closest("run-7", ["experiment"].into_iter()), Vec::<&str>::new());
    }

    #[test]
    fn an_error_has_what_why_and_next() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::io(Path::new("x"), "cannot write", &full);
        let text = failure.to_text(false);
        assert!(text.starts_with("error: x: cannot write\n  why: ") && text.contains("\n  next: make room"), "{text}");
        assert_eq!(failure.code(), code::SYSTEM);
        let json = failure.to_json();
        assert_eq!(json["error"]["code"], 6);
        assert_eq!(json["error"]["why"].as_array().unwrap().len(), 1);
        assert!(failure.to_text(true).contains("\u{1b}[31merror: "));
    }

    #[test]
    fn engine_errors_have_their_codes() {
        let code_of = |error| Failure::from(error).code();
        assert_eq!(code_of(RepoError::NotARepository("x".into())), code::NOT_FOUND);
        assert_eq!(code_of(RepoError::Revision(RevisionError::Unknown("x".into()))), code::NOT_FOUND);
        assert_eq!(code_of(RepoError::Raced("x".into())), code::REFUSED);
        assert_eq!(code_of(RepoError::NothingToDo("x".into())), code::REFUSED);
        assert_eq!(code_of(RepoError::Argument("x".into())), code::USAGE);
        assert_eq!(code_of(RepoError::InTheWay { path: "x".into(), needed: "a file" }), code::REFUSED);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(code_of(RepoError::Io { path: "x".into(), doing: "cannot read", source: denied }), code::SYSTEM);
        let lost =
            RepoError::WouldOverwrite { what: "files would be overwritten", paths: vec!["a".into(), "b".into()] };
        let text = Failure::from(lost).to_text(false);
        assert!(text.contains("files would be overwritten: a, b") && text.contains("--force"), "{text}");
    }

    #[test]
    fn a_closed_pipe_is_known() {
        assert!(Failure::stdout(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!Failure::stdout(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
    }

    #[test]
    fn names_from_files_cannot_steer_the_terminal() {
        let text = Failure::new(code::USAGE, "bad \u{1b}[2Jname\nsecond").to_text(false);
        assert_eq!(text, "error: bad \\u{1b}[2Jname\n       second\n");
    }
}
