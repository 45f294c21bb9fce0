//! Maps as SVG and PNG: that they are sound, whatever names they hold.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod maps;

use proptest::prelude::*;
use roxmltree::{Document, Node};
use shard_heatmap::{Heatmap, Mark, color, png, svg};

/// Width and height of a picture that is sound: well-formed, of known elements and attributes only, and with nothing outside of it.
fn check(written: &str) -> (f64, f64) {
    let document = Document::parse(written).unwrap_or_else(|error| panic!("{error} in {written}"));
    let root = document.root_element();
    let size = |name| root.attribute(name).unwrap().parse::<f64>().unwrap();
    let (width, height) = (size("width"), size("height"));
    let allowed = [
        "width",
        "height",
        "viewBox",
        "role",
        "font-family",
        "x",
        "y",
        "fill",
        "points",
        "stroke",
        "stroke-width",
        "stroke-linecap",
        "stroke-linejoin",
        "cx",
        "cy",
        "r",
        "font-size",
        "font-weight",
        "text-anchor",
        "transform",
        "pointer-events",
    ];
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(["svg", "title", "rect", "polyline", "circle", "text"].contains(&name), "{name}");
        for attribute in node.attributes() {
            assert!(allowed.contains(&attribute.name()), "{attribute:?}");
        }
        let at = |name| node.attribute(name).map_or(0.0, |value| value.parse::<f64>().unwrap());
        let (x, y) = (at("x"), at("y"));
        assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{node:?}");
        if name == "rect" {
            assert!(x + at("width") <= width && y + at("height") <= height, "{node:?}");
        }
    }
    (width, height)
}

fn texts<'a>(document: &'a Document<'a>, element: &str) -> Vec<&'a str> {
    document
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", element)))
        .filter_map(|node| node.text())
        .collect()
}

fn size_of(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = ::png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut dots = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut dots).unwrap();
    assert_eq!((frame.color_type, frame.bit_depth), (::png::ColorType::Rgb, ::png::BitDepth::Eight));
    (frame.width, frame.height, dots)
}

fn all() -> [Heatmap; 7] {
    [
        maps::transformer(),
        maps::series(30),
        maps::series(400),
        maps::empty(),
        maps::large(1000, 3),
        maps::large(3, 1000),
        maps::large(70, 50),
    ]
}

#[test]
fn svg_and_png_are_the_same_picture() {
    for map in all() {
        let (width, height) = check(&svg(&map));
        assert!(width <= 1500.0 && height <= 2000.0, "{width} x {height}");
        let (dots_across, dots_down, _) = size_of(&png(&map).unwrap());
        assert_eq!((f64::from(dots_across), f64::from(dots_down)), (width * 2.0, height * 2.0), "{}", map.title);
    }
}

#[test]
fn all_that_is_known_of_a_cell_is_told() {
    let written = svg(&maps::transformer());
    let document = Document::parse(&written).unwrap();
    let tips = texts(&document, "title");
    assert_eq!(tips[0], "base/model.safetensors -> tuned/model.safetensors");
    assert_eq!(tips.len(), 1 + maps::transformer().cells.len());
    assert!(tips.contains(&"model.layers.3, v projection\nadded\nmodel.layers.3.v.weight"), "{tips:?}");
    let measured =
        "model.layers.9, down projection\nNaN or infinite: relative change 0.014\nmodel.layers.9.down.weight";
    assert!(tips.contains(&measured), "{tips:?}");
    let words = texts(&document, "text");
    for expected in
        ["layer", "kind", "gate", "lm head", "relative change", "1e-3", "removed", "no such tensor", "0.098", "! 0.014"]
    {
        assert!(words.contains(&expected), "{expected} in {words:?}");
    }
}

#[test]
fn the_versions_of_a_series_are_below_their_columns() {
    let map = maps::series(30);
    let written = svg(&map);
    let document = Document::parse(&written).unwrap();
    assert!(texts(&document, "title").contains(&"step 50\n8.5 MB stored of 17.3 MB, 2.05x"));
    let words = texts(&document, "text");
    for expected in ["stored", "raw / stored", "14.9 MB", "22.8x", "version: step", "1400"] {
        assert!(words.contains(&expected), "{expected} in {words:?}");
    }
    let known = map.panel.unwrap().versions.iter().flatten().count();
    assert_eq!(written.matches("<circle").count(), known);
}

#[test]
fn cells_have_the_colour_of_their_value_or_mark() {
    let map = maps::transformer();
    let scale = map.scale(map.metric).unwrap();
    let (_, _, dots) = size_of(&png(&map).unwrap());
    let has = |color: [u8; 3]| dots.chunks(3).filter(|dot| *dot == color).count() > 500;
    for cell in &map.cells {
        match cell.values.get(map.metric).filter(|_| cell.mark != Mark::NotFinite) {
            Some(value) => assert!(has(color::color(scale.position(value))), "{cell:?}"),
            None => assert!(has(color::fill(cell.mark)), "{cell:?}"),
        }
    }
}

#[test]
fn long_lists_of_tensors_are_cut() {
    let mut map = maps::transformer();
    let mut entries = Vec::new();
    for index in 0..9 {
        let mut entry = map.cells[0].entries[0].clone();
        entry.name = format!("expert.{index}.{}", "x".repeat(500));
        entry.old_name = Some("before".to_owned());
        entries.push(entry);
    }
    map.cells[0].entries = entries;
    let written = svg(&map);
    check(&written);
    assert!(written.contains("expert.4.x") && !written.contains("expert.5.x") && written.contains("and 4 more"));
    assert!(written.contains("x… (was before)") && !written.contains(&"x".repeat(200)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_map_is_drawn(map in maps::any_map()) {
        let (width, height) = check(&svg(&map));
        prop_assert!(width <= 1600.0 && height <= 3000.0, "{width} x {height}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_map_is_a_png(map in maps::any_map()) {
        let (width, height) = check(&svg(&map));
        let (across, down, _) = size_of(&png(&map).unwrap());
        prop_assert_eq!((f64::from(across), f64::from(down)), (width * 2.0, height * 2.0));
    }
}
