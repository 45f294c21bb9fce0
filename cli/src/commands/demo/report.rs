//! What the demo prints.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use shard_datasets::train::Series;

use super::{Committed, KINDS, Kept, Outcome, Restored};
use crate::Context;
use crate::report::json::sizes as sizes_json;
use crate::report::size::{count, human, ratio};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Sums over checkpoints.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    raw: u64,
    zstd: u64,
    bitx: u64,
    shard: u64,
    time: Duration,
}

impl Total {
    fn of<'a>(kept: impl Iterator<Item = &'a Kept>) -> Self {
        kept.fold(Self::default(), |sum, next| Self {
            raw: sum.raw + next.raw,
            zstd: sum.zstd + next.zstd,
            bitx: sum.bitx + next.bitx,
            shard: sum.shard + next.shard,
            time: sum.time + next.add_time,
        })
    }

    fn cells(&self, label: &str, kind: &str, style: Style) -> Vec<Cell> {
        vec![
            Cell::new(label, style),
            kind.into(),
            human(self.raw).into(),
            human(self.zstd).into(),
            ratio(self.raw, self.zstd).into(),
            human(self.bitx).into(),
            ratio(self.raw, self.bitx).into(),
            Cell::new(human(self.shard), Style::Green),
            Cell::new(ratio(self.raw, self.shard), Style::Green),
            duration(self.time).into(),
        ]
    }

    fn to_json(self) -> Value {
        json!({
            "zstd": sizes_json(self.raw, self.zstd),
            "bitx": sizes_json(self.raw, self.bitx),
            "shard": sizes_json(self.raw, self.shard),
            "seconds": self.time.as_secs_f64(),
        })
    }
}

/// Totals by kind, all and without the first checkpoint, which has nothing to lean on; then of everything.
fn totals(kept: &[Kept], commits: &[Committed]) -> Vec<(String, &'static str, Total)> {
    let first = kept.first().map_or(0, |kept| kept.step);
    let mut totals = Vec::new();
    for kind in KINDS {
        let of_kind = || kept.iter().filter(|kept| kept.kind == kind);
        totals.push(("all".to_owned(), kind, Total::of(of_kind())));
        totals.push(("after the first".to_owned(), kind, Total::of(of_kind().filter(|kept| kept.step > first))));
    }
    let mut all = Total::of(kept.iter());
    all.shard += commits.iter().map(|commit| commit.growth).sum::<u64>();
    totals.push(("total".to_owned(), "", all));
    totals
}

pub(super) fn training(series: &Series, time: Duration) -> String {
    let mut text = format!(
        "A language model of {:.1} million weights was trained for {} steps in {}.\n",
        series.parameters as f64 / 1e6,
        series.config.steps,
        duration(time)
    );
    for checkpoint in &series.checkpoints {
        text.push_str(&format!(
            "  step {:>5}: loss {:.3}, validation {:.3}\n",
            checkpoint.step, checkpoint.loss, checkpoint.validation_loss
        ));
    }
    text
}

pub(super) fn sizes(kept: &[Kept], commits: &[Committed], repository: &u64, context: &Context) -> String {
    let mut table = Table::new(&[
        "step",
        "dtype",
        ">raw",
        ">zstd -3",
        ">ratio",
        ">BitX",
        ">ratio",
        ">shard",
        ">ratio",
        ">shard add",
    ]);
    for one in kept {
        table.row(Total::of(std::iter::once(one)).cells(&one.step.to_string(), one.kind, Style::Plain));
    }
    for (label, kind, total) in totals(kept, commits) {
        table.row(total.cells(&label, kind, Style::Bold));
    }
    let history: u64 = commits.iter().map(|commit| commit.growth).sum();
    format!(
        "\nEvery checkpoint, in bf16 and fp32, was added and committed.\n{}\
         BitX: XOR with the checkpoint before, planes, zstd -3, only compressed bytes counted; the first is zstd -3 alone.\n\
         shard: growth of the repository's packs; the total has {} for {} with {}. \
         The whole repository, index included, takes {}.\n",
        context.ui.table(&table),
        human(history),
        count(commits.len() as u64, "commit"),
        "run records",
        human(*repository),
    )
}

pub(super) fn proof(restored: &[Restored], time: Duration, context: &Context) -> String {
    let mut table = Table::new(&["", "step", "file", "sha256", ""]);
    for file in restored {
        let is_equal = file.expected == file.found;
        let (mark, style) = if is_equal { ("ok", Style::Green) } else { ("WRONG", Style::Red) };
        let note =
            if is_equal { "equals the original".to_owned() } else { format!("the original is {}", file.expected) };
        table.row(vec![
            Cell::new(mark, style),
            file.step.to_string().into(),
            file.name.as_str().into(),
            file.found.to_hex().into(),
            note.into(),
        ]);
    }
    let wrong = restored.iter().filter(|file| file.expected != file.found).count();
    let verdict = if wrong == 0 {
        let all = count(restored.len() as u64, "file");
        context.ui.paint(&format!("{all} restored in {}, all byte for byte.", duration(time)), Style::Green)
    } else {
        context.ui.paint(&format!("{} came back WRONG.", count(wrong as u64, "file")), Style::Red)
    };
    format!("\nEvery commit was checked out again and hashed.\n{}{verdict}\n", context.ui.table(&table))
}

pub(super) fn where_to_look(folder: &Path) -> String {
    let repository = folder.join("repository").display().to_string();
    format!("Look around: shard -C {} log\n", visible(&repository))
}

pub(super) fn to_json(outcome: &Outcome, folder: Option<&Path>) -> Value {
    let checkpoints = outcome.kept.iter().map(|kept| {
        let mut value = Total::of(std::iter::once(kept)).to_json();
        value["step"] = kept.step.into();
        value["kind"] = kept.kind.into();
        value["sha256"] = kept.sha256.to_hex().into();
        value
    });
    let totals = totals(&outcome.kept, &outcome.commits).into_iter().map(|(label, kind, total)| {
        let mut value = total.to_json();
        value["of"] = label.into();
        value["kind"] = kind.into();
        value
    });
    let commits = outcome
        .commits
        .iter()
        .map(|commit| json!({"id": commit.id.to_hex(), "step": commit.step, "bytes": commit.growth}));
    let restored = outcome.restored.iter().map(|file| {
        json!({
            "step": file.step,
            "file": file.name,
            "expected": file.expected.to_hex(),
            "found": file.found.to_hex(),
            "equal": file.expected == file.found,
        })
    });
    let losses = outcome.series.checkpoints.iter().map(|checkpoint| {
        json!({"step": checkpoint.step, "loss": checkpoint.loss, "validation_loss": checkpoint.validation_loss})
    });
    json!({
        "folder": folder.map(|folder| folder.display().to_string()),
        "parameters": outcome.series.parameters,
        "training": {"seconds": outcome.training_time.as_secs_f64(), "losses": losses.collect::<Vec<_>>()},
        "checkpoints": checkpoints.collect::<Vec<_>>(),
        "totals": totals.collect::<Vec<_>>(),
        "commits": commits.collect::<Vec<_>>(),
        "repository_bytes": outcome.repository_size,
        "restored": restored.collect::<Vec<_>>(),
        "restore_seconds": outcome.restore_time.as_secs_f64(),
        "exact": outcome.restored.iter().all(|file| file.expected == file.found),
    })
}

/// A duration: `12 ms`, `3.4 s`, `2 min 5 s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_micros(999_700)), "1.0 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
    }
}
