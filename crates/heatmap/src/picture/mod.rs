//! A map as a picture: one layout, as SVG and as PNG.

mod font;
mod layout;
mod legend;
mod panel;
mod png;
mod svg;

use crate::color::Rgb;
use font::Face;

pub use png::{PngError, png};
pub use svg::svg;

const PAGE: Rgb = [0xff; 3];
const TEXT: Rgb = [0x1f, 0x29, 0x37];
const MUTED: Rgb = [0x6b, 0x72, 0x80];
const FAINT: Rgb = [0xd5, 0xd9, 0xe0];

/// A picture: shapes, those in front last. Lengths are pixels from the upper left corner.
#[derive(Debug)]
struct Picture {
    width: f64,
    height: f64,
    /// What it is, in words, as it came.
    title: String,
    shapes: Vec<Shape>,
}

/// What a picture is made of.
#[derive(Debug)]
enum Shape {
    /// An area, and what is said of it to whoever points at it.
    Area { x: f64, y: f64, width: f64, height: f64, fill: Rgb, tip: String },
    /// A line through points, with round ends.
    Line { points: Vec<(f64, f64)>, width: f64, color: Rgb },
    /// Words, which are safe to print.
    Words { x: f64, y: f64, text: String, style: Style },
}

/// How words are written.
#[derive(Debug, Clone, Copy)]
struct Style {
    /// Pixels of an em.
    size: f64,
    face: Face,
    color: Rgb,
    anchor: Anchor,
    /// Whether they are turned a quarter to the left: they run upwards.
    upward: bool,
}

/// What of words is at their place; the place is always on the line on which letters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Style {
    const fn new(size: f64, color: Rgb) -> Self {
        Self { size, face: Face::Regular, color, anchor: Anchor::Start, upward: false }
    }

    const fn bold(self) -> Self {
        Self { face: Face::Bold, ..self }
    }

    const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    const fn upward(self) -> Self {
        Self { upward: true, ..self }
    }

    /// How far the middle of small letters and digits is above the line on which they stand.
    fn middle(self) -> f64 {
        self.size * 0.36
    }

    /// Pixels that a text takes.
    fn width(self, text: &str) -> f64 {
        self.face.ruler().width(text) as f64 * self.size / font::EM as f64
    }

    /// So many pixels in the units that the face is measured in.
    fn units(self, pixels: f64) -> usize {
        (pixels.max(0.0) * font::EM as f64 / self.size) as usize
    }

    fn shorten(self, text: &str, pixels: f64) -> String {
        self.face.ruler().shorten(text, self.units(pixels), "…")
    }

    fn wrap(self, text: &str, pixels: f64) -> Vec<String> {
        self.face.ruler().wrap(text, self.units(pixels))
    }
}
