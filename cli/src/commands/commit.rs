//! `shard commit`

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use shard_history::Timestamp;
use shard_manifest::{Provenance, RunRecord};
use shard_repo::{CommitOptions, CommitReport, PointerReport, RepoError};

use crate::Context;
use crate::commands::commit_paths::Paths;
use crate::error::{Failure, code};
use crate::report::changes::change_table;
use crate::report::json::file_change;
use crate::report::size::count;
use crate::report::style::Style;

/// Make a commit of what is staged
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What and why; given again, a further paragraph
    #[arg(short, long, value_name = "TEXT", required = true)]
    message: Vec<String>,
    /// Who made it; by default what SHARD_AUTHOR says, or nobody
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Put a tag on the commit, or with heads/NAME move a further branch to it
    #[arg(long, value_name = "REF")]
    name: Option<String>,
    /// Commit even where nothing changed
    #[arg(long)]
    allow_empty: bool,
    /// When it was made (RFC 3339, UTC); now by default. A run record gets it too
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    created_at: Option<String>,
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    metadata: Metadata,
}

/// A record is made for every model file that the commit adds or changes, if any of these is given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Run record, for every model file added or changed")]
struct Metadata {
    /// Name of the model
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// Commit of the training code
    #[arg(long, value_name = "SHA")]
    code_git_sha: Option<String>,
    /// Hash of the training data
    #[arg(long, value_name = "HASH")]
    dataset_hash: Option<String>,
    /// A hyperparameter; the value is JSON where it is valid JSON, else text
    #[arg(long = "hparam", value_name = "KEY=VALUE", value_parser = parse_hparam)]
    hparams: Vec<(String, Value)>,
    /// Epoch, which may be a fraction
    #[arg(long, value_name = "N", value_parser = parse_epoch)]
    epoch: Option<f64>,
    /// Training step
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Training framework
    #[arg(long, value_name = "NAME")]
    framework: Option<String>,
    /// Its version
    #[arg(long, value_name = "VERSION")]
    framework_version: Option<String>,
    /// What identifies the optimizer's state
    #[arg(long, value_name = "TEXT")]
    optimizer_signature: Option<String>,
    /// What identifies the state of the learning-rate schedule
    #[arg(long, value_name = "TEXT")]
    scheduler_signature: Option<String>,
    /// Random seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Who or what made the files
    #[arg(long, value_name = "NAME")]
    created_by: Option<String>,
    /// A snapshot of the training log: path, id or URL
    #[arg(long, value_name = "TEXT")]
    log_snapshot: Option<String>,
    /// The script that made the files
    #[arg(long, value_name = "PATH")]
    script_path: Option<String>,
    /// A free text
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// A JSON object whose members are fields of the record; options win, unknown fields are kept
    #[arg(long, value_name = "FILE.json")]
    record: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    if args.paths.is_asked_for() {
        if args.metadata.record(None)?.is_some() || args.allow_empty {
            let what = "a commit by paths takes neither a run record nor --allow-empty";
            return Err(Failure::new(code::USAGE, what).next("`shard add` and `shard commit` record runs"));
        }
        let author = args.author.clone().or_else(default_author);
        return args.paths.run(args.message.join("\n\n"), author, args.created_at.clone(), context);
    }
    let repository = context.repository()?;
    let record = args.metadata.record(args.created_at.as_deref())?;
    let options = CommitOptions {
        message: args.message.join("\n\n"),
        author: args.author.clone().or_else(default_author),
        created_at: args.created_at.clone(),
        name: args.name.clone(),
        record,
        allow_empty: args.allow_empty,
    };
    let report = repository.commit(&options).map_err(|error| match error {
        RepoError::NothingToDo(_) => Failure::from(error).next(
            "`shard add PATH…` stages files, `shard status` shows what changed; --allow-empty commits all the same",
        ),
        other => other.into(),
    })?;
    // The commit is made, whatever becomes of what Git is given.
    let pointers = repository.write_pointers(false).map_err(|error| {
        let failure =
            Failure::from(error).because(format!("the commit {} was made; its pointers were not written", report.id));
        failure.next("once the cause is gone, `shard track --refresh` writes them")
    })?;
    if context.ui.json {
        let mut json = to_json(&report, options.message.lines().next().unwrap_or_default());
        json["pointers"] = json!({"written": pointers.written, "removed": pointers.removed});
        context.ui.print_json(&json)?;
    } else {
        let mut text = to_text(&report, options.message.lines().next().unwrap_or_default(), context);
        if pointers != PointerReport::default() {
            let written = count(pointers.written.len() as u64, "pointer");
            text.push_str(&format!("  {written} written, {} removed: `git add` them\n", pointers.removed.len()));
        }
        context.ui.inform(&text)?;
    }
    Ok(code::DONE)
}

