//! How long texts are, and how they are made to fit.

/// Measures texts: in columns of a terminal, or in units of a font.
#[derive(Clone, Copy)]
pub(crate) struct Ruler {
    /// How wide a character is.
    pub(crate) advance: fn(char) -> usize,
}

impl Ruler {
    pub(crate) fn width(self, text: &str) -> usize {
        text.chars().map(self.advance).fold(0, usize::saturating_add)
    }

    /// The start of a text, or with `from_end` its end, as much as fits.
    fn part(self, text: &str, room: usize, from_end: bool) -> &str {
        let (mut bytes, mut used) = (0, 0usize);
        let mut fits = |c: &char| {
            used = used.saturating_add((self.advance)(*c));
            bytes += if used <= room { c.len_utf8() } else { 0 };
            used <= room
        };
        if from_end {
            text.chars().rev().take_while(&mut fits).for_each(drop);
            text.get(text.len() - bytes..).unwrap_or_default()
        } else {
            text.chars().take_while(&mut fits).for_each(drop);
            text.get(..bytes).unwrap_or_default()
        }
    }

    /// The text with dots for its middle, which tells least of names, where it is too long.
    pub(crate) fn shorten(self, text: &str, room: usize, dots: &str) -> String {
        if self.width(text) <= room {
            return text.to_owned();
        }
        let left = room.saturating_sub(self.width(dots));
        let (start, end) = (self.part(text, left.div_ceil(2), false), self.part(text, left / 2, true));
        if start.is_empty() || end.is_empty() {
            return self.part(text, room, false).to_owned();
        }
        format!("{start}{dots}{end}")
    }

    /// The text in lines, broken at spaces, and within words that are longer than a line.
    pub(crate) fn wrap(self, text: &str, room: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for mut word in text.split(' ').filter(|word| !word.is_empty()) {
            let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if self.width(&joined) <= room {
                line = joined;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            while self.width(word) > room {
                let start = self.part(word, room, false);
                if start.is_empty() {
                    // Not even one character fits.
                    return lines;
                }
                lines.push(start.to_owned());
                word = word.get(start.len()..).unwrap_or_default();
            }
            word.clone_into(&mut line);
        }
        if !line.is_empty() {
            lines.push(line);
        }
        lines
    }
}

/// Of how many cells in a row one has a label, if labels are so long: a round number, so that the labels count well.
pub(crate) fn every(cell: usize, length: usize) -> usize {
    let rounds = (0..).map(|power| 10usize.saturating_pow(power));
    let mut numbers = rounds.flat_map(|round| [1, 2, 5].map(|factor| round.saturating_mul(factor)));
    numbers.find(|number| number.saturating_mul(cell.max(1)) >= length).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULER: Ruler = Ruler { advance: |c| if c.is_ascii() { 1 } else { 2 } };

    #[test]
    fn the_middle_is_left_out() {
        let shorten = |text, room, dots| RULER.shorten(text, room, dots);
        assert_eq!(shorten("model.layers.12", 15, ".."), "model.layers.12");
        assert_eq!(shorten("model.layers.12", 9, "…"), "mode….12");
        assert_eq!(shorten("model.layers.12", 9, "..."), "mod....12");
        assert_eq!(shorten("名前名前", 7, "."), "名.前");
        assert_eq!((shorten("abc", 2, "..."), shorten("abc", 0, "…")), ("ab".to_owned(), String::new()));
    }

    #[test]
    fn labels_are_at_round_numbers() {
        assert_eq!([every(1, 4), every(3, 3), every(3, 4), every(0, 0), every(1, 1001)], [5, 1, 2, 1, 2000]);
        assert!(every(1, usize::MAX) >= usize::MAX / 2);
    }

    #[test]
    fn lines_break_at_spaces_and_within_long_words() {
        assert_eq!(RULER.wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(RULER.wrap("one abcdefghij k", 4), ["one", "abcd", "efgh", "ij k"]);
        assert_eq!(RULER.wrap("名前名", 3), ["名", "前", "名"]);
        assert!(RULER.wrap("", 5).is_empty());
        assert_eq!(RULER.wrap("ab 名", 1), ["a", "b"]);
    }
}
