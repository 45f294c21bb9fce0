//! Files that hold files.

pub(crate) mod directory;
mod member;
pub mod npz;
pub mod tar;
pub(crate) mod tar_directory;
pub mod zip;
