//! `shard branch`

use serde_json::{Value, json};
use shard_core::Digest;
use shard_repo::{Branch, Repository};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// List, make, rename or delete branches
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A new branch, and where it ends (HEAD by default); with -d or -D branches to delete, with -m its old and its new name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// List branches with their last commits
    #[arg(short, long, conflicts_with = "names")]
    verbose: bool,
    /// Print only the branch that is checked out: nothing where there is none
    #[arg(long, conflicts_with_all = ["names", "verbose"])]
    show_current: bool,
    /// Delete branches whose commits another branch or a tag has
    #[arg(short, long, requires = "names", conflicts_with_all = ["rename", "delete_anyway"])]
    delete: bool,
    /// Delete branches even where only the reflog has their commits then
    #[arg(short = 'D', requires = "names", conflicts_with = "rename")]
    delete_anyway: bool,
    /// Let a branch that is there end at START, too
    #[arg(short, long, requires = "names", conflicts_with_all = ["delete", "delete_anyway", "rename"])]
    force: bool,
    /// Rename a branch: OLD NEW, or NEW for the one that is checked out
    #[arg(short = 'm', long = "move", requires = "names")]
    rename: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    match args.names.as_slice() {
        names if args.delete || args.delete_anyway => delete(names, args.delete_anyway, &repository, context)?,
        [new] if args.rename => {
            let current = repository.head()?.branch;
            let old = current.ok_or_else(|| {
                Failure::new(code::REFUSED, "no branch is checked out").next("`shard branch -m OLD NEW` names it")
            })?;
            rename(&old, new, &repository, context)?;
        }
        [old, new] if args.rename => rename(old, new, &repository, context)?,
        [] if args.show_current => {
            let current = repository.head()?.branch;
            if context.ui.json {
                context.ui.print_json(&json!({"current": current}))?;
            } else if let Some(current) = current {
                context.ui.print(&format!("{}\n", visible(&current)))?;
            }
        }
        [] => list(args.verbose, &repository, context)?,
        [name] if args.force => set(name, "HEAD", &repository, context)?,
        [name, start] if args.force => set(name, start, &repository, context)?,
        [name] if !args.rename => create(name, "HEAD", &repository, context)?,
        [name, start] => create(name, start, &repository, context)?,
        _ => {
            return Err(Failure::new(code::USAGE, "too many names").next("`shard help branch` shows how it is used"));
        }
    }
    Ok(code::DONE)
}

fn title(repository: &Repository, commit: Digest) -> Result<String, Failure> {
    Ok(repository.read_commit(commit)?.title().to_owned())
}

fn to_json(branch: &Branch, repository: &Repository) -> Result<Value, Failure> {
    Ok(json!({
        "name": branch.name,
        "commit": branch.commit.to_hex(),
        "title": title(repository, branch.commit)?,
        "current": branch.is_current,
        "default": branch.is_default,
    }))
}

fn list(verbose: bool, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let (head, branches) = (repository.head()?, repository.branches()?);
    if context.ui.json {
        let branches: Result<Vec<Value>, Failure> = branches.iter().map(|branch| to_json(branch, repository)).collect();
        let json = json!({"current": head.branch, "default": repository.default_branch()?, "branches": branches?});
        return context.ui.print_json(&json);
    }
    let mut table = Table::new(&["", "", ""]);
    let mut row = |name: &str, commit: Digest, is_current: bool| -> Result<(), Failure> {
        let (mark, style) = if is_current { ("* ", Style::Green) } else { ("  ", Style::Plain) };
        let mut cells = vec![Cell::new(format!("{mark}{name}"), style)];
        if verbose {
            cells.push(Cell::new(commit.short(), Style::Cyan));
            cells.push(title(repository, commit)?.into());
        }
        table.row(cells);
        Ok(())
    };
    if let (None, Some(commit)) = (&head.branch, head.commit) {
        row(&format!("(no branch, at {})", commit.short()), commit, true)?;
    }
    for branch in &branches {
        row(&branch.name, branch.commit, branch.is_current)?;
    }
    context.ui.print(&context.ui.table(&table))
}

fn create(name: &str, start: &str, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let branch = repository.create_branch(name, start)?;
    if context.ui.json {
        return context.ui.print_json(&to_json(&branch, repository)?);
    }
    let (name, id) = (context.ui.paint(name, Style::Green), context.ui.paint(&branch.commit.short(), Style::Cyan));
    context.ui.inform(&format!("Made branch {name} at {id}; `shard checkout` switches to it\n"))
}

fn set(name: &str, start: &str, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let (branch, before) = repository.set_branch(name, start)?;
    if context.ui.json {
        let mut json = to_json(&branch, repository)?;
        json["moved_from"] = json!(before.map(|before| before.to_hex()));
        return context.ui.print_json(&json);
    }
    let (name, id) = (context.ui.paint(name, Style::Green), context.ui.paint(&branch.commit.short(), Style::Cyan));
    let was = before.map(|before| format!(", which was at {},", context.ui.paint(&before.short(), Style::Cyan)));
    context.ui.inform(&format!("Branch {name}{} is at {id}\n", was.unwrap_or_default()))
}

fn delete(names: &[String], anyway: bool, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    for name in names {
        let outcome = repository.delete_branch(name, anyway);
        let gone = || deleted.iter().map(|(name, _): &(&String, Digest)| name.as_str()).collect::<Vec<_>>().join(", ");
        let commit = outcome.map_err(|error| match deleted.is_empty() {
            true => Failure::from(error),
            false => Failure::from(error).because(format!("deleted before it: {}", gone())),
        })?;
        deleted.push((name, commit));
    }
    if context.ui.json {
        let deleted = deleted.iter().map(|(name, commit)| json!({"name": name, "commit": commit.to_hex()}));
        return context.ui.print_json(&json!({"deleted": deleted.collect::<Vec<_>>()}));
    }
    for (name, commit) in deleted {
        let (name, id) = (context.ui.paint(name, Style::Green), context.ui.paint(&commit.short(), Style::Cyan));
        context.ui.inform(&format!("Deleted branch {name}, which was at {id}\n"))?;
    }
    Ok(())
}

fn rename(old: &str, new: &str, repository: &Repository, context: &Context) -> Result<(), Failure> {
    repository.rename_branch(old, new)?;
    if context.ui.json {
        return context.ui.print_json(&json!({"old": old, "new": new}));
    }
    let (old, new) = (context.ui.paint(old, Style::Green), context.ui.paint(new, Style::Green));
    context.ui.inform(&format!("Renamed branch {old} to {new}\n"))
}
