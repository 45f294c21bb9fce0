//! Pictures of change: layers in rows, kinds of tensors or versions in columns, colour for how much changed.
//!
//! A [`Heatmap`] is data and nothing else. What makes it visible takes it as it is: [`text`] for terminals and files, [`svg`] and [`png()`]
//! for documents, all with the colours of [`color`](mod@color). There is no I/O, no terminal and no clock, so the same map gives the same
//! bytes everywhere. Where there are more rows or columns than room, neighbours are drawn as one, and it is said so.
#![forbid(unsafe_code)]

pub mod color;
mod fit;
mod grid;
mod html;
mod map;
mod metric;
pub mod models;
mod picture;
mod scale;
mod terminal;

pub use html::html;
pub use map::{Cell, Entry, Heatmap, Label, Mark, Panel, Version};
pub use metric::{Metric, Values};
pub use picture::{PngError, png, svg};
pub use scale::{Scale, Tick};
pub use terminal::{Colors, TextOptions, text};
