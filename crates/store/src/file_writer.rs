//! Writing a temporary file: gathered writes, reading back, and syncs in the background.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::backend::{BackendError, Output};
use crate::fs::{File, FileSystem};

/// Small appends are gathered up to this many bytes.
const BUFFER: usize = 256 << 10;
/// The file is synced in the background whenever this many more bytes were written, so that its last sync is short.
const SYNC_EVERY: u64 = 64 << 20;

/// The error of an operation on something called `name`.
pub(crate) fn io_error(name: &str, action: &'static str, source: io::Error) -> BackendError {
    let name = name.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => BackendError::NotFound { name },
        _ => BackendError::Io { name, action, source },
    }
}

/// A file that is removed again when this is dropped. Whoever wants it to stay gives it another name before.
pub(crate) struct FileWriter {
    fs: Arc<dyn FileSystem>,
    file: Arc<dyn File>,
    path: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// Bytes after those, not yet in the file.
    buffer: Vec<u8>,
    unsynced: u64,
    flusher: Option<Flusher>,
    /// Set by the first failure: what the file holds is unknown from then on.
    failed: bool,
}

impl FileWriter {
    /// Creates the file, which must not be there.
    pub(crate) fn create(fs: Arc<dyn FileSystem>, path: PathBuf, read_only: bool) -> Result<Self, BackendError> {
        let file = fs.create(&path, read_only).map_err(|e| io_error(&path.to_string_lossy(), "create", e))?;
        Ok(Self { fs, file, path, written: 0, buffer: Vec::new(), unsynced: 0, flusher: None, failed: false })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all bytes durable, but not yet the file's name.
    pub(crate) fn sync(&mut self) -> Result<(), BackendError> {
        self.step(|writer| {
            writer.write_buffer()?;
            let flushed = writer.flusher.take().map_or(Ok(()), Flusher::stop);
            flushed.and_then(|()| writer.file.sync()).map_err(|e| writer.error("sync", e))?;
            let size = writer.file.size().map_err(|e| writer.error("read", e))?;
            if size != writer.written {
                let problem = format!("{size} bytes are there of {} written", writer.written);
                return Err(writer.error("write", io::Error::new(io::ErrorKind::WriteZero, problem)));
            }
            Ok(())
        })
    }

    fn error(&self, action: &'static str, source: io::Error) -> BackendError {
        io_error(&self.path.to_string_lossy(), action, source)
    }

    /// Runs a step after which, if it fails, nothing is believed any more.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, BackendError>) -> Result<T, BackendError> {
        if self.failed {
            return Err(self.error("go on writing", io::Error::other("an earlier write failed")));
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.file.write_all_at(bytes, self.written).map_err(|e| self.error("write", e))?;
        self.written += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            let file = &self.file;
            self.flusher.get_or_insert_with(|| Flusher::start(file.clone())).wake();
            self.unsynced = 0;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), BackendError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }
}

impl Output for FileWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.step(|writer| {
            if writer.buffer.len() + bytes.len() > BUFFER {
                writer.write_buffer()?;
            }
            if bytes.len() >= BUFFER {
                return writer.write(bytes);
            }
            writer.buffer.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len() {
            let name = self.path.to_string_lossy().into_owned();
            return Err(BackendError::OutOfBounds { name, offset, end, size: self.len() });
        }
        let in_file = usize::try_from(self.written.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (from_file, from_buffer) = out.split_at_mut(in_file);
        if !from_file.is_empty() {
            self.file.read_exact_at(from_file, offset).map_err(|e| self.error("read", e))?;
        }
        if !from_buffer.is_empty() {
            // Not empty, so offset + in_file >= written, and end <= len keeps both ends inside the buffer.
            let start = (offset + in_file as u64 - self.written) as usize;
            from_buffer.copy_from_slice(&self.buffer[start..start + from_buffer.len()]);
        }
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(flusher) = self.flusher.take() {
            // Whatever it says no longer matters: the file is given up, or was synced before.
            let _ = flusher.stop();
        }
        // Best effort: what stays is removed by a later writer once this process is gone.
        let _ = self.fs.remove(&self.path);
    }
}

/// A thread that syncs a file while it is being written.
struct Flusher {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Flusher {
    fn start(file: Arc<dyn File>) -> Self {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::spawn(move || woken.iter().try_for_each(|()| file.sync()));
        Self { wake, thread }
    }

    fn wake(&self) {
        // Full: a sync is due already. Closed: a sync failed, and `stop` says so.
        let _ = self.wake.try_send(());
    }

    /// The first error of any sync: the system reports it to one caller only, so it must not be forgotten.
    fn stop(self) -> io::Result<()> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the syncing thread panicked")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;

    fn writer(dir: &Path) -> FileWriter {
        FileWriter::create(Arc::new(RealFs), dir.join("file"), true).unwrap()
    }

    #[test]
    fn reads_back_across_file_and_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = writer(dir.path());
        let bytes: Vec<u8> = (0..3 * BUFFER).map(|i| (i * 7 % 251) as u8).collect();
        for piece in bytes.chunks(BUFFER / 3 + 11) {
            file.append(piece).unwrap();
        }
        assert_eq!(file.len(), bytes.len() as u64);
        for (offset, len) in [(0, bytes.len()), (BUFFER - 5, BUFFER), (bytes.len() - 9, 9), (bytes.len(), 0)] {
            let mut out = vec![0; len];
            file.read_at(offset as u64, &mut out).unwrap();
            assert_eq!(out, bytes[offset..offset + len]);
        }
        assert!(matches!(file.read_at(bytes.len() as u64, &mut [0]), Err(BackendError::OutOfBounds { .. })));
        file.sync().unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn fault_07_a_file_that_is_shorter_than_what_was_written_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = writer(dir.path());
        file.append(&[1; BUFFER]).unwrap();
        // As a short write that was taken for a whole one would leave it.
        file.written += 1;
        assert!(matches!(file.sync(), Err(BackendError::Io { action: "write", .. })));
        assert!(matches!(file.append(b"x"), Err(BackendError::Io { action: "go on writing", .. })));
    }
}
