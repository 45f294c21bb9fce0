//! How long operations report what they do, without knowing who watches.

/// A watcher of a long operation. Calls come from any thread.
pub trait Progress: Sync + Send {
    /// A phase starts: what it is, and how many bytes it will handle where that is known.
    fn begin(&self, phase: &str, total_bytes: Option<u64>);
    /// `bytes` more bytes of the phase are done.
    fn advance(&self, bytes: u64);
    /// The phase is over.
    fn finish(&self);
}

/// A watcher that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _phase: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}
