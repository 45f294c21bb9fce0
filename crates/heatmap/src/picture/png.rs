//! A picture as PNG, with two dots a pixel of the layout.

use ab_glyph::{Font, PxScale, point};
use thiserror::Error;

use super::layout::picture;
use super::{Anchor, PAGE, Picture, Shape, Style};
use crate::color::Rgb;
use crate::map::Heatmap;

/// Dots a pixel of the layout.
const DENSITY: f64 = 2.0;

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PngError {
    /// The dots were not encoded.
    #[error("the picture could not be encoded")]
    Encoding(#[from] ::png::EncodingError),
}

/// A map as a PNG file: what [`svg`](crate::svg) draws, with twice as many dots each way.
///
/// # Errors
/// If the picture cannot be encoded.
pub fn png(map: &Heatmap) -> Result<Vec<u8>, PngError> {
    let dots = Dots::of(&picture(map));
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, dots.width as u32, dots.height as u32);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_compression(::png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&dots.bytes)?;
    writer.finish()?;
    Ok(file)
}

/// Dots in rows from the top, each red, green and blue.
struct Dots {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Dots {
    fn of(picture: &Picture) -> Self {
        let [width, height] = [picture.width, picture.height].map(|length| (length * DENSITY).ceil().max(1.0) as usize);
        let mut dots = Self { width, height, bytes: PAGE.repeat(width * height) };
        for shape in &picture.shapes {
            match shape {
                Shape::Area { x, y, width, height, fill, .. } => {
                    dots.area([*x, *y, x + width, y + height].map(|length| length * DENSITY), *fill);
                }
                Shape::Line { points, width, color } => dots.line(points, *width, *color),
                Shape::Words { x, y, text, style } => dots.words((*x, *y), text, *style),
            }
        }
        dots
    }

    /// Lays a colour over a dot, which it covers from not at all, 0, to all, 1.
    fn cover(&mut self, x: i64, y: i64, color: Rgb, share: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width {
            return;
        }
        let start = (y * self.width + x) * 3;
        let Some(dot) = self.bytes.get_mut(start..start + 3) else { return };
        if share >= 1.0 {
            dot.copy_from_slice(&color);
            return;
        }
        for (byte, wanted) in dot.iter_mut().zip(color) {
            let mixed = f64::from(*byte) + (f64::from(wanted) - f64::from(*byte)) * share.max(0.0);
            *byte = mixed.round() as u8;
        }
    }

    /// Fills an area from left and top to right and bottom, in dots.
    fn area(&mut self, [left, top, right, bottom]: [f64; 4], color: Rgb) {
        let inside = |dot: i64, from: f64, to: f64| (to.min(dot as f64 + 1.0) - from.max(dot as f64)).max(0.0);
        let columns: Vec<(i64, f64)> =
            (left.floor() as i64..right.ceil() as i64).map(|x| (x, inside(x, left, right))).collect();
        for y in top.floor() as i64..bottom.ceil() as i64 {
            let height = inside(y, top, bottom);
            for (x, width) in &columns {
                self.cover(*x, y, color, width * height);
            }
        }
    }

    /// Draws the parts of a line at once, so that they do not darken each other where they meet.
    fn line(&mut self, points: &[(f64, f64)], width: f64, color: Rgb) {
        let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x * DENSITY, y * DENSITY)).collect();
        let half = width * DENSITY / 2.0;
        let reach = half + 1.0;
        let parts: Vec<[(f64, f64); 2]> = match points.as_slice() {
            [only] => vec![[*only, *only]],
            many => many.windows(2).filter_map(|pair| pair.try_into().ok()).collect(),
        };
        for (index, part) in parts.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| parts.get(index));
            let [(ax, ay), (bx, by)] = *part;
            for y in (ay.min(by) - reach).floor() as i64..(ay.max(by) + reach).ceil() as i64 {
                for x in (ax.min(bx) - reach).floor() as i64..(ax.max(bx) + reach).ceil() as i64 {
                    let share = |part: &[(f64, f64); 2]| (half + 0.5 - away(x, y, part)).clamp(0.0, 1.0);
                    let (mine, earlier) = (share(part), before.map_or(0.0, share));
                    if mine > earlier {
                        // What is left of the dot after what the part before has covered of it.
                        self.cover(x, y, color, (mine - earlier) / (1.0 - earlier));
                    }
                }
            }
        }
    }

    fn words(&mut self, (x, y): (f64, f64), text: &str, style: Style) {
        let Some(font) = style.face.font() else { return };
        let size = style.size * DENSITY;
        let em = font.units_per_em().unwrap_or(super::font::EM as f32);
        let scale = PxScale::from(size as f32 * font.height_unscaled() / em);
        let length = style.width(text) * DENSITY;
        let mut pen = match style.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -length / 2.0,
            Anchor::End => -length,
        };
        let (x, y) = (x * DENSITY, y * DENSITY);
        // Where a place along the words and below their line is in the picture.
        let place = |along: i64, below: i64| {
            if style.upward {
                (x.round() as i64 + below, y.round() as i64 - along - 1)
            } else {
                (x.round() as i64 + along, y.round() as i64 + below)
            }
        };
        for c in text.chars() {
            let advance = style.face.advance(c) as f64 * size / super::font::EM as f64;
            match style.face.glyph(c) {
                Some(glyph) => {
                    let glyph = glyph.with_scale_and_position(scale, point(pen as f32, 0.0));
                    if let Some(outline) = font.outline_glyph(glyph) {
                        let bounds = outline.px_bounds();
                        outline.draw(|along, below, share| {
                            let along = bounds.min.x as i64 + i64::from(along);
                            let below = bounds.min.y as i64 + i64::from(below);
                            let (x, y) = place(along, below);
                            self.cover(x, y, style.color, f64::from(share));
                        });
                    }
                }
                // A box for what the font lacks.
                None if advance > 0.0 => {
                    let (from, to) = ((pen + 2.0).round() as i64, (pen + advance - 2.0).round() as i64);
                    let top = (-0.72 * size).round() as i64;
                    for along in from..to {
                        for below in top..0 {
                            if along == from || along == to - 1 || below == top || below == -1 {
                                let (x, y) = place(along, below);
                                self.cover(x, y, style.color, 1.0);
                            }
                        }
                    }
                }
                None => {}
            }
            pen += advance;
        }
    }
}

