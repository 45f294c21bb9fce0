//! A merge under way in a work tree: what it is of, and what was decided already. It is a ref (`merge`), as the stage and HEAD are,
//! that names a commit nobody else knows: that of ours, with both sides as its parents, so that they are kept.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use shard_core::Digest;
use shard_history::{Commit, ConflictKind, MergeRecord};
use shard_store::{EntryKind, RefState, RefUpdate, Target, Transaction, timestamp};

use super::MergeProblem;
use crate::error::{RepoError, Result};
use crate::repository::{HEADS, MERGE, Repository};
use crate::snapshot::put_object;

/// The commit's field beside `merge`.
const FIELD: &str = "merge_state";

/// A merge under way.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeState {
    /// The branch that is merged into; `None` where a commit is checked out that no branch follows.
    pub target: Option<String>,
    /// Its commit.
    pub ours: Digest,
    /// What is merged.
    pub theirs: Digest,
    /// The message that the merge's commit is going to have.
    pub message: String,
    /// Who it is by.
    pub author: Option<String>,
    /// What it starts from, and its rules.
    pub record: MergeRecord,
    /// What someone has to decide about, by path.
    pub conflicts: BTreeMap<String, ConflictKind>,
    /// The conflicts that were decided about.
    pub resolved: BTreeSet<String>,
    /// Whether the result is staged, so that all that is missing is the commit.
    pub is_staged: bool,
}

impl MergeState {
    /// What is still to be decided, by path.
    pub fn unresolved(&self) -> impl Iterator<Item = (&str, ConflictKind)> {
        let open = self.conflicts.iter().filter(|(path, _)| !self.resolved.contains(*path));
        open.map(|(path, kind)| (path.as_str(), *kind))
    }

    /// The ref that the merge's commit moves.
    pub(super) fn moves(&self) -> String {
        self.target.as_ref().map_or_else(|| crate::repository::HEAD.to_owned(), |branch| format!("{HEADS}{branch}"))
    }

    fn to_commit(&self, tree: Digest) -> Result<Commit> {
        let mut commit = Commit {
            tree,
            parents: vec![self.ours, self.theirs],
            created_at: timestamp::now(),
            author: self.author.clone(),
            message: self.message.clone(),
            records: Vec::new(),
            extra: Default::default(),
        };
        let put = self.record.put(&mut commit);
        put.map_err(|source| RepoError::History { what: "commit", id: self.ours, source })?;
        let mut fields = Map::new();
        if let Some(target) = &self.target {
            fields.insert("target".to_owned(), target.as_str().into());
        }
        let conflicts = self.conflicts.iter().map(|(path, kind)| (path.clone(), kind.as_str().into()));
        fields.insert("conflicts".to_owned(), Value::Object(conflicts.collect()));
        fields.insert("resolved".to_owned(), self.resolved.iter().map(String::as_str).collect());
        fields.insert("staged".to_owned(), self.is_staged.into());
        commit.extra.insert(FIELD.to_owned(), Value::Object(fields));
        Ok(commit)
    }

    fn from_commit(id: Digest, commit: Commit) -> Result<Self> {
        let damaged = || RepoError::from(MergeProblem::State(id));
        let record = MergeRecord::of(&commit);
        let record = record.map_err(|source| RepoError::History { what: "commit", id, source })?.ok_or_else(damaged)?;
        let [ours, theirs] = commit.parents[..] else { return Err(damaged()) };
        let Some(Value::Object(fields)) = commit.extra.get(FIELD) else { return Err(damaged()) };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(damaged);
        let kind = |(path, word): (&String, &Value)| {
            let kind = ConflictKind::ALL.into_iter().find(|kind| word == kind.as_str());
            Ok((path.clone(), kind.ok_or_else(damaged)?))
        };
        let Some(Value::Object(conflicts)) = fields.get("conflicts") else { return Err(damaged()) };
        let Some(Value::Array(resolved)) = fields.get("resolved") else { return Err(damaged()) };
        Ok(Self {
            target: fields.get("target").map(text).transpose()?,
            ours,
            theirs,
            message: commit.message.clone(),
            author: commit.author.clone(),
            record,
            conflicts: conflicts.iter().map(kind).collect::<Result<_>>()?,
            resolved: resolved.iter().map(text).collect::<Result<_>>()?,
            is_staged: fields.get("staged").and_then(Value::as_bool).ok_or_else(damaged)?,
        })
    }
}

impl Repository {
    /// The merge that is under way in the work tree, if one is.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn merge_state(&self) -> Result<Option<MergeState>> {
        Ok(self.read_merge()?.map(|(_, state)| state))
    }

    pub(super) fn read_merge(&self) -> Result<Option<(RefState, MergeState)>> {
        let Some(at) = self.read_ref(MERGE)? else { return Ok(None) };
        let Target::Commit(id) = at.target else {
            return Err(RepoError::Argument(format!("the ref {MERGE} names no commit")));
        };
        let state = MergeState::from_commit(id, self.objects().commit(id)?)?;
        Ok(Some((at, state)))
    }

    /// Refuses what does not go together with a merge that is under way.
    pub(crate) fn refuse_while_merging(&self) -> Result<()> {
        match self.read_ref(MERGE)? {
            None => Ok(()),
            Some(_) => Err(MergeProblem::UnderWay.into()),
        }
    }

    /// Refuses to take a branch, by its full name, from under a merge that is under way into it.
    pub(crate) fn refuse_while_merging_into(&self, branch: &str) -> Result<()> {
        match self.read_merge()? {
            Some((_, state)) if state.moves() == branch => Err(MergeProblem::UnderWay.into()),
            _ => Ok(()),
        }
    }

    /// The move that forgets a merge under way, if one is.
    pub(crate) fn forget_merge(&self) -> Result<Option<RefUpdate>> {
        let at = self.read_ref(MERGE)?;
        Ok(at.map(|at| RefUpdate { name: MERGE.to_owned(), expected: Some(at), target: Target::Deleted }))
    }

    /// The move that makes `state` the merge under way.
    pub(super) fn put_merge(
        &self,
        transaction: &Transaction,
        expected: Option<RefState>,
        state: &MergeState,
    ) -> Result<RefUpdate> {
        let tree = self.objects().commit(state.ours)?.tree;
        let commit = state.to_commit(tree)?;
        let (id, bytes) = commit.encode().map_err(|source| RepoError::History { what: "commit", id: tree, source })?;
        put_object(transaction, EntryKind::Commit, &bytes)?;
        Ok(RefUpdate { name: MERGE.to_owned(), expected, target: Target::Commit(id) })
    }

    /// The move that notes that conflicts were decided about, where a merge is under way and one of the paths that `is_decided`
    /// holds for was open.
    pub(crate) fn decided(
        &self,
        transaction: &Transaction,
        is_decided: impl Fn(&str) -> bool,
    ) -> Result<Option<RefUpdate>> {
        let Some((at, mut state)) = self.read_merge()? else { return Ok(None) };
        let decided: Vec<String> =
            state.unresolved().map(|(path, _)| path.to_owned()).filter(|path| is_decided(path)).collect();
        if decided.is_empty() {
            return Ok(None);
        }
        state.resolved.extend(decided);
        Ok(Some(self.put_merge(transaction, Some(at), &state)?))
    }
}
