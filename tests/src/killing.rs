//! Commands that are run over and over beside others, and killed at random instants.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shard_datasets::rng::Rng;

use crate::process::{Run, Shard};

/// Tells the other loops that it is over where one panics.
pub struct EndsOthers<'a>(pub &'a AtomicBool);

impl Drop for EndsOthers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs commands, and kills one of so many at a random instant.
pub struct Killer<'a> {
    /// What is run.
    pub shard: Shard,
    /// Decides which is killed, and when.
    pub rng: Rng,
    one_in: u64,
    kills: &'a AtomicU32,
    /// How long a run takes that is left alone, about.
    whole: Duration,
}

impl<'a> Killer<'a> {
    /// Kills one command in `one_in`, and counts that in `kills`.
    #[must_use]
    pub fn new(shard: Shard, rng: Rng, one_in: u64, kills: &'a AtomicU32) -> Self {
        Self { shard, rng, one_in, kills, whole: Duration::from_millis(50) }
    }

    /// `None` where it was killed before it ended.
    pub fn run(&mut self, args: &[&str]) -> Option<Run> {
        let line = self.shard.words(args).join(" ");
        let start = Instant::now();
        let mut child = self.shard.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if self.rng.below(self.one_in) == 0 {
            let end = start + self.whole.mul_f64(self.rng.unit());
            while Instant::now() < end && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            // It may have ended meanwhile.
            let _ = child.kill();
        }
        let output = child.wait_with_output().unwrap();
        let took = start.elapsed();
        let Some(code) = output.status.code() else {
            self.kills.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.whole = (self.whole * 3 + took) / 4;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(Run { line, code: Some(code), stdout: text(output.stdout), stderr: text(output.stderr), took })
    }

    /// Runs a command until it has ended by itself.
    pub fn until_it_ends(&mut self, args: &[&str]) -> Run {
        loop {
            if let Some(run) = self.run(args) {
                return run;
            }
        }
    }
}
