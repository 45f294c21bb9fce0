//! Tokens in buckets, in safe Rust: what the context coder does between words and streams (see [`crate::context`]).

/// Most buckets of a block.
pub(crate) const MAX_BUCKETS: usize = 32;
/// Contexts of a class, one a bin.
pub(crate) const BINS: usize = 64;
/// What puts a word in a bin. The bin of a word that is no float is its top six bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The exponent field, bin 0 being all up to `first`, bin 63 all from there on.
    Exponent {
        /// The exponent of bin 0.
        first: u32,
    },
    /// The top six bits of the mantissa.
    Mantissa,
}

/// The token that stands for a residual in a list of its own.
pub(crate) const ESCAPE: u8 = 255;
/// Bytes that a pool of tokens has beyond those in use, so that whole vectors can be read.
pub(crate) const SLACK: usize = 64;

/// For each bucket, where its next token is in the pool.
pub(crate) type Cursors = [usize; MAX_BUCKETS];

/// A bit a token: whether it is [`ESCAPE`]. The first of each 64 is in bit 0.
pub(crate) fn escape_mask(tokens: &[u8]) -> u64 {
    tokens.iter().rev().fold(0, |mask, token| mask << 1 | u64::from(*token == ESCAPE))
}

/// The positions of the tokens that are [`ESCAPE`].
pub(crate) fn escapes(tokens: &[u8]) -> impl Iterator<Item = usize> {
    let (groups, rest) = tokens.as_chunks::<8>();
    let tail = 8 * groups.len();
    let in_groups = groups.iter().enumerate().flat_map(|(index, group)| {
        ones_of(zero_bytes(!u64::from_le_bytes(*group))).map(move |position| 8 * index + position)
    });
    let in_tail = rest.iter().enumerate().filter(|(_, token)| **token == ESCAPE).map(move |(index, _)| tail + index);
    in_groups.chain(in_tail)
}

/// The top bit of each byte that is zero; exact, no carry leaves a byte.
#[inline(always)]
fn zero_bytes(bytes: u64) -> u64 {
    const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((bytes & LOW7) + LOW7) | bytes | LOW7)
}

/// The bytes of which the top bit is set.
#[inline(always)]
fn ones_of(mut tops: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = (tops != 0).then(|| tops.trailing_zeros() as usize / 8);
        tops &= tops.wrapping_sub(1);
        position
    })
}

/// `out[i] = map[bins[i]]`; bins are below [`BINS`].
pub(super) fn map_bins(map: &[u8; BINS], bins: &[u8], out: &mut [u8]) {
    for (out, bin) in out.iter_mut().zip(bins) {
        *out = map[usize::from(*bin) % BINS];
    }
}

/// Takes the next token of each word's bucket, and says which are escapes, a mask for 64 tokens. `None` where a bucket has none
/// left in the pool.
pub(super) fn gather_tokens(
    _buckets: usize,
    ids: &[u8],
    pool: &[u8],
    cursors: &mut Cursors,
    tokens: &mut [u8],
    escapes: &mut [u64],
) -> Option<()> {
    for (token, id) in tokens.iter_mut().zip(ids) {
        let cursor = &mut cursors[usize::from(*id) % MAX_BUCKETS];
        *token = *pool.get(*cursor)?;
        *cursor += 1;
    }
    for (mask, tokens) in escapes.iter_mut().zip(tokens.chunks(64)) {
        *mask = escape_mask(tokens);
    }
    Some(())
}

/// Puts each word's token at the end of its bucket. `None` where the pool has no room. Up to [`SLACK`] bytes after each bucket,
/// and where buckets that no id names would be, may be overwritten.
pub(super) fn scatter_tokens(
    _buckets: usize,
    ids: &[u8],
    tokens: &[u8],
    cursors: &mut Cursors,
    pool: &mut [u8],
) -> Option<()> {
    for (token, id) in tokens.iter().zip(ids) {
        let cursor = &mut cursors[usize::from(*id) % MAX_BUCKETS];
        *pool.get_mut(*cursor)? = *token;
        *cursor += 1;
    }
    Some(())
}

