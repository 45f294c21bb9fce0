//! `shard tag`

use serde_json::{Value, json};
use shard_repo::{Repository, TagOptions, TaggedCommit};

use super::commit::default_author;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::text::visible;

/// List, make or delete tags
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A new tag, or with -d one to delete; with -l a pattern, in which * is any text and ? a character
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What it is put on; HEAD by default
    #[arg(value_name = "REV", conflicts_with_all = ["list", "delete"])]
    revision: Option<String>,
    /// List tags, where NAME is given those that match it
    #[arg(short, long)]
    list: bool,
    /// Make an annotated tag that says this; given again, a further paragraph
    #[arg(short, long, value_name = "TEXT", requires = "name", conflicts_with_all = ["list", "delete"])]
    message: Vec<String>,
    /// Who makes an annotated tag; by default what SHARD_AUTHOR says, or nobody
    #[arg(long, value_name = "NAME", requires = "message")]
    author: Option<String>,
    /// Delete the tag
    #[arg(short, long, requires = "name", conflicts_with = "list")]
    delete: bool,
    /// Move a tag that is there
    #[arg(short, long, requires = "name", conflicts_with_all = ["list", "delete"])]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    match &args.name {
        Some(name) if args.delete => delete(name, &repository, context)?,
        Some(name) if !args.list => create(name, args, &repository, context)?,
        pattern => list(pattern.as_deref(), &repository, context)?,
    }
    Ok(code::DONE)
}

fn to_json(tag: &TaggedCommit) -> Value {
    let said = tag.annotation.as_ref();
    json!({
        "name": tag.name,
        "commit": tag.commit.to_hex(),
        "annotated": said.is_some(),
        "message": said.map(|said| &said.message),
        "created_at": said.map(|said| &said.created_at),
        "tagger": said.and_then(|said| said.tagger.as_ref()),
    })
}

fn list(pattern: Option<&str>, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let tags = repository.tags(pattern)?;
    if context.ui.json {
        return context.ui.print_json(&json!({"tags": tags.iter().map(to_json).collect::<Vec<_>>()}));
    }
    let names: String = tags.iter().map(|tag| format!("{}\n", visible(&tag.name))).collect();
    context.ui.print(&names)
}

fn create(name: &str, args: &Args, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let message = (!args.message.is_empty()).then(|| args.message.join("\n\n"));
    let options = TagOptions { message, tagger: args.author.clone().or_else(default_author), force: args.force };
    let report = repository.create_tag(name, args.revision.as_deref().unwrap_or("HEAD"), &options)?;
    if context.ui.json {
        return context.ui.print_json(&json!({
            "name": name,
            "commit": report.commit.to_hex(),
            "tag": report.tag.map(|tag| tag.to_hex()),
            "moved_from": report.moved_from.map(|commit| commit.to_hex()),
        }));
    }
    let ui = &context.ui;
    let (name, id) = (ui.paint(name, Style::Yellow), ui.paint(&report.commit.short(), Style::Cyan));
    let moved = report.moved_from.map(|from| format!(", which was on {}", ui.paint(&from.short(), Style::Cyan)));
    ui.inform(&format!("Put tag {name}{} on {id}\n", moved.map(|moved| moved + ",").unwrap_or_default()))
}

fn delete(name: &str, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let commit = repository.delete_tag(name)?;
    if context.ui.json {
        let deleted = json!([{"name": name, "commit": commit.map(|commit| commit.to_hex())}]);
        return context.ui.print_json(&json!({"deleted": deleted}));
    }
    let was = commit.map(|commit| format!(", which was on {}", context.ui.paint(&commit.short(), Style::Cyan)));
    let name = context.ui.paint(name, Style::Yellow);
    context.ui.inform(&format!("Deleted tag {name}{}\n", was.unwrap_or_default()))
}
