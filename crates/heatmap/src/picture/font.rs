//! The font that pictures are laid out and drawn with.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId};
use unicode_width::UnicodeWidthChar;

use crate::fit::Ruler;

/// Units of an em, in which texts are measured.
pub(super) const EM: usize = 2048;

/// A face of Inter. Texts of SVG are laid out with it too: where the viewer has other fonts, most are narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Regular,
    Bold,
}

static REGULAR: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("../../assets/fonts/inter-latin-400.ttf")).ok());
static BOLD: LazyLock<Option<FontRef<'static>>> =
    LazyLock::new(|| FontRef::try_from_slice(include_bytes!("../../assets/fonts/inter-latin-600.ttf")).ok());

impl Face {
    pub(super) fn ruler(self) -> Ruler {
        match self {
            Self::Regular => Ruler { advance: |c| Self::Regular.advance(c) },
            Self::Bold => Ruler { advance: |c| Self::Bold.advance(c) },
        }
    }

    /// The font; `None` only if what is built in is broken.
    pub(super) fn font(self) -> Option<&'static FontRef<'static>> {
        match self {
            Self::Regular => REGULAR.as_ref(),
            Self::Bold => BOLD.as_ref(),
        }
    }

    /// How a character is drawn; `None` for those that the font lacks.
    pub(super) fn glyph(self, c: char) -> Option<GlyphId> {
        self.font().map(|font| font.glyph_id(c)).filter(|glyph| glyph.0 != 0)
    }

    /// How far the next character is, in parts of an em.
    pub(super) fn advance(self, c: char) -> usize {
        match (self.font(), self.glyph(c)) {
            (Some(font), Some(glyph)) => {
                let units = font.units_per_em().unwrap_or(EM as f32);
                (font.h_advance_unscaled(glyph) / units * EM as f32).round().max(0.0) as usize
            }
            // Of other fonts wide characters fill an em.
            _ => c.width().unwrap_or(0) * EM / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_faces_are_there_and_know_ascii() {
        for face in [Face::Regular, Face::Bold] {
            assert!((' '..='~').chain(['…', '×']).all(|c| face.glyph(c).is_some()));
            let width = face.ruler().width("model.layers.12");
            assert!((6 * EM..9 * EM).contains(&width), "{width}");
            assert_eq!((face.glyph('名'), face.advance('名'), face.advance('\u{30a}')), (None, EM, 0));
        }
        assert!(Face::Bold.ruler().width("layers") > Face::Regular.ruler().width("layers"));
    }
}
