//! A manifest becomes a file again: blocks are decoded, proven and written where they belong, on every core.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use shard_core::{CompressedRun, Digest, Progress, Sha256};
use shard_formats::compress::{self, FileBytes, NotRepeated};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;
use tempfile::{NamedTempFile, TempPath};

use crate::begun::PartFile;
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::worktree::{UNFINISHED, set_executable};

/// Files up to this size, in bytes, are not worth starting threads for.
pub(crate) const INLINE: u64 = 1 << 20;

/// After so many bytes written, the disk is set to work on them while the next are decoded.
pub(crate) const FLUSH: u64 = 64 << 20;

/// Bytes of one write. With larger ones the page cache takes large folios, of memory that a virtual machine may have to ask
/// its host for; measured, these took less than half the system's time.
const WRITE: usize = 128 << 10;

/// The file's own bytes, from those of its blocks in order.
pub(crate) fn file_bytes(manifest: &ContentManifest) -> FileBytes {
    FileBytes::of(manifest.segments.iter().map(|segment| segment.len), &manifest.compressed)
}

/// A part of a file that one worker writes.
enum Job {
    /// A compressed run: its blocks are compressed one after another.
    Run(compress::Piece),
    One(Piece),
    /// Two blocks of one length, since they are proven together.
    Two(Piece, Piece),
}

/// A block of a file and its place.
struct Piece {
    id: Digest,
    len: u32,
    offset: u64,
}

/// The longest target of a symbolic link, in bytes: no system that shard runs on has longer ones.
const MAX_LINK: u64 = 4096;

/// Writes the file that a manifest describes into a temporary one, in `temp_dir` or else in `folder`, which has to be put in its
/// place yet; or completes one that has blocks already.
pub(crate) fn restore_file(
    (manifest, begun): (&ContentManifest, Option<PartFile>),
    source: &dyn EntrySource,
    executable: bool,
    (temp_dir, temp_prefix): (&Path, &str),
    folder: &Path,
    threads: usize,
    progress: &dyn Progress,
) -> Result<TempPath> {
    let created = || {
        let temporary = temporary_file(temp_dir, temp_prefix).or_else(|_| temporary_file(folder, UNFINISHED.0));
        let temporary = temporary.map_err(RepoError::io("cannot create a temporary file", folder))?;
        Ok::<_, RepoError>(PartFile { temporary, written: HashSet::new() })
    };
    let PartFile { temporary, written } = begun.map_or_else(created, Ok)?;
    source.bring(&mut manifest.blocks().map(|block| block_key(block.span.id)))?;
    write_pieces((manifest, &written), source, temporary.as_file(), temporary.path(), threads, progress)?;
    if !manifest.compressed.is_empty() {
        prove(manifest, temporary.path())?;
    }
    set_executable(temporary.as_file(), executable).map_err(RepoError::io("cannot be made executable", folder))?;
    Ok(temporary.into_temp_path())
}

/// A copy of a restored file that has no place yet: a clone, where the file system can share what they have in common.
pub(crate) fn copy_file(from: &Path, (temp_dir, temp_prefix): (&Path, &str), folder: &Path) -> Result<TempPath> {
    let copy = temporary_file(temp_dir, temp_prefix)
        .or_else(|_| temporary_file(folder, UNFINISHED.0))
        .map_err(RepoError::io("cannot create a temporary file", folder))?
        .into_temp_path();
    fs::copy(from, &copy).map_err(RepoError::io("cannot be copied", from))?;
    Ok(copy)
}

/// Compares the hash of a restored file with that of its manifest. Blocks are proven one by one, and where a file is its blocks, so
/// is the file; but what compressing them gives depends on more than on them.
fn prove(manifest: &ContentManifest, path: &Path) -> Result<()> {
    let found = hash_file(path).map_err(RepoError::io("cannot be read again", path))?;
    if found == manifest.sha256 { Ok(()) } else { Err(NotRepeated.into()) }
}

/// SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; WRITE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            len => hash.update(buffer.get(..len).unwrap_or_default()),
        }
    }
}

/// The target of the symbolic link at `path` that a manifest describes.
pub(crate) fn restore_bytes(manifest: &ContentManifest, source: &dyn EntrySource, path: &str) -> Result<Vec<u8>> {
    if manifest.size > MAX_LINK {
        let why = format!("is a link with a target of {} bytes", manifest.size);
        return Err(RepoError::Path { path: path.into(), why });
    }
    let mut reader = BlockReader::new(source);
    let (mut bytes, mut block) = (Vec::new(), Vec::new());
    for span in manifest.segments.iter().flat_map(|segment| &segment.blocks) {
        reader.read(&block_key(span.id), &mut block)?;
        bytes.extend_from_slice(&block);
    }
    Ok(bytes)
}

