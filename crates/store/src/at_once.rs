//! Several questions at once, where each is a round trip.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Runs something on each item, on up to `at_once` threads; the outcomes are in the order of the items.
pub fn each_at_once<T: Sync, R: Send>(at_once: usize, items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = at_once.min(items.len());
    if threads <= 1 {
        return items.iter().map(run).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let outcome = run(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_in_order() {
        let items: Vec<u32> = (0..100).collect();
        for at_once in [0, 1, 3, 200] {
            assert_eq!(each_at_once(at_once, &items, |item| item * 2), items.iter().map(|i| i * 2).collect::<Vec<_>>());
        }
        assert!(each_at_once(4, &[] as &[u32], |item| *item).is_empty());
    }
}
