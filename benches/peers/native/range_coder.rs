//! A range coder of bytes with carry propagation, and a quasi-static model: frequencies that are adapted in steps.
//!
//! G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979; the quasi-static
//! model as P. Lindstrom and M. Isenburg use it for residuals of floats ("Fast and Efficient Compression of Floating-Point
//! Data", 2006), which is what FM-Delta builds on.

/// Frequencies of a model add up to 2 to this.
const TOTAL_BITS: u32 = 14;
const TOTAL: u32 = 1 << TOTAL_BITS;
/// The range is kept at or above this.
const LEAST: u32 = 1 << 24;
/// Raw bits go in pieces of at most so many.
const PIECE: u32 = 16;
/// Entries of the table that finds symbols.
const SLOT_BITS: u32 = 8;

/// Writes symbols and bits.
pub(crate) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    low: u64,
    range: u32,
    cache: u8,
    /// Bytes that wait for a carry: `cache` and so many less one of 0xff.
    waiting: u64,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, low: 0, range: u32::MAX, cache: 0, waiting: 1 }
    }

    pub(crate) fn symbol(&mut self, model: &mut Model, symbol: usize) {
        let (start, end) = (model.starts[symbol], model.starts[symbol + 1]);
        self.narrow(self.range >> TOTAL_BITS, start, end - start);
        model.count(symbol);
    }

    /// The lowest `bits` bits of `value`, all equally likely.
    pub(crate) fn bits(&mut self, mut value: u64, mut bits: u32) {
        while bits > 0 {
            let piece = bits.min(PIECE);
            self.narrow(self.range >> piece, (value & ((1 << piece) - 1)) as u32, 1);
            value >>= piece;
            bits -= piece;
        }
    }

    fn narrow(&mut self, step: u32, start: u32, size: u32) {
        self.low += u64::from(step) * u64::from(start);
        self.range = step * size;
        while self.range < LEAST {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves the highest byte of `low` out, or lets it wait where a carry may still change it.
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if carry != 0 || (self.low as u32) < 0xff << 24 {
            while self.waiting > 0 {
                self.out.push(self.cache.wrapping_add(carry));
                self.cache = 0xff;
                self.waiting -= 1;
            }
            self.cache = (self.low >> 24) as u8;
        }
        self.waiting += 1;
        self.low = (self.low << 8) & 0xffff_ffff;
    }

    pub(crate) fn finish(mut self) {
        for _ in 0..5 {
            self.shift();
        }
    }
}

/// Reads what an [`Encoder`] wrote. Bytes that are missing are zero.
pub(crate) struct Decoder<'a> {
    stored: std::slice::Iter<'a, u8>,
    range: u32,
    code: u32,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(stored: &'a [u8]) -> Self {
        let mut decoder = Self { stored: stored.iter(), range: u32::MAX, code: 0 };
        for _ in 0..5 {
            decoder.code = decoder.code << 8 | decoder.next();
        }
        decoder
    }

    pub(crate) fn symbol(&mut self, model: &mut Model) -> usize {
        let step = self.range >> TOTAL_BITS;
        let symbol = model.find((self.code / step).min(TOTAL - 1));
        let (start, end) = (model.starts[symbol], model.starts[symbol + 1]);
        self.narrow(step, start, end - start);
        model.count(symbol);
        symbol
    }

    pub(crate) fn bits(&mut self, bits: u32) -> u64 {
        let (mut value, mut done) = (0, 0);
        while done < bits {
            let piece = (bits - done).min(PIECE);
            let step = self.range >> piece;
            let part = (self.code / step).min((1 << piece) - 1);
            self.narrow(step, part, 1);
            value |= u64::from(part) << done;
            done += piece;
        }
        value
    }

    fn narrow(&mut self, step: u32, start: u32, size: u32) {
        self.code = self.code.wrapping_sub(step * start);
        self.range = step * size;
        while self.range < LEAST {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }

    fn next(&mut self) -> u32 {
        self.stored.next().copied().map_or(0, u32::from)
    }
}

/// How likely each symbol is, by those seen so far.
pub(crate) struct Model {
    counts: Vec<u32>,
    /// Where each symbol's share begins; one more closes the last.
    starts: Vec<u32>,
    /// The symbol at the start of each slot of the total.
    slots: [u8; 1 << SLOT_BITS],
    /// Symbols until the shares follow the counts again, and how many it was the last time.
    left: u32,
    period: u32,
}

