use std::collections::HashMap;
use std::fs;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};

use super::*;
use half::bf16;

/// A pair of GPT-2-like checkpoints in which `moved` of each matrix's words differ, the attention's being ten times the
/// MLP's; in the given type.
fn checkpoints(dtype: Dtype, moved: f64) -> [Vec<u8>; 2] {
    let mut rng = Rng::new(9);
    let names = ["wte.weight", "h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "h.0.ln_1.weight", "h.0.ln_1.bias"];
    let mut data: [Vec<Vec<u8>>; 2] = Default::default();
    for name in names {
        let deviation = if name.contains("attn") { 0.2 } else { 0.02 };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..if name.contains("ln_") { 64 } else { 64 * 64 } {
            let old = (rng.normal() * deviation) as f32;
            let new = if rng.unit() < moved { old * 1.01 } else { old };
            match dtype {
                Dtype::F32 => (a.extend(old.to_le_bytes()), b.extend(new.to_le_bytes())),
                _ => (a.extend(bf16::from_f32(old).to_le_bytes()), b.extend(bf16::from_f32(new).to_le_bytes())),
            };
        }
        data[0].push(a);
        data[1].push(b);
    }
    data.map(|tensors| {
        let views = names.iter().zip(&tensors).map(|(name, bytes)| {
            let shape = if name.contains("ln_") { vec![64] } else { vec![64, 64] };
            (*name, TensorView::new(dtype, shape, bytes).unwrap())
        });
        serialize(views, None).unwrap()
    })
}

struct Made {
    report: SynthReport,
    files: [Vec<u8>; 2],
}

fn make(inputs: &[Vec<u8>; 2], options: &SynthOptions) -> Result<Made, SynthError> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), &inputs[0]).unwrap();
    fs::write(path("b"), &inputs[1]).unwrap();
    let report = synthesise_pair(&path("a"), &path("b"), options, &path("out_a"), &path("out_b"))?;
    Ok(Made { report, files: [fs::read(path("out_a")).unwrap(), fs::read(path("out_b")).unwrap()] })
}

fn words(file: &[u8], name: &str) -> Vec<u16> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]])).collect()
}

#[test]
fn sizes_shares_and_reports_hold() {
    for (dtype, bytes) in [(Dtype::BF16, SMALLEST), (Dtype::BF16, 3 << 20), (Dtype::F32, 2 << 20)] {
        let inputs = checkpoints(dtype, 0.9);
        for moved in [None, Some(0.0), Some(0.5), Some(1.0)] {
            let made = make(&inputs, &SynthOptions { bytes, moved, hidden: None, seed: 3 }).unwrap();
            let [a, b] = &made.files;
            assert_eq!((a.len() as u64, b.len() as u64), (made.report.bytes, made.report.bytes));
            assert!(a.len() as u64 <= bytes && a.len() as f64 > 0.95 * bytes as f64, "{} of {bytes}", a.len());
            let (a, b) = (SafeTensors::deserialize(a).unwrap(), SafeTensors::deserialize(b).unwrap());
            assert_eq!((a.len(), b.len()), (made.report.tensors, made.report.tensors));
            let size = dtype.bitsize() / 8;
            let (mut all, mut differ) = (0, 0);
            for (name, old) in a.tensors() {
                let new = b.tensor(&name).unwrap();
                assert_eq!((old.dtype(), old.shape()), (dtype, new.shape()));
                all += old.data().len() / size;
                differ += old.data().chunks(size).zip(new.data().chunks(size)).filter(|(a, b)| a != b).count();
            }
            assert_eq!((made.report.words, made.report.moved), (all as u64, differ as u64));
            match moved {
                None => assert!((made.report.moved_share() - 0.9).abs() < 0.02, "{}", made.report.moved_share()),
                Some(share) => assert!((made.report.moved_share() - share).abs() < 0.01, "{share} {dtype:?}"),
            }
        }
    }
}

#[test]
fn words_are_drawn_in_pairs_from_tensors_of_their_kind() {
    let inputs = checkpoints(Dtype::BF16, 0.9);
    let options = SynthOptions { bytes: 1 << 20, moved: Some(0.5), hidden: None, seed: 4 };
    let made = make(&inputs, &options).unwrap();
    for (ours, real) in [
        ("model.layers.0.self_attn.q_proj.weight", "h.0.attn.c_attn.weight"),
        ("model.layers.1.mlp.up_proj.weight", "h.0.mlp.c_fc.weight"),
        ("model.embed_tokens.weight", "wte.weight"),
        ("model.norm.weight", "h.0.ln_1.weight"),
    ] {
        let mut follows: HashMap<u16, Vec<u16>> = HashMap::new();
        let real = [words(&inputs[0], real), words(&inputs[1], real)];
        for (a, b) in real[0].iter().zip(&real[1]) {
            follows.entry(*a).or_default().push(*b);
        }
        let made = [words(&made.files[0], ours), words(&made.files[1], ours)];
        for (a, b) in made[0].iter().zip(&made[1]) {
            assert!(follows[a].contains(b) || a == b, "{ours}: {a:04x} to {b:04x}");
        }
        let deviation = |words: &[u16]| {
            let squares = words.iter().map(|word| bf16::from_bits(*word).to_f64().powi(2)).sum::<f64>();
            (squares / words.len() as f64).sqrt()
        };
        let ratio = deviation(&made[0]) / deviation(&real[0]);
        assert!((0.8..1.25).contains(&ratio), "{ours}: {ratio}");
    }
    // A kind that the checkpoints lack takes words of all of them.
    assert!(!words(&made.files[0], "model.layers.0.self_attn.o_proj.weight").is_empty());
}

#[test]
fn the_seed_decides() {
    let inputs = checkpoints(Dtype::BF16, 0.5);
    let options = SynthOptions { seed: 1, ..SynthOptions::half_moved(SMALLEST) };
    let made = make(&inputs, &options).unwrap();
    assert!(made.files == make(&inputs, &options).unwrap().files);
    assert!(made.files != make(&inputs, &SynthOptions { seed: 2, ..options }).unwrap().files);
}

#[test]
fn what_cannot_be_made_is_an_error() {
    let inputs = checkpoints(Dtype::BF16, 0.5);
    let good = SynthOptions::half_moved(1 << 20);
    for bad in [
        SynthOptions { bytes: SMALLEST - 1, ..good.clone() },
        SynthOptions { moved: Some(1.5), ..good.clone() },
        SynthOptions { moved: Some(f64::NAN), ..good.clone() },
        SynthOptions { hidden: Some(100), ..good.clone() },
        SynthOptions { hidden: Some(2048), ..good.clone() },
    ] {
        assert!(matches!(make(&inputs, &bad), Err(SynthError::Options(_))), "{bad:?}");
    }
    for cut in [0, 7, 100, inputs[0].len() - 1] {
        let damaged = [inputs[0][..cut].to_vec(), inputs[1].clone()];
        assert!(matches!(make(&damaged, &good), Err(SynthError::Header { .. })), "cut to {cut}");
    }
    let other = [inputs[0].clone(), checkpoints(Dtype::F32, 0.5)[1].clone()];
    assert!(matches!(make(&other, &good), Err(SynthError::NothingInCommon)));
    assert!(matches!(
        synthesise_pair(
            Path::new("/nonexistent/a"),
            Path::new("/nonexistent/b"),
            &good,
            Path::new("a"),
            Path::new("b")
        ),
        Err(SynthError::Read { .. })
    ));
}
