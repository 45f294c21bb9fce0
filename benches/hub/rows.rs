//! The table.

/// What a row has to show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// shard takes less time.
    Faster,
    /// shard takes a tenth of the time: no bytes of files move.
    TenTimes,
}

impl Bar {
    fn least(self) -> f64 {
        match self {
            Self::Faster => 1.0,
            Self::TenTimes => 10.0,
        }
    }
}

/// What was measured: for each row the times of hubvault and of shard, in seconds.
#[derive(Default)]
pub(crate) struct Rows {
    times: Vec<(&'static str, Bar, Vec<f64>, Vec<f64>)>,
    stored: Vec<(&'static str, u64, u64)>,
}

impl Rows {
    pub(crate) fn add(&mut self, name: &'static str, bar: Bar, (theirs, ours): (f64, f64)) {
        match self.times.iter_mut().find(|row| row.0 == name) {
            Some(row) => {
                row.2.push(theirs);
                row.3.push(ours);
            }
            None => self.times.push((name, bar, vec![theirs], vec![ours])),
        }
    }

    pub(crate) fn stored(&mut self, name: &'static str, theirs: u64, ours: u64) {
        self.stored.push((name, theirs, ours));
    }

    /// Prints the table, and gives how many bars are missed.
    pub(crate) fn report(&self, slack: f64) -> usize {
        let mut missed = 0;
        println!("{:<42} {:>12} {:>12} {:>10}  bar", "", "hubvault", "shard", "");
        for (name, bar, theirs, ours) in &self.times {
            let (theirs, ours) = (median(theirs), median(ours));
            let (speed, least) = (theirs / ours, bar.least());
            let verdict = match (speed >= least, speed * slack >= least) {
                (true, _) => "pass",
                (false, true) => "missed within the slack",
                (false, false) => {
                    missed += 1;
                    "FAIL"
                }
            };
            let (theirs, ours) = (milliseconds(theirs), milliseconds(ours));
            println!("{name:<42} {theirs:>12} {ours:>12} {speed:>9.1}x  >= {least}x  {verdict}");
        }
        for (name, theirs, ours) in &self.stored {
            let share = *ours as f64 / *theirs as f64;
            let verdict = if ours <= theirs {
                "pass"
            } else {
                missed += 1;
                "FAIL"
            };
            println!("{name:<42} {theirs:>10} B {ours:>10} B {share:>9.3}x  <= 1x  {verdict}");
        }
        missed
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}
