//! Tokens in buckets, in safe Rust: what the context coder does between words and streams (see [`crate::context`]).

/// Most buckets of a block.
pub(crate) const MAX_BUCKETS: usize = 32;
/// Contexts of a class, one a bin.
pub(crate) const BINS: usize = 64;
/// The token that stands for a residual in a list of its own.
pub(crate) const ESCAPE: u8 = 255;
/// Bytes that a pool of tokens has beyond those in use, so that whole vectors can be read.
pub(crate) const SLACK: usize = 64;

/// For each bucket, where its next token is in the pool.
pub(crate) type Cursors = [usize; MAX_BUCKETS];

/// `out[i] = map[bins[i]]`; bins are below [`BINS`].
pub(super) fn map_bins(map: &[u8; BINS], bins: &[u8], out: &mut [u8]) {
    for (out, bin) in out.iter_mut().zip(bins) {
        *out = map[usize::from(*bin) % BINS];
    }
}

/// How many words each bucket has; ids are below [`MAX_BUCKETS`].
pub(super) fn count_ids(_buckets: usize, ids: &[u8]) -> [u32; MAX_BUCKETS] {
    let counts = super::scalar::histogram(ids);
    std::array::from_fn(|bucket| counts[bucket])
}

/// Takes the next token of each word's bucket. `None` where a bucket has none left in the pool.
pub(super) fn gather_tokens(
    _buckets: usize,
    ids: &[u8],
    pool: &[u8],
    cursors: &mut Cursors,
    tokens: &mut [u8],
) -> Option<()> {
    for (token, id) in tokens.iter_mut().zip(ids) {
        let cursor = &mut cursors[usize::from(*id) % MAX_BUCKETS];
        *token = *pool.get(*cursor)?;
        *cursor += 1;
    }
    Some(())
}

/// Puts each word's token at the end of its bucket. `None` where the pool has no room.
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
pub(crate) fn pack(bits: u32, tokens: &[u8], symbols: &mut [u8]) {
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
