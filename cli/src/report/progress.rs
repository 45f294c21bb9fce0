//! Progress bars: on a terminal only, and only for what takes a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shard_core::Progress;

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
                    "{msg:<16} [{bar:30}] {percent:>3}% {decimal_bytes} of {decimal_total_bytes}, \
                     {decimal_bytes_per_sec}, {eta} left",
                )),
                None => ProgressBar::new_spinner()
                    .with_style(style("{msg:<16} {spinner} {decimal_bytes}, {decimal_bytes_per_sec}")),
            };
            bar.with_message(self.name.clone()).with_elapsed(self.start.elapsed())
        });
        bar.set_position(self.done);
        bar
    }
}

/// A bar's style; the templates are constants, so the fallback is never seen.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
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
