use half::{bf16, f16};
use proptest::prelude::*;
use shard_core::{DType, NoProgress, Segment, TensorView, sha256};

use super::float::{Changed, Nearest, power_of_two};
use super::squares::Squares;
use super::*;

const TYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

fn float(dtype: DType) -> Float {
    Float::of(dtype).unwrap()
}

fn value(dtype: DType, word: u64) -> f64 {
    match dtype {
        DType::F16 => f16::from_bits(word as u16).to_f64(),
        DType::BF16 => bf16::from_bits(word as u16).to_f64(),
        DType::F32 => f64::from(f32::from_bits(word as u32)),
        _ => f64::from_bits(word),
    }
}

fn word(dtype: DType, value: f64) -> u64 {
    match dtype {
        DType::F16 => f16::from_f64(value).to_bits().into(),
        DType::BF16 => bf16::from_f64(value).to_bits().into(),
        DType::F32 => (value as f32).to_bits().into(),
        _ => value.to_bits(),
    }
}

fn bytes(dtype: DType, words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(dtype.word_bytes())).collect()
}

/// A file with 3 bytes, a tensor, and 2 bytes.
fn file_of(dtype: DType, words: &[u64]) -> (Vec<u8>, Layout) {
    let data = bytes(dtype, words);
    let segment = |len: usize, dtype| Segment { len: len as u64, dtype };
    let layout = Layout {
        format: "safetensors".to_owned(),
        segments: vec![segment(3, None), segment(data.len(), Some(dtype)), segment(2, None)],
        tensors: vec![TensorView {
            name: "w".to_owned(),
            dtype,
            shape: vec![words.len() as u64],
            segment: 1,
            offset: 0,
            strides: None,
        }],
        compressed: Vec::new(),
    };
    ([&[1, 2, 3][..], &data, &[4, 5]].concat(), layout)
}

fn all(source: &dyn Source) -> Vec<u8> {
    let mut bytes = vec![0; source.len() as usize];
    source.read_at(0, &mut bytes).unwrap();
    bytes
}

/// What becomes of a file, with its mark where it was rounded.
fn rounded(file: &[u8], layout: &Layout, bound: f64) -> (Vec<u8>, Option<Lossy>) {
    match Rounded::of(&file, layout, LossyBound::new(bound).unwrap(), &NoProgress).unwrap() {
        Outcome::Rounded(rounded) => (all(&rounded), Some(rounded.mark)),
        Outcome::Same => (file.to_vec(), None),
        Outcome::Untouched(why) => panic!("{why}"),
    }
}

fn words_of(dtype: DType, file: &[u8]) -> Vec<u64> {
    float(dtype).words(&file[3..file.len() - 2]).collect()
}

/// Checks all that is promised of a rounded tensor.
fn check(dtype: DType, words: &[u64], bound: f64) {
    let (file, layout) = file_of(dtype, words);
    let (after, mark) = rounded(&file, &layout, bound);
    assert_eq!(after[..3], file[..3]);
    assert_eq!(after[after.len() - 2..], file[file.len() - 2..]);
    let (again, marked) = rounded(&after, &layout, bound);
    assert!(again == after && marked.is_none(), "{dtype} {bound}: rounding again changes something");
    let Some(mark) = mark else { return assert_eq!(after, file) };
    assert_eq!((mark.bound, mark.of), (bound, sha256(&file)));
    let told = mark.tensors["w"];
    let finite: Vec<f64> = words.iter().map(|word| value(dtype, *word)).filter(|value| value.is_finite()).collect();
    let largest = finite.iter().fold(0f64, |most, value| most.max(value.abs()));
    let mean = finite.iter().map(|value| (value / largest).powi(2)).sum::<f64>() / finite.len() as f64;
    let allowed = bound * (largest * mean.sqrt());
    let mut errors = Vec::new();
    for (before, after) in words.iter().zip(words_of(dtype, &after)) {
        let (old, new) = (value(dtype, *before), value(dtype, after));
        if *before == after {
            continue;
        }
        assert!(old.is_finite() && new.is_finite() && old != 0.0, "{dtype}: {old} became {new}");
        let error = (old - new).abs();
        assert!(error <= allowed, "{dtype} {bound}: {old} became {new}, and {allowed} is allowed");
        assert!((new / told.step).fract() == 0.0, "{new} is no multiple of {}", told.step);
        assert!(new != 0.0 || after == 0, "{old} became a negative zero");
        errors.push(error);
    }
    let most = errors.iter().copied().fold(0.0, f64::max);
    let squares: f64 = errors.iter().map(|error| (error / most).powi(2)).sum();
    assert_eq!(told.max_error, most);
    assert!(most <= told.step / 2.0);
    let rms = (squares / finite.len() as f64).sqrt() * most;
    assert!((told.rms_error / rms - 1.0).abs() < 1e-9, "{} and {rms}", told.rms_error);
}

/// Numbers like weights, and all that is odd.
fn weights(dtype: DType, count: u32) -> Vec<u64> {
    let unit = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) - 0.5;
    (0..count).map(|i| word(dtype, unit(i) * unit(i + 77) * 0.3)).collect()
}

