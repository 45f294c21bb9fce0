//! An index: which file each tensor of a model is in.

use std::path::Path;

use serde::Deserialize;

use super::ModelError;
use crate::json::{MAX_ENTRIES, Pairs, repeated};
use crate::source::{FileSource, Source};

/// Largest index, in bytes.
pub const MAX_INDEX: u64 = 100_000_000;

/// The shards that an index names, each once, sorted.
pub(super) fn shard_names(index: &Path, resolved: &Path) -> Result<Vec<String>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Pairs<String>,
    }
    let failed = |error| ModelError::Io { path: index.to_owned(), error };
    let unusable = |message: String| ModelError::Index { path: index.to_owned(), message };
    let source = FileSource::open(resolved).map_err(failed)?;
    if source.len() > MAX_INDEX {
        return Err(unusable(format!("it has more than {MAX_INDEX} bytes")));
    }
    let mut json = vec![0; source.len() as usize];
    source.read_at(0, &mut json).map_err(failed)?;
    let Index { weight_map: Pairs { entries, too_many } } =
        serde_json::from_slice(&json).map_err(|error| unusable(error.to_string().chars().take(400).collect()))?;
    if too_many {
        return Err(unusable(format!("it names more than {MAX_ENTRIES} tensors")));
    }
    if let Some(name) = repeated(entries.iter().map(|(tensor, _)| tensor.as_str())) {
        let shown: String = name.chars().take(100).collect();
        return Err(unusable(format!("the tensor {shown:?} comes twice")));
    }
    let mut names: Vec<String> = entries.into_iter().map(|(_, file)| file).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(unusable("it names no file".to_owned()));
    }
    Ok(names)
}
