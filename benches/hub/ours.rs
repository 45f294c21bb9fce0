//! shard's library, asked as the peer is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use shard_core::NoProgress;
use shard_history::MergeStatus;
use shard_repo::{
    CommitOperation, CommitRequest, FolderUpload, GcOptions, ListOptions, MergeOptions, NewRepo, Repository, Settings,
    SquashOptions,
};

use crate::Failure;

/// The repository that was asked last stays open, as the peer's object does.
#[derive(Default)]
pub(crate) struct Ours {
    open: Option<(PathBuf, Repository)>,
}

/// Runs something, and answers with how long it took.
fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Value), Failure> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, json!({"seconds": start.elapsed().as_secs_f64()})))
}

fn with<T: Into<Value>>(mut answer: Value, name: &str, value: T) -> Value {
    answer[name] = value.into();
    answer
}

fn text<'a>(order: &'a Value, name: &str) -> Result<&'a str, Failure> {
    order[name].as_str().ok_or_else(|| format!("an order without {name}").into())
}

fn number(order: &Value, name: &str) -> Result<u64, Failure> {
    order[name].as_u64().ok_or_else(|| format!("an order without {name}").into())
}

impl Ours {
    pub(crate) fn ask(&mut self, order: &Value) -> Result<Value, Failure> {
        let folder = PathBuf::from(text(order, "repo")?);
        if text(order, "do")? == "create" {
            self.open = None;
            let new = NewRepo { initial_commit: true, ..NewRepo::default() };
            let (made, answer) = timed(|| Ok(Repository::create_repo(&folder, &new, Settings::default())?))?;
            self.open = Some((folder, made));
            return Ok(answer);
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != folder) {
            self.open = Some((folder.clone(), Repository::discover(&folder, Settings::default())?));
        }
        let Some((_, repository)) = &self.open else { return Err("no repository is open".into()) };
        answer(repository, &folder, order)
    }
}

fn answer(repository: &Repository, folder: &Path, order: &Value) -> Result<Value, Failure> {
    let request = |message: &str| CommitRequest::new(message);
    let progress = &NoProgress;
    match text(order, "do")? {
        "upload" => {
            let (path, file) = (text(order, "path")?, Path::new(text(order, "file")?));
            Ok(timed(|| Ok(repository.upload_file(path, file, &request("upload"), progress)?))?.1)
        }
        "upload_folder" => {
            let (files, upload) = (Path::new(text(order, "folder")?), FolderUpload::default());
            Ok(timed(|| Ok(repository.upload_folder(files, &upload, &request("upload"), progress)?))?.1)
        }
        "range_reads" => {
            let path = text(order, "path")?;
            let ranges: Vec<(u64, u64)> = serde_json::from_value(order["ranges"].clone())?;
            let (bytes, answer) = timed(|| {
                let mut bytes = 0;
                for (start, len) in ranges {
                    bytes += repository.read_range(path, start, len, None)?.len();
                }
                Ok(bytes)
            })?;
            Ok(with(answer, "bytes", bytes))
        }
        "cold_download" => {
            let path = text(order, "path")?;
            for views in ["cache/files", "cache/snapshots"] {
                let _ = fs::remove_dir_all(folder.join(views));
            }
            let (place, answer) = timed(|| Ok(repository.hf_hub_download(path, None, None)?))?;
            Ok(with(answer, "bytes", fs::metadata(place)?.len()))
        }
        "warm_downloads" => {
            let (path, times) = (text(order, "path")?, number(order, "times")?);
            repository.hf_hub_download(path, None, None)?;
            let work = || {
                for _ in 0..times {
                    repository.hf_hub_download(path, None, None)?;
                }
                Ok(())
            };
            Ok(timed(work)?.1)
        }
        "commits" => {
            let (path, first, count) = (text(order, "path")?, number(order, "first")?, number(order, "count")?);
            let work = || {
                for number in first..first + count {
                    let add = CommitOperation::add(path, format!("version {number}\n").into_bytes());
                    repository.create_commit(vec![add], &request(&format!("Commit {number}")), progress)?;
                }
                Ok(())
            };
            Ok(timed(work)?.1)
        }
        "list_commits" => {
            let (found, answer) = timed(|| Ok(repository.list_repo_commits(None, true)?))?;
            Ok(with(answer, "count", found.len()))
        }
        "list_tree" => {
            let options = ListOptions { recursive: true, git_ids: true, last_commit: false };
            let (found, answer) = timed(|| Ok(repository.list_repo_tree(None, None, options)?))?;
            Ok(with(answer, "count", found.len()))
        }
        "small_reads" => {
            let paths: Vec<String> = serde_json::from_value(order["paths"].clone())?;
            let read = || paths.iter().try_fold(0, |sum, path| Ok(sum + repository.read_bytes(path, None)?.len()));
            let (bytes, answer) = timed(read)?;
            Ok(with(answer, "bytes", bytes))
        }
        "merge" => {
            let branch = text(order, "branch")?;
            repository.create_branch(branch, "main")?;
            for (side, branch_of) in [("ours", "main"), ("theirs", branch)] {
                let add = CommitOperation::add(text(order, side)?, branch.as_bytes().to_vec());
                repository.create_commit(vec![add], &request(side).on(branch_of), progress)?;
            }
            let options = MergeOptions { into: Some("main".to_owned()), ..MergeOptions::default() };
            let (report, answer) = timed(|| Ok(repository.merge(branch, &options, progress)?))?;
            let status = if report.status == MergeStatus::Merged { "merged" } else { "something else" };
            Ok(with(answer, "status", status))
        }
        "squash" => {
            let options = SquashOptions { branch: Some("main".to_owned()), ..SquashOptions::default() };
            let work = || {
                repository.squash(repository.plan_squash(&options)?)?;
                repository.gc(&GcOptions::default().prune_now(), progress)?;
                Ok(())
            };
            Ok(timed(work)?.1)
        }
        quick_or_full @ ("quick_verify" | "full_verify") => {
            let (report, answer) = timed(|| Ok(repository.verify(quick_or_full == "full_verify", progress)?))?;
            Ok(with(answer, "ok", report.problems.is_empty()))
        }
        other => Err(format!("{other} is no workload").into()),
    }
}
