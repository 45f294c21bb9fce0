//! A file with its compressed parts expanded.

use std::io;
use std::sync::{Mutex, PoisonError};

use shard_core::Layout;

use super::deflate::Inflater;
use super::pieces::{Piece, pieces};
use crate::source::Source;

/// The largest part, in expanded bytes, that is held as a whole, to be read in any order.
pub const HELD: u64 = 32 << 20;

/// The expanded bytes of a file: what the segments of its layout tile. A file that holds nothing compressed is itself.
///
/// Compressed parts are expanded as they are read, from front to back. One part of at most 32 MiB is held; in larger ones a step back
/// costs expanding from the start.
#[derive(Debug)]
pub struct Expanded<S> {
    source: S,
    len: u64,
    pieces: Vec<Piece>,
    open: Mutex<Option<Open>>,
}

/// A compressed part that is being read.
struct Open {
    piece: usize,
    state: State,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("piece", &self.piece).finish_non_exhaustive()
    }
}

enum State {
    Held(Vec<u8>),
    Stream(Box<Inflater>),
}

impl<S: Source> Expanded<S> {
    /// The expanded bytes of `source`, whose layout is `layout`.
    pub fn new(source: S, layout: &Layout) -> Self {
        let is_plain = layout.compressed.is_empty();
        let len = if is_plain { source.len() } else { layout.expanded_len() };
        let lens = layout.segments.iter().map(|segment| segment.len);
        let pieces = if is_plain { Vec::new() } else { pieces(lens, &layout.compressed) };
        Self { source, len, pieces, open: Mutex::new(None) }
    }

    /// The file as it is.
    pub fn file(&self) -> &S {
        &self.source
    }

    /// Whether some of the file is compressed: then reading is cheapest in order, by one thread.
    pub fn is_compressed(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Reads from one compressed part, `offset` expanded bytes into it. Others wait: they would expand the same bytes again.
    fn read_compressed(&self, index: usize, piece: &Piece, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let len = piece.expanded.end - piece.expanded.start;
        let start = || Inflater::new(piece.file.clone());
        let mut state = match open.take().filter(|open| open.piece == index).map(|open| open.state) {
            Some(State::Stream(inflater)) if inflater.position() <= offset => State::Stream(inflater),
            Some(State::Held(bytes)) => State::Held(bytes),
            _ if len <= HELD => {
                let mut bytes = vec![0; len as usize];
                start().fill(&self.source, &mut bytes)?;
                State::Held(bytes)
            }
            _ => State::Stream(Box::new(start())),
        };
        match &mut state {
            State::Held(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = bytes.get(from..from.saturating_add(buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
                buf.copy_from_slice(part);
            }
            State::Stream(inflater) => {
                let mut skipped = [0; 16 << 10];
                while inflater.position() < offset {
                    let len = (offset - inflater.position()).min(skipped.len() as u64) as usize;
                    inflater.fill(&self.source, skipped.get_mut(..len).unwrap_or_default())?;
                }
                inflater.fill(&self.source, buf)?;
            }
        }
        *open = Some(Open { piece: index, state });
        Ok(())
    }
}

impl<S: Source> Source for Expanded<S> {
    fn len(&self) -> u64 {
        self.len
    }

    /// # Errors
    /// Also [`io::ErrorKind::InvalidData`] where compressed bytes are damaged.
    fn read_at(&self, offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        if self.pieces.is_empty() {
            return self.source.read_at(offset, buf);
        }
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        let first = self.pieces.partition_point(|piece| piece.expanded.end <= at);
        for (index, piece) in self.pieces.iter().enumerate().skip(first) {
            if buf.is_empty() {
                break;
            }
            let left = usize::try_from(piece.expanded.end - at).map_or(buf.len(), |left| left.min(buf.len()));
            let (part, rest) = buf.split_at_mut(left);
            let inside = at - piece.expanded.start;
            match piece.with {
                None => self.source.read_at(piece.file.start + inside, part)?,
                Some(_) => self.read_compressed(index, piece, inside, part)?,
            }
            at += left as u64;
            buf = rest;
        }
        Ok(())
    }
}
