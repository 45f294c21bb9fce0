//! Rows of entries as a stream of bytes.
//!
//! Each entry is its kind (1 byte), flags (1 byte: bit 0 says that later ones lean on it), its id, the length of its stored bytes (4
//! bytes, little-endian), and these. A byte 0 in the place of a kind, and the number of entries (8 bytes, little-endian), end the
//! stream: whatever ends otherwise was cut off.

use std::io::{self, Read};
use std::slice;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::{Buf, Bytes};
use shard_core::Digest;
use shard_repo::peer::{Chosen, Supply};
use shard_repo::{RepoError, SyncProblem};
use shard_store::{EntryKey, EntryKind};

/// Bytes before the stored ones.
const HEAD: usize = 1 + 1 + 32 + 4;
/// Set where later entries lean on one.
const IS_BASE: u8 = 1;
/// Small entries are sent together, up to so many bytes.
const TOGETHER: usize = 64 << 10;
/// A stream of a long row ends after so many bytes, and another one goes on: some proxies take no longer ones.
const PART: u64 = 512 << 20;

/// Makes streams of a supply, a piece at a time.
pub(crate) struct Frames<'a> {
    supply: &'a dyn Supply,
    /// The entries and bytes of this stream.
    sent: (u64, u64),
    is_over: bool,
    is_empty: bool,
    /// A stream ends after so many bytes.
    part: u64,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(supply: &'a dyn Supply) -> Self {
        Self { supply, sent: (0, 0), is_over: true, is_empty: false, part: PART }
    }

    /// One stream of all of it.
    pub(crate) fn whole(supply: &'a dyn Supply) -> Self {
        Self { supply, sent: (0, 0), is_over: false, is_empty: false, part: u64::MAX }
    }

    /// Begins a stream, where there may be something left.
    pub(crate) fn begin_part(&mut self) -> bool {
        (self.sent, self.is_over) = ((0, 0), self.is_empty);
        !self.is_empty
    }

    /// The next piece of the stream, and the stored bytes in it; `None` after the last.
    ///
    /// # Errors
    /// What keeps an entry from being read.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, u64)>, RepoError> {
        if self.is_over {
            return Ok(None);
        }
        let (mut piece, mut stored, mut of_entries) = (Vec::new(), Vec::new(), 0);
        while piece.len() < TOGETHER {
            let chosen = match self.sent.1 < self.part {
                true => self.supply.next(&mut stored)?,
                false => None,
            };
            let Some(chosen) = chosen else {
                piece.push(0);
                piece.extend_from_slice(&self.sent.0.to_le_bytes());
                self.is_over = true;
                self.is_empty = self.sent.1 < self.part;
                break;
            };
            self.supply.complete(slice::from_ref(&chosen), slice::from_mut(&mut stored))?;
            let len =
                u32::try_from(stored.len()).map_err(|_| RepoError::Internal("an entry is too long to be sent"))?;
            piece.reserve(HEAD + stored.len());
            piece.push(chosen.key.kind as u8);
            piece.push(if chosen.is_base { IS_BASE } else { 0 });
            piece.extend_from_slice(&chosen.key.id.0);
            piece.extend_from_slice(&len.to_le_bytes());
            piece.extend_from_slice(&stored);
            of_entries += stored.len() as u64;
            self.sent.0 += 1;
            self.sent.1 += stored.len() as u64;
        }
        Ok(Some((piece.into(), of_entries)))
    }
}

/// Pieces of a body, read as they come.
pub(crate) struct Chunks<F> {
    next: F,
    chunk: Bytes,
}

impl<F: FnMut() -> io::Result<Option<Bytes>>> Chunks<F> {
    pub(crate) fn new(next: F) -> Self {
        Self { next, chunk: Bytes::new() }
    }
}

impl<F: FnMut() -> io::Result<Option<Bytes>>> Read for Chunks<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match (self.next)()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let len = out.len().min(self.chunk.len());
        out.get_mut(..len).unwrap_or_default().copy_from_slice(self.chunk.get(..len).unwrap_or_default());
        self.chunk.advance(len);
        Ok(len)
    }
}

/// The entries of a stream, as they arrive.
pub(crate) struct Entries<R, L> {
    state: Mutex<Arriving<R>>,
    /// Turns what the connection says into an error.
    lost: L,
}

struct Arriving<R> {
    from: R,
    taken: u64,
    is_over: bool,
}

impl<R: Read + Send, L: Fn(io::Error) -> RepoError + Sync> Entries<R, L> {
    pub(crate) fn new(from: R, lost: L) -> Self {
        Self { state: Mutex::new(Arriving { from, taken: 0, is_over: false }), lost }
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken
    }
}

