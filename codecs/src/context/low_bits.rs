//! Whether a context's low bits are worth storing.

use super::params::Context;
use super::subject::Subject;
use super::{Rows, TILE};
use crate::chain::Word;
use crate::kernel;
use crate::kernel::buckets::{BINS, ESCAPE};

/// Larger residuals have no token without low bits.
const NEAR: u64 = (ESCAPE as u64 - 1) / 2;

/// What low bits do for words of a context, or of several.
#[derive(Clone, Copy, Default)]
pub(super) struct Use {
    words: u32,
    moved: u32,
    /// Bits of words that need none, since they did not move, or are stored whole, or would be.
    paid: u32,
    /// Words that are stored as a token with low bits, and whole without.
    fitting: u32,
}

impl Use {
    /// Counts a word.
    pub(super) fn count(&mut self, low_bits: u8, residual: i64) {
        let magnitude = residual.unsigned_abs();
        self.words += 1;
        self.moved += u32::from(magnitude > 0);
        // The tokens of near words say as much as their low bits would.
        if magnitude == 0 || magnitude > NEAR {
            self.paid += u32::from(low_bits);
            self.fitting += u32::from(magnitude > NEAR && magnitude >> low_bits <= NEAR);
        }
    }

    /// Of the first run of a class, which has a context for each bin by exponent.
    pub(super) fn of_run(
        subject: &Subject<'_>,
        (rows, classes): (Rows, &[u8]),
        class: u8,
        contexts: &[Context],
    ) -> Self {
        let mut found = Self::default();
        let mut spans = rows.spans(0..subject.given());
        let Some((_, span)) = spans.find(|(row, _)| classes.get(*row) == Some(&class)) else { return found };
        let span = span.start..span.end.min(span.start + TILE);
        let (mut bins, mut residuals, mut wide) = ([0; TILE], [0; 8 * TILE], [0; TILE]);
        let wide = &mut wide[..span.len()];
        kernel::widen(subject.word.bytes, subject.residuals(span.clone(), &mut residuals), wide);
        for (residual, bin) in wide.iter().zip(subject.bins(span, &mut bins)) {
            found.count(contexts[usize::from(*bin) % BINS].low_bits, *residual);
        }
        found
    }

    /// Whether low bits take no more than words stored whole would. Where most words moved, and where there are none, how far they
    /// move in the mean tells enough.
    pub(super) fn is_worth(&self, word: Word) -> bool {
        2 * self.moved >= self.words || self.paid <= 8 * word.bytes as u32 * self.fitting
    }
}
