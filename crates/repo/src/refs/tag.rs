//! Tags: light ones name a commit, annotated ones an object that says who named it, when and why.

use shard_core::Digest;
use shard_history::Tag;
use shard_history::glob::Glob;
use shard_history::revision::RefKind;
use shard_store::{EntryKind, RefUpdate, StoreError, Target, timestamp};

use super::{RefProblem, check_name, full_name};
use crate::error::{RepoError, Result};
use crate::repository::{Repository, TAGS};
use crate::snapshot::put_object;

/// A tag.
#[derive(Debug, Clone, PartialEq)]
pub struct TaggedCommit {
    /// The tag's name.
    pub name: String,
    /// The commit.
    pub commit: Digest,
    /// What an annotated tag says.
    pub annotation: Option<Tag>,
}

/// How to tag.
#[derive(Debug, Clone, Default)]
pub struct TagOptions {
    /// What an annotated tag says; `None` makes a light one.
    pub message: Option<String>,
    /// Who makes it; only annotated tags have it.
    pub tagger: Option<String>,
    /// Whether a tag that is there may be moved.
    pub force: bool,
}

/// What `create_tag` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagReport {
    /// The commit that has the tag.
    pub commit: Digest,
    /// The id of the tag object, where it is annotated.
    pub tag: Option<Digest>,
    /// The commit that had it before.
    pub moved_from: Option<Digest>,
}

impl Repository {
    /// The tags whose names match a pattern, by name. In it `*` is any text, `?` any one character, `[…]` one of several.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn tags(&self, pattern: Option<&str>) -> Result<Vec<TaggedCommit>> {
        let pattern = pattern.map(Glob::fnmatch);
        let mut tags = Vec::new();
        for (full, state) in self.store.refs().list(TAGS).map_err(StoreError::from)? {
            let Some(name) = full.strip_prefix(TAGS) else { continue };
            if pattern.as_ref().is_some_and(|pattern| !pattern.matches(name)) {
                continue;
            }
            let (commit, annotation) = match state.target {
                Target::Commit(commit) => (commit, None),
                Target::Tag(id) => {
                    let tag = self.objects().tag(id)?;
                    (tag.target, Some(tag))
                }
                _ => continue,
            };
            tags.push(TaggedCommit { name: name.to_owned(), commit, annotation });
        }
        Ok(tags)
    }

    /// Tags a revision.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a name that is not allowed, or taken unless `force`; an unknown revision;
    /// [`RepoError::Raced`].
    pub fn create_tag(&self, name: &str, revision: &str, options: &TagOptions) -> Result<TagReport> {
        self.again_if_condemned(|| self.create_tag_once(name, revision, options))
    }

    fn create_tag_once(&self, name: &str, revision: &str, options: &TagOptions) -> Result<TagReport> {
        let commit = self.resolve(revision)?;
        let full = check_name(RefKind::Tag, name)?;
        let expected = match self.read_ref(&full) {
            Err(error) if options.force && error.is_damage() => {
                self.end_damaged(&full, "tag: damaged")?;
                self.read_ref(&full)?
            }
            read => read?,
        };
        match &expected {
            Some(_) if !options.force => return Err(RefProblem::Exists { kind: "tag", name: name.to_owned() }.into()),
            Some(_) => {}
            None => drop(self.new_name(RefKind::Tag, name, None)?),
        }
        let moved_from = match expected.as_ref().map(|state| &state.target) {
            Some(Target::Commit(commit)) => Some(*commit),
            Some(Target::Tag(id)) => Some(self.objects().tag(*id)?.target),
            _ => None,
        };
        let transaction = self.begin_move("tag", commit)?;
        let tag = match &options.message {
            None => None,
            Some(message) if message.trim().is_empty() => {
                return Err(RepoError::Argument("an annotated tag needs a message".to_owned()));
            }
            Some(message) => {
                let tag = Tag {
                    target: commit,
                    name: name.to_owned(),
                    message: message.clone(),
                    created_at: timestamp::now(),
                    tagger: options.tagger.clone(),
                    extra: Default::default(),
                };
                let (id, bytes) =
                    tag.encode().map_err(|source| RepoError::History { what: "tag", id: commit, source })?;
                put_object(&transaction, EntryKind::Tag, &bytes)?;
                Some(id)
            }
        };
        let target = tag.map_or(Target::Commit(commit), Target::Tag);
        let update = RefUpdate { name: full, expected, target };
        self.move_or_lose(&transaction, &[update], &format!("tag: {revision}"))?;
        Ok(TagReport { commit, tag, moved_from })
    }

    /// Deletes a tag, and gives the commit that had it. Its log stays. So is one deleted whose state cannot be read; then nothing of
    /// its log is left.
    ///
    /// # Errors
    /// [`RepoError::Ref`] where there is none; [`RepoError::Raced`].
    pub fn delete_tag(&self, name: &str) -> Result<Option<Digest>> {
        let state = match self.existing(RefKind::Tag, name) {
            Err(error) if error.is_damage() => {
                self.end_damaged(&full_name(RefKind::Tag, name), "tag: deleted")?;
                return Ok(None);
            }
            state => state?,
        };
        let commit = match state.target {
            Target::Commit(commit) => Some(commit),
            // A tag whose object is damaged can be deleted too.
            Target::Tag(id) => self.objects().tag(id).ok().map(|tag| tag.target),
            _ => None,
        };
        let transaction = self.store.begin("tag")?;
        let full = full_name(RefKind::Tag, name);
        let update = RefUpdate { name: full, expected: Some(state), target: Target::Deleted };
        self.move_or_lose(&transaction, &[update], "tag: deleted")?;
        Ok(commit)
    }
}
