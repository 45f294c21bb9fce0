//! The commit graph in characters, beside a log: a column for each line of history that is still open.

use shard_core::Digest;

/// Draws commits one after the other, none before its children.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// The commits that lines lead to, from left to right, each once.
    lines: Vec<Digest>,
}

/// What stands beside a commit: a row each for the lines of its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Rows before the commit, which stand alone: room is made for a merge of more than two.
    pub(crate) before: Vec<String>,
    /// The row with the commit's `*`, as wide as all rows that have text.
    pub(crate) commit: String,
    /// Rows that lead to the next commit.
    pub(crate) after: Vec<String>,
    /// The row to repeat when there is more text.
    pub(crate) rest: String,
}

/// A line on its way: the column of characters that it is in, and the line of the next commit that it becomes.
type Moving = (usize, usize);

fn row(marks: impl IntoIterator<Item = (usize, char)>) -> String {
    let mut row: Vec<char> = Vec::new();
    for (at, mark) in marks {
        if row.len() <= at {
            row.resize(at + 1, ' ');
        }
        row[at] = mark;
    }
    row.into_iter().collect()
}

impl Graph {
    /// The rows beside the next commit.
    pub(crate) fn next(&mut self, id: Digest, parents: &[Digest]) -> Beside {
        let at = self.lines.iter().position(|line| *line == id).unwrap_or_else(|| {
            self.lines.push(id);
            self.lines.len() - 1
        });
        let right = self.lines.len() - at - 1;
        let mut next: Vec<Digest> = Vec::new();
        let mut becomes = |line: Digest| {
            next.iter().position(|other| *other == line).unwrap_or_else(|| {
                next.push(line);
                next.len() - 1
            })
        };
        // Below the commit there is a line for each parent in the commit's place.
        let mut moving: Vec<Moving> = Vec::new();
        let mut x = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let all = if index == at { parents } else { std::slice::from_ref(line) };
            for (nth, line) in all.iter().enumerate() {
                moving.push((x + 2 * nth, becomes(*line)));
            }
            // A commit without parents leaves a gap, into which others move.
            x += 2 * all.len().max(1);
        }
        let extra = parents.len().saturating_sub(2);
        let plain = |from: usize, to: usize, by: usize| (from..to).map(move |line| (2 * line + by, '|'));
        // Lines on the right make room for all parents but two, a character a row.
        let before = match right {
            0 => Vec::new(),
            _ => (1..2 * extra)
                .map(|by| {
                    let shifted = (at + 1..=at + right).map(|line| (2 * line + by, '\\'));
                    row(plain(0, at + 1, 0).chain(shifted))
                })
                .collect(),
        };
        let arms = (2 * at + 1..=2 * (at + extra)).map(|x| (x, if x == 2 * (at + extra) { '.' } else { '-' }));
        let commit = plain(0, at, 0).chain([(2 * at, '*')]).chain(arms);
        let commit = row(commit.chain(plain(at + 1, at + 1 + right, 2 * extra)));
        let mut after = Vec::new();
        if parents.len() > 1 {
            let fork = (at..at + parents.len() - 1).map(|line| (2 * line + 1, '\\'));
            let shifted = (at + parents.len() - 1..at + parents.len() - 1 + right).map(|line| (2 * line + 1, '\\'));
            after.push(row(plain(0, at + 1, 0).chain(fork).chain(shifted)));
        }
        while moving.iter().any(|(x, line)| x / 2 != *line) {
            let (moved, marks) = step(&moving);
            after.push(row(marks));
            if moved == moving {
                break;
            }
            moving = moved;
        }
        let width = 2 * self.lines.len().max(self.lines.len() - 1 + parents.len());
        self.lines = next;
        let rest = row((0..self.lines.len()).map(|line| (2 * line, '|')));
        let pad = |row: String| format!("{row:width$}");
        Beside { before, commit: pad(commit), after: after.into_iter().map(pad).collect(), rest: pad(rest) }
    }
}

