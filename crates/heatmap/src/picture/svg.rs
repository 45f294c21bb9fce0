//! A picture as SVG 1.1.

use std::fmt::Write as _;

use shard_core::text::xml;

use super::font::Face;
use super::layout::picture;
use super::{Anchor, PAGE, Picture, Shape};
use crate::color::Rgb;
use crate::map::Heatmap;

/// What viewers have, from the font that the picture is laid out with to whatever there is.
const FONTS: &str = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/// A map as an SVG document that needs nothing else: no script, no style sheet, no font. What is in a cell is told to whoever points at it.
#[must_use]
pub fn svg(map: &Heatmap) -> String {
    document(&picture(map))
}

fn document(picture: &Picture) -> String {
    let (width, height) = (number(picture.width), number(picture.height));
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FONTS}">"#
    );
    let _ = writeln!(out, "<title>{}</title>", xml(&picture.title));
    let _ = writeln!(out, r#"<rect width="{width}" height="{height}" fill="{}"/>"#, hex(PAGE));
    for shape in &picture.shapes {
        write(&mut out, shape);
    }
    out.push_str("</svg>\n");
    out
}

fn write(out: &mut String, shape: &Shape) {
    match shape {
        Shape::Area { x, y, width, height, fill, tip } => {
            let [x, y, width, height] = [*x, *y, *width, *height].map(number);
            let _ = write!(out, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{}""#, hex(*fill));
            if tip.is_empty() {
                out.push_str("/>\n");
            } else {
                let lines: Vec<String> = tip.lines().map(xml).collect();
                let _ = writeln!(out, "><title>{}</title></rect>", lines.join("\n"));
            }
        }
        Shape::Line { points, width, color } => {
            // A line of one point is a dot, but viewers draw nothing for it.
            if let [(x, y)] = points.as_slice() {
                let [x, y, radius] = [*x, *y, width / 2.0].map(number);
                let _ = writeln!(out, r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{}"/>"#, hex(*color));
                return;
            }
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
            let _ = writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="{}" stroke-linecap="round" stroke-linejoin="round"/>"#,
                points.join(" "),
                hex(*color),
                number(*width)
            );
        }
        Shape::Words { x, y, text, style } => {
            let (x, y) = (number(*x), number(*y));
            let mut more = String::new();
            match style.anchor {
                Anchor::Start => {}
                Anchor::Middle => more.push_str(r#" text-anchor="middle""#),
                Anchor::End => more.push_str(r#" text-anchor="end""#),
            }
            if style.face == Face::Bold {
                more.push_str(r#" font-weight="600""#);
            }
            if style.upward {
                let _ = write!(more, r#" transform="rotate(-90 {x} {y})""#);
            }
            // Whoever points at a value points at its cell.
            let _ = writeln!(
                out,
                r#"<text x="{x}" y="{y}" font-size="{}" fill="{}"{more} pointer-events="none">{}</text>"#,
                number(style.size),
                hex(style.color),
                xml(text)
            );
        }
    }
}

/// A length with at most two digits behind the point.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_colours() {
        assert_eq!([number(12.0), number(0.5), number(1.0 / 3.0), number(100.0)], ["12", "0.5", "0.33", "100"]);
        assert_eq!(hex([0, 10, 255]), "#000aff");
    }
}