fn to_text(report: &CommitReport, title: &str, context: &Context) -> String {
    let ui = &context.ui;
    let branch = ui.paint(report.branch.as_deref().unwrap_or("detached"), Style::Green);
    let id = ui.paint(&report.id.short(), Style::Cyan);
    let mut text = format!("[{branch} {id}] {}\n", ui.paint(title, Style::Plain));
    text.push_str(&ui.table(&change_table(&report.changes)));
    if let Some(name) = &report.name {
        let (kind, name) = match name.split_once('/') {
            Some(("tags", name)) => ("tag", name),
            Some(("heads", name)) => ("branch", name),
            _ => ("ref", name.as_str()),
        };
        text.push_str(&format!("  {kind} {} names it\n", ui.paint(name, Style::Cyan)));
    }
    text
}

fn to_json(report: &CommitReport, title: &str) -> Value {
    json!({
        "id": report.id.to_hex(),
        "branch": report.branch,
        "parent": report.parent.map(|parent| parent.to_hex()),
        "name": report.name,
        "title": title,
        "changes": report.changes.iter().map(file_change).collect::<Vec<_>>(),
    })
}

/// Who commits and tags are by, where nobody was named.
pub(crate) fn default_author() -> Option<String> {
    std::env::var("SHARD_AUTHOR").ok().filter(|author| !author.trim().is_empty())
}

impl Metadata {
    /// The record, where anything was given.
    fn record(&self, created_at: Option<&str>) -> Result<Option<RunRecord>, Failure> {
        let from_file = self.record.as_deref().map(read_record).transpose()?;
        let is_given = from_file.is_some();
        let mut record = from_file.unwrap_or_default();
        let before = record.clone();
        let text = |field: &mut Option<String>, value: &Option<String>| {
            if value.is_some() {
                field.clone_from(value);
            }
        };
        text(&mut record.model_name, &self.model_name);
        text(&mut record.code_git_sha, &self.code_git_sha);
        text(&mut record.dataset_hash, &self.dataset_hash);
        text(&mut record.framework, &self.framework);
        text(&mut record.framework_version, &self.framework_version);
        text(&mut record.optimizer_signature, &self.optimizer_signature);
        text(&mut record.scheduler_signature, &self.scheduler_signature);
        text(&mut record.created_by, &self.created_by);
        text(&mut record.message, &self.note);
        record.hyperparameters.extend(self.hparams.iter().cloned());
        record.epoch = self.epoch.or(record.epoch);
        record.step = self.step.or(record.step);
        record.seed = self.seed.or(record.seed);
        if self.log_snapshot.is_some() || self.script_path.is_some() {
            let provenance = record.provenance.get_or_insert_with(Provenance::default);
            text(&mut provenance.log_snapshot, &self.log_snapshot);
            text(&mut provenance.script_path, &self.script_path);
        }
        if !is_given && record == before {
            return Ok(None);
        }
        if let Some(created_at) = created_at {
            record.created_at = Some(created_at.to_owned());
        }
        Ok(Some(record))
    }
}