#[test]
fn every_type_is_rounded_within_the_bound() {
    for dtype in TYPES {
        for bound in [1e-6, 1e-4, 1e-3, 1e-2, 0.3, 0.999_999] {
            check(dtype, &weights(dtype, 3000), bound);
        }
        let (before, layout) = file_of(dtype, &weights(dtype, 3000));
        assert_ne!(rounded(&before, &layout, 0.05).0, before, "{dtype}");
    }
}

#[test]
fn what_is_not_finite_and_zeros_stay() {
    for dtype in TYPES {
        let sign = 1u64 << (8 * dtype.word_bytes() - 1);
        let infinity = word(dtype, f64::INFINITY);
        let odd = [0, sign, infinity, infinity | sign, infinity | 1, infinity | 5 | sign, sign - 1];
        let words = [weights(dtype, 200), odd.to_vec()].concat();
        check(dtype, &words, 0.01);
        let (file, layout) = file_of(dtype, &words);
        let (after, mark) = rounded(&file, &layout, 0.01);
        assert!(mark.is_some());
        assert_eq!(words_of(dtype, &after)[200..], odd);
    }
}

#[test]
fn subnormal_and_extreme_numbers() {
    for dtype in TYPES {
        let largest = word(dtype, f64::INFINITY) - 1;
        let smallest: Vec<u64> = (1..300).collect();
        let near_top: Vec<u64> = (0..300).map(|i| largest - i).collect();
        for words in [smallest, near_top, [weights(dtype, 100), vec![1, 2, 3, largest]].concat()] {
            for bound in [1e-9, 1e-3, 0.1, 0.5, 0.9] {
                check(dtype, &words, bound);
            }
        }
    }
}

fn other(nearest: Nearest) -> Option<Changed> {
    match nearest {
        Nearest::Other(changed) => Some(changed),
        Nearest::Same | Nearest::Beyond => None,
    }
}

#[test]
fn ties_go_to_the_even_multiple() {
    let round = |value: f32| {
        let word = u64::from(value.to_bits());
        other(float(DType::F32).round(word, 1)).map_or(value, |changed| f32::from_bits(changed.word as u32))
    };
    let expected =
        [(0.9, 0.0), (1.0, 0.0), (1.1, 2.0), (2.0, 2.0), (3.0, 4.0), (5.0, 4.0), (7.0, 8.0), (-3.0, -4.0), (-1.0, 0.0)];
    for (from, to) in expected {
        assert_eq!(round(from).to_bits(), f32::to_bits(to), "{from}");
    }
    let f16s = float(DType::F16);
    assert_eq!(f16s.round(0x7bff, 6), Nearest::Beyond, "65504 is nearest to 65536, which the type does not have");
    assert_eq!(f16s.round(0x7bfe, 6), Nearest::Same, "65472 is a multiple of 64");
    assert_eq!(other(f16s.round(0x7bfd, 6)).unwrap().word, 0x7bfc, "65440 is as near to 65408, which is 1022 times 64");
}

#[test]
fn a_tensor_with_an_element_nearest_to_what_the_type_does_not_have_is_left_alone() {
    // A step of 256: 65440 is nearest to 65536. Without the hundreds, which would become 0, the step is 128, and it moves.
    let mut values = vec![0.0; 218 * 300];
    values[0] = 65440.0;
    values[1..=400].fill(100.0);
    let words: Vec<u64> = values.iter().map(|value| word(DType::F16, *value)).collect();
    check(DType::F16, &words, 0.5);
    let (file, layout) = file_of(DType::F16, &words);
    assert_eq!(rounded(&file, &layout, 0.5), (file.clone(), None));
    // As large a number that is on the grid is in nobody's way.
    let words: Vec<u64> = [vec![word(DType::F16, 65280.0)], words[1..].to_vec()].concat();
    check(DType::F16, &words, 0.5);
    let (file, layout) = file_of(DType::F16, &words);
    assert!(rounded(&file, &layout, 0.5).1.is_some());
}

#[test]
fn reads_of_any_place_and_length_agree() {
    for dtype in TYPES {
        let (file, layout) = file_of(dtype, &weights(dtype, 70));
        let Outcome::Rounded(rounded) =
            Rounded::of(&file, &layout, LossyBound::new(0.1).unwrap(), &NoProgress).unwrap()
        else {
            panic!("not rounded")
        };
        let whole = all(&rounded);
        for start in 0..file.len() {
            for end in [start, start + 1, start + 2, start + 9, start + 60, file.len()] {
                let mut part = vec![0; end.min(file.len()) - start];
                rounded.read_at(start as u64, &mut part).unwrap();
                assert_eq!(part, whole[start..start + part.len()], "{dtype} {start} {end}");
            }
        }
        assert!(rounded.read_at(1, &mut vec![0; file.len()]).is_err());
    }
}

