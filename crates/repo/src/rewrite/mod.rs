//! Rewriting the history of a branch without some of its commits. Trees stay as they are, byte for byte; only commits are new,
//! from the first on whose parents are others. Nothing is deleted: what nothing leads to any more a collection removes.

mod forget;
mod squash;

use std::collections::{BTreeSet, HashMap, HashSet};

use shard_core::Digest;
use shard_history::merge::record::{FIELD as MERGE, MergeRecord};
use shard_history::revision::RefKind;
use shard_history::rewrite::{Kept, relink};
use shard_history::{Commit, DagError, Order, TreeNode, Walk};
use shard_manifest::RunRecord;
use shard_store::{EntryKind, RefState, RefUpdate, StoreError, Target};

pub use forget::{ForgetOptions, ForgetPlan, ForgetReport, PlannedCommit};
pub use squash::{SquashOptions, SquashPlan, SquashReport};

use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::refs::full_name;
use crate::repository::{HEAD, Repository};
use crate::snapshot::put_object;

/// What keeps commits that a rewritten branch does not have any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockingRef {
    /// The ref's full name: `heads/…`, `tags/…` or `HEAD`.
    pub name: String,
    /// Whether only its log leads to them, not the ref itself.
    pub is_log: bool,
}

/// A branch with all its commits.
struct Branch {
    name: String,
    state: RefState,
    head: Digest,
    /// Newest first, none before a commit that follows it.
    order: Vec<Digest>,
    commits: HashMap<Digest, Commit>,
}

/// A history that was rewritten, and is nowhere stored yet.
#[derive(Debug, Clone, Default)]
struct Rewritten {
    /// The new id of every commit that stays, by its old one.
    ids: HashMap<Digest, Digest>,
    /// The bytes of the commits that are new, oldest first.
    new: Vec<(Digest, Vec<u8>)>,
    /// The old commits that are not in the new history.
    gone: HashSet<Digest>,
}

impl Repository {
    /// A branch by its name, the one that is checked out where there is none.
    fn branch_with_history(&self, name: Option<&str>) -> Result<Branch> {
        let current = self.head()?.branch;
        let name = match (name, current) {
            (Some(name), _) => name.strip_prefix("refs/").unwrap_or(name).trim_start_matches("heads/").to_owned(),
            (None, Some(current)) => current,
            (None, None) => {
                return Err(RepoError::Argument("no branch is checked out: name the one that is meant".to_owned()));
            }
        };
        let state = self.existing(RefKind::Branch, &name)?;
        let Target::Commit(head) = state.target else {
            return Err(RepoError::Argument(format!("the branch {name:?} names no commit")));
        };
        let (mut objects, mut commits) = (self.objects(), HashMap::new());
        let mut order = Vec::new();
        let fetch = |id: &Digest| {
            let commit = objects.commit(*id)?;
            let node = commit.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
            commits.insert(*id, commit);
            Ok(node)
        };
        for id in Walk::new(&[head], Order::Topological, fetch) {
            order.push(id.map_err(|error| match error {
                DagError::Fetch(error) => error,
                DagError::Cycle(id) => RepoError::Cycle(id),
            })?);
        }
        Ok(Branch { name: full_name(RefKind::Branch, &name), state, head, order, commits })
    }

    /// The history of a branch with these commits alone; `edit` may change them further.
    fn rewrite(
        &self,
        branch: &Branch,
        keep: &HashSet<Digest>,
        edit: &dyn Fn(&Digest, &mut Commit),
    ) -> Result<Rewritten> {
        let parents = |id: &Digest| branch.commits.get(id).map(|commit| commit.parents.clone()).unwrap_or_default();
        let order: Vec<(Digest, Vec<Digest>)> = branch.order.iter().map(|id| (*id, parents(id))).collect();
        let mut objects = self.objects();
        let mut done = Rewritten::default();
        for Kept { id, parents, absorbed } in relink(&order, keep) {
            let Some(old) = branch.commits.get(&id) else { continue };
            let mut commit = old.clone();
            commit.parents = parents.iter().filter_map(|parent| done.ids.get(parent)).copied().collect();
            take_over_records(&mut commit, &absorbed, branch, &mut objects)?;
            keep_merge_record(&mut commit, &done.ids, &id)?;
            edit(&id, &mut commit);
            let (new, bytes) = commit.encode().map_err(|source| RepoError::History { what: "commit", id, source })?;
            if new != id {
                done.new.push((new, bytes));
            }
            done.ids.insert(id, new);
        }
        let stays = |id: &&Digest| done.ids.get(*id) == Some(*id);
        done.gone = branch.order.iter().filter(|id| !stays(id)).copied().collect();
        Ok(done)
    }

