//! What both ends of a connection say to each other. `docs/protocol.md` has it byte by byte.

mod entries;
mod message;
mod problem;

pub(crate) use entries::{Chunks, Entries, Frames};
pub(crate) use message::{
    Has, Moves, Opened, RefMessage, Wants, WelcomeMessage, bits, bits_of, chosen, chosen_of, commits, commits_of, keys,
    keys_of, offers, offers_of,
};
pub(crate) use problem::Problem;

/// What comes between a repository's address and the routes of the protocol.
pub(crate) const ROUTES: &str = "/-/v1";
/// The type of binary bodies.
pub(crate) const BINARY: &str = "application/octet-stream";
/// Most entries that one question may be about.
pub(crate) const MAX_KEYS: usize = 1 << 22;
/// Most bytes of a question or of an answer to one.
pub(crate) const MAX_MESSAGE: usize = 512 << 20;
/// Most bytes of a file, or a range of one, in one answer.
pub(crate) const MAX_FILE_PART: u64 = 64 << 20;