/// Tokens of `bits` bits (1, 2, 4 or 8), the first in the lowest bits of the first symbol; the highest value of so many bits
/// becomes [`ESCAPE`].
#[inline(always)]
pub(super) fn unpack(bits: u32, symbols: &[u8], tokens: &mut [u8]) {
    match bits {
        1 => unpack_by::<8, 1>(symbols, tokens),
        2 => unpack_by::<4, 2>(symbols, tokens),
        4 => unpack_by::<2, 4>(symbols, tokens),
        _ => {
            let len = tokens.len().min(symbols.len());
            tokens[..len].copy_from_slice(&symbols[..len]);
        }
    }
}

#[inline(always)]
fn unpack_by<const PER_SYMBOL: usize, const BITS: u32>(symbols: &[u8], tokens: &mut [u8]) {
    let token = |symbol: u8, index: usize| {
        let most = (1u8 << BITS) - 1;
        let token = symbol >> (BITS * index as u32) & most;
        if token == most { ESCAPE } else { token }
    };
    let (groups, rest) = tokens.as_chunks_mut::<PER_SYMBOL>();
    for (group, symbol) in groups.iter_mut().zip(symbols) {
        *group = std::array::from_fn(|index| token(*symbol, index));
    }
    if let Some(symbol) = symbols.get(groups.len()) {
        for (index, place) in rest.iter_mut().enumerate() {
            *place = token(*symbol, index);
        }
    }
}

/// The inverse of [`unpack`]; tokens from the highest value on are that value.
#[inline(always)]
pub(super) fn pack(bits: u32, tokens: &[u8], symbols: &mut [u8]) {
    match bits {
        1 => pack_by::<8, 1>(tokens, symbols),
        2 => pack_by::<4, 2>(tokens, symbols),
        4 => pack_by::<2, 4>(tokens, symbols),
        _ => {
            let len = tokens.len().min(symbols.len());
            symbols[..len].copy_from_slice(&tokens[..len]);
        }
    }
}

#[inline(always)]
fn pack_by<const PER_SYMBOL: usize, const BITS: u32>(tokens: &[u8], symbols: &mut [u8]) {
    let most = (1u8 << BITS) - 1;
    let part = |index: usize, token: u8| token.min(most) << (BITS * index as u32);
    let (groups, rest) = tokens.as_chunks::<PER_SYMBOL>();
    for (symbol, group) in symbols.iter_mut().zip(groups) {
        *symbol = (0..PER_SYMBOL).fold(0, |symbol, index| symbol | part(index, group[index]));
    }
    if let (Some(symbol), false) = (symbols.get_mut(groups.len()), rest.is_empty()) {
        *symbol = rest.iter().enumerate().fold(0, |symbol, (index, token)| symbol | part(index, *token));
    }
}

/// Bits in a sequence: the next one is bit `at % 8` of byte `at / 8`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bits<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) at: usize,
}

impl Bits<'_> {
    /// Takes the next `width` bits (at most 56); zeros beyond the end.
    #[inline(always)]
    pub(crate) fn take(&mut self, width: u32) -> u64 {
        let first = self.at / 8;
        let window = match self.data.get(first..).and_then(<[u8]>::first_chunk) {
            Some(window) => u64::from_le_bytes(*window),
            None => self.last(first),
        };
        let value = window >> (self.at % 8) & ((1 << width) - 1);
        self.at += width as usize;
        value
    }

    /// Whether exactly all bytes were used, and the bits after the last one taken are zeros.
    pub(crate) fn is_finished(mut self) -> bool {
        let left = (8 - self.at % 8) % 8;
        self.at.div_ceil(8) == self.data.len() && self.take(left as u32) == 0
    }

    #[cold]
    fn last(&self, first: usize) -> u64 {
        let mut window = [0; 8];
        for (place, byte) in window.iter_mut().zip(self.data.get(first..).unwrap_or_default()) {
            *place = *byte;
        }
        u64::from_le_bytes(window)
    }
}

/// Most words of a group that low bits are taken of at a time.
pub(super) const GROUP: usize = 1024;

/// Room for the words of a group that have low bits, 8 bytes of words in a number, and for a vector more than [`GROUP`] words of
/// 4 bytes. What it holds is of use to one call only; it is kept because clearing it takes longer than the work.
pub(crate) struct Chosen {
    pub(super) widths: [u8; GROUP + 64],
    /// As many ones in each word as its width says, from the lowest bit on.
    pub(super) masks: [u64; GROUP / 2 + 32],
    pub(super) words: [u64; GROUP / 2 + 32],
}

