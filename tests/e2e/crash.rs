//! `kill -9` at random instants of `add` and `commit`. 15 rounds; 200 with the feature `data-suite`; `SHARD_TEST_ROUNDS`
//! says otherwise.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use shard_datasets::rng::Rng;
use shard_tests::crash::{Scene, Step};

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

fn rounds() -> u32 {
    shard_tests::rounds(if cfg!(feature = "data-suite") { 200 } else { 15 })
}

/// How long a step takes when nobody disturbs it: the shortest of five runs.
fn duration(scene: &Scene, step: Step) -> Duration {
    let took: Vec<Duration> = (0..5)
        .map(|i| {
            let shard = scene.ready_for(step, &format!("measure-{i}"));
            let start = Instant::now();
            shard.ok(step.args());
            let took = start.elapsed();
            scene.discard(&shard);
            took
        })
        .collect();
    took.into_iter().min().unwrap_or_default()
}

#[test]
fn fault_01_kill_at_random_instants_leaves_old_or_new_state() {
    let rounds = rounds();
    let scene = Scene::prepare(SHARD, 8 << 10);
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut rng = Rng::new(seed);
    let (mut add, mut commit) = (duration(&scene, Step::Add), duration(&scene, Step::Commit));
    println!("add takes {add:?}, commit {commit:?}; {rounds} kills, seed {seed}");
    let (mut hits, mut after, mut tries) = (0, 0, 0);
    while hits < rounds {
        tries += 1;
        assert!(tries <= rounds * 3 + 20, "expected {rounds} kills to hit a running process, {hits} of {tries} did");
        // Two in five kills fall on the commit, which is shorter and moves the branch.
        let (step, whole) = if hits % 5 < 3 { (Step::Add, &mut add) } else { (Step::Commit, &mut commit) };
        // One instant in each of as many equal parts of the duration as there are kills.
        let part = (f64::from(hits) + rng.unit()) / f64::from(rounds);
        let delay = whole.mul_f64(part);
        let context = format!("try {tries} (seed {seed}): {step:?} killed after {delay:?} of {whole:?}");
        let shard = scene.ready_for(step, "round");
        if shard.kill_after(step.args(), delay) {
            hits += 1;
        } else {
            // It was faster than measured.
            *whole = whole.mul_f64(0.97);
        }
        let mut is_after = scene.check_interrupted(&shard, step, &context);
        if tries % 4 == 0 && !is_after {
            // And killed again on the way back (fault 4).
            let delay = whole.mul_f64(rng.unit());
            shard.kill_after(step.args(), delay);
            is_after = scene.check_interrupted(&shard, step, &format!("{context}, then again after {delay:?}"));
        }
        after += u32::from(is_after);
        scene.check_goes_on(&shard, &context);
        scene.discard(&shard);
    }
    println!("{hits} kills in {tries} tries; {after} found the new state");
}
