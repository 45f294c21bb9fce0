//! Figures as a table, CSV and JSON.

use serde_json::{Value, json};

use super::codec::Codec;
use super::derived::{self, Derivations};
use super::series::Series;
use super::tally::{By, CodecFigures, Figures};
use crate::report::size::{human, percent, ratio, ratio_value};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Everything that is reported.
pub(super) struct Report<'a> {
    pub(super) series: &'a Series,
    /// The files' names, as short as they can be told apart.
    pub(super) files: &'a [String],
    pub(super) codecs: &'a [Codec],
    pub(super) rounds: usize,
    pub(super) total: Figures,
    pub(super) by: Option<By>,
    pub(super) groups: Vec<(String, Figures)>,
    pub(super) derivations: Derivations,
}

/// What a number of rounds is called.
pub(super) fn rounds(rounds: usize) -> String {
    match rounds {
        1 => "one round".to_owned(),
        rounds => format!("block by block the median of {rounds} rounds, codecs in turn"),
    }
}

impl Report<'_> {
    /// What was coded against what.
    pub(super) fn subject(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(String::as_str).collect();
        match (names.as_slice(), self.series.solo) {
            ([name], _) => format!("{name}, by itself"),
            (names, true) => format!("{} files, each by itself", names.len()),
            ([first, second], false) => format!("{second} against {first}"),
            ([first, .., last], false) => {
                format!("{} files, {first} to {last}, each against the one before", names.len())
            }
            ([], false) => String::new(),
        }
    }

    /// The codecs that took something, with their places.
    fn codecs(&self) -> impl Iterator<Item = (usize, &Codec)> {
        self.codecs.iter().enumerate().filter(|(index, _)| self.took(*index) || self.total.coded() == 0)
    }

    fn took(&self, codec: usize) -> bool {
        self.total.codecs.get(codec).is_some_and(|figures| figures.taken > 0)
    }

    /// The table with all that has to be said to read it.
    pub(super) fn to_text(&self, table: impl Fn(&Table) -> String) -> String {
        let mut text = format!("{}\n", visible(&self.subject()));
        for (name, member) in self.files.iter().zip(&self.series.members) {
            if let Some(note) = &member.note {
                text.push_str(&format!("note: {} is taken as opaque bytes: {}\n", visible(name), visible(note)));
            }
        }
        text.push_str(&table(&self.table()));
        text.push_str(&self.footnotes());
        text.push_str(&derived::to_text(&self.derivations, table));
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            self.by.map_or("", By::name),
            ">raw",
            "codec",
            ">takes",
            ">stored",
            ">ratio",
            ">encode MB/s",
            ">x SHA-256",
            ">decode MB/s",
            ">x SHA-256",
        ]);
        for (name, figures) in &self.groups {
            self.push(&mut table, name, Style::Cyan, figures);
        }
        let label = if self.by.is_some() { "total" } else { "" };
        self.push(&mut table, label, Style::Bold, &self.total);
        table
    }

    fn push(&self, table: &mut Table, name: &str, style: Style, figures: &Figures) {
        let hashing = figures.hash_speed();
        let mut name = Cell::new(name, style);
        let mut raw = if self.by.is_some() { human(figures.raw) } else { String::new() };
        for (index, codec) in self.codecs() {
            let Some(codec_figures) = figures.codecs.get(index) else { continue };
            let style = if matches!(codec, Codec::Shard(_)) { Style::Green } else { Style::Plain };
            let stored = codec_figures.stored_of(figures);
            let (encode, decode) = (codec_figures.encode_speed(), codec_figures.decode_speed());
            table.row(vec![
                std::mem::take(&mut name),
                std::mem::take(&mut raw).into(),
                Cell::new(codec.name(), style),
                takes(codec_figures, figures).into(),
                human(stored).into(),
                Cell::new(ratio(figures.raw, stored), style),
                number(encode).into(),
                number(times(encode, hashing)).into(),
                number(decode).into(),
                number(times(decode, hashing)).into(),
            ]);
        }
    }

    /// How the figures came about, a line each.
    fn footnotes(&self) -> String {
        let total = &self.total;
        let mut text = format!("{} raw", human(total.raw));
        let outside = self.outside();
        if outside > 0 {
            text.push_str(&format!("; {} outside of tensors are not counted", human(outside)));
        }
        if total.free > 0 {
            text.push_str(&format!(
                "\n{} of it ({}) are blocks equal to an earlier one: stored for free by every codec, and not timed",
                human(total.free),
                percent(total.free as f64 / total.raw as f64)
            ));
        }
        if total.coded() > 0 {
            text.push_str(&format!("\ntimes: one thread, in memory, {}; 1 MB is 10^6 bytes", rounds(self.rounds)));
            text.push_str(&format!("\nSHA-256 hashes {} MB/s of the same blocks", number(total.hash_speed())));
            text.push_str(
                "\nevery round trip gave the same bytes; shard's encoding includes a decoding that proves it",
            );
        }
        if self.codecs().any(|(index, _)| total.codecs.get(index).is_some_and(|f| f.taken < total.coded())) {
            text.push_str(
                "\ntakes: the share of bytes that a chain fits; the others count as stored raw, and are not timed",
            );
        }
        let unfit: Vec<String> =
            self.codecs.iter().enumerate().filter(|(i, _)| !self.took(*i)).map(|(_, codec)| codec.name()).collect();
        if total.coded() > 0 && !unfit.is_empty() {
            text.push_str(&format!("\nno block is fit for {}", unfit.join(", ")));
        }
        text.push('\n');
        text
    }

    /// Bytes of the files measured that are in no tensor.
    fn outside(&self) -> u64 {
        let measured = self.series.members.iter().enumerate().filter(|(file, _)| self.series.is_measured(*file));
        measured.map(|(_, member)| member.layout.expanded_len() - member.measured()).sum()
    }

    /// A line a group and codec, the total after all groups, then the derivations. Names are quoted where they have to be (RFC 4180).
    pub(super) fn to_csv(&self) -> String {
        let mut text = "by,name,codec,raw,identical,taken,stored,ratio,encode_mb_s,decode_mb_s,encode_x_sha256,\
                        decode_x_sha256,sha256_mb_s,tensors,blocks\n"
            .to_owned();
        let by = self.by.map_or("", By::name);
        let groups = self.groups.iter().map(|(name, figures)| (by, name.as_str(), figures));
        for (by, name, figures) in groups.chain([("total", "", &self.total)]) {
            let hashing = figures.hash_speed();
            for (index, codec) in self.codecs() {
                let Some(codec_figures) = figures.codecs.get(index) else { continue };
                let stored = codec_figures.stored_of(figures);
                let (encode, decode) = (codec_figures.encode_speed(), codec_figures.decode_speed());
                let numbers = [
                    ratio_value(figures.raw, stored),
                    encode,
                    decode,
                    times(encode, hashing),
                    times(decode, hashing),
                    hashing,
                ];
                let numbers: Vec<String> =
                    numbers.iter().map(|number| number.map(|n| format!("{n:.4}")).unwrap_or_default()).collect();
                text.push_str(&format!(
                    "{by},{},{},{},{},{},{stored},{},,\n",
                    quoted(name),
                    quoted(&codec.name()),
                    figures.raw,
                    figures.free,
                    codec_figures.taken,
                    numbers.join(",")
                ));
            }
        }
        text.push_str(&derived::to_csv(&self.derivations));
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let files = self.series.members.iter().enumerate().map(|(index, member)| {
            json!({
                "path": member.path.display().to_string(),
                "size": member.size,
                "format": member.layout.format,
                "note": member.note,
                "measured": self.series.is_measured(index),
                "against": (!self.series.solo && index > 0)
                    .then(|| self.series.members.get(index - 1).map(|before| before.path.display().to_string())),
            })
        });
        let groups = self.groups.iter().map(|(name, figures)| {
            let mut group = self.figures_json(figures);
            group["name"] = name.as_str().into();
            group
        });
        json!({
            "method": {"rounds": self.rounds, "statistic": "median of each block", "threads": 1},
            "files": files.collect::<Vec<_>>(),
            "outside_tensors": self.outside(),
            "total": self.figures_json(&self.total),
            "by": self.by.map(By::name),
            "groups": groups.collect::<Vec<_>>(),
            "derivations": derived::to_json(&self.derivations),
        })
    }

    fn figures_json(&self, figures: &Figures) -> Value {
        let hashing = figures.hash_speed();
        let codecs = self.codecs().filter_map(|(index, codec)| {
            let codec_figures = figures.codecs.get(index)?;
            let stored = codec_figures.stored_of(figures);
            let (encode, decode) = (codec_figures.encode_speed(), codec_figures.decode_speed());
            Some(json!({
                "codec": codec.name(),
                "taken": codec_figures.taken,
                "stored": stored,
                "ratio": ratio_value(figures.raw, stored),
                "encode_mb_s": encode,
                "decode_mb_s": decode,
                "encode_x_sha256": times(encode, hashing),
                "decode_x_sha256": times(decode, hashing),
            }))
        });
        json!({
            "raw": figures.raw,
            "identical": figures.free,
            "sha256_mb_s": hashing,
            "codecs": codecs.collect::<Vec<_>>(),
        })
    }
}

