//! Pushing a large model and versions of it in which few words moved, over HTTP: bytes, requests, and time against the first push.

mod link;
mod moved;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use shard_datasets::real;
use shard_datasets::synth::{SynthOptions, synthesise_pair};
use wait4::Wait4 as _;

use crate::Failure;
use crate::large::MOST_MEMORY;
use crate::measure::{run, shard, size, timed_to_disk};
use crate::table::{Pair, Row, mebibytes, seconds};
use link::Link;
use moved::{Moved, move_words};

/// The share of words that move.
const SHARE: f64 = 0.001;
/// Bits per second of the link that is throttled, each way.
const GIGABIT: u64 = 1_000_000_000;
/// Most requests of a push, beside one for each pack of entries.
const MOST_REQUESTS: u64 = 5;
/// Most bytes of entries in one request.
const PACK: u64 = 512 << 20;
/// How many times faster than the first push that of a version is, over the throttled link and over loopback.
const LEAST_FASTER: [f64; 2] = [10.0, 1.5];

pub(crate) const MODEL: &str = "model.safetensors";
const LINKS: [&str; 2] = ["1 Gbit/s", "loopback"];

/// A version of the model: the branch that it is on, how its words moved, and what a push of it may take, in percent of the model.
const VERSIONS: [(&str, Moved, f64); 2] = [("ulp", Moved::OneUlp, 0.1), ("fresh", Moved::Fresh, 0.2)];

/// Measures in `dir`, which needs room for some four files of `bytes` bytes.
pub(crate) fn measure(dir: &Path, bytes: u64, rounds: u32) -> Result<Vec<Row>, Failure> {
    let bench = Exchange { here: dir.join("here"), hub: dir.join("hub"), dir };
    let model = bench.commit_versions(bytes)?;
    fs::create_dir(&bench.hub)?;
    let server = Serving::start(&bench.hub)?;
    let (mut moved, mut requests) = ([0u64; 2], 0i64);
    let mut times = [[Pair::default(), Pair::default()], [Pair::default(), Pair::default()]];
    let mut memory = 0;
    for round in 1..=rounds {
        for (number, name) in LINKS.into_iter().enumerate() {
            let repository = format!("model-{round}-{number}");
            run(shard(&bench.hub).args(["-q", "init", "--bare", &repository]))?;
            let link = (number == 0).then(|| Link::throttled(server.address, GIGABIT)).transpose()?;
            let url = format!("http://{}/{repository}", link.as_ref().map_or(server.address, |link| link.address));
            let push = |branch: &str| timed_to_disk(dir, || run(shard(&bench.here).args(["-q", "push", &url, branch])));
            let counted = || link.as_ref().map(Link::counted).unwrap_or_default();
            let (first, ours) = push("main")?;
            memory = memory.max(ours.memory);
            let mut told = format!("first {} ({})", seconds(first), mebibytes(counted().bytes));
            requests = requests.max(over(counted()));
            for (version, (branch, _, _)) in VERSIONS.into_iter().enumerate() {
                let before = counted();
                let (time, ours) = push(branch)?;
                memory = memory.max(ours.memory);
                let took = counted().since(before);
                moved[version] = moved[version].max(took.bytes);
                requests = requests.max(over(took));
                times[number][version].add(first, time);
                told.push_str(&format!(", {branch} {} ({} B)", seconds(time), took.bytes));
            }
            eprintln!("exchange: round {round}, {name}: {told}");
            fs::remove_dir_all(bench.hub.join(&repository))?;
        }
    }
    let serving = server.stop()?;

    let mut rows = Vec::new();
    for (version, (branch, _, most)) in VERSIONS.into_iter().enumerate() {
        rows.push(Row::share(&format!("bytes that a push of {branch} moves, both ways"), model, moved[version], most));
    }
    for (number, name) in LINKS.into_iter().enumerate() {
        for (version, (branch, ..)) in VERSIONS.into_iter().enumerate() {
            let bar = format!("push of {branch} against the first, {name}");
            rows.push(Row::speed(&bar, &times[number][version], LEAST_FASTER[number]));
        }
    }
    let most = MOST_REQUESTS as f64 + 0.5;
    rows.push(Row::less("requests of a push, without one a pack", requests as f64, most));
    rows.push(Row::memory("peak memory, push", memory, MOST_MEMORY));
    rows.push(Row::memory("peak memory, serve", serving, MOST_MEMORY));
    Ok(rows)
}

