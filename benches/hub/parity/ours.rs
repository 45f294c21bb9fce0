//! shard's library, asked as the peer is.

mod answers;
mod errors;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_core::NoProgress;
use shard_repo::{
    CommitOperation, CommitRequest, Content, FolderUpload, GcOptions, ListOptions, MergeOptions, NewRepo, PathFilter,
    RepoError, Repository, Settings, SquashOptions, TagOptions,
};

use crate::Failure;
use answers::Answers;
use errors::class;

/// What shard is asked in another way than by default, so that it does what hubvault does: the operation, how, and what it does by
/// default.
pub(crate) const ASKED_WITH: [(&str, &str, &str); 5] = [
    ("create_repo", "`NewRepo::initial_commit`", "a new repository has no commit"),
    ("merge", "`MergeOptions::into` is the default branch where no target is given", "the branch that is checked out"),
    ("delete_branch", "`force` (`branch -D`)", "a branch stays whose commits nothing else leads to"),
    (
        "gc",
        "`GcOptions::prune_now` (`gc --prune-now`), also for `get_storage_overview` and the collection after `squash_history`",
        "what refs named before stays, by their logs: so a branch that was deleted by mistake comes back, and a collection after it frees nothing yet",
    ),
    (
        "squash_history",
        "logs of refs are left out of `blocking_refs`",
        "they are told too, since they keep the old commits until they are pruned",
    ),
];

/// What an operation gives, or the class of its error: that which hubvault has for the same.
pub(crate) fn ask(order: &Value) -> Result<Value, Failure> {
    let folder = Path::new(order["repo"].as_str().ok_or("an order without a repository")?);
    let call = order["call"].as_str().ok_or("an order without an operation")?;
    let outcome = match call {
        "create_repo" => create(folder, Args(&order["args"])),
        _ if !folder.exists() => Err(RepoError::NotARepository(folder.to_owned())),
        _ => Repository::discover(folder, Settings::default()).and_then(|hub| made(&hub, call, Args(&order["args"]))),
    };
    Ok(outcome.map_or_else(|error| json!({"error": class(&error)}), |value| json!({"value": value})))
}

/// Arguments by name.
#[derive(Clone, Copy)]
struct Args<'a>(&'a Value);

