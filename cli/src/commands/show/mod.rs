//! `shard show`

mod file;
mod storage;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_core::limits::Cut;
use shard_history::{FileEntry, Revision, RevisionSpec};
use shard_manifest::RunRecord;
use shard_manifest::joined::join;
use shard_repo::{Archive, Description, LogEntry, RepoError, Repository, describe, read_manifest};

use crate::Context;
use crate::commands::{log, unpack};
use crate::error::{Failure, code};
use crate::report::changes::change_table;
use crate::report::{json, lossy};

/// Show a revision, a file of one, a file on disk, or an archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A revision; REV:PATH, a file of it; a file on disk that is no revision; or an archive, NAME.shard
    #[arg(value_name = "OBJECT", default_value = "HEAD")]
    object: String,
    /// How the file's blocks are stored: codec chain, sizes, depth, base
    #[arg(long)]
    storage: bool,
    /// The manifest of the file, joined with its run record, as JSON
    #[arg(long, conflicts_with = "storage")]
    manifest: bool,
    /// The tensors of every changed file of a revision
    #[arg(long)]
    tensors: bool,
    /// Leave out what the values of a file's tensors are like: nothing stored is decoded
    #[arg(long)]
    no_values: bool,
}

/// What the user means.
enum Object {
    Revision(shard_core::Digest),
    File { revision: Revision, path: String, entry: FileEntry },
    Disk(PathBuf),
    Archive(PathBuf),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository_if_any()?;
    let object = find(&args.object, repository.as_ref(), context)?;
    match (object, &repository) {
        (Object::Revision(commit), Some(repository)) => revision(commit, args, repository, context)?,
        (Object::File { revision, path, entry }, Some(repository)) => {
            stored_file((&revision, &path), &entry, args, repository, context)?;
        }
        (Object::Disk(path), _) => disk_file(&path, args, repository.as_ref(), context)?,
        (Object::Archive(path), _) => archive(&path, args, context)?,
        // Nothing is found in a repository that is not there.
        (Object::Revision(_) | Object::File { .. }, None) => drop(context.repository()?),
    }
    Ok(code::DONE)
}

