//! Pairs names that mean the same thing under two spellings, such as a tensor before and after a rename.

use crate::layers::natural_cmp;

/// How many comparisons of names one diff may spend. Beyond it names are paired in natural order, which is right where all
/// were renamed alike.
const BUDGET: usize = 1 << 20;

/// Words of a name that count, from its end, where names differ least.
const MAX_WORDS: usize = 16;

/// Pairs names one to one, all of the shorter side, and counts what that costs.
#[derive(Debug)]
pub(crate) struct Pairing {
    budget: usize,
}

/// How alike two names are: common words in order as a share of all words (millionths), then common characters at both ends.
type Score = (usize, usize);

impl Pairing {
    pub(crate) fn new() -> Self {
        Self { budget: BUDGET }
    }

    /// Pairs old names with new ones, most similar first. Each name comes with the caller's index, by which the result is
    /// given; equal scores are decided by these, so the result does not depend on anything else.
    pub(crate) fn pair(&mut self, old: &[(usize, &str)], new: &[(usize, &str)]) -> Vec<(usize, usize)> {
        if let ([(old, _)], [(new, _)]) = (old, new) {
            return vec![(*old, *new)];
        }
        match old.len().checked_mul(new.len()).and_then(|cost| self.budget.checked_sub(cost)) {
            Some(left) => self.budget = left,
            None => return in_order(old, new),
        }
        let old_words: Vec<Vec<&str>> = old.iter().map(|(_, name)| words(name)).collect();
        let new_words: Vec<Vec<&str>> = new.iter().map(|(_, name)| words(name)).collect();
        let mut candidates: Vec<(Score, usize, usize)> = Vec::with_capacity(old.len() * new.len());
        for ((old, old_name), old_words) in old.iter().zip(&old_words) {
            for ((new, new_name), new_words) in new.iter().zip(&new_words) {
                let total = (old_words.len() + new_words.len()).max(1);
                let share = 2_000_000 * common_subsequence(old_words, new_words) / total;
                candidates.push(((share, common_ends(old_name, new_name)), *old, *new));
            }
        }
        candidates.sort_unstable_by(|(a, old_a, new_a), (b, old_b, new_b)| {
            b.cmp(a).then(old_a.cmp(old_b)).then(new_a.cmp(new_b))
        });
        let (mut old_taken, mut new_taken) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        let mut pairs = Vec::new();
        for (_, old, new) in candidates {
            if !old_taken.contains(&old) && !new_taken.contains(&new) {
                old_taken.insert(old);
                new_taken.insert(new);
                pairs.push((old, new));
            }
        }
        pairs
    }
}

fn in_order(old: &[(usize, &str)], new: &[(usize, &str)]) -> Vec<(usize, usize)> {
    sorted(old).into_iter().zip(sorted(new)).collect()
}

/// The indices of names in natural order.
fn sorted(names: &[(usize, &str)]) -> Vec<usize> {
    let mut names = names.to_vec();
    names.sort_by(|(index_a, a), (index_b, b)| natural_cmp(a, b).then(index_a.cmp(index_b)));
    names.into_iter().map(|(index, _)| index).collect()
}

/// The words of a name: runs of letters, and runs of digits.
fn words(name: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        let mut start = 0;
        let mut last = None;
        for (at, c) in part.char_indices() {
            let digit = c.is_ascii_digit();
            if last.is_some_and(|last| last != digit) {
                words.extend(part.get(start..at));
                start = at;
            }
            last = Some(digit);
        }
        words.extend(part.get(start..));
    }
    words.split_off(words.len().saturating_sub(MAX_WORDS))
}

/// Length of the longest common subsequence.
fn common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = [0usize; MAX_WORDS + 1];
    for word in a {
        let mut diagonal = 0;
        let mut left = 0;
        for (cell, other) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            *cell = if word == other { diagonal + 1 } else { above.max(left) };
            (diagonal, left) = (above, *cell);
        }
    }
    row.get(b.len()).copied().unwrap_or(0)
}

/// Characters that two names share at their ends, none counted twice.
fn common_ends(a: &str, b: &str) -> usize {
    let most = a.len().min(b.len());
    let suffix = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    let prefix = a.bytes().zip(b.bytes()).take(most - suffix).take_while(|(a, b)| a == b).count();
    suffix + prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(old: &[&str], new: &[&str], budget: usize) -> Vec<(usize, usize)> {
        let number = |names: &[&str]| -> Vec<(usize, String)> {
            names.iter().enumerate().map(|(index, name)| (index, (*name).to_owned())).collect()
        };
        let (old, new) = (number(old), number(new));
        let old: Vec<(usize, &str)> = old.iter().map(|(index, name)| (*index, name.as_str())).collect();
        let new: Vec<(usize, &str)> = new.iter().map(|(index, name)| (*index, name.as_str())).collect();
        let mut pairs = Pairing { budget }.pair(&old, &new);
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn the_most_similar_names_are_paired() {
        let old = ["h.0.ln.bias", "h.1.ln.bias", "h.10.ln.bias", "h.2.attn.bias"];
        let new = ["model.h.2.attn.bias", "model.h.10.ln.bias", "model.h.1.ln.bias", "model.h.0.ln.bias"];
        assert_eq!(pair(&old, &new, BUDGET), [(0, 3), (1, 2), (2, 1), (3, 0)]);
        assert_eq!(pair(&["a", "b"], &["x"], BUDGET), [(0, 0)]);
        assert_eq!(pair(&["w.q", "w.k"], &["x.k", "x.v", "x.q"], BUDGET), [(0, 2), (1, 0)]);
    }

    #[test]
    fn beyond_the_budget_names_are_paired_in_order() {
        assert_eq!(pair(&["a.10", "a.9"], &["b.9", "b.10"], 3), [(0, 1), (1, 0)]);
    }

    #[test]
    fn words_of_names() {
        assert_eq!(words("layer1.0.conv1.weight"), ["layer", "1", "0", "conv", "1", "weight"]);
        assert_eq!(words("été_2//x"), ["été", "2", "x"]);
        assert_eq!(words(&"a.".repeat(100)).len(), MAX_WORDS);
        assert_eq!(words(""), Vec::<&str>::new());
    }
}