/// Moves lines that are not where they belong to the left, by a character or across another line, and draws that.
fn step(moving: &[Moving]) -> (Vec<Moving>, Vec<(usize, char)>) {
    let mut moved: Vec<Moving> = Vec::new();
    let mut marks = Vec::new();
    for (x, line) in moving {
        let there = |at: usize, moved: &[Moving]| moved.iter().find(|(other, _)| *other == at).map(|(_, line)| *line);
        if *x == 2 * line {
            if there(*x, &moved).is_none() {
                moved.push((*x, *line));
                marks.push((*x, '|'));
            }
            continue;
        }
        let left = x - 1;
        let (to, mark) = match there(left, &moved) {
            Some(other) if other == *line => continue,
            None if left == 2 * line => (left, '|'),
            None => (left, '/'),
            // Across the line that is there, unless something is behind it.
            Some(_) => match there(x - 2, &moved) {
                Some(other) if other == *line => continue,
                Some(_) => (*x, '|'),
                None => (x - 2, '/'),
            },
        };
        moved.push((to, *line));
        marks.push((to, mark));
    }
    moved.sort_unstable();
    (moved, marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_core::sha256;

    /// Draws commits with one letter names, as `name parents`.
    fn draw(commits: &[&str]) -> String {
        let id = |name: char| sha256(name.to_string().as_bytes());
        let mut graph = Graph::default();
        let mut text = String::from("\n");
        for commit in commits {
            let mut names = commit.chars().filter(|c| *c != ' ');
            let name = names.next().unwrap();
            let parents: Vec<_> = names.map(id).collect();
            let beside = graph.next(id(name), &parents);
            let rows = beside.before.into_iter().chain([format!("{}{name}", beside.commit)]).chain(beside.after);
            for row in rows {
                text.push_str(row.trim_end());
                text.push('\n');
            }
        }
        text
    }

    #[test]
    fn a_line_and_two_roots() {
        assert_eq!(draw(&["b a", "a", "y x", "x"]), "\n* b\n* a\n* y\n* x\n");
    }

    #[test]
    fn a_merge_opens_and_a_fork_closes_a_line() {
        let text = "
*   m
|\\
| * c
* | b
|/
* a
";
        assert_eq!(draw(&["m bc", "c a", "b a", "a"]), text);
    }

    #[test]
    fn lines_cross_on_their_way_left() {
        let text = "
*   m
|\\
* |   n
|\\ \\
| | * d
| |/
|/|
| * c
* | b
|/
* a
";
        assert_eq!(draw(&["m nd", "n bc", "d b", "c a", "b a", "a"]), text);
    }

    #[test]
    fn a_root_leaves_its_column() {
        let text = "
*   m
|\\
* | x
 /
* b
* a
";
        assert_eq!(draw(&["m xb", "x", "b a", "a"]), text);
    }

    #[test]
    fn a_merge_of_three_makes_room() {
        let text = "
*-.   m
|\\ \\
* | | x
| * | y
|/ /
| * z
|/
* a
";
        assert_eq!(draw(&["m xyz", "x a", "y a", "z a", "a"]), text);
        let text = "
*   n
|\\
|  \\
*-. |   m
|\\ \\ \\
* | | | x
";
        assert_eq!(draw(&["n mq", "m xyz", "x a"]), text);
    }

    #[test]
    fn any_graph_is_drawn_with_every_commit_in_its_place() {
        // Each commit of forty has up to three of the next seven as its parents, by a fixed sequence.
        let id = |number: usize| sha256(&number.to_le_bytes());
        for seed in 0_usize..200 {
            let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(12345);
            let mut random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut graph = Graph::default();
            for number in 0..40 {
                let mut parents: Vec<usize> = (0..random(4)).map(|_| number + 1 + random(7)).collect();
                parents.sort_unstable();
                parents.dedup();
                let parents: Vec<Digest> = parents.into_iter().map(id).collect();
                let open = graph.lines.clone();
                let at = open.iter().position(|line| *line == id(number)).unwrap_or(open.len());
                let beside = graph.next(id(number), &parents);
                assert_eq!(beside.commit.find('*'), Some(2 * at), "{beside:?}");
                assert_eq!(beside.commit.matches('*').count(), 1);
                assert_eq!(beside.rest.matches('|').count(), graph.lines.len());
                assert!(parents.iter().all(|parent| graph.lines.contains(parent)));
                assert!(beside.after.len() < 40, "{beside:?}");
            }
        }
    }
}
