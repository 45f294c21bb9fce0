use proptest::prelude::*;

use super::*;
use crate::CODECS;

fn streams() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(0u8..4, 0..12_000),
        (any::<u8>(), 0usize..10_000).prop_map(|(value, len)| vec![value; len]),
        proptest::collection::vec(any::<u8>(), 1..64).prop_map(|unit| unit.repeat(200)),
        (any::<u8>(), 0usize..20_000, any::<u8>()).prop_map(|(value, len, other)| {
            let mut data = vec![value; len + 1];
            data[len / 2] = other;
            data
        }),
    ]
}

/// Decodes with every instruction set; all must agree.
fn decode(coder: &dyn EntropyCoder, stored: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut results = Isa::available().map(|isa| {
        let mut out = vec![0; len];
        coder.decode(&mut Workspace::new(isa, Level::Default), stored, &mut out).ok().map(|()| out)
    });
    let first = results.next().unwrap();
    for result in results {
        assert_eq!(result, first);
    }
    first
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn coders_round_trip(data in streams()) {
        let counts = crate::kernel::histogram(&data);
        for level in [Level::Fast, Level::Default] {
            let mut workspace = Workspace::new(Isa::best(), level);
            for coder in CODECS.coders {
                let mut stored = vec![1, 2];
                if coder.encode(&mut workspace, &data, &counts, &mut stored).unwrap() {
                    let stored = &stored[2..];
                    if let Some(len) = coder.fixed_len(data.len()) {
                        prop_assert_eq!(stored.len(), len);
                    } else {
                        prop_assert!(stored.len() < data.len());
                    }
                    prop_assert_eq!(decode(*coder, stored, data.len()), Some(data.clone()), "{}", coder.name());
                    prop_assert_eq!(decode(*coder, &[stored, &[0]].concat(), data.len()), None, "{}", coder.name());
                } else {
                    prop_assert_eq!(&stored, &[1, 2]);
                }
            }
            let mut stored = Vec::new();
            let coder = encode_stream(&mut workspace, &data, true, &mut stored).unwrap();
            prop_assert!(stored.len() <= data.len());
            prop_assert_eq!(decode(coder, &stored, data.len()), Some(data.clone()));
        }
    }

    #[test]
    fn damaged_streams_are_errors_or_values(data in streams(), at in any::<usize>(), bits in 1u8.., cut in any::<usize>()) {
        let counts = crate::kernel::histogram(&data);
        let mut workspace = Workspace::new(Isa::best(), Level::Default);
        for coder in CODECS.coders {
            let mut stored = Vec::new();
            if !coder.encode(&mut workspace, &data, &counts, &mut stored).unwrap() || stored.is_empty() {
                continue;
            }
            let short = decode(*coder, &stored[..cut % stored.len()], data.len());
            prop_assert!(short.is_none(), "{} truncated", coder.name());
            let at = at % stored.len();
            stored[at] ^= bits;
            let damaged = decode(*coder, &stored, data.len());
            prop_assert!(damaged.is_none_or(|out| out.len() == data.len()));
        }
    }

    #[test]
    fn any_bytes_are_errors_or_values(stored in proptest::collection::vec(any::<u8>(), 0..600), len in 0usize..5000) {
        for coder in CODECS.coders {
            let decoded = decode(*coder, &stored, len);
            prop_assert!(decoded.is_none_or(|out| out.len() == len));
        }
    }
}

#[test]
fn rans_notices_almost_all_damage() {
    let data: Vec<u8> = (0..40_000u32).map(|i| i.wrapping_mul(0x9e37_79b9).leading_zeros() as u8 % 5).collect();
    let mut stored = Vec::new();
    let mut workspace = Workspace::new(Isa::best(), Level::Default);
    assert!(Rans.encode(&mut workspace, &data, &crate::kernel::histogram(&data), &mut stored).unwrap());
    let (mut missed, mut tried) = (0, 0);
    for at in (0..stored.len()).step_by(101) {
        stored[at] ^= 0x10;
        tried += 1;
        missed += usize::from(decode(&Rans, &stored, data.len()).is_some());
        stored[at] ^= 0x10;
    }
    assert!(tried > 50 && missed * 20 < tried, "{missed} of {tried}");
}

#[test]
fn zstd_never_writes_beyond_the_known_length() {
    let bomb = vec![0; 1 << 20];
    let mut stored = Vec::new();
    let mut workspace = Workspace::new(Isa::best(), Level::Default);
    assert!(Zstd.encode(&mut workspace, &bomb, &crate::kernel::histogram(&bomb), &mut stored).unwrap());
    assert!(decode(&Zstd, &stored, 1000).is_none());
    assert!(decode(&Zstd, &stored, 2 << 20).is_none());
}