impl<'a> Args<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0[name].as_str()
    }

    fn is(self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or_default()
    }

    fn number(self, name: &str) -> Result<u64, RepoError> {
        // The library's types have no negative numbers: whoever calls it has to refuse them.
        self.0[name].as_u64().ok_or_else(|| RepoError::Argument(format!("{name} is not 0 or more")))
    }

    /// One text or a list of them.
    fn texts(self, name: &str) -> Vec<String> {
        match &self.0[name] {
            Value::String(text) => vec![text.clone()],
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    fn request(self) -> CommitRequest {
        let owned = |name: &str| self.text(name).map(str::to_owned);
        CommitRequest {
            message: owned("commit_message").unwrap_or_default(),
            description: owned("commit_description"),
            revision: owned("revision"),
            parent_commit: owned("parent_commit"),
            ..CommitRequest::default()
        }
    }

    fn filter(self) -> PathFilter {
        let allow = (!self.0["allow_patterns"].is_null()).then(|| self.texts("allow_patterns"));
        PathFilter { allow, ignore: self.texts("ignore_patterns") }
    }

    fn content(self) -> Content {
        match self.text("text") {
            Some(text) => Content::Bytes(text.as_bytes().to_vec()),
            None => Content::File(PathBuf::from(self.text("file").unwrap_or_default())),
        }
    }

    fn operation(self) -> CommitOperation {
        let to = self.text("to").unwrap_or_default().to_owned();
        match (self.text("add"), self.text("delete")) {
            (Some(path), _) => CommitOperation::Add { path: path.to_owned(), content: self.content() },
            (_, Some(path)) => CommitOperation::delete(path),
            _ => CommitOperation::Copy {
                from: self.text("copy").unwrap_or_default().to_owned(),
                revision: self.text("src_revision").map(str::to_owned),
                to,
            },
        }
    }
}

fn create(folder: &Path, args: Args<'_>) -> Result<Value, RepoError> {
    let new = NewRepo {
        default_branch: args.text("default_branch").unwrap_or("main").to_owned(),
        exist_ok: args.is("exist_ok"),
        large_file_threshold: args.0["large_file_threshold"].as_u64(),
        initial_commit: true,
    };
    let hub = Repository::create_repo(folder, &new, Settings::default())?;
    Answers(&hub).info(None)
}

fn made(hub: &Repository, call: &str, args: Args<'_>) -> Result<Value, RepoError> {
    let (answers, progress, revision) = (Answers(hub), &NoProgress, args.text("revision"));
    let path = || args.text("path_in_repo").unwrap_or_default();
    match call {
        "repo_info" => answers.info(revision),
        "create_commit" => {
            let operations = args.0["operations"].as_array().map(Vec::as_slice).unwrap_or_default();
            let operations = operations.iter().map(|operation| Args(operation).operation()).collect();
            Ok(answers.commit(&hub.create_commit(operations, &args.request(), progress)?))
        }
        "upload_file" => Ok(answers.commit(&hub.upload_file(path(), args.content(), &args.request(), progress)?)),
        "upload_folder" | "upload_large_folder" => {
            let upload = FolderUpload {
                path_in_repo: args.text("path_in_repo").map(str::to_owned),
                filter: args.filter(),
                delete: args.texts("delete_patterns"),
            };
            let folder = Path::new(args.text("folder_path").unwrap_or_default());
            Ok(answers.commit(&match call {
                "upload_folder" => hub.upload_folder(folder, &upload, &args.request(), progress)?,
                _ => hub.upload_large_folder(folder, upload.filter, &args.request(), progress)?,
            }))
        }
        "delete_file" => Ok(answers.commit(&hub.delete_file(path(), &args.request())?)),
        "delete_folder" => Ok(answers.commit(&hub.delete_folder(path(), &args.request())?)),
        "merge" => merge(hub, args),
        "get_paths_info" => {
            let paths = args.texts("paths");
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            Ok(answers.entries(&hub.get_paths_info(&paths, revision, with_ids(false))?))
        }
        "list_repo_tree" => {
            let found = hub.list_repo_tree(args.text("path_in_repo"), revision, with_ids(args.is("recursive")))?;
            Ok(answers.entries(&found))
        }
        "list_repo_files" => Ok(json!(hub.list_repo_files(revision)?)),
        "list_repo_commits" => Ok(answers.commits(&hub.list_repo_commits(revision, true)?)),
        "list_repo_refs" => answers.refs(),
        "create_branch" => {
            let start = revision.map_or_else(|| hub.default_branch(), |revision| Ok(revision.to_owned()))?;
            exist_ok(hub.create_branch(args.text("branch").unwrap_or_default(), &start).map(drop), args)
        }
        // Without force a branch stays whose commits nothing else leads to: the hub's operation knows no such care.
        "delete_branch" => hub.delete_branch(args.text("branch").unwrap_or_default(), true).map(|_| Value::Null),
        "create_tag" => {
            let at = revision.map_or_else(|| hub.default_branch(), |revision| Ok(revision.to_owned()))?;
            let options = TagOptions { message: args.text("tag_message").map(str::to_owned), ..TagOptions::default() };
            exist_ok(hub.create_tag(args.text("tag").unwrap_or_default(), &at, &options).map(drop), args)
        }
        "delete_tag" => hub.delete_tag(args.text("tag").unwrap_or_default()).map(|_| Value::Null),
        "list_repo_reflog" => {
            let most = args.0["limit"].as_u64().map_or(usize::MAX, |limit| limit as usize);
            answers.reflog(&hub.reflog(args.text("ref_name").unwrap_or_default(), most)?)
        }
        "open_file" => seeks(hub, path(), args),
        "read_bytes" => Ok(text(hub.read_bytes(path(), revision)?)),
        "read_range" => Ok(text(hub.read_range(path(), args.number("start")?, args.number("length")?, revision)?)),
        "hf_hub_download" => {
            let name = args.text("filename").unwrap_or_default();
            let place = hub.hf_hub_download(name, revision, args.text("local_dir").map(Path::new))?;
            let kept = place.to_string_lossy().ends_with(&format!("/{name}"));
            Ok(json!({"path_is_kept": kept, "text": text(fs::read(place).unwrap_or_default())}))
        }
        "snapshot_download" => {
            let folder = args.text("local_dir").map(Path::new);
            Ok(tree_of(&hub.snapshot_download(revision, folder, &args.filter(), progress)?))
        }
        "reset_ref" => {
            let to =
                hub.reset_ref(args.text("ref_name").unwrap_or_default(), args.text("to_revision").unwrap_or_default())?;
            answers.commit_at(to)
        }
        "quick_verify" | "full_verify" => {
            Ok(json!({"ok": hub.verify(call == "full_verify", progress)?.problems.is_empty()}))
        }
        "get_storage_overview" => Ok(answers.overview(&hub.storage_overview(&GcOptions::default().prune_now())?)),
        "gc" => {
            // The logs of refs hold nothing on the hub.
            let prune_cache = args.0["prune_cache"].as_bool().unwrap_or(true);
            let options = GcOptions { prune_cache, ..GcOptions::default().prune_now() };
            let frees = match args.is("dry_run") {
                true => hub.plan_gc(&options)?.freed_bytes > 0,
                false => hub.gc(&options, progress)?.freed_bytes() > 0,
            };
            Ok(json!({"dry_run": args.is("dry_run"), "frees": frees}))
        }
        "squash_history" => {
            let options = SquashOptions {
                branch: args.text("ref_name").map(str::to_owned),
                root: args.text("root_revision").map(str::to_owned),
                message: args.text("commit_message").map(str::to_owned),
            };
            let answer = answers.squash(&hub.squash(hub.plan_squash(&options)?)?)?;
            if args.0["run_gc"].as_bool().unwrap_or(true) {
                hub.gc(&GcOptions::default().prune_now(), progress)?;
            }
            Ok(answer)
        }
        other => Err(RepoError::Argument(format!("{other} is no operation"))),
    }
}

const fn with_ids(recursive: bool) -> ListOptions {
    ListOptions { recursive, git_ids: true, last_commit: false }
}

/// `exist_ok` of the hub's operations: what is there already is as good.
fn exist_ok(outcome: Result<(), RepoError>, args: Args<'_>) -> Result<Value, RepoError> {
    match outcome {
        Err(RepoError::Ref(shard_repo::RefProblem::Exists { .. })) if args.is("exist_ok") => Ok(Value::Null),
        outcome => outcome.map(|()| Value::Null),
    }
}

fn merge(hub: &Repository, args: Args<'_>) -> Result<Value, RepoError> {
    let source = args.text("source_revision").unwrap_or_default();
    let into = args.text("target_revision").map_or_else(|| hub.default_branch(), |target| Ok(target.to_owned()))?;
    let options = MergeOptions {
        into: Some(into),
        // One text there is for both.
        message: args.text("commit_message").map(|message| match args.text("commit_description") {
            Some(description) => format!("{message}\n\n{description}"),
            None => message.to_owned(),
        }),
        expected: args.text("parent_commit").map(|parent| hub.resolve(parent)).transpose()?,
        ..MergeOptions::default()
    };
    Answers(hub).merge(&hub.merge(source, &options, &NoProgress)?)
}

fn seeks(hub: &Repository, path: &str, args: Args<'_>) -> Result<Value, RepoError> {
    let mut file = hub.open_file(path, args.text("revision"))?;
    let cannot = |error: std::io::Error| RepoError::Argument(error.to_string());
    let mut found = Vec::new();
    for seek in args.0["seeks"].as_array().map(Vec::as_slice).unwrap_or_default() {
        file.seek(SeekFrom::Start(seek[0].as_u64().unwrap_or_default())).map_err(cannot)?;
        let mut bytes = Vec::new();
        file.by_ref().take(seek[1].as_u64().unwrap_or_default()).read_to_end(&mut bytes).map_err(cannot)?;
        found.push(text(bytes));
    }
    Ok(Value::Array(found))
}

fn text(bytes: Vec<u8>) -> Value {
    json!(String::from_utf8_lossy(&bytes))
}

/// What is below a folder, but for what downloads remember.
fn tree_of(folder: &Path) -> Value {
    let mut files: BTreeMap<String, Value> = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            let place = entry.path();
            if place.is_dir() {
                if entry.file_name() != ".cache" {
                    open.push(place);
                }
            } else if let Ok(path) = place.strip_prefix(folder) {
                files.insert(path.to_string_lossy().into_owned(), text(fs::read(&place).unwrap_or_default()));
            }
        }
    }
    json!(files)
}
