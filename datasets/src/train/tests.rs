use std::fs;

use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors};

use super::*;

fn run(config: &TrainConfig) -> (tempfile::TempDir, Series, Vec<Event>) {
    let folder = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let series = train(config, folder.path(), &mut |event| events.push(event)).unwrap();
    (folder, series, events)
}

#[test]
fn training_learns_and_writes_its_checkpoints() {
    let config = TrainConfig::tiny();
    let (_folder, series, events) = run(&config);
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Step { loss, .. } => Some(*loss),
            _ => None,
        })
        .collect();
    assert_eq!(losses.len() as u64, config.steps);
    let guess = (config.vocabulary as f64).ln();
    assert!((losses[0] - guess).abs() < 0.3, "{} before training, a blind guess has {guess}", losses[0]);
    let last = &series.checkpoints[series.checkpoints.len() - 1];
    assert!(last.loss < 0.6 * guess, "{}", last.loss);
    assert!(last.validation_loss < 0.7 * guess, "{}", last.validation_loss);
    assert_eq!(events[0], Event::Start { parameters: series.parameters, steps: config.steps });

    assert_eq!(series.checkpoints.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), config.checkpoints);
    for checkpoint in &series.checkpoints {
        assert!(events.contains(&Event::Checkpoint(checkpoint.clone())));
        let (fp32, bf16) = (fs::read(&checkpoint.fp32).unwrap(), fs::read(&checkpoint.bf16).unwrap());
        let order = |file: &[u8]| SafeTensors::read_metadata(file).unwrap().1.offset_keys();
        assert_eq!(order(&fp32), order(&bf16));
        assert!(order(&bf16).is_sorted(), "the order of the safetensors crate");
        let (fp32, bf16) = (SafeTensors::deserialize(&fp32).unwrap(), SafeTensors::deserialize(&bf16).unwrap());
        assert_eq!(fp32.len(), 4 + 12 * config.layers);
        let mut elements = 0;
        for (name, master) in fp32.tensors() {
            let cast = bf16.tensor(&name).unwrap();
            assert_eq!((master.dtype(), cast.dtype()), (Dtype::F32, Dtype::BF16));
            assert_eq!(master.shape(), cast.shape());
            elements += master.shape().iter().product::<usize>() as u64;
            let words = master.data().chunks_exact(4).zip(cast.data().chunks_exact(2));
            for (master, cast) in words {
                let master = u32::from_le_bytes(master.try_into().unwrap());
                // To nearest, ties to even, in integers: add half a unit less one, plus the lowest bit kept.
                let rounded = (master + 0x7fff + (master >> 16 & 1)) >> 16;
                assert_eq!(u32::from(u16::from_le_bytes(cast.try_into().unwrap())), rounded);
                assert!(f32::from_bits(master).is_finite());
            }
        }
        assert_eq!(elements, series.parameters);
        assert_eq!(fp32.tensor("h.0.attn.c_attn.weight").unwrap().shape(), [config.width, 3 * config.width]);
    }
}

#[test]
fn a_run_is_reproducible_and_depends_on_its_seed() {
    let config = TrainConfig { steps: 4, checkpoints: vec![4], ..TrainConfig::tiny() };
    let bytes = |config: &TrainConfig| {
        let (_folder, series, _) = run(config);
        fs::read(&series.checkpoints[0].fp32).unwrap()
    };
    let first = bytes(&config);
    assert!(first == bytes(&config));
    assert!(first != bytes(&TrainConfig { seed: 2, ..config }));
}

#[test]
fn later_pairs_move_less() {
    let config = TrainConfig { checkpoints: vec![60, 80, 180, 200], ..TrainConfig::tiny() };
    let (_folder, series, _) = run(&config);
    let words = |index: usize| {
        let bytes = fs::read(&series.checkpoints[index].bf16).unwrap();
        let tensor = SafeTensors::deserialize(&bytes).unwrap().tensor("h.0.mlp.c_fc.weight").unwrap().data().to_vec();
        tensor.chunks_exact(2).map(|word| bf16::from_le_bytes([word[0], word[1]]).to_f64()).collect::<Vec<_>>()
    };
    let moved = |from: usize, to: usize| {
        let squares = words(from).iter().zip(words(to)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        squares.sqrt()
    };
    let (early, late) = (moved(0, 1), moved(2, 3));
    assert!(late > 0.0 && late < early / 2.0, "{early} early, {late} late");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs::write(&file, b"").unwrap();
    let config = TrainConfig { steps: 1, checkpoints: vec![1], ..TrainConfig::tiny() };
    assert!(matches!(train(&config, &file, &mut |_| ()), Err(TrainError::Write { .. })));
    let short = TrainConfig { corpus_bytes: 10, context: 20_000, ..config };
    assert!(matches!(train(&short, folder.path(), &mut |_| ()), Err(TrainError::Config(_))));
}

#[test]
fn a_run_goes_on_from_a_state_to_the_same_bytes() {
    let config = TrainConfig { steps: 8, checkpoints: vec![4, 6, 8], states: vec![4, 8], ..TrainConfig::tiny() };
    let (_folder, series, _) = run(&config);
    let state = series.checkpoints[0].state.clone().unwrap();
    assert!(series.checkpoints[1].state.is_none());
    let again = tempfile::tempdir().unwrap();
    let resumed = resume(&config, &state, again.path(), &mut |_| ()).unwrap();
    assert_eq!(resumed.checkpoints.len(), 2);
    for (first, second) in series.checkpoints[1..].iter().zip(&resumed.checkpoints) {
        assert_eq!((first.step, first.loss), (second.step, second.loss));
        assert!(fs::read(&first.fp32).unwrap() == fs::read(&second.fp32).unwrap());
    }
    let last = |series: &Series| fs::read(series.checkpoints.last().unwrap().state.as_ref().unwrap()).unwrap();
    assert!(last(&series) == last(&resumed));
}

#[test]
fn what_is_frozen_stays_as_it_was() {
    let config = TrainConfig { steps: 4, checkpoints: vec![2, 4], frozen: vec!["h.1.".into()], ..TrainConfig::tiny() };
    let (_folder, series, _) = run(&config);
    let files: Vec<Vec<u8>> = series.checkpoints.iter().map(|one| fs::read(&one.fp32).unwrap()).collect();
    let [old, new] = [&files[0], &files[1]].map(|file| SafeTensors::deserialize(file).unwrap());
    for (name, tensor) in old.tensors() {
        let is_equal = tensor.data() == new.tensor(&name).unwrap().data();
        assert_eq!(is_equal, name.starts_with("h.1."), "{name}");
    }
    assert!(config.hyperparameters().contains_key("frozen"));
}

#[test]
fn what_is_no_state_of_the_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { steps: 2, checkpoints: vec![1, 2], states: vec![1], ..TrainConfig::tiny() };
    let (_folder, series, _) = run(&config);
    let state = series.checkpoints[0].state.clone().unwrap();
    let refused = |config: &TrainConfig, state: &Path| resume(config, state, folder.path(), &mut |_| ()).unwrap_err();
    assert!(matches!(refused(&config, &series.checkpoints[0].fp32), TrainError::Read { .. }), "no moments");
    assert!(matches!(refused(&config, &folder.path().join("none")), TrainError::Read { .. }));
    let wider = TrainConfig { width: 128, ..config.clone() };
    assert!(matches!(refused(&wider, &state), TrainError::State { tensor, .. } if tensor == "wte.weight"));
    let shorter = TrainConfig { steps: 1, checkpoints: vec![1], ..config };
    assert!(matches!(refused(&shorter, &state), TrainError::State { tensor, .. } if tensor == "step"));
}