#[test]
fn a_grid_of_half_the_step_is_left_alone() {
    // The root mean square is just above a power of two, so that the step is just reached.
    let values: Vec<f64> = (0..200).map(|i| if i % 2 == 0 { 1.0 } else { 1.125 }).collect();
    let words: Vec<u64> = values.iter().map(|value| word(DType::F32, *value)).collect();
    let (file, layout) = file_of(DType::F32, &words);
    assert_eq!(rounded(&file, &layout, 0.12), (file.clone(), None), "a step of 1/4, and multiples of 1/8");
    assert!(rounded(&file, &layout, 0.25).1.is_some());
}

#[test]
fn tensors_that_stay() {
    let words = weights(DType::F32, 200);
    let (file, layout) = file_of(DType::F32, &words);
    let changed = |change: &dyn Fn(&mut Layout)| {
        let mut layout = layout.clone();
        change(&mut layout);
        rounded(&file, &layout, 0.01).1
    };
    assert!(changed(&|_| {}).is_some());
    let tied = changed(&|layout| {
        let view = TensorView { name: "tied".to_owned(), ..layout.tensors[0].clone() };
        layout.tensors.push(view);
    });
    assert_eq!(tied.unwrap().tensors.keys().collect::<Vec<_>>(), ["tied", "w"]);
    let part = changed(&|layout| {
        let view = TensorView { name: "part".to_owned(), shape: vec![100], ..layout.tensors[0].clone() };
        layout.tensors.push(view);
    });
    assert_eq!(part, None, "part of a tensor may mean something else");
    assert_eq!(changed(&|layout| layout.tensors[0].shape = vec![199]), None, "bytes of no tensor");
    for dtype in [DType::I32, DType::U32, DType::C64, DType::F8E4M3, DType::I64] {
        let other = changed(&|layout| {
            layout.segments[1].dtype = Some(dtype);
            layout.tensors[0].dtype = dtype;
            layout.tensors[0].shape = vec![800 / dtype.storage_unit().1];
        });
        assert_eq!(other, None, "{dtype}");
    }
    let few = weights(DType::F32, 63);
    let (file, layout) = file_of(DType::F32, &few);
    assert_eq!(rounded(&file, &layout, 0.01).1, None, "63 elements");
}

#[test]
fn files_with_checksums_are_not_touched() {
    let (file, layout) = file_of(DType::F32, &weights(DType::F32, 200));
    let bound = LossyBound::new(0.01).unwrap();
    let is_untouched = |file: &Vec<u8>, layout: &Layout| {
        matches!(Rounded::of(file, layout, bound, &NoProgress).unwrap(), Outcome::Untouched(_))
    };
    assert!(!is_untouched(&file, &layout));
    assert!(is_untouched(&file, &Layout { format: "tf-checkpoint".to_owned(), ..layout.clone() }));
    let zip = [b"PK\x03\x04", &file[4..]].concat();
    assert!(is_untouched(&zip, &Layout { format: "pytorch".to_owned(), ..layout }));
}

#[test]
fn bounds() {
    for bad in [0.0, -0.0, -1e-3, 1.0, 2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(LossyBound::new(bad), None, "{bad}");
    }
    for good in [1e-3, 0.999, f64::MIN_POSITIVE] {
        assert_eq!(LossyBound::new(good).map(LossyBound::get), Some(good));
    }
}

#[test]
fn sums_go_beyond_128_bits() {
    let mut squares = Squares::new(float(DType::F64));
    let finite = float(DType::F64).finite(3.0f64.to_bits()).unwrap();
    for _ in 0..(5 << 22) {
        squares.add(finite);
    }
    let rms = squares.root_mean(5 << 22).unwrap();
    assert_eq!(rms.value * power_of_two(rms.exponent), 3.0);
}

proptest! {
    #[test]
    fn any_words(
        dtype in prop::sample::select(&TYPES[..]),
        words in prop::collection::vec(any::<u64>(), 64..300),
        digits in 1i32..9,
    ) {
        let bits = 8 * dtype.word_bytes() as u32;
        let words: Vec<u64> = words.into_iter().map(|word| word >> (64 - bits)).collect();
        check(dtype, &words, 10f64.powi(-digits));
    }

    #[test]
    fn any_scale(
        dtype in prop::sample::select(&TYPES[..]),
        scale in -20i32..15, count in 64u32..400, bound in 1e-7f64..0.999,
    ) {
        let words: Vec<u64> =
            weights(dtype, count).into_iter().map(|old| word(dtype, value(dtype, old) * 2f64.powi(scale))).collect();
        check(dtype, &words, bound);
    }

    #[test]
    fn the_order_of_the_elements_does_not_matter(mut words in prop::collection::vec(any::<u64>(), 64..200)) {
        let sum = |words: &[u64]| {
            let mut squares = Squares::new(float(DType::F64));
            words.iter().filter_map(|word| float(DType::F64).finite(*word)).for_each(|finite| squares.add(finite));
            squares.root_mean(64)
        };
        let forward = sum(&words);
        words.reverse();
        prop_assert_eq!(forward, sum(&words));
    }
}
