//! `shard diff`

mod csv;
mod inside;
mod json;
mod operand;
mod picture;
mod rows;
pub(crate) mod series;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use shard_heatmap::{Metric, models};
use shard_history::{FileChange, TensorChange as State};
use shard_repo::{CompareOptions, Comparison, Side, TensorDiff, compare_sides};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::changes::change_table;
use crate::report::size::count;
use crate::report::style::Style;
pub(crate) use picture::Pictures;

/// Show which layers of a model changed, how much, and what kind of change it is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// OLD and NEW: revisions, REV:PATH, files, folders of shards or index.json files; or one range OLD..NEW. HEAD stands for an OLD
    /// that is not named, the work tree for a NEW; a file alone is compared with what HEAD has of it. With --series any number
    #[arg(value_name = "MODEL")]
    sides: Vec<String>,
    /// Of revisions and the work tree: only these files, and what is below these folders
    #[arg(last = true, value_name = "PATH", conflicts_with = "series")]
    paths: Vec<PathBuf>,
    /// What colours stand for, and what --sort change goes by
    #[arg(long, value_name = "METRIC", value_enum, default_value_t)]
    by: By,
    /// Only what kind of change it is and the number of tensors
    #[arg(long, conflicts_with_all = ["tensors", "layers", "names", "tensor"])]
    stat: bool,
    /// A row a tensor; the default below the picture where there are at most 40
    #[arg(long, conflicts_with = "layers")]
    tensors: bool,
    /// A row a layer
    #[arg(long)]
    layers: bool,
    /// Only the map of names: what each tensor of both sides is called on either
    #[arg(long, conflicts_with_all = ["tensors", "layers", "tensor"])]
    names: bool,
    /// Look into one tensor: its rows and columns, how far its words moved, and in how many directions
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tensors", "layers", "csv", "series"])]
    tensor: Option<String>,
    /// Compare each of several versions with the one before it: time on x, layers on y, and what each version takes. Files, or
    /// revisions, or one range of a branch
    #[arg(long, conflicts_with_all = ["stat", "tensors", "layers", "names", "csv", "equal", "sort"])]
    series: bool,
    /// With --series of files: do not pack them to see what each takes
    #[arg(long, requires = "series")]
    no_sizes: bool,
    /// Show equal tensors in tables too
    #[arg(long)]
    equal: bool,
    /// Order of the rows in tables: by name, numbers by their value, or the largest change first
    #[arg(long, value_name = "BY", value_enum, default_value_t)]
    sort: Sort,
    /// Print a row a tensor as CSV
    #[arg(long, conflicts_with_all = ["stat", "tensors", "layers", "names"])]
    csv: bool,
    #[command(flatten)]
    pictures: Pictures,
    /// Exit with 1 where something differs
    #[arg(long)]
    exit_code: bool,
}

/// A measure of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum By {
    /// Norm of the difference over the norm of the old values
    #[default]
    Relative,
    /// Share of the words whose bits changed
    Changed,
    /// Cosine of the angle between old and new values
    Cosine,
    /// Largest step of a word, in units in the last place
    MaxUlp,
    /// How many directions the change of a matrix has (Roy and Vetterli 2007); takes minutes for large models
    EffectiveRank,
}

impl By {
    pub(crate) fn metric(self) -> Metric {
        match self {
            Self::Relative => Metric::Relative,
            Self::Changed => Metric::Changed,
            Self::Cosine => Metric::Cosine,
            Self::MaxUlp => Metric::MaxUlp,
            Self::EffectiveRank => Metric::EffectiveRank,
        }
    }

    pub(crate) fn options(self) -> CompareOptions {
        CompareOptions { spectra: self == Self::EffectiveRank }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    #[default]
    Name,
    Change,
}

/// With more rows than this there is only the picture, unless a table is asked for.
const MANY_ROWS: usize = 40;

/// Two versions of a model, and what they are compared as.
struct Pair {
    name: String,
    old: Side,
    new: Side,
}

impl Pair {
    fn title(&self) -> String {
        format!("{} -> {}", self.old.label, self.new.label)
    }

