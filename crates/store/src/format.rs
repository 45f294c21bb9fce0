//! The file `format`, by which a directory is a repository: the repository's id, and how its tensors are cut.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use shard_core::limits::Cut;

use crate::error::StoreError;
use crate::fs::{FileSystem, RealFs};
use crate::nonce::Nonce;
use crate::pack::parse_pack_name;
use crate::process::Process;
use crate::record::{RecordError, RecordReader, RecordWriter};
use crate::ref_name;
use crate::store::{FOLDERS, Store};

/// The object without which a repository cannot be opened.
pub const FORMAT: &str = "format";
const KIND: &str = "repository";
/// How a format file begins.
const KIND_MARK: [u8; 16] = *b"shard-repository";
const VERSION: u32 = 1;

impl Store {
    /// Whether a directory is a repository, whole or damaged, by the beginning of its format file.
    #[must_use]
    pub fn is_in(root: &Path) -> bool {
        let mut start = [0; KIND_MARK.len()];
        let read = std::fs::File::open(root.join(FORMAT)).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == KIND_MARK
    }

    /// Whether a directory is a repository that lost its format file: it has packs, or a HEAD, which only a repository with one gets.
    #[must_use]
    pub fn lacks_format(root: &Path) -> bool {
        let is_missing = || {
            let format = std::fs::symlink_metadata(root.join(FORMAT));
            format.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let has_packs = || {
            let names = std::fs::read_dir(root.join("packs")).into_iter().flatten().flatten();
            names.into_iter().any(|name| name.file_name().to_str().is_some_and(|name| parse_pack_name(name).is_some()))
        };
        let has_head = || root.join("refs").join(ref_name::escape("HEAD")).is_dir();
        // Looked for again at the end: another process may just have made the repository.
        is_missing() && (has_packs() || has_head()) && is_missing()
    }

    /// Makes the format file of a repository that lost it, or whose one is damaged, as another copy of the same repository has it.
    /// That it is one is for the caller to know.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restore_format(root: &Path, copy: &Self) -> Result<(), StoreError> {
        let path = root.join(FORMAT);
        let failed = |source| StoreError::Io { path: path.clone(), action: "write", source };
        let new = root.join("tmp").join(format!("{}.format", Process::current().tag()));
        std::fs::create_dir_all(root.join("tmp")).map_err(failed)?;
        let mut file = std::fs::File::create(&new).map_err(failed)?;
        file.write_all(&encode_format(copy.id(), copy.cut())).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)?;
        RealFs.sync_dir(root).map_err(failed)
    }

    /// Whether a name in a directory is one that [`Self::init`] makes there.
    #[must_use]
    pub fn is_own(name: &std::ffi::OsStr) -> bool {
        name == FORMAT || FOLDERS.iter().any(|folder| name == *folder)
    }
}

pub(crate) fn encode_format(id: Nonce, cut: Cut) -> Vec<u8> {
    RecordWriter::new(KIND, VERSION).field("id", &id.to_hex()).field("cut", &cut.block().to_string()).finish()
}

pub(crate) fn decode_format(bytes: &[u8]) -> Result<(Nonce, Cut), RecordError> {
    let mut record = RecordReader::new(bytes, KIND, VERSION)?;
    let id = record.nonce("id")?;
    let cut = Cut::from_block(record.number("cut")?).ok_or(RecordError::Field("cut"))?;
    record.finish()?;
    Ok((id, cut))
}
