//! Protected branches and tags: they do not lose commits, and do not go.
//!
//! A rule is a ref of its own, `protect/` and the pattern, so that making one is a compare-and-swap and has a log like all else.
//! What it leads to means nothing. Where refs move, [`Repository::move_refs`] asks here.

use shard_core::Digest;
use shard_history::dag::is_ancestor;
use shard_history::glob::Glob;
use shard_history::{Node, validate_ref_name};
use shard_store::{EntrySource, RefUpdate, StoreError, Target, ref_name};

use super::RefProblem;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{DEFAULT, HEADS, Repository, TAGS};

/// The prefix of rules' refs.
const PROTECT: &str = "protect/";
/// What a pattern has that a ref's name may not, and `%` itself: escaped as in a URL.
const ESCAPED: [char; 5] = ['%', '*', '?', '[', '\\'];

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The pattern, from `heads/` or `tags/` on.
    pub pattern: String,
    /// The branches and tags that it protects now, by their full names.
    pub matches: Vec<String>,
}

/// A pattern in full: what has no prefix is about branches.
fn in_full(pattern: &str) -> String {
    let pattern = pattern.strip_prefix("refs/").unwrap_or(pattern);
    if pattern.starts_with(HEADS) || pattern.starts_with(TAGS) {
        pattern.to_owned()
    } else {
        format!("{HEADS}{pattern}")
    }
}

/// The ref of a rule.
fn ref_of(pattern: &str) -> String {
    let mut name = String::from(PROTECT);
    for c in pattern.chars() {
        match ESCAPED.contains(&c) {
            true => name.push_str(&format!("%{:02x}", u32::from(c))),
            false => name.push(c),
        }
    }
    name
}

/// The pattern of a rule's ref.
fn pattern_of(name: &str) -> Option<String> {
    let escaped = name.strip_prefix(PROTECT)?;
    let mut parts = escaped.split('%');
    let mut pattern = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        pattern.push(char::from(u8::from_str_radix(code, 16).ok()?));
        pattern.push_str(rest);
    }
    // One form only.
    (ref_of(&pattern) == name).then_some(pattern)
}

impl Repository {
    /// The rules, by pattern.
    ///
    /// # Errors
    /// Refs that cannot be read.
    pub fn protections(&self) -> Result<Vec<Protection>> {
        let mut named = Vec::new();
        for prefix in [HEADS, TAGS] {
            named.extend(self.store.refs().list(prefix).map_err(StoreError::from)?.into_iter().map(|(name, _)| name));
        }
        let protection = |glob: Glob| Protection {
            pattern: glob.as_str().to_owned(),
            matches: named.iter().filter(|name| glob.matches(name)).cloned().collect(),
        };
        Ok(self.rules()?.into_iter().map(protection).collect())
    }

    fn rules(&self) -> Result<Vec<Glob>> {
        let rules = self.store.refs().list(PROTECT).map_err(StoreError::from)?;
        Ok(rules.iter().filter_map(|(name, _)| Glob::new(&pattern_of(name)?).ok()).collect())
    }

    /// Refuses to end a branch or tag that is protected, whatever its state.
    pub(super) fn refuse_protected(&self, full: &str) -> Result<()> {
        match self.rules()?.iter().find(|rule| rule.matches(full)) {
            Some(rule) => {
                let (name, what) = (full.to_owned(), "cannot be deleted or renamed");
                Err(RefProblem::Protected { name, pattern: rule.to_string(), what }.into())
            }
            None => Ok(()),
        }
    }

