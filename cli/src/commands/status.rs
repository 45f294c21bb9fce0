//! `shard status`

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shard_repo::{Head, MergeState, PointerState, Status, WorkState};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::changes::{change_table, path};
use crate::report::json::file_change;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Show what differs between the last commit, the stage and the work tree
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A line a path: its state in the stage, its state in the work tree, the path
    #[arg(short, long)]
    short: bool,
    /// Show the branch, in the short form too
    #[arg(short, long)]
    branch: bool,
    /// Exit with 1 where a tracked file is not as committed, or a merge waits
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let status = context.repository()?.status()?;
    if context.ui.json {
        context.ui.print_json(&to_json(&status))?;
    } else if args.short {
        let branch = if args.branch { format!("## {}\n", short_head(&status.head)) } else { String::new() };
        context.ui.print(&(branch + &short(&status, context)))?;
    } else {
        context.ui.print(&long(&status, context))?;
    }
    Ok(if args.exit_code && !status.is_clean() { code::DIFFERENT } else { code::DONE })
}

fn work_word(state: WorkState) -> (&'static str, char, Style) {
    match state {
        WorkState::Modified => ("modified", 'M', Style::Yellow),
        WorkState::Deleted => ("deleted", 'D', Style::Red),
        WorkState::Untracked => ("untracked", '?', Style::Dim),
    }
}

fn to_json(status: &Status) -> Value {
    let work = status.work.iter().map(|(path, state)| json!({"path": path, "state": work_word(*state).0}));
    json!({
        "branch": status.head.branch,
        "commit": status.head.commit.map(|commit| commit.to_hex()),
        "clean": status.is_clean(),
        "staged": status.staged.iter().map(file_change).collect::<Vec<_>>(),
        "work": work.collect::<Vec<_>>(),
        "pointers": status.pointers.iter().map(|(path, state)| pointer_json(path, state)).collect::<Vec<_>>(),
        "merge": status.merge.as_ref().map(merge_json),
        "bisect": status.is_bisecting,
    })
}

fn merge_json(merge: &MergeState) -> Value {
    let open = merge.unresolved().map(|(path, kind)| json!({"path": path, "conflict_type": kind.as_str()}));
    json!({
        "target": merge.target,
        "ours": merge.ours.to_hex(),
        "theirs": merge.theirs.to_hex(),
        "base": merge.record.base.map(|base| base.to_hex()),
        "message": merge.message,
        "conflicts": open.collect::<Vec<_>>(),
        "resolved": merge.resolved,
        "staged": merge.is_staged,
    })
}

/// The merge that is under way, and what it waits for.
fn merge_text(merge: &MergeState, context: &Context) -> String {
    let ui = &context.ui;
    let open: Vec<_> = merge.unresolved().collect();
    let next = match open.is_empty() {
        true => "all is decided: `shard merge --continue` commits it",
        false => {
            "`shard checkout --ours`, `--theirs` or `shard add` decides, then `shard merge --continue`; or `--abort`"
        }
    };
    let theirs = ui.paint(&merge.theirs.short(), Style::Cyan);
    let mut text = format!("\n{} of {theirs} ({next})\n", ui.paint("Merge under way", Style::Bold));
    let mut table = Table::new(&["", ""]);
    for (path, kind) in open {
        table.row(vec![Cell::new(format!("  {}", kind.as_str()), Style::Red), path.into()]);
    }
    for path in &merge.resolved {
        table.row(vec![Cell::new("  decided", Style::Green), path.as_str().into()]);
    }
    if !table.is_empty() {
        text.push_str(&ui.table(&table));
    }
    text
}

fn pointer_json(path: &str, state: &PointerState) -> Value {
    let why = match state {
        PointerState::Malformed(why) => Some(why),
        _ => None,
    };
    json!({"path": path, "state": pointer_words(state).0, "why": why})
}

/// What is the matter with a pointer or its file, and what to do about it.
fn pointer_words(state: &PointerState) -> (&'static str, &'static str) {
    match state {
        PointerState::NoPointer => ("no pointer", "`shard track --refresh` writes it"),
        PointerState::FileMissing => ("file missing", "`shard checkout` brings it"),
        PointerState::FileChanged => ("file changed", "`shard commit` writes its pointer"),
        PointerState::OutOfDate => {
            ("out of date", "`shard checkout` brings the file, `shard track --refresh` writes the pointer")
        }
        PointerState::Malformed(_) => ("no pointer in it", "`git checkout -- FILE.shard.json` brings it back"),
    }
}

fn short_head(head: &Head) -> String {
    match (&head.branch, &head.commit) {
        (Some(branch), Some(_)) => visible(branch).into_owned(),
        (Some(branch), None) => format!("No commits yet on {}", visible(branch)),
        (None, Some(commit)) => format!("HEAD (detached at {})", commit.short()),
        (None, None) => "HEAD (no commit)".to_owned(),
    }
}

