//! Answers of the library in the shape of hubvault's, with Git's ids.

use serde_json::{Value, json};
use shard_core::Digest;
use shard_history::revision::RefKind;
use shard_history::{FileEntry, GitId, MergeStatus};
use shard_repo::{
    CommitInfo, CommitSummary, ListOptions, MergeReport, RefProblem, Reflog, RepoEntry, RepoError, Repository,
    SquashReport, StorageOverview,
};

/// What a repository's objects are to others.
pub(super) struct Answers<'a>(pub(super) &'a Repository);

fn hex(id: Option<GitId>) -> Value {
    id.map_or(Value::Null, |id| json!(id.to_hex()))
}

impl Answers<'_> {
    fn id(&self, commit: Digest) -> Result<Value, RepoError> {
        Ok(hex(Some(self.0.twin(commit)?)))
    }

    fn id_or_none(&self, commit: Option<Digest>) -> Result<Value, RepoError> {
        commit.map_or(Ok(Value::Null), |commit| self.id(commit))
    }

    pub(super) fn info(&self, revision: Option<&str>) -> Result<Value, RepoError> {
        let info = self.0.repo_info(revision)?;
        let mut refs: Vec<String> =
            info.refs.iter().map(|named| format!("{}{}", named.kind.prefix(), named.name)).collect();
        refs.sort();
        Ok(json!({"default_branch": info.default_branch, "head": hex(info.twin), "refs": refs}))
    }

    pub(super) fn commit(&self, made: &CommitInfo) -> Value {
        json!({"commit_message": made.title, "commit_description": made.description, "oid": made.twin.to_hex()})
    }

    pub(super) fn commit_at(&self, commit: Digest) -> Result<Value, RepoError> {
        let found = self.0.list_repo_commits(Some(&commit.to_hex()), true)?.into_iter().find(|one| one.id == commit);
        let found = found.ok_or(RepoError::Ref(RefProblem::Unknown { kind: "branch", name: commit.to_hex() }))?;
        Ok(json!({"commit_message": found.title, "commit_description": found.message, "oid": hex(found.twin)}))
    }

    pub(super) fn commits(&self, found: &[CommitSummary]) -> Value {
        found
            .iter()
            .map(|commit| json!({"commit_id": hex(commit.twin), "title": commit.title, "message": commit.message}))
            .collect()
    }

    pub(super) fn entries(&self, found: &[RepoEntry]) -> Value {
        let entry = |entry: &RepoEntry| match entry {
            RepoEntry::Folder(folder) => json!({"path": folder.path, "tree_id": hex(folder.tree_id)}),
            RepoEntry::File(file) => {
                let lfs = file.lfs.map(
                    |lfs| json!({"size": lfs.size, "sha256": lfs.sha256.to_hex(), "pointer_size": lfs.pointer_size}),
                );
                json!({
                    "path": file.path, "size": file.size, "blob_id": hex(file.blob_id), "lfs": lfs,
                    "sha256": file.sha256.to_hex(), "etag": file.etag(),
                })
            }
        };
        found.iter().map(entry).collect()
    }

    pub(super) fn refs(&self) -> Result<Value, RepoError> {
        let (mut branches, mut tags) = (Vec::new(), Vec::new());
        for named in self.0.named_refs()? {
            let target = self.id(named.commit)?;
            let full = format!("{}{}", named.kind.prefix(), named.name);
            let list = if named.kind == RefKind::Tag { &mut tags } else { &mut branches };
            list.push(json!({"name": named.name, "ref": full, "target_commit": target}));
        }
        Ok(json!({"branches": branches, "tags": tags}))
    }

    pub(super) fn reflog(&self, log: &Reflog) -> Result<Value, RepoError> {
        let entry = |entry: &shard_repo::ReflogEntry| {
            Ok(json!({
                "ref_name": format!("refs/{}", log.name),
                "old_head": self.id_or_none(entry.old)?,
                "new_head": self.id_or_none(entry.new)?,
            }))
        };
        log.entries.iter().map(entry).collect()
    }

    fn blob(&self, entry: Option<FileEntry>, path: &str, revisions: &[Digest]) -> Result<Value, RepoError> {
        let Some(entry) = entry else { return Ok(Value::Null) };
        // Listings know Git's ids of files: one of the commits has it at the path.
        for revision in revisions {
            let options = ListOptions { git_ids: true, ..ListOptions::default() };
            for found in self.0.get_paths_info(&[path], Some(&revision.to_hex()), options)? {
                if let RepoEntry::File(file) = found
                    && file.sha256 == entry.sha256
                {
                    return Ok(hex(file.blob_id));
                }
            }
        }
        Ok(Value::Null)
    }

    pub(super) fn merge(&self, report: &MergeReport) -> Result<Value, RepoError> {
        let status = match report.status {
            MergeStatus::Merged => "merged",
            MergeStatus::FastForward => "fast-forward",
            MergeStatus::AlreadyUpToDate => "already-up-to-date",
            MergeStatus::Conflict => "conflict",
        };
        let revisions: Vec<Digest> = [report.base, report.from, Some(report.source)].into_iter().flatten().collect();
        let mut conflicts = Vec::new();
        for conflict in &report.conflicts {
            let [base, ours, theirs] = [conflict.entries.base, conflict.entries.ours, conflict.entries.theirs];
            conflicts.push(json!({
                "path": conflict.path,
                "conflict_type": conflict.kind.as_str(),
                "base_oid": self.blob(base, &conflict.path, &revisions)?,
                "target_oid": self.blob(ours, &conflict.path, &revisions)?,
                "source_oid": self.blob(theirs, &conflict.path, &revisions)?,
                "related_path": conflict.related_path,
            }));
        }
        Ok(json!({
            "status": status,
            "target_revision": report.target,
            "base_commit": self.id_or_none(report.base)?,
            "target_head_before": self.id_or_none(report.from)?,
            "source_head": self.id(report.source)?,
            "head_after": self.id_or_none(report.to)?,
            "conflicts": conflicts,
            "fast_forward": report.status == MergeStatus::FastForward,
            "created_commit": report.commit.is_some(),
        }))
    }

    pub(super) fn overview(&self, overview: &StorageOverview) -> Value {
        json!({
            "sections": !overview.sections.is_empty(),
            "total": overview.total_size > 0,
            "gc_would_free": overview.reclaimable_gc_size > 0,
            "cache_would_free": overview.reclaimable_cache_size > 0,
        })
    }

    /// Logs of refs hold nothing on the hub, so they block nothing there.
    pub(super) fn squash(&self, report: &SquashReport) -> Result<Value, RepoError> {
        let blocking = report.blocking_refs.iter().filter(|blocking| !blocking.is_log);
        let blocking: Vec<String> = blocking.map(|blocking| format!("refs/{}", blocking.name)).collect();
        Ok(json!({
            "ref_name": format!("refs/{}", report.ref_name),
            "old_head": self.id(report.old_head)?,
            "new_head": self.id(report.new_head)?,
            "root_commit_before": self.id(report.root_commit_before)?,
            "rewritten_commit_count": report.rewritten_commit_count,
            "dropped_ancestor_count": report.dropped_ancestor_count,
            "blocking_refs": blocking,
        }))
    }
}