impl Chosen {
    pub(crate) fn new() -> Self {
        Self { widths: [0; GROUP + 64], masks: [0; GROUP / 2 + 32], words: [0; GROUP / 2 + 32] }
    }
}

/// Where bits are put, in the order that [`Bits`] takes them.
#[derive(Debug)]
pub(crate) struct BitSink<'a> {
    /// 8 bytes more than the bits take.
    pub(crate) out: &'a mut [u8],
    /// The place of the next bit.
    pub(crate) at: usize,
}

impl BitSink<'_> {
    /// Puts the lowest `width` bits (at most 56) of a value. Where there is no room, they are lost.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        let Some(place) = self.out.get_mut(self.at / 8..).and_then(<[u8]>::first_chunk_mut::<8>) else { return };
        let used = self.at % 8;
        let before = u64::from(place[0]) & ((1 << used) - 1);
        *place = (before | (value & ((1 << width) - 1)) << used).to_le_bytes();
        self.at += width as usize;
    }

    /// The bytes that hold bits, zeros after the last one.
    pub(crate) fn finish(self) -> usize {
        self.at.div_ceil(8)
    }
}

/// Puts the next `widths[i]` bits below residual `i`, which moves up by as many.
pub(super) fn add_low_bits(
    word_bytes: usize,
    widths: &[u8],
    bits: &mut Bits<'_>,
    residuals: &mut [u8],
    _chosen: &mut Chosen,
) {
    match word_bytes {
        1 => add_low_bits_to::<1>(widths, bits, residuals),
        2 => add_low_bits_to::<2>(widths, bits, residuals),
        4 => add_low_bits_to::<4>(widths, bits, residuals),
        _ => add_low_bits_to::<8>(widths, bits, residuals),
    }
}

fn add_low_bits_to<const BYTES: usize>(widths: &[u8], bits: &mut Bits<'_>, residuals: &mut [u8]) {
    let mut next = |width: u8, residual: &mut [u8; BYTES]| {
        let mut wide = [0; 8];
        wide[..BYTES].copy_from_slice(residual);
        let wide = u64::from_le_bytes(wide) << width | bits.take(u32::from(width));
        residual.copy_from_slice(&wide.to_le_bytes()[..BYTES]);
    };
    let residuals = residuals.as_chunks_mut::<BYTES>().0;
    // Most groups of a coarse type have no low bits at all, or one word that has.
    let (groups, rest) = widths.as_chunks::<8>();
    let (residual_groups, residual_rest) = residuals.split_at_mut((8 * groups.len()).min(residuals.len()));
    for (group, residuals) in groups.iter().zip(residual_groups.as_chunks_mut::<8>().0) {
        if u64::from_le_bytes(*group) != 0 {
            group.iter().zip(residuals).for_each(|(width, residual)| next(*width, residual));
        }
    }
    rest.iter().zip(residual_rest).for_each(|(width, residual)| next(*width, residual));
}

/// Puts the lowest `widths[i]` bits of each residual.
pub(super) fn put_low_bits(
    word_bytes: usize,
    widths: &[u8],
    residuals: &[u8],
    bits: &mut BitSink<'_>,
    _chosen: &mut Chosen,
) {
    for (width, residual) in widths.iter().zip(residuals.chunks_exact(word_bytes)).filter(|(width, _)| **width > 0) {
        let mut wide = [0; 8];
        wide[..word_bytes].copy_from_slice(residual);
        bits.put(u64::from_le_bytes(wide), u32::from(*width));
    }
}

/// Which tokens are not below their limits.
pub(super) fn reaches(tokens: &[u8], limits: &[u8], masks: &mut [u64]) {
    for ((mask, tokens), limits) in masks.iter_mut().zip(tokens.chunks(64)).zip(limits.chunks(64)) {
        let pairs = tokens.iter().zip(limits).rev();
        *mask = pairs.fold(0, |mask, (token, limit)| mask << 1 | u64::from(token >= limit));
    }
}