    /// For pictures, which are looked at elsewhere.
    fn short_title(&self) -> String {
        models::title(&self.old.label, &self.new.label)
    }
}

/// What is to be compared.
struct Plan {
    pairs: Vec<Pair>,
    /// Changed files that hold no tensors.
    others: Vec<FileChange>,
    /// The paths of all files of both sides, where these are of a repository.
    files: BTreeSet<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    args.pictures.check()?;
    if args.csv && context.ui.json {
        return Err(Failure::new(code::USAGE, "--csv and --json are both asked for").next("choose one of them"));
    }
    if args.series {
        return series::of_operands(args, context);
    }
    let progress = context.ui.progress();
    let sides: Vec<&str> = args.sides.iter().map(String::as_str).collect();
    let mut plan = operand::plan(&sides, context)?;
    operand::limit(&mut plan, &args.paths, context)?;
    if let Some(name) = &args.tensor {
        let pair = only(&plan.pairs, "--tensor")?;
        let found = shard_repo::look_inside(&pair.old, &pair.new, name, progress.as_ref())?;
        drop(progress);
        inside::print(&pair.short_title(), &found, args, context)?;
        let differs = found.steps.unchanged < found.patches.iter().map(|patch| patch.elements).sum();
        return Ok(if args.exit_code && differs { code::DIFFERENT } else { code::DONE });
    }
    if args.pictures.any() {
        only(&plan.pairs, "a picture")?;
    }
    let compared = plan
        .pairs
        .into_iter()
        .map(|pair| {
            let options = if args.stat { CompareOptions::default() } else { args.by.options() };
            let found = compare_sides(&pair.old, &pair.new, options, progress.as_ref())?;
            Ok((pair, found))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    drop(progress);
    let differs = !plan.others.is_empty() || compared.iter().any(|(_, found)| !found.identical);
    if let Some((pair, found)) = compared.first().filter(|_| args.pictures.any()) {
        args.pictures.write(&picture::of(&pair.short_title(), found, args.by))?;
    }
    if context.ui.json {
        context.ui.print_json(&json::document(&compared, &plan.others, differs, args))?;
    } else if args.csv {
        context.ui.print(&csv::text(&compared))?;
    } else {
        context.ui.print(&to_text(&compared, &plan.others, args, context))?;
    }
    Ok(if args.exit_code && differs { code::DIFFERENT } else { code::DONE })
}

/// The pair, where there is one only.
fn only<'a>(pairs: &'a [Pair], what: &str) -> Result<&'a Pair, Failure> {
    match pairs {
        [pair] => Ok(pair),
        [] => Err(Failure::new(code::REFUSED, format!("{what} needs a model that differs, and there is none"))
            .next("name two versions of a model")),
        several => {
            let names: Vec<&str> = several.iter().map(|pair| pair.name.as_str()).take(5).collect();
            Err(Failure::new(code::USAGE, format!("{what} is of one model, and {} differ", several.len()))
                .because(format!("they are {}{}", names.join(", "), if several.len() > 5 { ", …" } else { "" }))
                .next("name one of them as REV:PATH on either side"))
        }
    }
}

fn to_text(compared: &[(Pair, Comparison)], others: &[FileChange], args: &Args, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = String::new();
    for (pair, comparison) in compared {
        if !text.is_empty() {
            text.push('\n');
        }
        let table_only = args.names || args.tensors || args.layers || args.stat;
        if !table_only && !comparison.tensors.is_empty() {
            text.push_str(&picture::text(&picture::of(&pair.title(), comparison, args.by), context));
            text.push('\n');
        } else {
            text.push_str(&format!("{}\n", ui.paint(&pair.title(), Style::Bold)));
            for line in models::lost_values(comparison).into_iter().chain([rows::verdict(comparison)]) {
                text.push_str(&format!("{}\n", ui.paint(&line, Style::Plain)));
            }
        }
        if args.names {
            text.push_str(&ui.table(&rows::name_map(&comparison.tensors)));
        } else if !args.stat {
            text.push_str(&rows::table(&comparison.tensors, args, context));
        }
        text.push_str(&summary(comparison));
    }
    if !others.is_empty() {
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(&format!("{}\n", ui.paint("files without tensors", Style::Bold)));
        text.push_str(&ui.table(&change_table(others)));
    }
    if text.is_empty() && !ui.quiet {
        text.push_str("no differences\n");
    }
    text
}

/// A comparison as a picture, for the demo.
#[cfg(feature = "demo")]
pub(crate) fn as_picture(old: &Side, new: &Side, comparison: &Comparison, context: &Context) -> String {
    let title = format!("{} -> {}", old.label, new.label);
    let map = picture::of(&title, comparison, By::default());
    format!("\n{}\n{}", picture::text(&map, context), summary(comparison))
}

/// One line that accounts for every tensor.
fn summary(comparison: &Comparison) -> String {
    let mut text = count(comparison.tensors.len() as u64, "tensor");
    let states = State::ALL.iter().map(|state| (state, of_state(&comparison.tensors, *state)));
    let parts: Vec<String> =
        states.filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {}", state.as_str())).collect();
    if !parts.is_empty() {
        text.push_str(&format!(": {}", parts.join(", ")));
    }
    text.push_str(match (comparison.identical, comparison.other_bytes_differ) {
        (true, _) => "; the files are identical\n",
        (false, true) => "; bytes outside of tensors differ\n",
        (false, false) => "\n",
    });
    text
}

fn of_state<'a>(tensors: impl IntoIterator<Item = &'a TensorDiff>, state: State) -> usize {
    tensors.into_iter().filter(|tensor| tensor.state == state).count()
}

/// A file that a result is written to.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::io(path, "cannot write", &error))
}