    /// Protects the branches and tags that a pattern matches, now and later. `*` is any text, also with slashes, `?` a
    /// character, `[a-z]` one of several; what does not begin with `heads/` or `tags/` is about branches. Gives the rule, and
    /// whether it is new.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for what is no pattern; [`RepoError::Raced`].
    pub fn protect(&self, pattern: &str) -> Result<(Protection, bool)> {
        let pattern = in_full(pattern);
        let refuse = |why: String| RefProblem::Pattern { pattern: pattern.chars().take(80).collect(), why };
        Glob::new(&pattern).map_err(|error| refuse(error.to_string()))?;
        let name = ref_of(&pattern);
        ref_name::check(&name).map_err(|error| refuse(error.problem.to_owned()))?;
        if validate_ref_name(&name).is_err() || shard_core::text::visible(&pattern) != pattern {
            return Err(refuse("no branch or tag has such a name".to_owned()).into());
        }
        let state = self.read_ref(&name)?;
        let is_new = state.is_none();
        if is_new {
            let transaction = self.store.begin("protect")?;
            let target = Target::Symbolic(DEFAULT.to_owned());
            let update = RefUpdate { name, expected: None, target };
            self.move_or_lose(&transaction, &[update], &format!("protect: {pattern}"))?;
        }
        let rule = self.protections()?.into_iter().find(|rule| rule.pattern == pattern);
        Ok((rule.ok_or(RepoError::Raced(ref_of(&pattern)))?, is_new))
    }

    /// Takes a rule away.
    ///
    /// # Errors
    /// [`RepoError::Ref`] where there is none; [`RepoError::Raced`].
    pub fn unprotect(&self, pattern: &str) -> Result<String> {
        let pattern = in_full(pattern);
        let name = ref_of(&pattern);
        let state = if ref_name::check(&name).is_ok() { self.read_ref(&name)? } else { None };
        let state = state.ok_or_else(|| RefProblem::Unknown { kind: "protection", name: pattern.clone() })?;
        let transaction = self.store.begin("protect")?;
        let update = RefUpdate { name, expected: Some(state), target: Target::Deleted };
        self.move_or_lose(&transaction, &[update], &format!("protect: {pattern} removed"))?;
        Ok(pattern)
    }

    /// Refuses moves that protected branches and tags do not make: a branch may only go on to commits that follow its last
    /// one, a tag stays. `source` has the commits. Where files are put in place first, this is asked before: what is refused
    /// changes nothing.
    pub(crate) fn check_protected(&self, source: &dyn EntrySource, updates: &[RefUpdate]) -> Result<()> {
        let moved = |update: &&RefUpdate| {
            let is_named = update.name.starts_with(HEADS) || update.name.starts_with(TAGS);
            is_named && update.expected.as_ref().is_some_and(|state| state.target != update.target)
        };
        let moved: Vec<&RefUpdate> = updates.iter().filter(moved).collect();
        if moved.is_empty() {
            return Ok(());
        }
        for rule in self.rules()? {
            for update in moved.iter().filter(|update| rule.matches(&update.name)) {
                let before = update.expected.as_ref().map(|state| &state.target);
                let what = match (&update.target, before) {
                    (Target::Deleted, Some(Target::Deleted)) => continue,
                    (Target::Deleted, _) => "cannot be deleted or renamed",
                    _ if update.name.starts_with(TAGS) => "cannot be moved",
                    (Target::Commit(new), Some(Target::Commit(old))) if follows(source, *old, *new)? => continue,
                    _ => "cannot lose commits",
                };
                return Err(RefProblem::Protected { name: update.name.clone(), pattern: rule.to_string(), what }.into());
            }
        }
        Ok(())
    }
}

/// Whether a commit that may not be sealed yet has another among its ancestors.
pub(crate) fn follows(source: &dyn EntrySource, old: Digest, new: Digest) -> Result<bool> {
    let mut objects = Objects::new(source);
    is_ancestor(&old, &new, |id: &Digest| -> Result<Node> {
        let node = objects.commit(*id)?.node();
        node.map_err(|source| RepoError::History { what: "commit", id: *id, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_of_refs() {
        for pattern in ["heads/main", "heads/release/*", "tags/v[0-9]?", "heads/50%", "heads/a\\*b"] {
            let name = ref_of(pattern);
            assert!(ref_name::check(&name).is_ok(), "{name}");
            assert_eq!(pattern_of(&name).as_deref(), Some(pattern));
        }
        for name in ["protect/heads/a%2", "protect/heads/%61", "protect/heads/%zz", "heads/a", "protect/%é"] {
            assert_eq!(pattern_of(name), None, "{name}");
        }
        assert_eq!(in_full("main"), "heads/main");
        assert_eq!(in_full("refs/tags/v*"), "tags/v*");
    }
}