/// A revision wins over a file of the same name, which can be written `./NAME`.
fn find(text: &str, repository: Option<&Repository>, context: &Context) -> Result<Object, Failure> {
    let mut missing = None;
    if let Some(repository) = repository {
        match named(text, repository) {
            Ok(object) => return Ok(object),
            Err(error @ RepoError::Revision(_)) => missing = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let path = PathBuf::from(text);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(Failure::new(code::USAGE, format!("{text}: is a folder"))
            .next("name a file of it; `shard diff` compares folders of shards")),
        Ok(_) if path.extension().is_some_and(|extension| extension == "shard") => Ok(Object::Archive(path)),
        Ok(_) => Ok(Object::Disk(path)),
        Err(error) => Err(match missing {
            Some(missing) => {
                Failure::from(missing).because(format!("there is no file {text:?} either")).with_code(code::NOT_FOUND)
            }
            None if text == "HEAD" => match context.repository() {
                Err(failure) => failure,
                Ok(_) => Failure::io(&path, "cannot read", &error),
            },
            None => Failure::io(&path, "cannot read", &error),
        }),
    }
}

/// What a text names in a repository.
fn named(text: &str, repository: &Repository) -> Result<Object, RepoError> {
    match RevisionSpec::parse(text)? {
        RevisionSpec::Path(revision, path) if !path.is_empty() => {
            let entry = repository.file_at(&revision, &path)?;
            Ok(Object::File { revision, path, entry })
        }
        RevisionSpec::Commit(revision) | RevisionSpec::Path(revision, _) => {
            Ok(Object::Revision(repository.resolve(&revision.to_string())?))
        }
        RevisionSpec::Range(..) => Err(RepoError::Argument(format!("{text}: names several commits; name one"))),
    }
}

fn revision(id: shard_core::Digest, args: &Args, repository: &Repository, context: &Context) -> Result<(), Failure> {
    if args.manifest {
        return Err(needs_file("--manifest", args));
    }
    let entry = LogEntry { id, commit: repository.read_commit(id)? };
    let changes = repository.changes_of(&entry.commit)?;
    let changed = || changes.iter().filter_map(|change| Some((change.path(), change.new_entry()?)));
    let ui = &context.ui;
    if ui.json {
        let mut value = json::commit(&id, &entry.commit);
        value["changes"] = changes.iter().map(json::file_change).collect();
        if args.tensors {
            let mut all = serde_json::Map::new();
            for (path, file) in changed() {
                all.insert(path.to_owned(), file::tensors_json(&*repository.manifest(file.manifest)?));
            }
            value["tensors"] = Value::Object(all);
        }
        if args.storage {
            let mut all = serde_json::Map::new();
            for (path, file) in repository.files_of(id)?.files() {
                let (manifest, stored) = repository.storage(file.manifest)?;
                let mut totals = storage::totals_json(&stored);
                lossy::add_to(&mut totals, lossy::of(&manifest).as_ref().map(Result::as_ref));
                all.insert(path.clone(), totals);
            }
            value["storage"] = Value::Object(all);
        }
        return ui.print_json(&value);
    }
    let mut text = log::header(&entry, "", context);
    if !changes.is_empty() {
        text.push('\n');
        text.push_str(&ui.table(&change_table(&changes)));
    }
    if args.tensors {
        for (path, file) in changed() {
            text.push_str(&format!("\n{}\n", ui.paint(path, crate::report::style::Style::Bold)));
            text.push_str(&file::tensors_text(&*repository.manifest(file.manifest)?, context));
        }
    }
    if args.storage {
        let mut stored = Vec::new();
        for (path, file) in repository.files_of(id)?.files() {
            let (manifest, of_file) = repository.storage(file.manifest)?;
            stored.push((path.clone(), of_file, lossy::of(&manifest)));
        }
        text.push('\n');
        text.push_str(&storage::files_text(&stored, context));
    }
    ui.print(&text)
}

fn stored_file(
    (revision, path): (&Revision, &str),
    entry: &FileEntry,
    args: &Args,
    repository: &Repository,
    context: &Context,
) -> Result<(), Failure> {
    let manifest = repository.manifest(entry.manifest)?;
    let record = record_of(path, revision, repository)?;
    if args.manifest {
        return print_joined(&manifest, &record.unwrap_or_else(|| RunRecord::new(path)), context);
    }
    let mut view = file::View {
        label: args.object.clone(),
        manifest: &manifest,
        id: Some(entry.manifest),
        note: None,
        record,
        summaries: None,
    };
    if args.storage {
        let (_, stored) = repository.storage(entry.manifest)?;
        return match context.ui.json {
            true => context.ui.print_json(&storage::to_json(&view, &stored)),
            false => context.ui.print(&storage::to_text(&view, &stored, context)),
        };
    }
    if !args.no_values {
        let progress = context.ui.progress();
        view.summaries = Some(repository.summaries(&manifest, progress.as_ref())?);
    }
    print_view(&view, context)
}

/// The record of a file: said by the last commit that changed it.
fn record_of(path: &str, revision: &Revision, repository: &Repository) -> Result<Option<RunRecord>, Failure> {
    let changed = repository.log(repository.resolve(&revision.to_string())?, Some(path), 1)?;
    Ok(changed.first().and_then(|entry| entry.commit.record(path).cloned()))
}

fn disk_file(path: &Path, args: &Args, repository: Option<&Repository>, context: &Context) -> Result<(), Failure> {
    if args.storage {
        return Err(needs_file("--storage", args));
    }
    let progress = context.ui.progress();
    let cut = repository.map_or(Cut::V1, Repository::cut);
    let (manifest, note, summaries) = if args.manifest || args.no_values {
        let (manifest, note) = read_manifest(path, cut, progress.as_ref())?;
        (manifest, note, None)
    } else {
        let Description { manifest, summaries, note } = describe(path, cut, progress.as_ref())?;
        (manifest, note, Some(summaries))
    };
    drop(progress);
    if args.manifest {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return print_joined(&manifest, &RunRecord::new(name), context);
    }
    let label = path.display().to_string();
    let view = file::View { label, manifest: &manifest, id: None, note, record: None, summaries };
    print_view(&view, context)
}

fn archive(path: &Path, args: &Args, context: &Context) -> Result<(), Failure> {
    if args.manifest {
        return Err(needs_file("--manifest", args));
    }
    let archive = Archive::open(path).map_err(|error| Failure::in_archive(error, path))?;
    let files = unpack::listed(&archive);
    let ui = &context.ui;
    if ui.json {
        let mut value = unpack::list_json(&files);
        if args.storage {
            let mut all = serde_json::Map::new();
            for (file, _) in &files {
                let stored = archive.storage(file).map_err(|error| Failure::in_archive(error, path))?;
                all.insert(file.path.clone(), storage::totals_json(&stored));
            }
            value["storage"] = Value::Object(all);
        }
        return ui.print_json(&value);
    }
    if !args.storage {
        return ui.print(&unpack::list_text(&files, context));
    }
    let mut stored = Vec::new();
    for (file, mark) in files {
        let of_file = archive.storage(file).map_err(|error| Failure::in_archive(error, path))?;
        stored.push((file.path.clone(), of_file, mark));
    }
    ui.print(&storage::files_text(&stored, context))
}

fn print_view(view: &file::View<'_>, context: &Context) -> Result<(), Failure> {
    if context.ui.json {
        context.ui.print_json(&file::to_json(view))
    } else {
        context.ui.print(&file::to_text(view, context))
    }
}

/// Prints the joined form: canonical, so that its bytes can be hashed and split again.
fn print_joined(
    manifest: &shard_manifest::ContentManifest,
    record: &RunRecord,
    context: &Context,
) -> Result<(), Failure> {
    let bytes = join(manifest, record)
        .map_err(|error| Failure::new(code::SYSTEM, "the manifest and the record cannot be joined").because(error))?;
    let text = String::from_utf8_lossy(&bytes);
    context.ui.print(&format!("{text}\n"))
}

fn needs_file(option: &str, args: &Args) -> Failure {
    Failure::new(code::USAGE, format!("{option} cannot be shown of {}", args.object))
        .next("name a file of a revision, as in HEAD:model.safetensors")
}

/// A number of blocks and a tensor's geometry, for JSON.
fn placed(manifest: &shard_manifest::ContentManifest, view: &shard_core::TensorView) -> Value {
    let blocks = manifest.tensor_blocks(view).0.len() as u64;
    let mut value = json::tensor(view, blocks);
    value["segment"] = json!(view.segment);
    value
}
