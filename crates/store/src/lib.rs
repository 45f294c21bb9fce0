//! shard's store: it keeps bytes by (type, id) in immutable packs, finds them through a rebuildable index, and names what
//! matters by refs that move only by compare-and-swap.
//!
//! The store knows nothing of codecs: the bytes of an entry are opaque, its id is the SHA-256 of the bytes they decode to,
//! and its bases are the ids of the blocks that decoding them needs. See [`store::Store`] for the layout of a repository.
#![forbid(unsafe_code)]

pub mod archive;
mod at_once;
pub mod backend;
mod catalog;
mod choice;
pub mod conformance;
mod database;
mod depth;
pub mod elsewhere;
pub mod entry;
pub mod epoch;
pub mod error;
mod file_writer;
pub mod footer;
mod format;
pub mod fs;
mod gather;
mod hints;
mod index;
pub mod inventory;
mod lean;
pub mod lease;
mod leftovers;
mod listing;
pub mod local;
pub mod memory;
pub mod nonce;
pub mod pack;
pub mod process;
mod record;
pub mod ref_name;
pub mod ref_record;
pub mod refs;
pub mod remotes;
pub mod runs;
mod salvage;
#[cfg(test)]
mod sim;
pub mod sketch_index;
pub mod stat_cache;
pub mod store;
#[cfg(test)]
mod tests;
pub mod timestamp;
pub mod transaction;
pub mod twins;
mod windows;

pub use archive::{ArchiveReader, ArchiveWriter};
pub use at_once::each_at_once;
pub use backend::{Backend, BackendError, Output, Upload};
pub use choice::Choice;
pub use elsewhere::Elsewhere;
pub use entry::{EntryKey, EntryKind, EntrySink, EntrySource, Location, PackId};
pub use error::StoreError;
pub use format::FORMAT;
pub use inventory::Inventory;
pub use lease::Claim;
pub use leftovers::Leftovers;
pub use listing::{EntryList, PackSum, StoredCopy};
pub use nonce::Nonce;
pub use record::RecordError;
pub use ref_record::{RefState, Target};
pub use refs::{RefError, Refs, Resolved};
pub use remotes::{RemoteList, Remotes};
pub use salvage::Salvage;
pub use sketch_index::{Known, SketchIndex, SketchKeys};
pub use stat_cache::{FileStat, StatCache, StatEntry};
pub use store::{PackInfo, Store, StoreOptions};
pub use transaction::{RefUpdate, Transaction};
pub use twins::{Twin, TwinCache};
