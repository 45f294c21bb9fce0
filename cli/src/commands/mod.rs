//! The commands: one file each, with its arguments and what it prints.

pub(crate) mod add;
pub(crate) mod bench;
pub(crate) mod branch;
pub(crate) mod checkout;
pub(crate) mod chunk;
pub(crate) mod commit;
pub(crate) mod completions;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod du;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod leases;
pub(crate) mod log;
pub(crate) mod man;
pub(crate) mod pack;
pub(crate) mod reflog;
pub(crate) mod reindex;
pub(crate) mod reset;
pub(crate) mod scan;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod tag;
pub(crate) mod unpack;
pub(crate) mod verify;
