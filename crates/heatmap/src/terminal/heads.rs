//! What stands above the columns.

use super::Sheet;
use super::line::{center, width};
use crate::fit::every;
use crate::grid::Heads;

/// The most lines that heads in several lines take, and the most that they take where they run downwards.
const LINES: usize = 3;
const DOWNWARDS: usize = 10;

/// The heads of columns in as many lines as are read best: in one, some of them in one, broken into several, or downwards.
pub(super) fn lines(sheet: &Sheet<'_>, room: usize, dots: &str) -> Vec<String> {
    let Heads { labels, counting, .. } = &sheet.heads;
    let texts: Vec<&str> = labels.iter().map(String::as_str).collect();
    if let Some(line) = side_by_side(&texts, sheet.cell) {
        return vec![line];
    }
    if *counting {
        return vec![some(labels, sheet.cell, room)];
    }
    broken(labels, sheet.cell).unwrap_or_else(|| downwards(labels, sheet.cell, dots))
}

/// Texts in the middle of their cells, unless one is too long or two would touch.
fn side_by_side(texts: &[&str], cell: usize) -> Option<String> {
    let spaces = texts.iter().map(|text| cell.checked_sub(width(text))).collect::<Option<Vec<usize>>>()?;
    let apart = |pair: &[usize]| matches!(pair, [before, after] if before.div_ceil(2) + after / 2 > 0);
    let alone = cell == 1
        || texts.windows(2).zip(spaces.windows(2)).all(|(texts, spaces)| texts.contains(&"") || apart(spaces));
    alone.then(|| texts.iter().map(|text| center(text, cell)).collect())
}

/// Every so manyth head, from the first column that it stands for.
fn some(labels: &[String], cell: usize, room: usize) -> String {
    let longest = labels.iter().map(|label| width(label)).max().unwrap_or(0);
    let every = every(cell, longest + 1);
    let mut line = String::new();
    for (index, label) in labels.iter().enumerate().step_by(every) {
        let start = index * cell;
        if start + width(label) <= room {
            line.push_str(&" ".repeat(start.saturating_sub(width(&line))));
            line.push_str(label);
        }
    }
    line
}

/// Heads broken at spaces and the like, if all of them fit so.
fn broken(labels: &[String], cell: usize) -> Option<Vec<String>> {
    let mut columns: Vec<Vec<String>> = Vec::with_capacity(labels.len());
    for label in labels {
        let mut lines: Vec<String> = Vec::new();
        for word in label.split_inclusive([' ', '_', '.', '-']) {
            match lines.last_mut() {
                Some(line) if width(line) + width(word.trim_end()) < cell => line.push_str(word),
                _ => lines.push(word.to_owned()),
            }
        }
        if lines.len() > LINES {
            return None;
        }
        columns.push(lines);
    }
    let height = columns.iter().map(Vec::len).max()?;
    let text = |lines: &Vec<String>, index: usize| {
        // The last lines stand above their columns.
        let index = (index + lines.len()).checked_sub(height);
        index.and_then(|index| lines.get(index)).map(|line| line.trim_end().to_owned()).unwrap_or_default()
    };
    let line = |index: usize| {
        let texts: Vec<String> = columns.iter().map(|lines| text(lines, index)).collect();
        side_by_side(&texts.iter().map(String::as_str).collect::<Vec<_>>(), cell)
    };
    (0..height).map(line).collect()
}

/// Heads with a character a line, ending above their columns.
fn downwards(labels: &[String], cell: usize, dots: &str) -> Vec<String> {
    let columns: Vec<Vec<char>> = labels.iter().map(|label| tall(label, cell, dots)).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let line = |index: usize| {
        let part = |letters: &Vec<char>| {
            let letter = index.checked_sub(height - letters.len()).and_then(|index| letters.get(index));
            center(&letter.map(char::to_string).unwrap_or_default(), cell)
        };
        columns.iter().map(part).collect()
    };
    (0..height).map(line).collect()
}

/// The characters of a label, from the top. Those that do not fit a column are a question mark.
fn tall(label: &str, cell: usize, dots: &str) -> Vec<char> {
    let letters: Vec<char> = label.chars().filter(|c| width(&c.to_string()) > 0).collect();
    let fit = |c: char| if width(&c.to_string()) <= cell { c } else { '?' };
    if letters.len() <= DOWNWARDS {
        return letters.into_iter().map(fit).collect();
    }
    // Of the marks for what is left out one character is enough.
    let dot = dots.chars().next().unwrap_or('.');
    let half = DOWNWARDS / 2;
    let (start, end) = (letters.iter().take(half), letters.iter().skip(letters.len() - (DOWNWARDS - half - 1)));
    start.chain([&dot]).chain(end).map(|c| fit(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn some_heads_tell_the_others() {
        let labels: Vec<String> = (0..30).map(|step| (step * 50).to_string()).collect();
        assert_eq!(some(&labels, 1, 30), "0    250  500  750  1000 1250");
        assert_eq!(some(&labels, 1, 28), "0    250  500  750  1000", "what would be too long is left out");
        assert_eq!(some(&labels[..4], 3, 12), "0     100");
    }

    #[test]
    fn heads_break_at_words() {
        let lines = broken(&owned(&["up proj", "q", "k_norm", "embed"]), 5).unwrap();
        assert_eq!(lines, [" up        k_       ", "proj   q  norm embed"]);
        assert_eq!(broken(&owned(&["embed", "q"]), 5).unwrap(), ["embed  q  "]);
        assert_eq!((broken(&owned(&["embed", "norm"]), 5), broken(&owned(&["a b c d"]), 1)), (None, None));
        assert_eq!(side_by_side(&["q", "k"], 1).unwrap(), "qk");
    }

    #[test]
    fn heads_run_downwards() {
        assert_eq!(downwards(&owned(&["q", "up", "名"]), 1, "…"), [" u ", "qp?"]);
        assert_eq!(downwards(&owned(&["q", "up"]), 2, "…"), ["  u ", "q p "]);
        assert_eq!(tall("input_layernorm", 1, "…").into_iter().collect::<String>(), "input…norm");
    }
}