impl<R: Read + Send, L: Fn(io::Error) -> RepoError + Sync> Supply for Entries<R, L> {
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>, RepoError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return Ok(None);
        }
        let mut kind = [0];
        state.from.read_exact(&mut kind).map_err(&self.lost)?;
        if kind == [0] {
            let mut count = [0; 8];
            state.from.read_exact(&mut count).map_err(&self.lost)?;
            state.is_over = true;
            if u64::from_le_bytes(count) != state.taken {
                return Err(SyncProblem::Malformed("entries are missing from a stream").into());
            }
            return Ok(None);
        }
        let mut head = [0; HEAD - 1];
        state.from.read_exact(&mut head).map_err(&self.lost)?;
        let [flags, rest @ ..] = head;
        let (mut id, mut len) = ([0; 32], [0; 4]);
        id.copy_from_slice(rest.get(..32).unwrap_or_default());
        len.copy_from_slice(rest.get(32..).unwrap_or_default());
        let [kind] = kind;
        let kind = EntryKind::from_byte(kind).ok_or(SyncProblem::Malformed("an entry is of no known kind"))?;
        let len = u32::from_le_bytes(len);
        if flags & !IS_BASE != 0 || u64::from(len) > kind.max_stored_len() {
            return Err(SyncProblem::Malformed("an entry's head is not one").into());
        }
        stored.resize(len as usize, 0);
        state.from.read_exact(stored).map_err(&self.lost)?;
        state.taken += 1;
        Ok(Some(Chosen { key: EntryKey::new(kind, Digest(id)), is_base: flags & IS_BASE != 0 }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shard_core::sha256;

    use super::*;

    struct Few(Vec<(Chosen, Vec<u8>)>, AtomicUsize);

    impl Supply for Few {
        fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>, RepoError> {
            let Some((chosen, bytes)) = self.0.get(self.1.fetch_add(1, Ordering::Relaxed)) else { return Ok(None) };
            stored.clone_from(bytes);
            Ok(Some(*chosen))
        }
    }

    fn few() -> Vec<(Chosen, Vec<u8>)> {
        let each = |number: u8| {
            let kind = EntryKind::ALL[usize::from(number) % EntryKind::ALL.len()];
            let bytes = vec![number; usize::from(number) * 1000];
            (Chosen { key: EntryKey::new(kind, sha256(&bytes)), is_base: number.is_multiple_of(3) }, bytes)
        };
        (0..200).map(each).collect()
    }

    fn stream(entries: &[(Chosen, Vec<u8>)]) -> Vec<u8> {
        let supply = Few(entries.to_vec(), AtomicUsize::new(0));
        let mut frames = Frames::new(&supply);
        let mut all = Vec::new();
        assert!(frames.begin_part());
        while let Some((piece, _)) = frames.next().unwrap() {
            all.extend_from_slice(&piece);
        }
        assert!(!frames.begin_part());
        all
    }

    fn lost(error: io::Error) -> RepoError {
        RepoError::Argument(error.to_string())
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Chosen, Vec<u8>)>, RepoError> {
        let mut pieces = bytes.chunks(777).map(Bytes::copy_from_slice);
        let entries = Entries::new(Chunks::new(move || Ok(pieces.next())), lost);
        let (mut all, mut stored) = (Vec::new(), Vec::new());
        while let Some(chosen) = entries.next(&mut stored)? {
            all.push((chosen, stored.clone()));
        }
        Ok(all)
    }

    #[test]
    fn entries_go_through_a_stream() {
        assert_eq!(read(&stream(&few())).unwrap(), few());
        assert_eq!(read(&stream(&[])).unwrap(), []);
    }

    #[test]
    fn fault_18_a_stream_that_is_cut_off_is_told() {
        let whole = stream(&few()[..20]);
        for end in (0..whole.len()).step_by(97).chain(whole.len() - 10..whole.len()) {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        let mut fewer = whole.clone();
        let at = fewer.len() - 8;
        fewer[at] ^= 1;
        assert!(matches!(read(&fewer), Err(RepoError::Sync(SyncProblem::Malformed(_)))));
    }

    #[test]
    fn fault_22_a_length_that_lies_allocates_nothing() {
        for (kind, flags, len) in [(1, 0, u32::MAX), (99, 0, 1), (1, 0x80, 1), (4, 0, 0x7fff_ffff)] {
            let head = [&[kind, flags][..], &[7; 32], &u32::to_le_bytes(len)].concat();
            assert!(matches!(read(&head), Err(RepoError::Sync(SyncProblem::Malformed(_)))), "{kind} {flags} {len}");
        }
    }
}
