//! Files that hold files.

pub(crate) mod directory;