/// The share of coded bytes that a codec takes, where that is not all of them.
fn takes(codec: &CodecFigures, whole: &Figures) -> String {
    if codec.taken == whole.coded() {
        return String::new();
    }
    percent(codec.taken as f64 / whole.coded() as f64)
}

fn times(speed: Option<f64>, hashing: Option<f64>) -> Option<f64> {
    Some(speed? / hashing?)
}

/// A number with three digits, or all before the point.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 9.995 => format!("{value:.2}"),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn quoted(name: &str) -> String {
    let name = visible(name);
    if name.contains([',', '"']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.into_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use shard_codecs::Level;
    use shard_core::Layout;

    use super::*;
    use crate::commands::bench::series::Member;

    fn series(solo: bool) -> Series {
        let member = |name: &str| Member {
            path: PathBuf::from(name),
            size: 1000,
            layout: Layout::opaque(1000),
            note: (name == "b").then(|| "it is broken".to_owned()),
        };
        Series { members: ["a", "b"].map(member).into(), solo }
    }

    fn with_report<T>(solo: bool, then: impl FnOnce(&Report<'_>) -> T) -> T {
        let codec = |taken, stored| CodecFigures {
            taken,
            stored,
            encode: Duration::from_micros(4),
            decode: Duration::from_micros(2),
        };
        let unfit = CodecFigures::default();
        let total = Figures {
            raw: 1000,
            free: 200,
            hashing: Duration::from_micros(1),
            codecs: vec![codec(800, 100), codec(400, 50), unfit],
        };
        let chain = |name: &str| Codec::Chain(name.to_owned(), Level::Default);
        then(&Report {
            series: &series(solo),
            files: &["a".to_owned(), "b".to_owned()],
            codecs: &[Codec::Shard(Level::Default), chain("parent+ulp"), chain("zero")],
            rounds: 3,
            groups: vec![("x,\"y\"\n".to_owned(), total.clone())],
            total,
            by: Some(By::Tensor),
            derivations: Derivations::new(),
        })
    }

    #[test]
    fn the_table_says_all_that_it_needs() {
        let text = with_report(false, |report| report.to_text(|table| table.render(false, None)));
        for expected in
            ["b against a", "10.0x", "50.0%", "200 B of it (20.0%)", "median of 3 rounds", "no block is fit for zero"]
        {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
        assert!(text.contains("note: b is taken as opaque bytes: it is broken"), "{text}");
        // 400 of 800 coded bytes in 50, the others raw.
        assert!(text.contains("450 B  2.22x"), "{text}");
        assert!(with_report(true, |report| report.subject()).contains("each by itself"));
    }

    #[test]
    fn csv_has_as_many_fields_in_every_line() {
        let csv = with_report(false, |report| report.to_csv());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 5, "{csv}");
        assert!(
            lines[1].starts_with("tensor,\"x,\"\"y\"\"\\n\",shard default,1000,200,800,100,10.0000,200.0000,400.0000,")
        );
        assert_eq!(lines[0].split(',').count(), lines[4].split(',').count(), "{csv}");
        assert!(lines[4].starts_with("total,,parent+ulp,1000,200,400,450,2.2222,"), "{csv}");
    }

    #[test]
    fn json_has_the_same_figures() {
        let json = with_report(false, |report| report.to_json());
        assert_eq!(json["total"]["codecs"][0]["ratio"], 10.0);
        assert_eq!(json["total"]["codecs"].as_array().map(Vec::len), Some(2));
        assert_eq!((&json["by"], &json["groups"][0]["identical"]), (&"tensor".into(), &200.into()));
        assert_eq!((&json["files"][0]["against"], &json["files"][1]["against"]), (&Value::Null, &"a".into()));
    }
}
