//! Which bytes of a file are which of its expanded bytes.

use std::ops::Range;

use shard_core::{CompressedRun, Compression};

/// A run of a file's bytes and what it expands to; the same bytes where they are not compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The segments.
    pub segments: Range<usize>,
    /// In expanded bytes from the start of the expanded file.
    pub expanded: Range<u64>,
    /// In bytes from the start of the file.
    pub file: Range<u64>,
    /// How the file holds them; `None` as they are.
    pub with: Option<Compression>,
}

/// The pieces of a file, in order: each compressed run, and what lies between them. `lens` are the lengths of the segments in
/// expanded bytes; they and the runs are those of a layout that passes its check.
#[must_use]
pub fn pieces(lens: impl Iterator<Item = u64>, runs: &[CompressedRun]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(2 * runs.len() + 1);
    let mut runs = runs.iter().peekable();
    let (mut expanded, mut file) = (0u64, 0u64);
    for (index, len) in lens.enumerate() {
        let end = expanded.saturating_add(len);
        match runs.peek().filter(|run| run.segments().contains(&index)) {
            Some(run) if run.first == index => {
                let file_end = file.saturating_add(run.len);
                pieces.push(Piece {
                    segments: index..index + 1,
                    expanded: expanded..end,
                    file: file..file_end,
                    with: Some(run.with),
                });
                file = file_end;
            }
            Some(_) => {
                if let Some(piece) = pieces.last_mut() {
                    (piece.segments.end, piece.expanded.end) = (index + 1, end);
                }
            }
            None => {
                file = file.saturating_add(len);
                match pieces.last_mut().filter(|piece| piece.with.is_none()) {
                    Some(piece) => (piece.segments.end, piece.expanded.end, piece.file.end) = (index + 1, end, file),
                    None => pieces.push(Piece {
                        segments: index..index + 1,
                        expanded: expanded..end,
                        file: file - len..file,
                        with: None,
                    }),
                }
            }
        }
        if runs.peek().is_some_and(|run| index + 1 >= run.segments().end) {
            runs.next();
        }
        expanded = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_one_another() {
        let with = Compression::Zlib { level: 6 };
        let run = |first, count, len| CompressedRun { first, count, len, with };
        let piece = |segments, expanded, file, is_compressed: bool| Piece {
            segments,
            expanded,
            file,
            with: is_compressed.then_some(with),
        };
        let lens = [5, 0, 8, 12, 3, 4, 2];
        let expected = [
            piece(0..2, 0..5, 0..5, false),
            piece(2..4, 5..25, 5..12, true),
            piece(4..5, 25..28, 12..13, true),
            piece(5..7, 28..34, 13..19, false),
        ];
        assert_eq!(pieces(lens.into_iter(), &[run(2, 2, 7), run(4, 1, 1)]), expected);
        assert_eq!(pieces(lens.into_iter(), &[]), [piece(0..7, 0..34, 0..34, false)]);
        assert_eq!(pieces(std::iter::empty(), &[]), []);
    }
}
