//! What colours and characters stand for.

use super::Colors;
use crate::color::{color, ink, ramp_16, ramp_256, step};
use crate::map::Mark;

/// Characters from little ink to much. None of them is a glyph of a mark, and none is in a number.
const RAMP: [char; 8] = ['.', ':', ';', 'c', 'o', 'X', '&', '@'];

/// Writes styles for a kind of terminal. A style is what an escape sequence has between `ESC [` and `m`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colors: Colors,
}

impl Paint {
    pub(super) fn new(colors: Colors) -> Self {
        Self { colors }
    }

    pub(super) fn is_plain(self) -> bool {
        self.colors == Colors::Plain
    }

    /// Whether characters tell the values.
    pub(super) fn has_ramp(self) -> bool {
        matches!(self.colors, Colors::Plain | Colors::Sixteen)
    }

    pub(super) fn ramp(self, position: f64) -> Option<char> {
        RAMP.get(step(position, RAMP.len())).copied().filter(|_| self.has_ramp())
    }

    pub(super) fn dots(self) -> &'static str {
        if self.is_plain() { "..." } else { "…" }
    }

    /// Bars from the lowest to the full one.
    pub(super) fn bars(self) -> &'static [char] {
        if self.is_plain() { &['.', ':', '#'] } else { &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] }
    }

    pub(super) fn bold(self) -> &'static str {
        if self.is_plain() { "" } else { "1" }
    }

    pub(super) fn dim(self) -> &'static str {
        if self.is_plain() { "" } else { "2" }
    }

    /// Of a position: its colour as background, and ink that is read on it.
    pub(super) fn value(self, position: f64) -> String {
        // The ends of the cube of 256: black and white that no palette changes.
        let inks = |[ink, ..]: [u8; 3]| if ink == 0 { "38;5;16" } else { "38;5;231" };
        match self.colors {
            Colors::Plain => String::new(),
            Colors::Sixteen => {
                let (number, black) = ramp_16(position);
                let background = if number < 8 { 40 + number } else { 92 + number };
                format!("{};{background}", if black { 30 } else { 97 })
            }
            Colors::TwoFiftySix => {
                let color = color(position);
                format!("{};48;5;{}", inks(ink(color)), ramp_256(position))
            }
            Colors::True => {
                let color = color(position);
                let ([r, g, b], [level, ..]) = (color, ink(color));
                format!("38;2;{level};{level};{level};48;2;{r};{g};{b}")
            }
        }
    }

    /// Of a mark that has no value.
    pub(super) fn glyph(self, mark: Mark) -> &'static str {
        if self.is_plain() {
            return "";
        }
        match mark {
            Mark::Equal | Mark::Renamed => "2",
            Mark::Value => "",
            Mark::DType | Mark::Shape => "35",
            Mark::Removed => "31",
            Mark::Added => "32",
            Mark::NotFinite => "1;97;41",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_the_ramp_are_no_glyphs() {
        let glyphs: Vec<char> = Mark::ALL.iter().filter_map(|mark| mark.glyph()).collect();
        assert!(RAMP.iter().all(|c| c.is_ascii() && !glyphs.contains(c) && *c != '?' && *c != ' '));
        let paint = Paint::new(Colors::Plain);
        assert_eq!([paint.ramp(0.0), paint.ramp(0.5), paint.ramp(1.0)], [Some('.'), Some('o'), Some('@')]);
        assert_eq!(Paint::new(Colors::True).ramp(0.5), None);
    }

    #[test]
    fn styles() {
        let styles = |position| {
            [Colors::Plain, Colors::Sixteen, Colors::TwoFiftySix, Colors::True]
                .map(|colors| Paint::new(colors).value(position))
        };
        assert_eq!(styles(1.0), ["", "30;103", "38;5;16;48;5;228", "38;2;0;0;0;48;2;252;245;109"]);
        assert_eq!(styles(0.0)[1..3], ["97;44".to_owned(), "38;5;231;48;5;18".to_owned()]);
        assert_eq!(Paint::new(Colors::Plain).glyph(Mark::NotFinite), "");
    }
}
