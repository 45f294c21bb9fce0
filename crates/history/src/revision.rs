//! Revision texts: how a user names commits.
//!
//! A revision is `HEAD` or `@`, a branch, a tag, a name in full (`refs/heads/x`, `refs/tags/x`, `refs/remotes/o/x`), or a
//! commit id of which at least 4 digits are given. `REF@{n}` is what the ref named before its last n moves, by its log. After
//! it come any number of `~n` (n first parents back), `^` and `^n` (the n-th parent; `^0` is the commit itself). `REV:path` is a path in its tree, `A..B` is what B has and A has not.

use shard_core::Digest;
use thiserror::Error;

use crate::error::HistoryError;

/// Fewest digits of an abbreviated commit id.
pub const MIN_ABBREVIATION: usize = 4;

/// Longest revision text, and longest name of a branch or tag, in bytes.
pub const MAX_REF_NAME: usize = 1024;

/// A step from a commit to an ancestor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `~n`: n first parents back.
    Back(u32),
    /// `^n`: the n-th parent, from 1; 0 is the commit itself.
    Parent(u32),
}

/// One commit, as named by a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The name before all steps; `@` is `HEAD`.
    pub name: String,
    /// How many moves of the ref are undone, by its log; `None` without `@{n}`, which is its present state however that is
    /// found.
    pub moves_back: Option<usize>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// What a revision text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevisionSpec {
    /// A commit.
    Commit(Revision),
    /// A path in a commit's tree; the empty path is the root.
    Path(Revision, String),
    /// The commits that the second has and the first has not.
    Range(Revision, Revision),
}

/// A revision text that names nothing, or more than one thing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RevisionError {
    /// A text that is not a revision.
    #[error("{text:?} is not a revision: {reason}")]
    Syntax {
        /// The text, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that no branch, tag or commit has.
    #[error("there is no revision {0:?}")]
    Unknown(String),
    /// `HEAD` of a branch without commits.
    #[error("there are no commits yet")]
    Unborn,
    /// A name that several branches, tags or commits have.
    #[error("{name:?} is ambiguous: it may be {}", candidates.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// What it may be, in full.
        candidates: Vec<String>,
    },
    /// More moves back than the log of a ref has, or back to when it did not exist.
    #[error("{0}: the log of the ref has no such state")]
    NotInLog(String),
    /// A step to a parent that a commit does not have.
    #[error("{revision}: the commit {commit} has no such parent")]
    NoParent {
        /// The revision.
        revision: String,
        /// The commit where it ends.
        commit: Digest,
    },
}

/// What kind of name a ref has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind {
    /// `refs/heads/…`
    Branch,
    /// `refs/tags/…`
    Tag,
    /// `refs/remotes/…`
    Remote,
}

impl RefKind {
    /// Every kind, in the order in which names are looked up.
    pub const ALL: [Self; 3] = [Self::Tag, Self::Branch, Self::Remote];

    /// The beginning of its full names.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "refs/heads/",
            Self::Tag => "refs/tags/",
            Self::Remote => "refs/remotes/",
        }
    }
}

/// What resolving a revision needs to know of a repository. Ids are of commits: an annotated tag is followed to its target.
pub trait Resolver {
    /// What may go wrong with reading it.
    type Error;
    /// The commit of `HEAD`; `None` where its branch has no commits.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn head(&mut self) -> Result<Option<Digest>, Self::Error>;
    /// The commit that a ref of that kind and short name points to.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn reference(&mut self, kind: RefKind, name: &str) -> Result<Option<Digest>, Self::Error>;
    /// The commit that a ref, named in any way, pointed to before its last `moves` moves; also of a ref that was deleted.
    /// `None` where its log has no such state.
    ///
    /// # Errors
    /// Where it cannot be read, or the log of no ref is meant, or that of several.
    fn logged(&mut self, name: &str, moves: usize) -> Result<Option<Digest>, Self::Error>;
    /// The commits whose ids begin with these lowercase hexadecimal digits ([`MIN_ABBREVIATION`] to 64 of them); two or more
    /// say that it is ambiguous.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn commits_with_prefix(&mut self, digits: &str) -> Result<Vec<Digest>, Self::Error>;
    /// The parents of a commit.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn parents(&mut self, commit: &Digest) -> Result<Vec<Digest>, Self::Error>;
}

/// A revision that cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError<E> {
    /// The revision names nothing, or more than one thing.
    #[error("{0}")]
    Revision(RevisionError),
    /// What the resolver said.
    #[error(transparent)]
    Resolver(E),
}

impl<E> From<RevisionError> for ResolveError<E> {
    fn from(error: RevisionError) -> Self {
        Self::Revision(error)
    }
}

fn syntax(text: &str, reason: &'static str) -> RevisionError {
    RevisionError::Syntax { text: text.chars().take(80).collect(), reason }
}

impl RevisionSpec {
    /// Reads a revision text. An empty side of a range is `HEAD`.
    ///
    /// # Errors
    /// [`RevisionError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, RevisionError> {
        if let Some((revision, path)) = text.split_once(':') {
            let path = path.strip_suffix('/').unwrap_or(path);
            if !path.is_empty() && crate::path::validate_path(path).is_err() {
                return Err(syntax(text, "the path after the colon is not a path in a tree"));
            }
            return Ok(Self::Path(Revision::parse(revision)?, path.to_owned()));
        }
        if text.contains("...") {
            return Err(syntax(text, "ranges have two dots"));
        }
        if let Some((from, to)) = text.split_once("..") {
            let side = |side: &str| Revision::parse(if side.is_empty() { "HEAD" } else { side });
            return Ok(Self::Range(side(from)?, side(to)?));
        }
        Ok(Self::Commit(Revision::parse(text)?))
    }
}

