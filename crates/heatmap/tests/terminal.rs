//! Maps as text: as they were looked at and found good, and what holds for any map.

mod maps;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shard_heatmap::{Colors, Heatmap, TextOptions, text};
use unicode_width::UnicodeWidthStr;

const ALL_COLORS: [Colors; 4] = [Colors::Plain, Colors::Sixteen, Colors::TwoFiftySix, Colors::True];

fn options(width: Option<usize>, colors: Colors) -> TextOptions {
    TextOptions { width, height: None, colors }
}

/// Name, map and options of each picture that is kept.
fn pictures() -> Vec<(&'static str, Heatmap, TextOptions)> {
    let narrow = TextOptions { height: Some(40), ..options(Some(80), Colors::TwoFiftySix) };
    vec![
        ("transformer-60", maps::transformer(), options(Some(60), Colors::True)),
        ("transformer-80", maps::transformer(), options(Some(80), Colors::True)),
        ("transformer-200", maps::transformer(), options(Some(200), Colors::True)),
        ("transformer-piped", maps::transformer(), options(None, Colors::Plain)),
        ("transformer-plain-60", maps::transformer(), options(Some(60), Colors::Plain)),
        ("transformer-16", maps::transformer(), options(Some(100), Colors::Sixteen)),
        ("transformer-256", maps::transformer(), options(Some(80), Colors::TwoFiftySix)),
        ("series-60", maps::series(30), options(Some(60), Colors::True)),
        ("series-80", maps::series(30), options(Some(80), Colors::Sixteen)),
        ("series-200", maps::series(30), options(Some(200), Colors::True)),
        ("series-piped", maps::series(30), options(None, Colors::Plain)),
        ("empty", maps::empty(), options(Some(80), Colors::True)),
        ("rows-1000", maps::large(1000, 3), narrow),
        ("columns-1000", maps::large(3, 1000), options(Some(80), Colors::TwoFiftySix)),
        ("columns-1000-piped", maps::large(3, 1000), options(None, Colors::Plain)),
    ]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"))
}

#[test]
fn pictures_are_as_they_were() {
    for (name, map, options) in pictures() {
        let kept = std::fs::read_to_string(golden(name)).unwrap_or_default();
        assert!(
            text(&map, &options) == kept,
            "{name} is drawn in another way. Look at it, and if it is better than before, write it anew with\n\
             cargo test -p shard-heatmap --test terminal -- --ignored write_golden"
        );
    }
}

#[test]
#[ignore = "writes the pictures: cargo test -p shard-heatmap --test terminal write_golden -- --ignored"]
fn write_golden() {
    for (name, map, options) in pictures() {
        std::fs::create_dir_all(golden(name).parent().unwrap()).unwrap();
        std::fs::write(golden(name), text(&map, &options)).unwrap();
    }
}

/// The text without escape sequences; no others than those for styles are known here.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        // What is no style stays, and is found as a control character.
        plain + rest.strip_prefix('m').unwrap_or("\u{1b}")
    })
}

fn check(map: &Heatmap, options: &TextOptions) {
    let written = text(map, options);
    let width = options.width.unwrap_or(100);
    assert!(written.is_empty() || written.ends_with('\n'));
    for line in written.lines() {
        let plain = without_styles(line);
        assert!(plain.width() <= width, "{} columns in {width}: {plain:?}", plain.width());
        assert!(!plain.ends_with(' ') || line.ends_with('m'), "{line:?}");
        assert!(!plain.chars().any(char::is_control), "{plain:?}");
        assert!(!line.contains('\u{1b}') || line.matches("\u{1b}[0m").count() * 2 == line.matches('\u{1b}').count());
    }
    if options.colors == Colors::Plain {
        assert!(!written.contains('\u{1b}'));
        let labels = map.rows.iter().chain(&map.columns).map(|label| &label.short);
        let names: String =
            labels.chain(&map.notes).chain([&map.title, &map.row_title, &map.column_title]).cloned().collect();
        let foreign = written.chars().find(|c| !c.is_ascii() && !names.contains(*c));
        assert!(foreign.is_none(), "{foreign:?} in {written}");
    }
}

#[test]
fn kept_pictures_fit() {
    for (_, map, options) in pictures() {
        check(&map, &options);
    }
}

#[test]
fn plain_text_is_ascii() {
    for (_, map, options) in pictures() {
        let plain = text(&map, &TextOptions { colors: Colors::Plain, ..options });
        assert!(plain.is_ascii(), "{plain}");
    }
}

#[test]
fn extreme_sizes_are_drawn() {
    for (width, height) in [(0, 0), (1, 1), (usize::MAX, usize::MAX)] {
        let options = TextOptions { width: Some(width), height: Some(height), colors: Colors::True };
        assert!(text(&maps::transformer(), &options).contains("relative"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_map_fits(map in maps::any_map(), width in 20usize..250, height in prop::option::of(0usize..60), colors in 0usize..4) {
        check(&map, &TextOptions { width: Some(width), height, colors: ALL_COLORS[colors] });
    }
}
