//! Pictures of change: layers in rows, kinds of tensors or versions in columns, colour for how much changed.
//!
//! A [`Heatmap`] is data and nothing else. What makes it visible takes it as it is: no I/O, no terminal, no clock, so the same map gives
//! the same bytes everywhere.
#![forbid(unsafe_code)]

pub mod color;
mod grid;
mod html;
mod map;
mod metric;
mod scale;
mod terminal;

pub use html::html;
pub use map::{Cell, Entry, Heatmap, Label, Mark, Panel, Version};
pub use metric::{Metric, Values};
pub use scale::{Scale, Tick};
pub use terminal::{Colors, TextOptions, text};
