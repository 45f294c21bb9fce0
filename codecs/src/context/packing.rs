//! How many tokens of a bucket share a symbol.

use super::segment::{cost, histogram};
use crate::Level;
use crate::entropy::{self, Counts};
use crate::kernel::{self, Isa};

/// How a bucket is packed.
pub(super) struct Packed {
    pub(super) token_bits: u32,
    pub(super) symbols: usize,
    pub(super) counts: Counts,
}

/// Buckets of more tokens than this are judged by a part of them.
const MANY: usize = 16 << 10;

/// Puts the tokens of a bucket into symbols, several in one, at the start of `symbols`, where that is no longer.
pub(super) fn pack_bucket(isa: Isa, level: Level, tokens: &[u8], symbols: &mut [u8]) -> Packed {
    let part = if tokens.len() > MANY { Some(entropy::part_of(tokens)) } else { None };
    let judged = part.as_deref().unwrap_or(tokens);
    let counts = histogram(judged);
    let token_bits = token_bits(isa, level, judged, &counts, symbols);
    if token_bits == 8 {
        let counts = if part.is_some() { histogram(tokens) } else { counts };
        return Packed { token_bits, symbols: tokens.len(), counts };
    }
    let symbols = &mut symbols[..tokens.len().div_ceil((8 / token_bits) as usize)];
    kernel::pack(isa, token_bits, tokens, symbols);
    Packed { token_bits, symbols: symbols.len(), counts: histogram(symbols) }
}

/// The bits of a token with which a bucket like `tokens`, which have these counts, is smallest. `scratch` is overwritten.
fn token_bits(isa: Isa, level: Level, tokens: &[u8], counts: &Counts, scratch: &mut [u8]) -> u32 {
    if tokens.len() < 64 {
        return 8;
    }
    let (mut best, mut least) = (8, cost(counts, tokens.len()));
    for token_bits in [4u32, 2, 1] {
        let most = (1usize << token_bits) - 1;
        let escaped: u32 = counts[most..].iter().sum();
        // An escape costs its own code beside its symbol's.
        if escaped as usize * 32 > tokens.len() || level == Level::Fast && token_bits != 4 {
            break;
        }
        let symbols = &mut scratch[..tokens.len().div_ceil((8 / token_bits) as usize)];
        kernel::pack(isa, token_bits, tokens, symbols);
        let found = cost(&histogram(symbols), symbols.len()) + ((u64::from(escaped) * 5) << 16);
        // Fewer symbols are decoded faster: worth half a percent.
        if found > least + least / 256 {
            break;
        }
        (best, least) = (token_bits, found);
    }
    best
}
