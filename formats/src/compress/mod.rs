//! Files that hold some of their bytes compressed, such as the members of a zip archive.
//!
//! Blocks are made of what such bytes expand to: a tensor is then the same block whether it is compressed or not, and a delta can be
//! made of it. The file's own bytes come back by compressing again, which has to give them exactly. Whether it does is checked on
//! a part when the file is parsed, and on all of it when it is stored ([`FileBytes`]); what cannot be repeated stays as
//! it is, and so do encoders other than zlib's.

mod deflate;
mod expanded;
mod file_bytes;
mod pieces;

pub(crate) use deflate::{InflatedHead, repeats};
pub use expanded::{Expanded, HELD};
pub use file_bytes::{FileBytes, NotRepeated};
pub use pieces::{Piece, pieces};
