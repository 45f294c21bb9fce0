//! Histograms and interleaved rANS in safe Rust: the definition of the format.

/// Interleaved states of a long stream,
pub(crate) const LANES: usize = 32;
/// and of all streams of a block together.
pub(crate) const MANY_LANES: usize = 64;
/// Probabilities are multiples of 2^-12, or
pub(crate) const COARSE_BITS: u32 = 12;
/// of 2^-14, for very skewed streams.
pub(crate) const FINE_BITS: u32 = 14;
/// Lowest value of a state between symbols; states start and end there.
pub(crate) const STATE_LOW: u32 = 1 << 16;

/// What encoding a symbol takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EncodeEntry {
    /// `ceil(2^64 / frequency)`; the high half of its product with a 32-bit state is the quotient, exactly. For a frequency
    /// of 1 it is `2^64 - 1`, which gives the quotient less 1; `bias` makes up for that.
    reciprocal: u64,
    /// States from here on put out a word first.
    limit: u32,
    /// The slots that the symbol does not have.
    complement: u16,
    /// First slot of the symbol.
    bias: u16,
}

impl EncodeEntry {
    /// The entry of a symbol that has `frequency` (at least 1, below all) of 2^`bits` slots, from `start` on.
    pub(crate) fn new(bits: u32, frequency: u16, start: u16) -> Self {
        let total = 1u16 << bits;
        let (reciprocal, bias) = match frequency {
            0 | 1 => (u64::MAX, start + total - 1),
            _ => (u64::MAX / u64::from(frequency) + 1, start),
        };
        let limit = u32::from(frequency) << (32 - bits);
        Self { reciprocal, limit, complement: total.saturating_sub(frequency), bias }
    }

    /// The state after the symbol, and the word that came out.
    #[inline(always)]
    pub(crate) fn step(&self, state: u32) -> (u32, Option<u16>) {
        let full = state >= self.limit;
        let kept = if full { state >> 16 } else { state };
        let quotient = ((u128::from(kept) * u128::from(self.reciprocal)) >> 64) as u32;
        let next =
            kept.wrapping_add(u32::from(self.bias)).wrapping_add(quotient.wrapping_mul(u32::from(self.complement)));
        (next, full.then_some(state as u16))
    }
}

/// What decoding a symbol takes. One look-up where probabilities are coarse; two, of which the second hits 1 KiB, where
/// they are fine, so that the tables stay in the first-level cache.
pub(crate) struct DecodeTables {
    /// For each of 2^12 slots: the frequency in bits 0 to 11, slot less first slot in 12 to 23, the symbol in 24 to 31.
    pub(super) coarse: [u32; 1 << COARSE_BITS],
    /// The symbol of each of 2^14 slots; three more bytes, so that four can be read at each.
    pub(super) fine: [u8; (1 << FINE_BITS) + 3],
    /// For each symbol: the frequency in bits 0 to 15, the first slot in 16 to 31.
    pub(super) symbols: [u32; 256],
}

impl DecodeTables {
    pub(crate) fn new() -> Self {
        Self { coarse: [0; 1 << COARSE_BITS], fine: [0; (1 << FINE_BITS) + 3], symbols: [0; 256] }
    }

    /// Fills in what decoding with these frequencies, which sum to 2^12 or 2^14, takes.
    pub(crate) fn fill(&mut self, fine: bool, frequencies: &[u16; 256]) {
        let mut start = 0u16;
        let mut coarse = self.coarse.iter_mut();
        for (symbol, frequency) in (0..=255u8).zip(*frequencies) {
            if fine {
                self.symbols[usize::from(symbol)] = u32::from(frequency) | u32::from(start) << 16;
                if let Some(slots) = self.fine.get_mut(usize::from(start)..usize::from(start + frequency)) {
                    slots.fill(symbol);
                }
                start += frequency;
            } else {
                let entry = u32::from(symbol) << 24 | u32::from(frequency);
                for (offset, slot) in (0..u32::from(frequency)).zip(&mut coarse) {
                    *slot = entry | offset << 12;
                }
            }
        }
    }

