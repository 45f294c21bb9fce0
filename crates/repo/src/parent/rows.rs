//! Rows of one tensor found again in others: slices, concatenations, rows that were inserted.
//!
//! Of each row a run of [`RUN`] coarse words is kept, its signature. Signatures of earlier rows are looked up by four words at a
//! time, of which all have to agree; from a place where several rows in succession agree, both are followed up and down.

use super::sketch::Sketch;

/// Words of a row's signature, and the fewest words of a row that has one.
pub(super) const RUN: usize = 16;

/// The signature of a row: coarse words of its middle.
pub(super) type Signature = [u16; RUN];

/// Rows are the same if at least these of their words agree. Rows of unrelated weights, whose words agree in 6 of 100 cases, do
/// so in about one of a million cases; rows of which two thirds of the words agree, in 19 of 20.
const SAME: usize = RUN / 2;

/// Rows in succession that are compared before they count as found, and the fewest of them (at the end of a tensor).
const SEED: (usize, usize) = (8, 4);

/// Unlike rows in succession at which following them ends.
const UNLIKE: usize = 4;

/// Most places of one key that are compared.
const PLACES: usize = 8;

/// Where two words of a tensor are equal more often than this, its rows are too alike to tell where one of them is.
const REPETITION: f64 = 0.25;

/// Distinct words that a signature has at least: padding has no place.
const DISTINCT: usize = 6;

/// Where in a row of `words` words its signature starts.
pub(super) fn run_start(words: u64) -> u64 {
    words.saturating_sub(RUN as u64) / 2
}

/// Rows of a new tensor that lie in an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Number of the earlier tensor, as they were added.
    pub(super) tensor: usize,
    /// Its first row.
    pub(super) from: usize,
    /// The first row in the new tensor.
    pub(super) to: usize,
    /// How many rows.
    pub(super) rows: usize,
}

/// Rows of earlier tensors, to be looked up by signature.
#[derive(Default)]
pub(super) struct RowIndex {
    tensors: Vec<Vec<Signature>>,
    /// Key, tensor, row.
    places: Vec<(u32, u32, u32)>,
}

impl RowIndex {
    /// Adds a tensor, and gives its number.
    pub(super) fn add(&mut self, rows: Vec<Signature>) -> usize {
        let number = self.tensors.len();
        if !is_repetitive(&rows) {
            for (row, signature) in rows.iter().enumerate().filter(|(_, signature)| is_telling(signature)) {
                self.places.extend(keys(signature).map(|key| (key, number as u32, row as u32)));
            }
        }
        self.tensors.push(rows);
        number
    }

    /// No more tensors are added.
    pub(super) fn close(&mut self) {
        self.places.sort_unstable();
    }

    /// Finds rows of a new tensor: runs in ascending order that do not overlap.
    pub(super) fn align(&self, new: &[Signature]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut at, mut done) = (0, 0);
        while at < new.len() {
            let Some((tensor, row)) = self.seed(new, at) else {
                at += 1;
                continue;
            };
            let run = self.follow(new, at, done, tensor, row);
            done = run.to + run.rows;
            at = done.max(at + 1);
            match runs.last_mut() {
                // It was interrupted by a few rows that moved further.
                Some(last) if last.tensor == run.tensor && last.from + (run.to - last.to) == run.from => {
                    last.rows = done - last.to;
                }
                _ => runs.push(run),
            }
        }
        runs
    }

    /// The place of the row `at` in an earlier tensor, with the rows after it.
    fn seed(&self, new: &[Signature], at: usize) -> Option<(usize, usize)> {
        let signature = new.get(at).filter(|signature| is_telling(signature))?;
        let mut best: Option<(usize, (usize, usize))> = None;
        for key in keys(signature) {
            let first = self.places.partition_point(|place| place.0 < key);
            for (_, tensor, row) in self.places[first..].iter().take_while(|place| place.0 == key).take(PLACES) {
                let place = (*tensor as usize, *row as usize);
                let rows = new[at..].iter().zip(&self.tensors[place.0][place.1..]).take(SEED.0);
                let (compared, same) =
                    rows.fold((0, 0), |(n, same), (a, b)| (n + 1, same + usize::from(is_same(a, b))));
                let is_found = compared >= SEED.1 && 4 * same >= 3 * compared;
                if is_found && best.is_none_or(|(most, _)| same > most) {
                    best = Some((same, place));
                }
            }
        }
        best.map(|(_, place)| place)
    }

    /// The longest run through row `at` of the new tensor, which is row `row` of an earlier one, that starts at `done` or later.
    fn follow(&self, new: &[Signature], at: usize, done: usize, tensor: usize, row: usize) -> Run {
        let earlier = &self.tensors[tensor];
        let reach = |pairs: &mut dyn Iterator<Item = (&Signature, &Signature)>| {
            let mut reached = 0;
            for (count, (a, b)) in pairs.enumerate() {
                if is_same(a, b) {
                    reached = count + 1;
                } else if count - reached >= UNLIKE {
                    break;
                }
            }
            reached
        };
        let after = reach(&mut new[at..].iter().zip(&earlier[row..]));
        let before = reach(&mut new[done..at].iter().rev().zip(earlier[..row].iter().rev()));
        Run { tensor, from: row - before, to: at - before, rows: before + after }
    }
}