fn read_record(path: &Path) -> Result<RunRecord, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::io(path, "cannot read the record", &error))?;
    let refuse = |why: String| {
        Failure::new(code::USAGE, format!("{}: is no run record", path.display()))
            .because(why)
            .next("a record is a JSON object such as {\"step\": 100, \"hyperparameters\": {\"lr\": 0.001}}")
    };
    let mut fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    // The engine fills in each file's own path.
    fields.insert("file_path".to_owned(), Value::from("model"));
    RunRecord::from_value(Value::Object(fields), "record")
        .map(|record| RunRecord { file_path: String::new(), ..record })
        .map_err(|error| refuse(error.to_string()))
}

fn parse_time(text: &str) -> Result<String, String> {
    text.parse::<Timestamp>().map(|time| time.to_string()).map_err(|error| error.to_string())
}

fn parse_epoch(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(epoch) if epoch.is_finite() && epoch >= 0.0 => Ok(epoch),
        _ => Err("an epoch is a number, 0 or more".to_owned()),
    }
}

fn parse_hparam(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a hyperparameter is written KEY=VALUE")?;
    if name.is_empty() {
        return Err("a hyperparameter needs a name before the =".to_owned());
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn record(options: &[&str]) -> Option<RunRecord> {
        let line = Line::try_parse_from(["commit", "-m", "x"].iter().chain(options)).unwrap();
        line.args.metadata.record(line.args.created_at.as_deref()).unwrap()
    }

    #[test]
    fn hyperparameters_are_json_where_they_can_be() {
        assert_eq!(parse_hparam("lr=1e-3").unwrap(), ("lr".to_owned(), json!(0.001)));
        assert_eq!(parse_hparam("betas=[0.9,0.95]").unwrap().1, json!([0.9, 0.95]));
        assert_eq!(parse_hparam("optimizer=adamw").unwrap().1, json!("adamw"));
        assert_eq!(parse_hparam("path=a=b").unwrap().1, json!("a=b"));
        assert_eq!(parse_hparam("empty=").unwrap().1, json!(""));
        assert!(parse_hparam("lr").is_err() && parse_hparam("=1").is_err());
    }

    #[test]
    fn a_record_is_made_only_where_asked() {
        assert_eq!(record(&[]), None);
        assert_eq!(record(&["--created-at", "2026-01-31T12:00:00Z"]), None);
        let made = record(&["--step", "7", "--hparam", "lr=0.1", "--script-path", "t.py"]).unwrap();
        assert_eq!((made.step, made.created_at), (Some(7), None));
        assert_eq!(made.provenance.unwrap().script_path.as_deref(), Some("t.py"));
        let made = record(&["--seed", "1", "--created-at", "2026-01-31T12:00:00Z"]).unwrap();
        assert_eq!(made.created_at.as_deref(), Some("2026-01-31T12:00:00Z"));
    }

    #[test]
    fn options_win_over_the_file_and_unknown_fields_survive() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"step": 1, "seed": 2, "cluster": "a", "hyperparameters": {"lr": 1, "wd": 2}}"#)
            .unwrap();
        let made = record(&["--record", file.path().to_str().unwrap(), "--step", "9", "--hparam", "lr=3"]).unwrap();
        assert_eq!((made.step, made.seed), (Some(9), Some(2)));
        assert_eq!(made.extra["cluster"], json!("a"));
        assert_eq!(Value::Object(made.hyperparameters), json!({"lr": 3, "wd": 2}));
        for bad in ["[]", "{", r#"{"step": "x"}"#, r#"{"tensors": []}"#] {
            fs::write(file.path(), bad).unwrap();
            assert_eq!(read_record(file.path()).unwrap_err().code(), code::USAGE, "{bad}");
        }
    }

    #[test]
    fn times_and_epochs_are_checked() {
        assert!(parse_time("yesterday").is_err());
        assert!(parse_time("2026-01-31T12:00:00Z").is_ok());
        assert!(parse_epoch("-1").is_err() && parse_epoch("nan").is_err());
        assert_eq!(parse_epoch("1.5"), Ok(1.5));
    }
}