    /// Takes a symbol off a state. A state below 2^16 (only a forged one) stays a valid index and gives nonsense.
    #[inline(always)]
    fn step<const FINE: bool>(&self, state: u32) -> (u8, u32) {
        let (symbol, frequency, offset, bits) = if FINE {
            let slot = state % (1 << FINE_BITS);
            let symbol = self.fine[slot as usize];
            let entry = self.symbols[usize::from(symbol)];
            (symbol, entry & 0xffff, slot.wrapping_sub(entry >> 16), FINE_BITS)
        } else {
            let entry = self.coarse[(state % (1 << COARSE_BITS)) as usize];
            ((entry >> 24) as u8, entry & 0xfff, entry >> 12 & 0xfff, COARSE_BITS)
        };
        (symbol, frequency.wrapping_mul(state >> bits).wrapping_add(offset))
    }
}

/// How often each value occurs.
pub(super) fn histogram(data: &[u8]) -> [u32; 256] {
    // More tables take longer to clear and to sum up.
    match data.len() {
        0..0x1000 => histogram_in::<2>(data, |groups, tables| groups.iter().for_each(|group| count(group, tables))),
        0x1000..0x2000 => {
            histogram_in::<8>(data, |groups, tables| groups.iter().for_each(|group| count(group, tables)))
        }
        _ => {
            let mut pairs = Box::new([[0u32; 1 << 12]; 2]);
            let mut sum = histogram_in::<8>(data, |groups, tables| count_pairs(groups, tables, &mut pairs));
            let [pairs, others] = pairs.as_mut();
            add(pairs, others);
            for (second, counts) in pairs.as_chunks::<64>().0.iter().enumerate() {
                add(&mut sum, counts);
                sum[second] += counts.iter().sum::<u32>();
            }
            sum
        }
    }
}

fn histogram_in<const TABLES: usize>(
    data: &[u8],
    run: impl FnOnce(&[[u8; 8]], &mut [[u32; 256]; TABLES]),
) -> [u32; 256] {
    let (groups, rest) = data.as_chunks::<8>();
    let mut tables = [[0; 256]; TABLES];
    run(groups, &mut tables);
    let mut sum = [0; 256];
    for byte in rest {
        sum[usize::from(*byte)] += 1;
    }
    tables.iter().for_each(|table| add(&mut sum, table));
    sum
}

fn add(sum: &mut [u32], table: &[u32]) {
    for (sum, count) in sum.iter_mut().zip(table) {
        *sum += count;
    }
}

/// Counts in several tables, so that runs of one value do not wait for the counter's last store.
#[inline(always)]
fn count<const TABLES: usize>(group: &[u8; 8], tables: &mut [[u32; 256]; TABLES]) {
    for (index, byte) in group.iter().enumerate() {
        tables[index % TABLES][usize::from(*byte)] += 1;
    }
}

/// Counts values below 64 two at a time, which takes half the stores: most tokens are such. The first of a pair is in the lower
/// six bits of its index.
fn count_pairs(groups: &[[u8; 8]], tables: &mut [[u32; 256]; 8], pairs: &mut [[u32; 1 << 12]; 2]) {
    const LOW: u64 = 0x003f_003f_003f_003f;
    /// Groups after which it is seen whether there are enough such.
    const PART: usize = 512;
    let mut in_pairs = true;
    for part in groups.chunks(PART) {
        let mut others = 0;
        for group in part {
            let values = u64::from_le_bytes(*group);
            let other = values & !(LOW | LOW << 8) != 0;
            others += usize::from(other);
            if other || !in_pairs {
                count(group, tables);
                continue;
            }
            let joined = values & LOW | (values >> 8 & LOW) << 6;
            for (index, pair) in joined.to_le_bytes().as_chunks().0.iter().enumerate() {
                pairs[index % 2][usize::from(u16::from_le_bytes(*pair)) % (1 << 12)] += 1;
            }
        }
        in_pairs = others < PART / 16;
    }
}