pub(crate) fn temporary_file(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(UNFINISHED.1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask takes from these what it takes from every new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn write_pieces(
    (manifest, written): (&ContentManifest, &HashSet<Digest>),
    source: &dyn EntrySource,
    file: &File,
    path: &Path,
    threads: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let (jobs, done) = jobs(manifest, written);
    progress.advance(done);
    file.set_len(manifest.size).map_err(RepoError::io("cannot be given its size", path))?;
    let threads = if manifest.size <= INLINE { 1 } else { threads.max(1).min(jobs.len().max(1)) };
    let next = AtomicUsize::new(0);
    let written = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let (flush_tx, flush_rx) = bounded::<()>(1);
    let output = Output::new(file, threads + 1);
    let work = |flush: Sender<()>| -> Result<()> {
        let mut reader = BlockReader::new(source);
        let (mut block, mut other) = (Vec::new(), Vec::new());
        let write = |piece: &Piece, block: &mut Vec<u8>| {
            if block.len() != piece.len as usize {
                return Err(RepoError::BadBase { block: piece.id });
            }
            output.write(block, piece.offset).map_err(RepoError::io("cannot write", path))
        };
        while !failed.load(Ordering::Relaxed) {
            let (outcome, len) = match jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                Some(Job::Run(run)) => {
                    let written = write_run(manifest, run, &mut reader, &output, path);
                    (written, run.expanded.end - run.expanded.start)
                }
                Some(Job::Two(one, two)) => {
                    let keys = [&block_key(one.id), &block_key(two.id)];
                    let read = reader.read_pair(keys, [&mut block, &mut other]);
                    let written = read.and_then(|()| write(one, &mut block)).and_then(|()| write(two, &mut other));
                    (written, u64::from(one.len) + u64::from(two.len))
                }
                Some(Job::One(one)) => {
                    let read = reader.read(&block_key(one.id), &mut block);
                    (read.and_then(|()| write(one, &mut block)), u64::from(one.len))
                }
                None => break,
            };
            if let Err(error) = outcome {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
            let before = written.fetch_add(len, Ordering::Relaxed);
            if before / FLUSH != (before + len) / FLUSH {
                // Where one is under way already, the next will do.
                let _ = flush.try_send(());
            }
            progress.advance(len);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let flusher = scope.spawn(|| flush_rx.iter().try_for_each(|()| file.sync_data()));
        let workers: Vec<_> = (1..threads)
            .map(|_| {
                let flush = flush_tx.clone();
                scope.spawn(|| work(flush))
            })
            .collect();
        let mut outcome = work(flush_tx);
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(result);
        }
        let flushed = flusher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and(flushed.map_err(RepoError::io("cannot be written to the disk", path)))
    })
}

/// The work of writing a file: compressed runs first, since one takes long; then the blocks, two of one length together where there
/// are. Nearly in file order: a block waits for the next of its length. Blocks that are written already are left out; their bytes
/// come second.
fn jobs(manifest: &ContentManifest, written: &HashSet<Digest>) -> (Vec<Job>, u64) {
    let (mut jobs, mut done) = (Vec::new(), 0);
    let mut alone: BTreeMap<u32, Piece> = BTreeMap::new();
    let pieces = compress::pieces(manifest.segments.iter().map(|segment| segment.len), &manifest.compressed);
    let (runs, plain): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|piece| piece.with.is_some());
    jobs.extend(runs.into_iter().map(Job::Run));
    for stretch in plain {
        let mut offset = stretch.file.start;
        for span in manifest.segments.get(stretch.segments).unwrap_or_default().iter().flat_map(|s| &s.blocks) {
            let piece = Piece { id: span.id, len: span.len, offset };
            offset += u64::from(span.len);
            if written.contains(&span.id) {
                done += u64::from(span.len);
                continue;
            }
            match alone.remove(&span.len) {
                Some(first) => jobs.push(Job::Two(first, piece)),
                None => {
                    alone.insert(span.len, piece);
                }
            }
        }
    }
    jobs.extend(alone.into_values().map(Job::One));
    (jobs, done)
}

