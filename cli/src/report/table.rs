//! Tables: aligned columns, as wide as what they hold and no wider than the terminal.

use console::measure_text_width;

use super::style::Style;
use super::text::visible;

/// The narrowest that a column is cut to.
const NARROWEST: usize = 12;

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A cell: text in a style.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style. What would steer a terminal is escaped.
    pub(crate) fn new(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: visible(text.as_ref()).into_owned(), style }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Style::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Style::Plain)
    }
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. A title that begins with `>` stands right, over numbers.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => (title, Align::Right),
            None => (*title, Align::Left),
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell a column, fewer at the end where they are empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Without columns of these titles, in this order, until lines can be as narrow as `width`.
    pub(crate) fn without(&self, titles: &[&str], width: Option<usize>) -> Self {
        let mut table = Self { columns: self.columns.clone(), rows: self.rows.clone() };
        let Some(width) = width else { return table };
        for title in titles {
            let narrowest: usize = table
                .widths()
                .zip(&table.columns)
                .map(|(width, (title, align))| match align {
                    _ if width == 0 => 0,
                    Align::Left => width.min(NARROWEST.max(title.len())) + 2,
                    Align::Right => width + 2,
                })
                .sum();
            if narrowest <= width + 2 {
                break;
            }
            if let Some(index) = table.columns.iter().position(|(other, _)| other == title) {
                table.columns.remove(index);
                for row in table.rows.iter_mut().filter(|row| row.len() > index) {
                    row.remove(index);
                }
            }
        }
        table
    }

    /// The width that each column's cells and title want; 0 where no row has anything.
    fn widths(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().map(|(index, (title, _))| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| measure_text_width(&cell.text));
            match cells.max().unwrap_or(0) {
                0 => 0,
                widest => widest.max(title.len()),
            }
        })
    }

    /// Lines of text. Columns in which no row has anything are left out; where the lines would be wider than `width`, the
    /// widest columns of text are cut in the middle.
    pub(crate) fn render(&self, color: bool, width: Option<usize>) -> String {
        let mut widths: Vec<usize> = vec![0; self.columns.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(&cell.text));
            }
        }
        let shown: Vec<usize> = (0..widths.len()).filter(|index| widths[*index] > 0).collect();
        for index in &shown {
            widths[*index] = widths[*index].max(self.columns[*index].0.len());
        }
        let total: usize = shown.iter().map(|index| widths[*index] + 2).sum::<usize>().saturating_sub(2);
        let mut over = width.map_or(0, |width| total.saturating_sub(width));
        while over > 0 {
            let texts = shown.iter().copied().filter(|index| self.columns[*index].1 == Align::Left);
            let Some(widest) = texts.max_by_key(|index| widths[*index]).filter(|index| widths[*index] > NARROWEST)
            else {
                break;
            };
            let cut = over.min(widths[widest] - NARROWEST);
            widths[widest] -= cut;
            over -= cut;
        }
        let mut out = String::new();
        let titles: Vec<Cell> = self.columns.iter().map(|(title, _)| Cell::new(title, Style::Dim)).collect();
        let has_titles = self.columns.iter().any(|(title, _)| !title.is_empty());
        for row in has_titles.then_some(&titles).into_iter().chain(&self.rows) {
            self.push_line(row, &shown, &widths, color, &mut out);
        }
        out
    }

    fn push_line(&self, row: &[Cell], shown: &[usize], widths: &[usize], color: bool, out: &mut String) {
        let empty = Cell::default();
        // Spaces are written when something follows, so that no line ends in them.
        let mut pending = 0;
        for index in shown {
            let cell = row.get(*index).unwrap_or(&empty);
            let text = shorten(&cell.text, widths[*index]);
            let space = widths[*index].saturating_sub(measure_text_width(&text));
            let (before, after) = match self.columns[*index].1 {
                Align::Left => (0, space),
                Align::Right => (space, 0),
            };
            if text.is_empty() {
                pending += before + after + 2;
                continue;
            }
            out.extend(std::iter::repeat_n(' ', pending + before));
            out.push_str(&cell.style.paint(&text, color));
            pending = after + 2;
        }
        out.push('\n');
    }
}

/// The text in at most `width` columns, its middle left out where it is longer: both ends of a tensor's name tell more.
fn shorten(text: &str, width: usize) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let (front_room, back_room) = (room / 2, room - room / 2);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut taken = Vec::new();
        let mut used = 0;
        for c in chars {
            used += measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used > room {
                break;
            }
            taken.push(c);
        }
        taken
    };
    let front = take(&mut text.chars(), front_room);
    let back = take(&mut text.chars().rev(), back_room);
    front.into_iter().chain(['…']).chain(back.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "note", ">size"]);
        table.row(vec!["a".into(), "".into(), "1 B".into()]);
        table.row(vec!["longer.name".into(), "".into(), "12.5 kB".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        assert_eq!(table().render(false, None), "name            size\na                1 B\nlonger.name  12.5 kB\n");
        assert!(Table::new(&["name"]).is_empty());
    }

    #[test]
    fn lines_fit_the_terminal() {
        let mut table = Table::new(&["name", ">size"]);
        table.row(vec!["model.layers.12.self_attn.q_proj.weight".into(), "12.5 kB".into()]);
        let text = table.render(false, Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("model.layers.12") && text.contains("q_proj.weight") && text.contains('…'), "{text}");
        table.row(vec!["a.rather.long.name".into(), "1 B".into()]);
        let narrow = table.render(false, Some(5));
        assert!(narrow.lines().all(|line| line.chars().count() <= NARROWEST + 9), "{narrow}");
    }

    #[test]
    fn a_narrow_window_goes_without_the_least_needed_columns() {
        let mut table = Table::new(&["name", "note", ">size"]);
        table.row(vec!["a.rather.long.name".into(), "a rather long note".into(), "12.5 kB".into()]);
        let titles = |width: usize| -> Vec<&str> {
            let left = table.without(&["note", "size"], Some(width));
            left.columns.iter().map(|(title, _)| *title).collect()
        };
        assert_eq!(titles(40), ["name", "note", "size"]);
        assert_eq!(titles(30), ["name", "size"]);
        assert_eq!(titles(15), ["name"]);
        assert_eq!(table.without(&["note"], None).columns.len(), 3);
    }

    #[test]
    fn wide_characters_count_twice() {
        let mut table = Table::new(&["", ""]);
        table.row(vec!["名前".into(), "x".into()]);
        table.row(vec!["ab".into(), "x".into()]);
        assert_eq!(table.render(false, None), "名前  x\nab    x\n");
        assert_eq!(shorten("名前名前名前", 5), "名…前");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let mut table = Table::new(&["name"]);
        table.row(vec!["\u{1b}[2Jgone".into()]);
        assert!(!table.render(false, None).contains('\u{1b}'));
        let mut table = Table::new(&["", ""]);
        table.row(vec!["only".into(), "".into()]);
        assert_eq!(table.render(true, None), "only\n");
    }
}