/// How far the middle of a dot is from a part of a line.
fn away(x: i64, y: i64, [(ax, ay), (bx, by)]: &[(f64, f64); 2]) -> f64 {
    let (px, py) = (x as f64 + 0.5 - ax, y as f64 + 0.5 - ay);
    let (dx, dy) = (bx - ax, by - ay);
    let square = dx * dx + dy * dy;
    let along = if square > 0.0 { ((px * dx + py * dy) / square).clamp(0.0, 1.0) } else { 0.0 };
    (px - along * dx).hypot(py - along * dy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::TEXT;

    fn drawn(shape: Shape) -> Dots {
        Dots::of(&Picture { width: 60.0, height: 60.0, title: String::new(), shapes: vec![shape] })
    }

    /// The first and last column and row of dots that are not the page's, in pixels of the layout.
    fn bounds(dots: &Dots) -> [f64; 4] {
        let inked = dots.bytes.chunks(3).enumerate().filter(|(_, dot)| *dot != PAGE);
        let places: Vec<(usize, usize)> = inked.map(|(index, _)| (index % dots.width, index / dots.width)).collect();
        let of = |lengths: Vec<usize>| (*lengths.iter().min().unwrap(), *lengths.iter().max().unwrap() + 1);
        let (left, right) = of(places.iter().map(|place| place.0).collect());
        let (top, bottom) = of(places.iter().map(|place| place.1).collect());
        [left, top, right, bottom].map(|length| length as f64 / DENSITY)
    }

    #[test]
    fn areas_have_sharp_edges_and_stay_inside() {
        let area = |x, y| Shape::Area { x, y, width: 10.0, height: 4.5, fill: TEXT, tip: String::new() };
        let dots = drawn(area(3.0, 7.5));
        assert_eq!(bounds(&dots), [3.0, 7.5, 13.0, 12.0]);
        assert!(dots.bytes.chunks(3).all(|dot| dot == PAGE || dot == TEXT));
        assert_eq!(bounds(&drawn(area(-5.0, 58.0))), [0.0, 58.0, 5.0, 60.0]);
    }

    #[test]
    fn words_are_where_they_are_measured() {
        let words = |text: &str, style| drawn(Shape::Words { x: 30.0, y: 30.0, text: text.to_owned(), style });
        let style = Style::new(12.0, TEXT);
        let width = style.width("HHH");
        let near = |found: [f64; 4], expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1.6), "{found:?} {expected:?}");
        };
        let capital = 12.0 * 0.727;
        near(bounds(&words("HHH", style)), [30.0, 30.0 - capital, 30.0 + width, 30.0]);
        near(bounds(&words("HHH", style.anchored(Anchor::End))), [30.0 - width, 30.0 - capital, 30.0, 30.0]);
        near(bounds(&words("HHH", style.upward())), [30.0 - capital, 30.0 - width, 30.0, 30.0]);
        // Boxes stand for what the font lacks.
        near(bounds(&words("名", style)), [30.0, 30.0 - capital, 42.0, 30.0]);
    }

    #[test]
    fn lines_are_as_thick_as_they_should_be() {
        let line = |points: Vec<(f64, f64)>| bounds(&drawn(Shape::Line { points, width: 4.0, color: TEXT }));
        assert_eq!(line(vec![(20.0, 20.0), (40.0, 20.0), (40.0, 30.0)]), [18.0, 18.0, 42.0, 32.0]);
        assert_eq!(line(vec![(20.0, 20.0)]), [18.0, 18.0, 22.0, 22.0]);
    }
}
