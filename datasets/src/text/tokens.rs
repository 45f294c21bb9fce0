//! A word-piece vocabulary over bytes.

use std::collections::HashMap;

/// Turns text into token ids and back. Ids 0 to 255 are the bytes; the others are the most frequent words of the text it
/// was made from, each with the space before it, so any text has an encoding.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pieces: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    /// The smallest vocabulary: the bytes alone.
    pub const BYTES: usize = 256;

    /// A vocabulary of at most `vocabulary` ids (at least [`Self::BYTES`]): the bytes and the most frequent pieces of
    /// `text` of two bytes or more, ties broken by the piece's bytes.
    #[must_use]
    pub fn new(text: &str, vocabulary: usize) -> Self {
        let mut counts: HashMap<&[u8], u64> = HashMap::new();
        for piece in split(text.as_bytes()).filter(|piece| piece.len() > 1) {
            *counts.entry(piece).or_default() += 1;
        }
        let mut ranked: Vec<(&[u8], u64)> = counts.into_iter().collect();
        ranked.sort_unstable_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
        ranked.truncate(vocabulary.saturating_sub(Self::BYTES));
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let pieces: Vec<Vec<u8>> = bytes.chain(ranked.into_iter().map(|(piece, _)| piece.to_vec())).collect();
        let ids = pieces.iter().zip(0..).map(|(piece, id)| (piece.clone(), id)).collect();
        Self { pieces, ids }
    }

    /// The number of ids.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.pieces.len()
    }

    /// The ids of a text.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in split(text.as_bytes()) {
            match self.ids.get(piece) {
                Some(id) => ids.push(*id),
                None => ids.extend(piece.iter().map(|byte| u32::from(*byte))),
            }
        }
        ids
    }

    /// The bytes that the ids stand for; ids outside the vocabulary stand for none.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().filter_map(|id| self.pieces.get(*id as usize)).flatten().copied().collect()
    }
}

/// Cuts text into words, each with the one space before it, and single other bytes.
fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let space = usize::from(rest.first() == Some(&b' '));
        let word = rest.get(space..)?.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let len = if word == 0 { 1 } else { space + word };
        let (piece, tail) = rest.split_at_checked(len)?;
        rest = tail;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::corpus;

    #[test]
    fn any_text_comes_back() {
        let text = corpus(1, 20_000);
        let tokenizer = Tokenizer::new(&text, 512);
        assert_eq!(tokenizer.vocabulary(), 512);
        for text in [text.as_str(), "", " ", "  two  spaces ", "Zürich\n\t42 naïve words; 3.14"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text.as_bytes());
        }
        assert!(tokenizer.encode(&text).len() * 3 < text.len(), "words are single tokens");
        assert_eq!(Tokenizer::new(&text, 0).vocabulary(), Tokenizer::BYTES);
    }
}
