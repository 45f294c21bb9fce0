//! `shard lineage`

use std::path::Path;

use serde_json::{Value, json};
use shard_history::RevisionSpec;
use shard_repo::{KnownModel, Lineage, LineageOptions, Relation, RepoError};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::text::visible;

/// Show which known models a file comes from, up to the first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file on disk, or one of a revision: REV:PATH
    #[arg(value_name = "FILE")]
    file: String,
    /// At most this many ancestors above one another
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    depth: u16,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = LineageOptions { depth: usize::from(args.depth) };
    let progress = context.ui.progress();
    let progress = progress.as_ref();
    let on_disk = Path::new(&args.file);
    let lineage = match RevisionSpec::parse(&args.file) {
        Ok(RevisionSpec::Path(revision, path)) if on_disk.symlink_metadata().is_err() => {
            repository.lineage_of(&revision, &path, options, progress)
        }
        _ => repository.lineage_of_file(on_disk, options, progress),
    };
    let lineage = lineage.map_err(|error| match error {
        RepoError::NothingToDo(_) => {
            Failure::from(error).with_code(code::NOT_FOUND).next("only files with tensors have a lineage")
        }
        other => other.into(),
    })?;
    if context.ui.json {
        let mut json = to_json(&lineage);
        json["file"] = args.file.as_str().into();
        context.ui.print_json(&json)?;
    } else {
        let mut text = context.ui.paint(&args.file, Style::Bold);
        if let Some(known) = &lineage.known {
            text.push_str(&format!(" is {}", place(known, context)));
        }
        text.push('\n');
        if lineage.parents.is_empty() && !lineage.is_cut {
            text.push_str("No known model is an ancestor of it\n");
        }
        tree(&lineage, "", context, &mut text);
        context.ui.print(&text)?;
    }
    Ok(code::DONE)
}

fn place(known: &KnownModel, context: &Context) -> String {
    let id = context.ui.paint(&known.id.short(), Style::Cyan);
    format!("{} of {id} {}", visible(&known.path), visible(known.commit.title()))
}

fn tree(lineage: &Lineage, before: &str, context: &Context, text: &mut String) {
    for (index, parent) in lineage.parents.iter().enumerate() {
        let is_last = index + 1 == lineage.parents.len() && !lineage.is_cut;
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let of = parent.known.as_ref().map(|known| place(known, context)).unwrap_or_default();
        if let Some(relation) = &parent.relation {
            let kind = context.ui.paint(relation.kind.as_str(), Style::Yellow);
            let again = if parent.is_shown_above { " (its ancestors are shown above)" } else { "" };
            text.push_str(&format!("{before}{branch}{kind} of {of}{}\n", context.ui.paint(again, Style::Dim)));
            let equal = format!("{} of {} tensors equal; {}", relation.equal, relation.tensors, relation.evidence);
            let bar = if parent.parents.is_empty() && !parent.is_cut { "   " } else { "│  " };
            text.push_str(&format!("{before}{below}{bar}{}\n", context.ui.paint(&equal, Style::Dim)));
        }
        tree(parent, &format!("{before}{below}"), context, text);
    }
    if lineage.is_cut {
        text.push_str(&format!("{before}└─ …: --depth shows more\n"));
    }
}

fn to_json(lineage: &Lineage) -> Value {
    let known = lineage.known.as_ref().map(|known| {
        json!({
            "path": known.path,
            "commit": known.id.to_hex(),
            "title": known.commit.title(),
            "created_at": known.commit.created_at,
            "sha256": known.sha256.to_hex(),
        })
    });
    json!({
        "known": known,
        "relation": lineage.relation.as_ref().map(relation),
        "parents": lineage.parents.iter().map(to_json).collect::<Vec<_>>(),
        "cut": lineage.is_cut,
        "shown_above": lineage.is_shown_above,
    })
}

fn relation(relation: &Relation) -> Value {
    let share = if relation.tensors == 0 { 0.0 } else { relation.equal as f64 / relation.tensors as f64 };
    json!({
        "kind": relation.kind.as_str(),
        "evidence": relation.evidence,
        "rank": relation.rank,
        "equal": relation.equal,
        "tensors": relation.tensors,
        "equal_share": share,
        "nearness": relation.nearness,
    })
}