/// Writes a compressed run.
fn write_run(
    manifest: &ContentManifest,
    run: &compress::Piece,
    reader: &mut BlockReader<'_>,
    output: &Output<&File>,
    path: &Path,
) -> Result<()> {
    let segments = manifest.segments.get(run.segments.clone()).unwrap_or_default();
    let with = run.with.map(|with| CompressedRun {
        first: 0,
        count: segments.len(),
        len: run.file.end - run.file.start,
        with,
    });
    let mut bytes = FileBytes::of(segments.iter().map(|segment| segment.len), with.as_slice());
    let (mut at, mut block, mut part) = (run.file.start, Vec::new(), Vec::new());
    for span in segments.iter().flat_map(|segment| &segment.blocks) {
        reader.read(&block_key(span.id), &mut block)?;
        bytes.push(&block, &mut |compressed: &[u8]| {
            part.clear();
            part.extend_from_slice(compressed);
            output.write(&mut part, at).map_err(RepoError::io("cannot write", path))?;
            at += compressed.len() as u64;
            Ok::<(), RepoError>(())
        })?;
    }
    if at == run.file.end { Ok(()) } else { Err(NotRepeated.into()) }
}

/// A file that several workers write. The system lets one thread at a time write a file, and makes the others spin; here they
/// leave their block to the one that is writing, and decode the next.
pub(crate) struct Output<F> {
    file: F,
    /// Blocks that may wait; beyond, a worker waits for its turn.
    most: usize,
    waiting: Mutex<Waiting>,
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    blocks: Vec<(u64, Vec<u8>)>,
    /// Buffers of blocks that were written.
    spare: Vec<Vec<u8>>,
}

impl<F: Borrow<File>> Output<F> {
    /// A file on which so many blocks may wait.
    pub(crate) fn new(file: F, most: usize) -> Self {
        Self { file, most, waiting: Mutex::default(), writing: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a block, or leaves it to the worker that is writing now, and puts another buffer in its place.
    pub(crate) fn write(&self, block: &mut Vec<u8>, offset: u64) -> io::Result<()> {
        let mut many = {
            let mut waiting = self.waiting();
            let spare = waiting.spare.pop().unwrap_or_default();
            waiting.blocks.push((offset, std::mem::replace(block, spare)));
            waiting.blocks.len() > self.most
        };
        // Whoever writes looks again after giving up the turn: a block left in between would stay.
        while !self.waiting().blocks.is_empty() {
            let turn = match self.writing.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                Err(TryLockError::WouldBlock) if many => self.writing.lock().unwrap_or_else(PoisonError::into_inner),
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            many = false;
            loop {
                let Some((offset, bytes)) = self.waiting().blocks.pop() else { break };
                let mut at = offset;
                for piece in bytes.chunks(WRITE) {
                    write_all_at(self.file.borrow(), piece, at)?;
                    at += piece.len() as u64;
                }
                self.waiting().spare.push(bytes);
            }
            drop(turn);
        }
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shard_core::limits::Cut;
    use shard_core::{Compression, NoProgress};
    use shard_tests::zips::{npy, zip};

    use super::*;
    use crate::{Repository, Settings, read_manifest};

    /// Whatever becomes of zlib, a file that does not come out as it went in is not put in place: here its manifest says another
    /// level, with the length that this level gives, or another hash.
    #[test]
    fn a_compressor_that_gives_other_bytes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<u8> = (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (13 + i % 11)) as u8).collect();
        let file = zip(&[("w.npy", &npy(&values), 6)]);
        let place = folder.path().join("w.npz");
        fs::write(&place, &file).unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::V1, Settings::default()).unwrap();
        repository.add(std::slice::from_ref(&place), &NoProgress).unwrap();
        let (manifest, _) = read_manifest(&place, Cut::V1, &NoProgress).unwrap();
        assert_eq!(manifest.compressed[0].with, Compression::Zlib { level: 6 });
        let restore = |manifest: &ContentManifest| {
            let temp = (folder.path(), "restored-");
            restore_file((manifest, None), repository.store(), false, temp, folder.path(), 2, &NoProgress)
        };
        assert!(fs::read(restore(&manifest).unwrap()).unwrap() == file);
        for level in [1, 2] {
            let with = Compression::Zlib { level };
            let stored = zip(&[("w.npy", &npy(&values), u32::from(level))]);
            let lengths =
                [manifest.compressed[0].len, manifest.compressed[0].len + stored.len() as u64 - file.len() as u64];
            for len in lengths {
                let mut lying = manifest.clone();
                (lying.compressed[0].with, lying.compressed[0].len) = (with, len);
                lying.size = lying.size + len - manifest.compressed[0].len;
                assert!(matches!(restore(&lying), Err(RepoError::NotRepeated(_))), "level {level}, {len} bytes");
            }
        }
        let mut other = manifest.clone();
        other.sha256 = shard_core::sha256(b"another file");
        assert!(matches!(restore(&other), Err(RepoError::NotRepeated(_))));
        let left = folder
            .path()
            .read_dir()
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("restored-"));
        assert_eq!(left.count(), 0, "nothing is left of what was not right");
    }
}