/// As Git's short format, so that scripts and people know it; untracked paths come last.
fn short(status: &Status, context: &Context) -> String {
    let mut lines: BTreeMap<(bool, &str), (char, char, String)> = BTreeMap::new();
    for change in &status.staged {
        lines.insert((false, change.path()), (change.letter(), ' ', path(change)));
    }
    for (path, state) in &status.work {
        let (_, letter, _) = work_word(*state);
        if *state == WorkState::Untracked {
            lines.insert((true, path), ('?', '?', path.clone()));
        } else {
            lines.entry((false, path)).or_insert_with(|| (' ', ' ', path.clone())).1 = letter;
        }
    }
    let mut text = String::new();
    for (staged, work, path) in lines.values() {
        let (left, right) = if *staged == '?' { (Style::Red, Style::Red) } else { (Style::Green, Style::Red) };
        text.push_str(&context.ui.paint(&staged.to_string(), left));
        text.push_str(&context.ui.paint(&work.to_string(), right));
        text.push(' ');
        text.push_str(&visible(path));
        text.push('\n');
    }
    text
}

fn long(status: &Status, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = match (&status.head.branch, &status.head.commit) {
        (Some(branch), Some(_)) => format!("On branch {}\n", ui.paint(branch, Style::Green)),
        (Some(branch), None) => format!("On branch {}, no commits yet\n", ui.paint(branch, Style::Green)),
        (None, Some(commit)) => format!("At commit {}, on no branch\n", ui.paint(&commit.short(), Style::Cyan)),
        (None, None) => "On no branch\n".to_owned(),
    };
    if let Some(merge) = &status.merge {
        text.push_str(&merge_text(merge, context));
    }
    if status.is_bisecting {
        let what = ui.paint("Bisect under way", Style::Bold);
        text.push_str(&format!("\n{what} (`shard bisect log` shows where it stands, `shard bisect reset` ends it)\n"));
    }
    if !status.staged.is_empty() {
        let command = if status.merge.is_some() { "shard merge --continue" } else { "shard commit" };
        text.push_str(&format!("\n{} (`{command}` records them)\n", ui.paint("Staged", Style::Bold)));
        text.push_str(&ui.table(&change_table(&status.staged)));
    }
    let (untracked, changed): (Vec<_>, Vec<_>) =
        status.work.iter().partition(|(_, state)| *state == WorkState::Untracked);
    if !changed.is_empty() {
        text.push_str(&format!("\n{} (`shard add` stages them)\n", ui.paint("Not staged", Style::Bold)));
        let mut table = Table::new(&["", ""]);
        for (path, state) in changed {
            let (word, _, style) = work_word(*state);
            table.row(vec![Cell::new(format!("  {word}"), style), path.as_str().into()]);
        }
        text.push_str(&ui.table(&table));
    }
    if !untracked.is_empty() {
        text.push_str(&format!("\n{} (`shard add` starts to track them)\n", ui.paint("Untracked", Style::Bold)));
        for (path, _) in &untracked {
            text.push_str(&format!("  {}\n", visible(path)));
        }
    }
    if !status.pointers.is_empty() {
        text.push_str(&format!("\n{}\n", ui.paint("Pointers for Git", Style::Bold)));
        let mut table = Table::new(&["", "", ""]);
        for (path, state) in &status.pointers {
            let (what, next) = pointer_words(state);
            let what = Cell::new(format!("  {what}"), Style::Yellow);
            table.row(vec![what, path.as_str().into(), Cell::new(next, Style::Dim)]);
        }
        text.push_str(&ui.table(&table));
    }
    text.push_str(match (status.staged.is_empty(), status.is_clean(), untracked.is_empty()) {
        // What a merge waits for was said.
        _ if status.merge.is_some() => "",
        (false, ..) => "",
        (true, true, true) => "Nothing to commit: the work tree is as committed\n",
        (true, true, false) => "\nNothing is staged, but there are untracked files\n",
        (true, false, _) => "\nNothing is staged\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;
    use shard_history::{FileChange, FileEntry, FileMode};
    use shard_repo::Settings;

    use super::*;
    use crate::report::changes::change_style;
    use crate::report::style::Style;
    use crate::report::{ColorChoice, Ui};

    #[test]
    fn the_short_form_is_git_s() {
        let id = sha256(b"x");
        let entry = FileEntry { mode: FileMode::Regular, size: 1, sha256: id, manifest: id };
        let status = Status {
            head: Head { branch: Some("main".to_owned()), commit: None },
            staged: vec![
                FileChange::Added { path: "b".to_owned(), new: entry },
                FileChange::Renamed { from: "c".to_owned(), path: "d".to_owned(), old: entry, new: entry },
            ],
            work: vec![
                ("a".to_owned(), WorkState::Untracked),
                ("b".to_owned(), WorkState::Modified),
                ("e".to_owned(), WorkState::Deleted),
            ],
            pointers: vec![("m".to_owned(), PointerState::FileMissing)],
            merge: None,
            is_bisecting: false,
        };
        let ui = Ui::new(false, false, ColorChoice::Never);
        let context = Context { ui, settings: Settings::default(), away: None, store: Default::default() };
        assert_eq!(short(&status, &context), "AM b\nR  c -> d\n D e\n?? a\n");
        assert_eq!(short_head(&status.head), "No commits yet on main");
        assert_eq!(change_style(&status.staged[0]), Style::Green);
        assert!(long(&status, &context).contains("  renamed  c -> d  1 B\n"));
        assert!(long(&status, &context).contains("  file missing  m  `shard checkout` brings it\n"));
    }
}