impl Model {
    const FIRST_PERIOD: u32 = 16;
    const LAST_PERIOD: u32 = 1024;
    /// Counts are halved when they add up to more, so that the model follows the data.
    const MEMORY: u32 = 1 << 17;
    const INCREMENT: u32 = 4;

    /// A model of `symbols` symbols (at most 256), all equally likely.
    pub(crate) fn new(symbols: usize) -> Self {
        let mut model = Self {
            counts: vec![1; symbols],
            starts: vec![0; symbols + 1],
            slots: [0; 1 << SLOT_BITS],
            left: Self::FIRST_PERIOD,
            period: Self::FIRST_PERIOD,
        };
        model.rebuild();
        model
    }

    fn count(&mut self, symbol: usize) {
        self.counts[symbol] += Self::INCREMENT;
        self.left -= 1;
        if self.left == 0 {
            self.period = (self.period * 2).min(Self::LAST_PERIOD);
            self.left = self.period;
            self.rebuild();
        }
    }

    fn find(&self, target: u32) -> usize {
        let mut symbol = usize::from(self.slots[(target >> (TOTAL_BITS - SLOT_BITS)) as usize]);
        while self.starts[symbol + 1] <= target {
            symbol += 1;
        }
        symbol
    }

    /// Gives every symbol at least 1 of the total, and the rest by the counts.
    fn rebuild(&mut self) {
        let mut sum: u32 = self.counts.iter().sum();
        if sum > Self::MEMORY {
            self.counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
            sum = self.counts.iter().sum();
        }
        let shared = u64::from(TOTAL - self.counts.len() as u32);
        let mut before = 0;
        for (symbol, count) in self.counts.iter().enumerate() {
            before += u64::from(*count);
            self.starts[symbol + 1] = (before * shared / u64::from(sum)) as u32 + symbol as u32 + 1;
        }
        let mut symbol = 0;
        for (slot, first) in self.slots.iter_mut().enumerate() {
            while self.starts[symbol + 1] <= (slot as u32) << (TOTAL_BITS - SLOT_BITS) {
                symbol += 1;
            }
            *first = symbol as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_bits_come_back_in_little_more_than_their_entropy() {
        let symbols: Vec<usize> = (0..100_000usize).map(|i| (i * i % 1009).leading_zeros() as usize - 54).collect();
        let mut stored = Vec::new();
        let (mut encoder, mut model) = (Encoder::new(&mut stored), Model::new(33));
        for symbol in &symbols {
            encoder.symbol(&mut model, *symbol);
            encoder.bits(0x1234_5678_9abc_def0, 3 * *symbol as u32);
        }
        encoder.finish();
        let bits: usize = symbols.iter().map(|symbol| 3 * symbol).sum();
        let share = |symbol: usize| symbols.iter().filter(|s| **s == symbol).count() as f64 / symbols.len() as f64;
        let entropy: f64 = symbols.iter().map(|symbol| -share(*symbol).log2()).sum();
        let least = (bits as f64 + entropy) / 8.0;
        assert!((stored.len() as f64) < least * 1.01, "{} for {least}", stored.len());

        let (mut decoder, mut model) = (Decoder::new(&stored), Model::new(33));
        for symbol in &symbols {
            assert_eq!(decoder.symbol(&mut model), *symbol);
            let bits = 3 * *symbol as u32;
            assert_eq!(decoder.bits(bits), 0x1234_5678_9abc_def0 & ((1 << bits) - 1));
        }
    }

    #[test]
    fn carries_run_through_bytes_that_wait() {
        for seed in 0..200u64 {
            let mut stored = Vec::new();
            let (mut encoder, mut model) = (Encoder::new(&mut stored), Model::new(2));
            let mixed: Vec<usize> = (0..500).map(|i| usize::from((seed * 31 + i * i) % 97 == 0)).collect();
            mixed.iter().for_each(|symbol| encoder.symbol(&mut model, *symbol));
            encoder.finish();
            let (mut decoder, mut model) = (Decoder::new(&stored), Model::new(2));
            assert!(mixed.iter().all(|symbol| decoder.symbol(&mut model) == *symbol), "seed {seed}");
        }
    }
}
