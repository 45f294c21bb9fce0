//! The data of a picture.

use crate::metric::{Metric, Values};

/// What happened to a tensor, or to the tensors of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Nothing: the same bytes.
    Equal,
    /// The same bytes under another name.
    Renamed,
    /// Other values; how much is told by the metrics, where they are known.
    Value,
    /// Another element type.
    DType,
    /// Another shape.
    Shape,
    /// Only on the old side.
    Removed,
    /// Only on the new side.
    Added,
    /// Values that are not finite on either side.
    NotFinite,
}

impl Mark {
    /// Every mark, from the least remarkable up: a cell has that of its most remarkable tensor.
    pub const ALL: [Self; 8] = [
        Self::Equal,
        Self::Renamed,
        Self::Value,
        Self::DType,
        Self::Shape,
        Self::Removed,
        Self::Added,
        Self::NotFinite,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Renamed => "renamed",
            Self::Value => "value",
            Self::DType => "dtype",
            Self::Shape => "shape",
            Self::Removed => "removed",
            Self::Added => "added",
            Self::NotFinite => "NaN or infinite",
        }
    }

    /// The character that stands for it; of a value that is measured the colour tells, so that has none.
    #[must_use]
    pub const fn glyph(self) -> Option<char> {
        match self {
            Self::Equal => Some('='),
            Self::Renamed => Some('r'),
            Self::Value => None,
            Self::DType => Some('t'),
            Self::Shape => Some('s'),
            Self::Removed => Some('-'),
            Self::Added => Some('+'),
            Self::NotFinite => Some('!'),
        }
    }
}

/// The name of a row or column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// As short as can be understood beside its neighbours: `12`, `q`, `step 150`.
    pub short: String,
    /// In full: `model.layers.12`, `attention query`, a path.
    pub full: String,
}

/// A tensor of a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name, on the new side where it has one.
    pub name: String,
    /// Its name on the old side, where it is another.
    pub old_name: Option<String>,
    /// What happened to it.
    pub mark: Mark,
    /// Element type and shape, of both sides where they differ: `BF16 [384, 384]`.
    pub geometry: String,
    /// What kind of change it is: `fine-tune`, `low-rank`; empty where nobody asked.
    pub kind: String,
    /// What tells so: `rank 8 holds 99.9% of the change`.
    pub evidence: String,
    /// Its metrics.
    pub values: Values,
}

/// The tensors of one row and column.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Index of its row.
    pub row: usize,
    /// Index of its column.
    pub column: usize,
    /// What happened to the most remarkable of its tensors.
    pub mark: Mark,
    /// Of each metric the value that the colour stands for: of its tensors as one, or of the largest change.
    pub values: Values,
    /// Its tensors, or the most remarkable of many.
    pub entries: Vec<Entry>,
}

impl Cell {
    /// A cell of tensors, of each metric with the value of the largest change.
    #[must_use]
    pub fn new(row: usize, column: usize, entries: Vec<Entry>) -> Self {
        let mark = entries.iter().map(|entry| entry.mark).max().unwrap_or(Mark::Equal);
        let values = Values::largest(entries.iter().map(|entry| &entry.values));
        Self { row, column, mark, values, entries }
    }
}

/// What a version of a series takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Bytes of its files.
    pub raw: u64,
    /// Bytes that they take in the store, beside the versions before.
    pub stored: u64,
}

/// What the versions of a series take, one a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Panel {
    /// In the order of the columns; `None` for a column of which it is not known.
    pub versions: Vec<Option<Version>>,
}

/// A picture of change.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// What is compared: `old.safetensors -> new.safetensors`.
    pub title: String,
    /// What kind of change it is, and what is left to say; a line each.
    pub notes: Vec<String>,
    /// What the rows are: `layer`.
    pub row_title: String,
    /// What the columns are: `kind`, or `version`.
    pub column_title: String,
    /// From the top, in the model's order.
    pub rows: Vec<Label>,
    /// From the left.
    pub columns: Vec<Label>,
    /// At most one for each place, in any order; places may be empty.
    pub cells: Vec<Cell>,
    /// The metric that colours stand for at first.
    pub metric: Metric,
    /// Of a series, what its versions take.
    pub panel: Option<Panel>,
}

impl Heatmap {
    /// The metrics that some cell has, in the order in which they are offered.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter().filter(|metric| self.cells.iter().any(|cell| cell.values.get(*metric).is_some()))
    }

    /// The scale of a metric over all cells; `None` where none has a value.
    #[must_use]
    pub fn scale(&self, metric: Metric) -> Option<crate::Scale> {
        crate::Scale::of(metric, self.cells.iter().filter_map(|cell| cell.values.get(metric)))
    }
}
