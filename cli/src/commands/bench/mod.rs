//! `shard bench`: codecs measured on the user's own files, in memory.

mod codec;
mod derived;
mod error;
mod explain;
mod measure;
mod plot;
mod report;
mod series;
mod tally;

use std::path::{Path, PathBuf};

use shard_codecs::Level;
use shard_core::Progress;
use shard_repo::measure_derivations;

use crate::Context;
use crate::error::{Failure, code};
use codec::{Codec, chain_names};
use derived::Derivations;
use error::BenchError;
use measure::{Plan, measure};
use report::Report;
use series::Series;
use tally::By;

/// Measure on your files how small and how fast codecs are, and that every byte comes back; needs no repository
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The files of a series, in its order: each after the first is coded against the one before
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Code every file by itself, against nothing
    #[arg(long)]
    solo: bool,
    /// What to measure, separated by commas: fast, default, max (shard at that level), zstd, bitx, a chain by its name such
    /// as parent+ulp+planes, chains (each that is legal, at --level), or all
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "fast,default,max,zstd,bitx")]
    codecs: Vec<String>,
    /// How often everything is done; a block's time is the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Break the figures down
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Say which chain was chosen for each tensor at --level, or for the N that take the most, and what others were expected
    /// to take
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true)]
    explain: Option<Option<usize>>,
    /// Print CSV
    #[arg(long, conflicts_with_all = ["json", "explain"])]
    csv: bool,
    /// Draw ratio against decoding speed, as an SVG file that replaces one that is there
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    // Whatever can be wrong with the arguments is said before anything is measured.
    if let Some(path) = &args.plot {
        plot::check(path)?;
    }
    let series = Series::open(&args.files, args.solo)?;
    let level = context.settings.level;
    let codecs = choose(&args.codecs, level, &series)?;
    let plan = Plan { codecs: &codecs, rounds: usize::from(args.rounds), explain: args.explain.map(|_| level) };
    let progress = context.ui.progress();
    let measured = measure(&series, &plan, progress.as_ref())?;
    let derivations = derivations(args, &series, context, progress.as_ref())?;
    drop(progress);

    let files = short_names(&args.files);
    let explained = explain::select(measured.explained, args.explain.flatten());
    let report = Report {
        series: &series,
        files: &files,
        codecs: &codecs,
        rounds: plan.rounds,
        total: tally::total(&measured.rows, codecs.len()),
        by: args.by,
        groups: args.by.map(|by| tally::groups(&measured.rows, by, &files)).unwrap_or_default(),
        derivations,
    };
    let ui = &context.ui;
    if ui.json {
        let mut json = report.to_json();
        if args.explain.is_some() {
            json["explain"] = explain::to_json(&explained, &files);
        }
        json["plot"] = args.plot.as_ref().map(|path| path.display().to_string()).into();
        ui.print_json(&json)?;
    } else if args.csv {
        ui.print(&report.to_csv())?;
    } else {
        ui.print(&report.to_text(|table| ui.table(table)))?;
        if args.explain.is_some() {
            let several = (0..files.len()).filter(|file| series.is_measured(*file)).count() > 1;
            ui.print(&explain::to_text(&explained, &files, several, context))?;
        }
    }
    // After the figures: they are not lost where the plot cannot be written.
    if let Some(path) = &args.plot {
        plot::write(path, &report)?;
        if !ui.json && !args.csv {
            ui.inform(&format!("{} made\n", crate::report::text::visible(&path.display().to_string())))?;
        }
    }
    Ok(code::DONE)
}

/// What is computed from other tensors, where files are not each by itself.
fn derivations(
    args: &Args,
    series: &Series,
    context: &Context,
    progress: &dyn Progress,
) -> Result<Derivations, Failure> {
    if args.solo {
        return Ok(Derivations::new());
    }
    progress.begin("computing", Some(series.size()));
    let first = (0..args.files.len()).find(|file| series.is_measured(*file)).unwrap_or(0);
    let found = measure_derivations(&args.files, first, usize::from(args.rounds), context.settings, progress)?;
    progress.finish();
    Ok(found)
}

/// The codecs of a list, each once, in its order.
fn choose(words: &[String], level: Level, series: &Series) -> Result<Vec<Codec>, BenchError> {
    let chains = chain_names(&series.dtypes());
    let all_chains = || chains.iter().map(|name| Codec::Chain(name.clone(), level));
    let mut codecs: Vec<Codec> = Vec::new();
    for word in words {
        let chosen: Vec<Codec> = match word.as_str() {
            "fast" => vec![Codec::Shard(Level::Fast)],
            "default" => vec![Codec::Shard(Level::Default)],
            "max" => vec![Codec::Shard(Level::Max)],
            "zstd" => vec![Codec::Zstd],
            "bitx" => vec![Codec::BitX],
            "chains" => all_chains().collect(),
            "all" => [Level::Fast, Level::Default, Level::Max]
                .map(Codec::Shard)
                .into_iter()
                .chain([Codec::Zstd, Codec::BitX])
                .chain(all_chains())
                .collect(),
            name if chains.iter().any(|chain| chain == name) => vec![Codec::Chain(name.to_owned(), level)],
            name => {
                let words = ["fast", "default", "max", "zstd", "bitx", "chains", "all"].map(str::to_owned);
                return Err(BenchError::UnknownCodec {
                    name: name.to_owned(),
                    known: words.into_iter().chain(chains.iter().cloned()).collect(),
                });
            }
        };
        for codec in chosen {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
    }
    Ok(codecs)
}

/// The files' own names, or where two are alike the whole paths.
fn short_names(paths: &[PathBuf]) -> Vec<String> {
    let short: Vec<String> =
        paths.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()).collect();
    let distinct: std::collections::BTreeSet<&String> = short.iter().collect();
    if distinct.len() == short.len() {
        return short;
    }
    paths.iter().map(|path: &PathBuf| Path::display(path).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opaque() -> (tempfile::TempDir, Series) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "x").unwrap();
        let series = Series::open(&[path], false).unwrap();
        (folder, series)
    }

    #[test]
    fn codecs_are_chosen_by_name_and_each_once() {
        let (_folder, series) = opaque();
        let choose = |list: &str| {
            let words: Vec<String> = list.split(',').map(str::to_owned).collect();
            choose(&words, Level::Default, &series)
        };
        let names = |list| choose(list).unwrap().iter().map(Codec::name).collect::<Vec<_>>();
        assert_eq!(names("zstd,fast,zstd"), ["zstd -3", "shard fast"]);
        assert_eq!(names("all")[..5], ["shard fast", "shard default", "shard max", "zstd -3", "BitX"]);
        assert_eq!(names("all")[5..], names("chains"));
        assert_eq!(names("zero"), ["zero"]);
        let error = choose("gzip").unwrap_err();
        assert!(matches!(&error, BenchError::UnknownCodec { known, .. } if known.contains(&"chains".to_owned())));
    }

    #[test]
    fn names_are_short_while_they_differ() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(short_names(&paths(&["run/a.bin", "run/b.bin"])), ["a.bin", "b.bin"]);
        assert_eq!(short_names(&paths(&["1/a.bin", "2/a.bin"])), ["1/a.bin", "2/a.bin"]);
    }
}
