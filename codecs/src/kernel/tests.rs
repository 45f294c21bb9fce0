use proptest::prelude::*;

use super::*;
use shard_core::DType;

fn words(bytes: usize) -> Vec<Word> {
    let all = DType::ALL.iter().map(|dtype| Word::of(Some(*dtype)));
    all.filter(|word| word.bytes == bytes).collect()
}

/// A stream's tables and its words for `N` states.
struct Coded<const N: usize> {
    tables: Box<DecodeTables>,
    states: [u32; N],
    words: Vec<u8>,
}

/// Encodes with plain division, as the format is defined, to check the reciprocals against.
fn encode_by_division<const N: usize>(bits: u32, frequencies: &[u16; 256], data: &[u8]) -> ([u32; N], Vec<u8>) {
    let mut states = [STATE_LOW; N];
    let mut words = Vec::new();
    for (index, symbol) in data.iter().enumerate().rev() {
        let state = &mut states[index % N];
        let frequency = u32::from(frequencies[usize::from(*symbol)]);
        let start: u32 = frequencies[..usize::from(*symbol)].iter().map(|f| u32::from(*f)).sum();
        if u64::from(*state) >= u64::from(frequency) << (32 - bits) {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << bits) + *state % frequency + start;
    }
    (states, words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

fn frequencies_of(fine: bool, data: &[u8]) -> [u16; 256] {
    let bits = if fine { FINE_BITS } else { COARSE_BITS };
    let most = (3u64 << bits) / 4;
    let mut frequencies = histogram(data).map(|count| match count {
        0 => 0,
        count => (u64::from(count) * most / data.len() as u64 + 1) as u16,
    });
    let rest = (1 << bits) - frequencies.iter().sum::<u16>();
    *frequencies.iter_mut().max().unwrap() += rest;
    frequencies
}

/// Encodes with 64 states and so much room for words; the states and words.
fn run_encoder(isa: Isa, tables: &EncodeTables, data: &[u8], room: usize) -> Option<([u32; MANY_LANES], Vec<u8>)> {
    let mut words = vec![0; room];
    let mut states = [STATE_LOW; MANY_LANES];
    let first = rans_encode_wide(isa, tables, &mut states, data, &mut words, room)?;
    Some((states, words.split_off(first)))
}

fn code<const N: usize>(fine: bool, data: &[u8]) -> Coded<N> {
    let bits = if fine { FINE_BITS } else { COARSE_BITS };
    let frequencies = frequencies_of(fine, data);
    let mut encode_tables = EncodeTables::new();
    encode_tables.fill(bits, &frequencies);
    let mut tables = Box::new(DecodeTables::new());
    tables.fill(fine, &frequencies);
    let (expected_states, mut expected_words) = encode_by_division(bits, &frequencies, data);
    expected_words.as_chunks_mut::<2>().0.reverse();
    let end = 2 * data.len() + 2 * N;
    let mut words = vec![0; end];
    let mut states = [STATE_LOW; N];
    for isa in Isa::available() {
        states = [STATE_LOW; N];
        let first = rans_encode_wide(isa, &encode_tables, &mut states, data, &mut words, end).unwrap();
        assert_eq!((states, &words[first..]), (expected_states, &expected_words[..]), "{isa:?}");
    }
    let words = expected_words;
    Coded { tables, states, words }
}

fn decode<const N: usize>(isa: Isa, fine: bool, coded: &Coded<N>, len: usize) -> Option<(usize, [u32; N], Vec<u8>)> {
    let mut states = coded.states;
    let mut out = vec![0; len];
    let used = if fine {
        rans_decode_wide::<true, N>(isa, &coded.tables, &mut states, &coded.words, &mut out)
    } else {
        rans_decode_wide::<false, N>(isa, &coded.tables, &mut states, &coded.words, &mut out)
    };
    used.map(|used| (used, states, out))
}

fn symbols() -> impl Strategy<Value = Vec<u8>> {
    let skew = prop_oneof![Just(1u32), Just(8), Just(64), Just(1000)];
    (skew, 2usize..2000, any::<u64>()).prop_map(|(skew, len, seed)| {
        let mut state = seed | 1;
        let mut data: Vec<u8> = (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let uniform = (state >> 33) as u32;
                if uniform.is_multiple_of(skew) { (uniform >> 10) as u8 } else { 7 }
            })
            .collect();
        (data[0], data[1]) = (1, 2);
        data
    })
}

fn check_rans<const N: usize>(data: &[u8], fine: bool) -> Result<(), TestCaseError> {
    let coded = code::<N>(fine, data);
    for isa in Isa::available() {
        let expected = (coded.words.len(), [STATE_LOW; N], data.to_vec());
        prop_assert_eq!(decode(isa, fine, &coded, data.len()), Some(expected), "{:?}", isa);
    }
    Ok(())
}

fn check_forged_words<const N: usize>(
    data: &[u8],
    fine: bool,
    flips: &[(usize, u8)],
    cut: usize,
) -> Result<(), TestCaseError> {
    let mut coded = code::<N>(fine, data);
    for (at, bits) in flips {
        coded.states[at % N] ^= u32::from(*bits) << (at % 25);
        let len = coded.words.len().max(1);
        if let Some(byte) = coded.words.get_mut(at % len) {
            *byte ^= bits;
        }
    }
    coded.words.truncate(cut % (2 * coded.words.len() + 1));
    let expected = decode(Isa::SCALAR, fine, &coded, data.len());
    for isa in Isa::available() {
        prop_assert_eq!(&decode(isa, fine, &coded, data.len()), &expected, "{:?}", isa);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rans_is_the_same_everywhere(data in symbols(), fine: bool) {
        check_rans::<LANES>(&data, fine)?;
        check_rans::<MANY_LANES>(&data, fine)?;
    }

    #[test]
    fn forged_words_fare_the_same_everywhere(
        data in symbols(),
        fine: bool,
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..20),
        cut in any::<usize>(),
    ) {
        check_forged_words::<LANES>(&data, fine, &flips, cut)?;
        check_forged_words::<MANY_LANES>(&data, fine, &flips, cut)?;
    }

    #[test]
    fn words_that_do_not_fit_are_told_of_everywhere(data in symbols(), fine: bool, room in any::<usize>()) {
        let coded = code::<MANY_LANES>(fine, &data);
        let room = room % (coded.words.len() + 1);
        // Whole groups want room for a word a state, whether they use it or not.
        let tight = room < coded.words.len();
        let bits = if fine { FINE_BITS } else { COARSE_BITS };
        let mut tables = EncodeTables::new();
        tables.fill(bits, &frequencies_of(fine, &data));
        let scalar = run_encoder(Isa::SCALAR, &tables, &data, room);
        prop_assert!(!tight || scalar.is_none());
        for isa in Isa::available() {
            prop_assert_eq!(run_encoder(isa, &tables, &data, room), scalar.clone(), "{:?}", isa);
        }
    }

    #[test]
    fn word_transforms_are_the_same_everywhere(
        data in proptest::collection::vec(any::<u8>(), 0..600),
        base in proptest::collection::vec(any::<u8>(), 600),
        kind in 0usize..22,
        rotate: bool,
    ) {
        let word = Word::of(Some(DType::ALL[kind]));
        let len = data.len() / word.bytes * word.bytes;
        let (data, base) = (&data[..len], &base[..len]);
        let count = len / word.bytes;
        let mut expected: Option<Vec<Vec<u8>>> = None;
        for isa in Isa::available() {
            let mut all = vec![vec![0; len], vec![0; len], vec![0xff; count.div_ceil(8)]];
            xor(isa, data, base, &mut all[0]);
            ulp_forward(isa, word, data, base, &mut all[1]);
            nonzero_mask(isa, word.bytes, data, &mut all[2]);
            let mut back = vec![0; len];
            ulp_inverse(isa, word, &all[1], base, &mut back);
            prop_assert_eq!(&back[..], data);
            let mut planes = vec![vec![0; count]; word.bytes];
            split_planes(isa, rotate, data, &mut planes.iter_mut().map(|p| &mut p[..]).collect::<Vec<_>>());
            let mut back = vec![0; len];
            join_planes(isa, rotate, &planes.iter().map(|p| &p[..]).collect::<Vec<_>>(), &mut back);
            prop_assert_eq!(&back[..], data);
            all.extend(planes);
            if word.bytes == 2 {
                let mut tokens = vec![0; count];
                escape_tokens(isa, data, &mut tokens);
                let mut wide = vec![0; len];
                widen_tokens(isa, &tokens, &mut wide);
                all.extend([tokens, wide]);
            }
            prop_assert_eq!(expected.get_or_insert_with(|| all.clone()), &all, "{:?}", isa);
        }
    }
}

#[test]
fn ulp_residuals_of_neighbours_are_small() {
    let step = |word: Word, from: &[u8], to: &[u8]| {
        let mut out = vec![0; to.len()];
        ulp_forward(Isa::SCALAR, word, to, from, &mut out);
        out
    };
    let f32s = Word::of(Some(DType::F32));
    // The next float up, the next down, across zero, and from the largest to infinity.
    for (from, to, expected) in [
        (1.0f32, f32::from_bits(1.0f32.to_bits() + 1), 2u32),
        (1.0, f32::from_bits(1.0f32.to_bits() - 1), 1),
        (-0.0, 0.0, 2),
        (-f32::from_bits(1), -0.0, 2),
        (f32::MAX, f32::INFINITY, 2),
        (-1.0, f32::from_bits((-1.0f32).to_bits() + 1), 1),
    ] {
        assert_eq!(step(f32s, &from.to_le_bytes(), &to.to_le_bytes()), expected.to_le_bytes(), "{from} to {to}");
    }
    let ints = Word::of(Some(DType::I16));
    assert_eq!(step(ints, &(-1i16).to_le_bytes(), &2i16.to_le_bytes()), 6u16.to_le_bytes());
    for bytes in [1, 2, 4, 8] {
        assert!(!words(bytes).is_empty());
        for word in words(bytes) {
            assert!(step(word, &vec![0x7f; bytes], &vec![0x7f; bytes]).iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn histograms_count() {
    for len in [0, 1, 7, 8, 9, 1000, 4099, 8191, 8192, 50_003] {
        for most in [1, 11, 64, 65, 256] {
            // Few large values at first, then more.
            let value =
                |i: usize| if (i * i).is_multiple_of(1 + 40_000 / (i + 1)) { i * i % most } else { i % most.min(64) };
            let data: Vec<u8> = (0..len).map(|i| value(i) as u8).collect();
            let mut expected = [0; 256];
            data.iter().for_each(|byte| expected[usize::from(*byte)] += 1);
            assert_eq!(histogram(&data), expected);
        }
    }
}