    /// The refs, and the logs of refs, that lead to commits which a branch is about to lose. The branch's own log does.
    fn blocking(&self, branch: &Branch, gone: &HashSet<Digest>) -> Result<Vec<BlockingRef>> {
        let mut found = BTreeSet::new();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let mut search = Search { gone, clean: HashSet::new(), objects: self.objects() };
        for (name, _) in self.store.refs().list_each("").map_err(StoreError::from)? {
            for (age, state) in self.store.refs().log(&name).map_err(StoreError::from)?.enumerate() {
                // What is damaged is told by `verify`; nobody can know what it kept.
                let Ok(state) = state else { break };
                let is_log = age > 0 || name == branch.name;
                if !found.contains(&BlockingRef { name: name.clone(), is_log })
                    && search.leads_to_gone(&state.target)?
                {
                    found.insert(BlockingRef { name: name.clone(), is_log });
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Stores new commits, and moves the branch to the last of them.
    fn move_rewritten(
        &self,
        (name, state): (&str, &RefState),
        rewritten: &Rewritten,
        to: Digest,
        message: &str,
    ) -> Result<()> {
        // A merge under way is of the commit that the branch is at: it could only be given up afterwards.
        self.refuse_while_merging_into(name)?;
        // What the branch has stays until it moves, so all trees of the new commits are there.
        self.again_if_condemned(|| {
            let transaction = self.store.begin("rewrite")?;
            for (_, bytes) in &rewritten.new {
                put_object(&transaction, EntryKind::Commit, bytes)?;
            }
            let (name, expected) = (name.to_owned(), Some(state.clone()));
            let update = RefUpdate { name, expected, target: Target::Commit(to) };
            self.move_or_lose(&transaction, &[update], message)
        })
    }
}

/// What a commit is said to be, from the commits that go: the last record of each file that is still what it was then.
fn take_over_records(
    commit: &mut Commit,
    absorbed: &[Digest],
    branch: &Branch,
    objects: &mut Objects<'_>,
) -> Result<()> {
    let mut taken: HashSet<String> = commit.records.iter().map(|record| record.file_path.clone()).collect();
    let mut more: Vec<RunRecord> = Vec::new();
    for before in absorbed.iter().filter_map(|id| branch.commits.get(id)) {
        for record in &before.records {
            if taken.contains(&record.file_path) {
                continue;
            }
            let mut file = |tree| -> Result<Option<Digest>> {
                Ok(match objects.lookup(tree, &record.file_path)? {
                    Some(TreeNode::File(file)) => Some(file.sha256),
                    _ => None,
                })
            };
            let (then, now) = (file(before.tree)?, file(commit.tree)?);
            if now.is_some() && then == now {
                more.push(record.clone());
            }
            // An older record is about an older file, or says less.
            taken.insert(record.file_path.clone());
        }
    }
    commit.records.extend(more);
    commit.records.sort_by(|a, b| a.file_path.cmp(&b.file_path));
    Ok(())
}

/// A commit that merges nothing any more says nothing of a merge, and one that does names the commit that it started from by
/// what that is now.
fn keep_merge_record(commit: &mut Commit, ids: &HashMap<Digest, Digest>, old: &Digest) -> Result<()> {
    if commit.parents.len() < 2 {
        commit.extra.remove(MERGE);
        return Ok(());
    }
    let wrong = |source| RepoError::History { what: "commit", id: *old, source };
    let Some(mut record) = MergeRecord::of(commit).map_err(wrong)? else { return Ok(()) };
    record.base = record.base.and_then(|base| ids.get(&base).copied());
    record.put(commit).map_err(wrong)
}

/// Looks for commits that go, every commit once.
struct Search<'a> {
    gone: &'a HashSet<Digest>,
    /// Commits that lead to none of them.
    clean: HashSet<Digest>,
    objects: Objects<'a>,
}

impl Search<'_> {
    fn leads_to_gone(&mut self, target: &Target) -> Result<bool> {
        let start = match target {
            Target::Commit(id) => *id,
            Target::Tag(id) => match self.objects.tag(*id) {
                Ok(tag) => tag.target,
                Err(_) => return Ok(false),
            },
            _ => return Ok(false),
        };
        let (mut seen, mut open) = (HashSet::new(), vec![start]);
        while let Some(id) = open.pop() {
            if self.gone.contains(&id) {
                return Ok(true);
            }
            if !self.clean.contains(&id) && seen.insert(id) {
                match self.objects.commit(id) {
                    Ok(commit) => open.extend(commit.parents),
                    // A log may be longer than what is kept.
                    Err(RepoError::Missing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.clean.extend(seen);
        Ok(false)
    }
}

/// The name that people use for a ref.
fn shown(name: &str) -> &str {
    if name == HEAD { name } else { name.strip_prefix("heads/").unwrap_or(name) }
}
