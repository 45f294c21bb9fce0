//! What each derivation saves: tensors that are computed from others, as `pack` stores them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shard_repo::DerivationFigures;

use crate::report::size::{human, percent, ratio, ratio_value};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Figures by the derivation's name.
pub(super) type Derivations = BTreeMap<String, DerivationFigures>;

/// MB/s of decoding.
fn decode_speed(figures: &DerivationFigures) -> Option<f64> {
    (figures.decode > Duration::ZERO).then(|| figures.raw as f64 / 1e6 / figures.decode.as_secs_f64())
}

/// The table and what has to be said to read it; nothing where nothing is computed.
pub(super) fn to_text(derivations: &Derivations, table: impl Fn(&Table) -> String) -> String {
    if derivations.is_empty() {
        return String::new();
    }
    let mut rows = Table::new(&[
        "derivation",
        ">tensors",
        ">blocks",
        ">raw",
        ">stored",
        ">of raw",
        ">ratio",
        ">without",
        ">decode MB/s",
    ]);
    for (name, figures) in derivations {
        rows.row(vec![
            Cell::new(name, Style::Green),
            figures.tensors.to_string().into(),
            figures.blocks.to_string().into(),
            human(figures.raw).into(),
            human(figures.stored).into(),
            percent(figures.stored as f64 / figures.raw.max(1) as f64).into(),
            Cell::new(ratio(figures.raw, figures.stored), Style::Green),
            human(figures.without).into(),
            decode_speed(figures).map_or("-".to_owned(), |speed| format!("{speed:.0}")).into(),
        ]);
    }
    format!(
        "\n{}derivations: blocks that `pack` computes from other tensors of these files, each file after those before it\n\
         without: the same blocks where nothing is computed, on a tensor of their type if there is one\n\
         decode: from a temporary file, with all that a block leans on\n",
        table(&rows)
    )
}

/// Lines for the CSV: two for each derivation, as it is stored and without.
pub(super) fn to_csv(derivations: &Derivations) -> String {
    let mut text = String::new();
    for (name, figures) in derivations {
        for (codec, stored, speed) in
            [("derived", figures.stored, decode_speed(figures)), ("without", figures.without, None)]
        {
            let number = |number: Option<f64>| number.map(|number| format!("{number:.4}")).unwrap_or_default();
            text.push_str(&format!(
                "derivation,{name},{codec},{raw},0,{raw},{stored},{},,{},,,,{},{}\n",
                number(ratio_value(figures.raw, stored)),
                number(speed),
                figures.tensors,
                figures.blocks,
                raw = figures.raw,
            ));
        }
    }
    text
}

pub(super) fn to_json(derivations: &Derivations) -> Value {
    let all = derivations.iter().map(|(name, figures)| {
        json!({
            "name": name,
            "tensors": figures.tensors,
            "blocks": figures.blocks,
            "raw": figures.raw,
            "stored": figures.stored,
            "ratio": ratio_value(figures.raw, figures.stored),
            "without": figures.without,
            "decode_mb_s": decode_speed(figures),
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_has_the_same_figures() {
        let figures = DerivationFigures {
            tensors: 2,
            blocks: 3,
            raw: 1000,
            stored: 10,
            without: 700,
            decode: Duration::from_micros(2),
        };
        let derivations = Derivations::from([("cast".to_owned(), figures)]);
        let text = to_text(&derivations, |table| table.render(false, None));
        assert!(text.contains("cast") && text.contains("1.00%") && text.contains("100x"), "{text}");
        assert!(text.contains("700 B") && text.contains("500"), "{text}");
        assert_eq!(
            to_csv(&derivations),
            "derivation,cast,derived,1000,0,1000,10,100.0000,,500.0000,,,,2,3\n\
             derivation,cast,without,1000,0,1000,700,1.4286,,,,,,2,3\n"
        );
        let json = to_json(&derivations);
        assert_eq!(
            (&json[0]["blocks"], &json[0]["without"], &json[0]["ratio"]),
            (&3.into(), &700.into(), &100.0.into())
        );
        assert_eq!(to_text(&Derivations::new(), |_| String::new()), "");
    }
}
