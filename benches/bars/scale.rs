//! A long history of many small tensors: what takes as long as git, what stays the same, what grows with its size alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use shard_repo::{Repository, Settings};
use shard_store::EntryKind;

use crate::Failure;
use crate::history::{Shape, against_git, build_git, build_shard};
use crate::measure::{run, shard, size, sync};
use crate::table::{Pair, Row, seconds};

/// 200 tensors, of which each commit changes 100: with 10,000 commits a million blocks.
const SHAPE: Shape = Shape { files: 20, changed: 10, matrices: 10, rows: 4, columns: 8 };
/// One file of an old version is checked out in less than this.
const MOST_CHECKOUT: Duration = Duration::from_millis(100);
/// The index and the index files take fewer bytes a block than this.
const MOST_INDEX: f64 = 200.0;
/// The history that the whole one is compared with has this part of its commits.
const PART: u32 = 4;
/// By this factor times may grow more than the history does.
const MOST_GROWTH: f64 = 1.5;

/// Measures in `dir`.
pub(crate) fn measure(dir: &Path, commits: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    let (whole, part, theirs) = (dir.join("whole"), dir.join("part"), dir.join("git"));
    for (root, commits) in [(&part, commits / PART), (&whole, commits)] {
        let start = Instant::now();
        build_shard(root, SHAPE, commits)?;
        eprintln!("scale: {commits} commits by shard's engine in {}", seconds(start.elapsed()));
    }
    build_git(&theirs, SHAPE, commits)?;
    let mut rows = against_git(&whole, &theirs, commits, runs)?;

    let old = Repository::discover(&whole, Settings::default())?.resolve(&format!("HEAD~{}", commits / 2))?;
    let path = "models/expert-07.safetensors";
    let mut times = Vec::new();
    for _ in 0..=runs {
        fs::write(whole.join(path), b"")?;
        times.push(run(shard(&whole).args(["checkout", "--force", &old.to_hex(), "--", path]))?.time);
    }
    // The first one warms up.
    times.remove(0);
    times.sort_unstable();
    rows.push(Row::within("checkout of one file, warm", times[times.len() / 2], MOST_CHECKOUT));

    let blocks = Repository::discover(&whole, Settings::default())?.store().ids(EntryKind::Block)?.len();
    let index = size(&whole.join(".shard/cache"))? + size(&whole.join(".shard/index"))?;
    eprintln!("scale: {blocks} blocks, {index} bytes of index");
    rows.push(Row::less("index, bytes a block", index as f64 / blocks as f64, MOST_INDEX));

    for command in [&["verify"][..], &["verify", "--full"], &["gc", "--dry-run"]] {
        let mut pair = Pair::default();
        for _ in 0..3 {
            let small = run(shard(&part).args(command))?;
            let large = run(shard(&whole).args(command))?;
            eprintln!(
                "scale: {command:?} {:.2?} of {} commits, {:.2?} of {commits}",
                small.time,
                commits / PART,
                large.time
            );
            pair.add(small.time, large.time);
        }
        let name = format!("{}, {PART} times the history", command.join(" "));
        rows.push(Row::time(&name, &pair, f64::from(PART) * MOST_GROWTH));
    }
    rows.push(collect_half(dir, [(&part, commits / PART), (&whole, commits)])?);
    Ok(rows)
}

/// What a real collection takes in a copy of each repository, whose newer half nothing leads to any more.
fn collect_half(dir: &Path, [part, whole]: [(&Path, u32); 2]) -> Result<Row, Failure> {
    let copy = dir.join("collected");
    let collect = |(root, commits): (&Path, u32)| -> Result<Duration, Failure> {
        run(Command::new("cp").arg("-a").arg(root).arg(&copy))?;
        run(shard(&copy).args(["reset", "--hard", &format!("HEAD~{}", commits / 2)]))?;
        let before = size(&copy.join(".shard/packs"))?;
        sync(dir)?;
        let took = run(shard(&copy).args(["gc", "--prune-now"]))?.time;
        let after = size(&copy.join(".shard/packs"))?;
        run(shard(&copy).arg("verify"))?;
        eprintln!("scale: gc of {} of {commits} commits in {took:.2?}: {before} bytes, {after} after it", commits / 2);
        if after * 3 > before * 2 {
            return Err(format!("gc left {after} of {before} bytes").into());
        }
        fs::remove_dir_all(&copy)?;
        Ok(took)
    };
    let mut pair = Pair::default();
    for _ in 0..3 {
        pair.add(collect(part)?, collect(whole)?);
    }
    Ok(Row::time(&format!("gc of half, {PART} times the history"), &pair, f64::from(PART) * MOST_GROWTH))
}
