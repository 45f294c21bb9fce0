//! Progress bars: on a terminal only, and only for what takes a while.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use shard_core::Progress;

use super::size::human;

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar on stderr for the engine's phases.
#[derive(Default)]
pub(crate) struct Bar {
    phase: Mutex<Option<Phase>>,
    /// Bytes done that the bar does not show yet.
    pending: AtomicU64,
}

struct Phase {
    name: String,
    total: Option<u64>,
    start: Instant,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Phase {
    fn show(&mut self) -> &ProgressBar {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = match self.total {
                Some(total) => ProgressBar::new(total).with_style(style(
                    "{msg} [{wide_bar}] {percent:>3}% of {decimal_total_bytes}, {speed}, {left} left",
                )),
                None => ProgressBar::new_spinner().with_style(style("{msg} {spinner} {decimal_bytes}, {speed}")),
            };
            bar.with_message(self.name.clone()).with_elapsed(self.start.elapsed())
        });
        bar.set_position(self.done);
        bar
    }
}

/// A bar's style; the templates are constants, so the fallback is never seen. `{speed}` and `{left}` go by the whole time
/// so far: a bar that comes up late would otherwise take all that was done before for done at once.
pub(crate) fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("=> ")
        .with_key("speed", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let speed = state.pos() as f64 / state.elapsed().as_secs_f64().max(1e-3);
            // What cannot be written to the terminal is not shown.
            let _ = write!(out, "{}/s", human(speed as u64));
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let undone = state.len().unwrap_or(0).saturating_sub(state.pos()) as f64;
            let left = state.elapsed().as_secs_f64() * undone / state.pos().max(1) as f64;
            let _ = write!(out, "{}", short_time(left));
        })
}

/// Seconds, minutes or hours: whichever says enough.
fn short_time(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

impl Progress for Bar {
    fn begin(&self, phase: &str, total_bytes: Option<u64>) {
        let mut slot = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = slot.take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
        self.pending.store(0, Ordering::Relaxed);
        *slot = Some(Phase { name: phase.to_owned(), total: total_bytes, start: Instant::now(), done: 0, bar: None });
    }

    fn advance(&self, bytes: u64) {
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        // Whoever finds the bar busy leaves its bytes to the next.
        let Ok(mut slot) = self.phase.try_lock() else { return };
        let Some(phase) = slot.as_mut() else { return };
        phase.done += self.pending.swap(0, Ordering::Relaxed);
        if phase.bar.is_some() || phase.start.elapsed() >= PATIENCE {
            phase.show();
        }
    }

    fn finish(&self) {
        let mut slot = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = slot.take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // An operation that failed left its bar.
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([0.4, 89.0, 90.0, 5400.0].map(short_time), ["0 s", "89 s", "2 min", "1.5 h"]);
    }

    #[test]
    fn counts_what_is_done_and_shows_nothing_at_first() {
        let bar = Bar::default();
        bar.advance(5);
        bar.begin("adding", Some(100));
        bar.advance(7);
        bar.advance(8);
        {
            let slot = bar.phase.lock().unwrap();
            let phase = slot.as_ref().unwrap();
            assert_eq!((phase.done, phase.bar.is_some()), (15, false));
        }
        bar.finish();
        assert!(bar.phase.lock().unwrap().is_none());
    }
}
