//! `shard diff`

mod operand;
mod rows;

use clap::ValueEnum;
use serde_json::{Value, json};
use shard_history::{FileChange, TensorChange as State};
use shard_repo::{CompareOptions, Comparison, Side, TensorDiff, compare_sides};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::changes::change_table;
use crate::report::json::file_change;
use crate::report::size::count;
use crate::report::style::Style;

/// Show which tensors differ between two models, and how much
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A revision, REV:PATH, a file, a folder of shards or an index.json; HEAD where nothing is named. Alone, a file is
    /// compared with what HEAD has of it, anything else with the work tree
    #[arg(value_name = "OLD")]
    old: Option<String>,
    /// The same; the work tree where nothing is named
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// Only the summary of each model
    #[arg(long)]
    stat: bool,
    /// Exit with 1 where something differs
    #[arg(long)]
    exit_code: bool,
    /// Show equal tensors too
    #[arg(long)]
    equal: bool,
    /// Order of the rows: by name, numbers by their value, or the largest change first
    #[arg(long, value_name = "BY", value_enum, default_value_t)]
    sort: Sort,
    /// A row a layer; the default where there would be more than 40 rows
    #[arg(long, conflicts_with = "by_tensor")]
    by_layer: bool,
    /// A row a tensor, however many there are
    #[arg(long)]
    by_tensor: bool,
    /// Only the map of names: what each tensor of both sides is called on either
    #[arg(long, conflicts_with_all = ["stat", "by_layer", "by_tensor"])]
    names: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    #[default]
    Name,
    Change,
}

/// More rows than this are rolled up by layer.
const MANY_ROWS: usize = 40;

/// Two versions of a model, and what they are compared as.
struct Pair {
    name: String,
    old: Side,
    new: Side,
}

/// What is to be compared.
struct Plan {
    pairs: Vec<Pair>,
    /// Changed files that hold no tensors.
    others: Vec<FileChange>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    let sides: Vec<&str> = args.old.iter().chain(&args.new).map(String::as_str).collect();
    let plan = operand::plan(&sides, context)?;
    let compared = plan
        .pairs
        .into_iter()
        .map(|pair| {
            compare_sides(&pair.old, &pair.new, CompareOptions::default(), progress.as_ref())
                .map(|comparison| (pair, comparison))
        })
        .collect::<Result<Vec<_>, _>>()?;
    drop(progress);
    let differs = !plan.others.is_empty() || compared.iter().any(|(_, comparison)| !comparison.identical);
    if context.ui.json {
        context.ui.print_json(&to_json(&compared, &plan.others, differs, args))?;
    } else {
        context.ui.print(&to_text(&compared, &plan.others, args, context))?;
    }
    Ok(if args.exit_code && differs { code::DIFFERENT } else { code::DONE })
}

fn to_text(compared: &[(Pair, Comparison)], others: &[FileChange], args: &Args, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = String::new();
    for (pair, comparison) in compared {
        if !text.is_empty() {
            text.push('\n');
        }
        let title = format!("{} -> {}", pair.old.label, pair.new.label);
        text.push_str(&format!("{}\n", ui.paint(&title, Style::Bold)));
        if args.names {
            text.push_str(&context.ui.table(&rows::name_map(&comparison.tensors)));
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

/// A comparison as a table of layers, for the demo.
#[cfg(feature = "demo")]
pub(crate) fn by_layer(old: &Side, new: &Side, comparison: &Comparison, context: &Context) -> String {
    let title = context.ui.paint(&format!("{} -> {}", old.label, new.label), Style::Bold);
    let table = rows::layer_table(&rows::layers(&comparison.tensors, Sort::Name, false));
    format!("\n{title}\n{}{}", context.ui.table(&table), summary(comparison))
}

/// One line that accounts for every tensor.
fn summary(comparison: &Comparison) -> String {
    let mut text = format!("{}: {}\n", comparison.verdict.kind.as_str(), comparison.verdict.evidence);
    text.push_str(&count(comparison.tensors.len() as u64, "tensor"));
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

fn of_state(tensors: &[TensorDiff], state: State) -> usize {
    tensors.iter().filter(|tensor| tensor.state == state).count()
}

fn to_json(compared: &[(Pair, Comparison)], others: &[FileChange], differs: bool, args: &Args) -> Value {
    let models = compared.iter().map(|(pair, comparison)| {
        let counts: serde_json::Map<String, Value> = State::ALL
            .iter()
            .map(|state| (state.as_str().to_owned(), of_state(&comparison.tensors, *state).into()))
            .collect();
        let mut model = json!({
            "name": pair.name,
            "old": pair.old.label,
            "new": pair.new.label,
            "identical": comparison.identical,
            "other_bytes_differ": comparison.other_bytes_differ,
            "total": comparison.tensors.len(),
            "counts": counts,
        });
        if args.names {
            model["names"] = rows::name_map_json(&comparison.tensors);
        } else if !args.stat {
            model["tensors"] = rows::selected(&comparison.tensors, args).into_iter().map(rows::tensor_json).collect();
            model["layers"] = rows::layers_json(&comparison.tensors, args);
        }
        model
    });
    json!({
        "differs": differs,
        "models": models.collect::<Vec<_>>(),
        "other_files": others.iter().map(file_change).collect::<Vec<_>>(),
    })
}