/// What encoding with a set of frequencies takes.
pub(crate) struct EncodeTables {
    /// Of each symbol.
    entries: [EncodeEntry; 256],
    /// For each symbol: the frequency in bits 0 to 15, the first slot in 16 to 31.
    pub(super) symbols: [u32; 256],
    pub(super) bits: u32,
}

impl EncodeTables {
    pub(crate) fn new() -> Self {
        Self { entries: [EncodeEntry::default(); 256], symbols: [0; 256], bits: COARSE_BITS }
    }

    /// Fills in what encoding with these frequencies, which sum to 2^`bits`, takes.
    pub(crate) fn fill(&mut self, bits: u32, frequencies: &[u16; 256]) {
        self.bits = bits;
        let mut start = 0;
        for ((entry, symbol), frequency) in self.entries.iter_mut().zip(&mut self.symbols).zip(frequencies) {
            // Divisions are slow, and most symbols do not occur.
            if *frequency > 0 {
                *entry = EncodeEntry::new(bits, *frequency, start);
            }
            *symbol = u32::from(*frequency) | u32::from(start) << 16;
            start += frequency;
        }
    }
}

/// Encodes `data` backwards with `N` states. Words go to `words` before `end`, the last one first. Returns where the first one
/// is; `None` where they do not fit.
pub(crate) fn rans_encode<const N: usize>(
    tables: &EncodeTables,
    states: &mut [u32; N],
    data: &[u8],
    words: &mut [u8],
    end: usize,
) -> Option<usize> {
    let (groups, rest) = data.as_chunks::<N>();
    let mut at = end;
    for (state, symbol) in states.iter_mut().zip(rest).rev() {
        let (next, word) = tables.entries[usize::from(*symbol)].step(*state);
        *state = next;
        if let Some(word) = word {
            at = at.checked_sub(2)?;
            words.get_mut(at..at + 2)?.copy_from_slice(&word.to_le_bytes());
        }
    }
    for group in groups.iter().rev() {
        // Room for a word a state; each is written whether it counts or not, which leaves no branch to mispredict.
        let room = words.get_mut(at.checked_sub(2 * N)?..at)?.as_chunks_mut::<2>().0;
        let mut unused = N;
        for (state, symbol) in states.iter_mut().zip(group).rev() {
            let low = (*state as u16).to_le_bytes();
            let (next, word) = tables.entries[usize::from(*symbol)].step(*state);
            *state = next;
            if let Some(place) = room.get_mut(unused.wrapping_sub(1)) {
                *place = low;
            }
            unused -= usize::from(word.is_some());
        }
        at -= 2 * (N - unused);
    }
    Some(at)
}

/// Decodes `out` with `N` states. Returns the bytes of `words` used; `None` where they run out.
pub(crate) fn rans_decode<const FINE: bool, const N: usize>(
    tables: &DecodeTables,
    states: &mut [u32; N],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let words = words.as_chunks::<2>().0;
    let mut at = 0;
    let (groups, rest) = out.as_chunks_mut::<N>();
    for group in groups.iter_mut().map(|group| &mut group[..]).chain([rest]) {
        if let Some(ahead) = words.get(at..at + N) {
            let mut used = 0;
            for (state, place) in states.iter_mut().zip(group) {
                let (symbol, moved) = tables.step::<FINE>(*state);
                let word = u32::from(u16::from_le_bytes(ahead[used.min(N - 1)]));
                // Arithmetic rather than a branch, which half of all symbols would take.
                let empty = u32::from(moved < STATE_LOW);
                *state = moved << (16 * empty) | word & empty.wrapping_neg();
                *place = symbol;
                used += empty as usize;
            }
            at += used;
        } else {
            for (state, place) in states.iter_mut().zip(group) {
                let (symbol, moved) = tables.step::<FINE>(*state);
                *place = symbol;
                *state = moved;
                if moved < STATE_LOW {
                    *state = moved << 16 | u32::from(u16::from_le_bytes(*words.get(at)?));
                    at += 1;
                }
            }
        }
    }
    Some(2 * at)
}
