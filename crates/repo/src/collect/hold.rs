//! What writers have to make sure of, so that a collection does not take away what they are about to name.

use std::collections::{BTreeSet, HashSet};

use shard_core::Digest;
use shard_history::FileTree;
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource, Store, StoreError, Target, Transaction};

use crate::blocks::block_key;
use crate::error::{RepoError, Result, unless_damaged};
use crate::objects::Objects;
use crate::repository::Repository;

/// How often an operation is done again since a collection condemned what it counted on.
const AGAIN: usize = 3;

impl Repository {
    /// Runs an operation, and again where a collection condemned meanwhile what it counted on: it then writes that itself.
    pub(crate) fn again_if_condemned<T>(&self, mut run: impl FnMut() -> Result<T>) -> Result<T> {
        for _ in 0..AGAIN {
            match run() {
                Err(RepoError::Store(StoreError::Retry { condemned })) if !condemned.is_empty() => {}
                outcome => return outcome,
            }
        }
        run()
    }
}

/// Makes sure that a commit that a writer is about to name stays, with all that it leads to.
///
/// What a ref leads to now, while the writer has its lease, does. Anything else may be on its way out: it is looked through
/// whole, and has to be there without packs that are going to be deleted.
pub(crate) fn hold_commit(store: &Store, transaction: &Transaction, commit: Digest) -> Result<()> {
    // Not what the transaction may count on: a collection that is under way copies what refs lead to a little later.
    let key = EntryKey::new(EntryKind::Commit, commit);
    if store.copies(&key)?.is_empty() {
        return Err(RepoError::Missing { key });
    }
    if transaction.lease().epoch == 0 {
        // Nothing was ever deleted, and nothing will be while the lease is held.
        return Ok(());
    }
    let mut objects = Objects::new(transaction);
    let mut open = BTreeSet::new();
    for (_, state) in store.refs().list_each("").map_err(StoreError::from)? {
        // What a damaged ref leads to is not counted on: the commit is looked through instead.
        let state = state.map_err(|error| RepoError::from(StoreError::from(error)));
        let Some(state) = unless_damaged(state)? else { continue };
        match state.target {
            Target::Commit(id) => drop(open.insert(id)),
            Target::Tag(id) => open.extend(unless_damaged(objects.tag(id))?.map(|tag| tag.target)),
            _ => {}
        }
    }
    if open.contains(&commit) {
        return Ok(());
    }
    let mut led_to = HashSet::new();
    let mut open: Vec<Digest> = open.into_iter().collect();
    while let Some(id) = open.pop() {
        if id == commit {
            return Ok(());
        }
        if !led_to.contains(&id)
            && let Some(commit) = unless_damaged(objects.commit(id))?
        {
            led_to.insert(id);
            open.extend(commit.parents);
        }
    }
    let mut open = vec![commit];
    while let Some(id) = open.pop() {
        if led_to.insert(id) {
            let commit = objects.commit(id)?;
            hold(transaction, EntryKey::new(EntryKind::Commit, id))?;
            hold_tree(transaction, &mut objects, commit.tree)?;
            open.extend(commit.parents);
        }
    }
    Ok(())
}

/// The same of anything that a ref may name.
pub(crate) fn hold_target(store: &Store, transaction: &Transaction, target: &Target) -> Result<()> {
    match target {
        Target::Commit(commit) => hold_commit(store, transaction, *commit),
        Target::Tree(tree) => {
            hold(transaction, EntryKey::new(EntryKind::Tree, *tree))?;
            match transaction.lease().epoch {
                0 => Ok(()),
                _ => hold_tree(transaction, &mut Objects::new(transaction), *tree),
            }
        }
        Target::Tag(tag) => {
            hold(transaction, EntryKey::new(EntryKind::Tag, *tag))?;
            let commit = Objects::new(transaction).tag(*tag)?.target;
            hold_commit(store, transaction, commit)
        }
        Target::Symbolic(_) | Target::Deleted => Ok(()),
    }
}

fn hold_tree(transaction: &Transaction, objects: &mut Objects<'_>, tree: Digest) -> Result<()> {
    let files: FileTree = objects.file_tree(tree)?;
    let (_, trees) = files.to_trees().map_err(|source| RepoError::History { what: "tree", id: tree, source })?;
    trees.iter().try_for_each(|(id, _)| hold(transaction, EntryKey::new(EntryKind::Tree, *id)))?;
    let manifests: BTreeSet<Digest> = files.files().values().map(|entry| entry.manifest).collect();
    for id in manifests {
        if !hold_manifest(transaction, id, &objects.manifest_once(id)?)? {
            return Err(RepoError::Missing { key: EntryKey::new(EntryKind::Manifest, id) });
        }
    }
    Ok(())
}

/// Makes sure that a manifest and all its blocks stay, of a partial repository those that are here; says whether they do.
pub(crate) fn hold_manifest(transaction: &Transaction, id: Digest, manifest: &ContentManifest) -> Result<bool> {
    let blocks = manifest.blocks().map(|block| block_key(block.span.id));
    let is_partial = transaction.is_partial();
    for key in [EntryKey::new(EntryKind::Manifest, id)].into_iter().chain(blocks) {
        let may_be_elsewhere = is_partial && key.kind == EntryKind::Block;
        if transaction.locate(&key)?.is_none() && !may_be_elsewhere {
            return Ok(false);
        }
    }
    Ok(true)
}

fn hold(transaction: &Transaction, key: EntryKey) -> Result<()> {
    transaction.locate(&key)?.ok_or(RepoError::Missing { key })?;
    Ok(())
}