/// Four keys, each of four words.
fn keys(signature: &Signature) -> impl Iterator<Item = u32> {
    (0..4).map(|band| {
        let words = [0, 4, 8, 12].map(|word| u64::from(signature[band + word]));
        let packed = words.iter().fold(0u64, |packed, word| packed << 16 | word);
        // Multiplied and its upper half taken; the band keeps the keys of other words apart.
        ((packed ^ band as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    })
}

pub(super) fn is_same(a: &Signature, b: &Signature) -> bool {
    a.iter().zip(b).filter(|(a, b)| a == b).count() >= SAME
}

fn is_telling(signature: &Signature) -> bool {
    let mut sorted = *signature;
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).count() >= DISTINCT
}

/// Whether a tensor's words are too few different ones.
fn is_repetitive(rows: &[Signature]) -> bool {
    let step = rows.len().div_ceil(16).max(1);
    let sample: Vec<u16> = rows.iter().step_by(step).flatten().copied().collect();
    Sketch::new(sample).repetition() > REPETITION
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_datasets::rng::Rng;

    /// Rows of words like those of weights: a word is one of few, the middle ones most often.
    fn rows(count: usize, seed: u64) -> Vec<Signature> {
        let mut rng = Rng::new(seed);
        (0..count).map(|_| std::array::from_fn(|_| (rng.normal() * 6.0 + 100.0) as u16)).collect()
    }

    /// The rows with one word in four replaced.
    fn moved(rows: &[Signature], seed: u64) -> Vec<Signature> {
        let mut rng = Rng::new(seed);
        let word = |word: u16, rng: &mut Rng| if rng.below(4) == 0 { rng.below(50) as u16 } else { word };
        rows.iter().map(|row| row.map(|value| word(value, &mut rng))).collect()
    }

    fn index(tensors: &[&[Signature]]) -> RowIndex {
        let mut index = RowIndex::default();
        for tensor in tensors {
            index.add(tensor.to_vec());
        }
        index.close();
        index
    }

    fn run(tensor: usize, from: usize, to: usize, rows: usize) -> Run {
        Run { tensor, from, to, rows }
    }

    #[test]
    fn slices_and_concatenations() {
        let (a, b) = (rows(300, 1), rows(200, 2));
        let found = index(&[&a, &b]);
        assert_eq!(found.align(&moved(&a[120..250], 3)), [run(0, 120, 0, 130)]);
        let both = [&b[..], &a[..]].concat();
        assert_eq!(found.align(&moved(&both, 4)), [run(1, 0, 0, 200), run(0, 0, 200, 300)]);
        // The other way: parts are found in the whole.
        let whole = index(&[&both]);
        assert_eq!(whole.align(&moved(&a, 5)), [run(0, 200, 0, 300)]);
    }

    #[test]
    fn rows_that_were_inserted_or_put_before() {
        let (a, more) = (rows(300, 1), rows(20, 2));
        let found = index(&[&a]);
        let new = [&more[..], &moved(&a[..100], 3), &more, &moved(&a[100..], 4), &more].concat();
        assert_eq!(found.align(&new), [run(0, 0, 20, 100), run(0, 100, 140, 200)]);
        let dropped = [&moved(&a[..50], 5)[..], &moved(&a[60..], 6)].concat();
        assert_eq!(found.align(&dropped), [run(0, 0, 0, 50), run(0, 60, 50, 240)]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let found = index(&[&rows(5000, 1)]);
        for seed in 2..20 {
            assert_eq!(found.align(&rows(1000, seed)), []);
        }
        // Rows in another order are single rows, which are not looked for.
        let mut rng = Rng::new(7);
        let old = rows(300, 8);
        let permuted: Vec<Signature> = {
            let mut order: Vec<usize> = (0..300).collect();
            (1..300).rev().for_each(|i| order.swap(i, rng.below(i as u64 + 1) as usize));
            order.into_iter().map(|i| old[i]).collect()
        };
        assert_eq!(index(&[&old]).align(&permuted), []);
        // Padding has no place.
        assert_eq!(index(&[&[[7; RUN]; 100]]).align(&[[7; RUN]; 50]), []);
        assert_eq!(index(&[]).align(&rows(5, 1)), []);
    }
}