/// Requests beside one for each pack.
fn over(counted: link::Counted) -> i64 {
    counted.requests as i64 - counted.bytes.div_ceil(PACK) as i64
}

struct Exchange<'a> {
    dir: &'a Path,
    here: PathBuf,
    hub: PathBuf,
}

impl Exchange<'_> {
    /// Commits the model and each version of it, on a branch of its own; gives the bytes of one.
    fn commit_versions(&self, bytes: u64) -> Result<u64, Failure> {
        fs::create_dir(&self.here)?;
        let (file, made) = (self.here.join(MODEL), commit_model(self.dir, &self.here, bytes)?);
        for (branch, how, _) in VERSIONS {
            run(shard(&self.here).args(["-q", "checkout", "-b", branch, "main"]))?;
            let words = move_words(&file, SHARE, how)?;
            eprintln!("exchange: {branch}: {words} words moved, of {}", mebibytes(made));
            commit(&self.here, branch)?;
            run(shard(&self.here).args(["-q", "checkout", "main"]))?;
        }
        eprintln!("exchange: stored {}", mebibytes(size(&self.here.join(".shard/packs"))?));
        Ok(made)
    }
}

/// Makes a repository in a folder that is there and empty, with one commit of a model like those that are trained; gives its bytes.
pub(crate) fn commit_model(dir: &Path, here: &Path, bytes: u64) -> Result<u64, Failure> {
    let series = real::shard_data()?.join("series/gpt-bf16");
    let (first, second) = (dir.join("first.safetensors"), dir.join("second.safetensors"));
    let made = synthesise_pair(
        &series.join("step0385.safetensors"),
        &series.join("step0420.safetensors"),
        &SynthOptions { moved: Some(0.0), ..SynthOptions::half_moved(bytes) },
        &first,
        &second,
    )?;
    fs::remove_file(&second)?;
    fs::rename(&first, here.join(MODEL))?;
    run(shard(here).args(["-q", "init"]))?;
    commit(here, "first")?;
    Ok(made.bytes)
}

fn commit(here: &Path, title: &str) -> Result<(), Failure> {
    run(shard(here).args(["-q", "add", MODEL]))?;
    run(shard(here).args(["-q", "commit", "-m", title]))?;
    Ok(())
}

/// A server under way.
pub(crate) struct Serving {
    /// Until it is stopped.
    child: Option<Child>,
    pub(crate) address: SocketAddr,
}

impl Serving {
    /// Serves all repositories of a folder.
    pub(crate) fn start(folder: &Path) -> Result<Self, Failure> {
        let mut command = shard(folder);
        let mut child = command.args(["--json", "serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        // It prints where it listens, as JSON over several lines.
        let mut lines = BufReader::new(stdout).lines();
        let address = loop {
            line.push_str(&lines.next().ok_or("the server ended")??);
            if let Ok(told) = serde_json::from_str::<serde_json::Value>(&line) {
                break told["address"].as_str().ok_or("the server does not say where it is")?.parse()?;
            }
        };
        Ok(Self { child: Some(child), address })
    }

    /// Stops it, and gives the most memory that it had resident, in bytes.
    pub(crate) fn stop(mut self) -> Result<u64, Failure> {
        let child = self.child.take().ok_or("the server is stopped already")?;
        let id = Pid::from_raw(i32::try_from(child.id())?).ok_or("the server has no number")?;
        kill_process(id, Signal::TERM)?;
        Ok(child.wait4()?.rusage.maxrss)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