impl Revision {
    /// `HEAD`.
    #[must_use]
    pub fn head() -> Self {
        Self { name: "HEAD".to_owned(), moves_back: None, steps: Vec::new() }
    }

    /// Reads the text of one commit.
    ///
    /// # Errors
    /// [`RevisionError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, RevisionError> {
        if text.len() > MAX_REF_NAME {
            return Err(syntax(text, "it is too long"));
        }
        let end = text.find(['~', '^']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let (name, moves_back) = match name.split_once("@{") {
            None => (name, None),
            Some((name, moves)) => {
                let digits = moves.strip_suffix('}').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
                let digits =
                    digits.ok_or_else(|| syntax(text, "only @{n}, with a number, may follow the name of a ref"))?;
                (name, Some(digits.parse().map_err(|_| syntax(text, "the number is too large"))?))
            }
        };
        let name = if name == "@" { "HEAD" } else { name };
        validate_ref_name(name).map_err(|_| syntax(text, "no branch, tag or commit can have this name"))?;
        let mut steps = Vec::new();
        while let Some(kind) = rest.chars().next() {
            let after =
                rest.strip_prefix(['~', '^']).ok_or_else(|| syntax(text, "only ~n and ^n may follow the name"))?;
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, next) = after.split_at_checked(digits).unwrap_or((after, ""));
            let count = if digits.is_empty() { Ok(1) } else { digits.parse() };
            let count = count.map_err(|_| syntax(text, "the number is too large"))?;
            steps.push(if kind == '~' { Step::Back(count) } else { Step::Parent(count) });
            rest = next;
        }
        Ok(Self { name: name.to_owned(), moves_back, steps })
    }

    /// Finds the commit.
    ///
    /// A name is looked up as `HEAD`, as a full name, as tag, branch and remote branch, and last as a commit id; a full id of 64
    /// digits is always the commit.
    ///
    /// # Errors
    /// [`ResolveError::Revision`] where it is unknown, ambiguous or has no such parent; [`ResolveError::Resolver`].
    pub fn resolve<R: Resolver>(&self, resolver: &mut R) -> Result<Digest, ResolveError<R::Error>> {
        let mut commit = match self.moves_back {
            None => self.resolve_name(resolver)?,
            Some(moves) => {
                let logged = resolver.logged(&self.name, moves).map_err(ResolveError::Resolver)?;
                logged.ok_or_else(|| RevisionError::NotInLog(format!("{}@{{{moves}}}", self.name)))?
            }
        };
        for step in &self.steps {
            let (count, parent) = match step {
                Step::Back(count) => (*count, 1),
                Step::Parent(parent) => (u32::from(*parent > 0), *parent),
            };
            for _ in 0..count {
                let parents = resolver.parents(&commit).map_err(ResolveError::Resolver)?;
                let next = (parent as usize).checked_sub(1).and_then(|index| parents.get(index));
                commit = *next.ok_or_else(|| RevisionError::NoParent { revision: self.to_string(), commit })?;
            }
        }
        Ok(commit)
    }

    fn resolve_name<R: Resolver>(&self, resolver: &mut R) -> Result<Digest, ResolveError<R::Error>> {
        let name = self.name.as_str();
        let unknown = || ResolveError::Revision(RevisionError::Unknown(name.to_owned()));
        if name == "HEAD" {
            let head = resolver.head().map_err(ResolveError::Resolver)?;
            return head.ok_or(ResolveError::Revision(RevisionError::Unborn));
        }
        let hexadecimal = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = name.to_ascii_lowercase();
        if hexadecimal && digits.len() == 2 * Digest::LEN {
            let found = resolver.commits_with_prefix(&digits).map_err(ResolveError::Resolver)?;
            if let [commit] = found.as_slice() {
                return Ok(*commit);
            }
        }
        for kind in RefKind::ALL {
            let full = name.strip_prefix(kind.prefix());
            if let Some(short) = full.or_else(|| name.strip_prefix(kind.prefix().trim_start_matches("refs/"))) {
                if let Some(commit) = resolver.reference(kind, short).map_err(ResolveError::Resolver)? {
                    return Ok(commit);
                }
                if full.is_some() {
                    return Err(unknown());
                }
            }
        }
        let mut found = Vec::new();
        for kind in RefKind::ALL {
            if let Some(commit) = resolver.reference(kind, name).map_err(ResolveError::Resolver)? {
                found.push((format!("{}{name}", kind.prefix()), commit));
            }
        }
        if found.is_empty() && hexadecimal && (MIN_ABBREVIATION..2 * Digest::LEN).contains(&digits.len()) {
            let commits = resolver.commits_with_prefix(&digits).map_err(ResolveError::Resolver)?;
            found.extend(commits.into_iter().map(|commit| (commit.to_hex(), commit)));
        }
        match found.as_slice() {
            [] => Err(unknown()),
            [(_, commit)] => Ok(*commit),
            several => Err(ResolveError::Revision(RevisionError::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|(full, _)| full.clone()).collect(),
            })),
        }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if let Some(moves) = self.moves_back {
            write!(f, "@{{{moves}}}")?;
        }
        for step in &self.steps {
            match step {
                Step::Back(count) => write!(f, "~{count}")?,
                Step::Parent(parent) => write!(f, "^{parent}")?,
            }
        }
        Ok(())
    }
}

/// Checks the name of a branch or tag by the rules of `git check-ref-format`, so that it can be one in Git too.
///
/// # Errors
/// [`HistoryError::RefName`].
pub fn validate_ref_name(name: &str) -> Result<(), HistoryError> {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let valid = name.len() <= MAX_REF_NAME
        && name != "@"
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(forbidden)
        && name.split('/').all(part);
    if valid { Ok(()) } else { Err(HistoryError::RefName(name.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests;
