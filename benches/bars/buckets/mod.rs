//! The first push of a large model to a bucket, and a clone of it, against rclone copying the same stored bytes to and from the same store.

mod store;

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::exchange::commit_model;
use crate::large::MOST_MEMORY;
use crate::measure::{Run, clear, run, same, size, sync};
use crate::table::{Pair, Row, mebibytes, seconds};
use store::Store;

/// How fast a push and a clone are, at least, against a copy.
const LEAST_SPEED: f64 = 0.8;

/// Measures in `dir`, which needs room for some four files of `bytes` bytes, and two more for each round.
pub(crate) fn measure(dir: &Path, bytes: u64, rounds: u32) -> Result<Vec<Row>, Failure> {
    let here = dir.join("here");
    fs::create_dir(&here)?;
    commit_model(dir, &here, bytes)?;
    let store = Store::start(dir)?;
    let copied = dir.join("copied");
    // What is copied is what a push has stored, in the same objects.
    push(&store, &here, "first")?;
    run(store.rclone(&["copy"]).arg(store.remote("first")).arg(&copied))?;
    let stored = size(&copied)?;
    eprintln!("buckets: stored {}", mebibytes(stored));
    let (mut pushes, mut clones, mut memory) = (Pair::default(), Pair::default(), 0);
    for round in 1..=rounds {
        let name = format!("round-{round}");
        sync(dir)?;
        let copy = run(store.rclone(&["copy"]).arg(&copied).arg(store.remote(&format!("copy-{round}"))))?;
        sync(dir)?;
        let pushed = push(&store, &here, &name)?;
        pushes.add(copy.time, pushed.time);
        memory = memory.max(pushed.memory);

        let (back, clone) = (dir.join("back"), dir.join("clone"));
        clear(&back, stored, dir)?;
        let copy_back = run(store.rclone(&["copy"]).arg(store.remote(&name)).arg(&back))?;
        fs::remove_dir_all(&back)?;
        clear(&clone, stored + bytes, dir)?;
        let cloned = run(store.shard(dir).args(["-q", "clone", &store.url(&name)]).arg(&clone))?;
        same(&here.join(crate::exchange::MODEL), &clone.join(crate::exchange::MODEL))?;
        fs::remove_dir_all(&clone)?;
        clones.add(copy_back.time, cloned.time);
        memory = memory.max(cloned.memory);
        let [copy, pushed, copy_back, cloned] = [copy, pushed, copy_back, cloned].map(|run| told(&run));
        eprintln!("buckets: round {round}: copy there {copy}, push {pushed}; copy back {copy_back}, clone {cloned}");
    }
    Ok(vec![
        Row::speed("first push to a bucket against rclone", &pushes, LEAST_SPEED),
        Row::speed("clone from a bucket against rclone", &clones, LEAST_SPEED),
        Row::memory("peak memory, push to and clone from a bucket", memory, MOST_MEMORY),
    ])
}

/// Pushes to a new repository. What is tried when that is made takes SeaweedFS some time, and moves nothing.
fn push(store: &Store, here: &Path, name: &str) -> Result<Run, Failure> {
    let url = store.url(name);
    run(store.shard(here).args(["-q", "init", "--bare", &url]))?;
    run(store.shard(here).args(["-q", "push", &url, "main"]))
}

fn told(run: &Run) -> String {
    format!("{} ({} CPU)", seconds(run.time), seconds(run.cpu))
}
