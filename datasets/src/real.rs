//! The recorded real series, which are not part of the repository: a folder with `series/` (whole checkpoints) and `small/`
//! (cut checkpoints of every kind, listed in `small/manifest.csv`), named by the environment variable `SHARD_DATA`.

use std::io;
use std::path::{Path, PathBuf};

use shard_core::Digest;
use thiserror::Error;

/// The environment variable that names the folder.
pub const VARIABLE: &str = "SHARD_DATA";

/// The columns of `small/manifest.csv`.
const COLUMNS: &str = "path,set,kind,parent,dtype,params,bytes,sha256";

/// Why the recorded series cannot be used.
#[derive(Debug, Error)]
pub enum RealDataError {
    /// The variable is not set.
    #[error(
        "SHARD_DATA is not set: set it to the folder of recorded series (the one that holds small/manifest.csv and \
         series/), as in `SHARD_DATA=/data/shard cargo test`"
    )]
    Unset,
    /// The folder does not hold the series.
    #[error("{} is no folder of recorded series ({wanted} is missing): set SHARD_DATA to one", path.display())]
    NotThere {
        /// The folder.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Something in it could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of the manifest that does not have its columns.
    #[error("{}, line {line}: not the columns {COLUMNS}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The line, the first being 1.
        line: usize,
    },
}

/// Two consecutive checkpoints of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The series' name: its folder's.
    pub series: String,
    /// The earlier checkpoint.
    pub from: PathBuf,
    /// The later checkpoint.
    pub to: PathBuf,
}

/// A file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where the file is.
    pub path: PathBuf,
    /// Its path in the manifest, below `small/`.
    pub name: String,
    /// The set it belongs to.
    pub set: String,
    /// What it is an example of.
    pub kind: String,
    /// The files it was made from, as names of the manifest; the first is the parent.
    pub parents: Vec<String>,
    /// Its element types, joined by `+`.
    pub dtype: String,
    /// Number of weights.
    pub parameters: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The folder of recorded series, from the environment variable `SHARD_DATA`.
///
/// # Errors
/// [`RealDataError::Unset`] or [`RealDataError::NotThere`].
pub fn shard_data() -> Result<PathBuf, RealDataError> {
    let path = PathBuf::from(std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).ok_or(RealDataError::Unset)?);
    for wanted in ["small/manifest.csv", "series"] {
        if !path.join(wanted).exists() {
            return Err(RealDataError::NotThere { path, wanted });
        }
    }
    Ok(path)
}

/// The pairs of consecutive checkpoints of `series/`.
///
/// # Errors
/// As [`shard_data`], or [`RealDataError::Read`].
pub fn pairs() -> Result<Vec<Pair>, RealDataError> {
    pairs_in(&shard_data()?.join("series"))
}

/// The files of `small/`, in the manifest's order.
///
/// # Errors
/// As [`shard_data`], [`RealDataError::Read`] or [`RealDataError::Manifest`].
pub fn recorded() -> Result<Vec<Recorded>, RealDataError> {
    recorded_in(&shard_data()?.join("small"))
}

/// The pairs of consecutive checkpoints of a folder of series: each series a folder, its safetensors files in the order of
/// their names.
///
/// # Errors
/// [`RealDataError::Read`].
pub fn pairs_in(folder: &Path) -> Result<Vec<Pair>, RealDataError> {
    let mut pairs = Vec::new();
    for series in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let mut checkpoints = entries(&series)?;
        checkpoints.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        let name = series.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for pair in checkpoints.windows(2) {
            pairs.push(Pair { series: name.clone(), from: pair[0].clone(), to: pair[1].clone() });
        }
    }
    Ok(pairs)
}

/// The files that `manifest.csv` in `folder` lists.
///
/// # Errors
/// [`RealDataError::Read`] or [`RealDataError::Manifest`].
pub fn recorded_in(folder: &Path) -> Result<Vec<Recorded>, RealDataError> {
    let path = folder.join("manifest.csv");
    let text = std::fs::read_to_string(&path).map_err(|source| RealDataError::Read { path: path.clone(), source })?;
    let bad = |line| RealDataError::Manifest { path: path.clone(), line };
    let mut lines = text.lines().zip(1..);
    if lines.next().is_none_or(|(columns, _)| columns != COLUMNS) {
        return Err(bad(1));
    }
    lines.map(|(text, line)| recorded_file(folder, text).ok_or_else(|| bad(line))).collect()
}

fn recorded_file(folder: &Path, line: &str) -> Option<Recorded> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[name, set, kind, parents, dtype, parameters, bytes, sha256] = fields.as_slice() else { return None };
    Some(Recorded {
        path: folder.join(name),
        name: name.to_owned(),
        set: set.to_owned(),
        kind: kind.to_owned(),
        parents: parents.split(';').filter(|parent| !parent.is_empty()).map(str::to_owned).collect(),
        dtype: dtype.to_owned(),
        parameters: parameters.parse().ok()?,
        bytes: bytes.parse().ok()?,
        sha256: Digest::from_hex(sha256).ok()?,
    })
}

/// What a folder holds, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, RealDataError> {
    let read = |source| RealDataError::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(read)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(read)?;
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn consecutive_checkpoints_are_pairs() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "b/step0002.safetensors",
            "b/step0001.safetensors",
            "b/base.safetensors",
            "b/notes.txt",
            "a/only.safetensors",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let pairs = pairs_in(folder.path()).unwrap();
        let names: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.series.as_str(), pair.from.file_stem().unwrap(), pair.to.file_stem().unwrap()))
            .collect();
        let expected = [("b", "base".as_ref(), "step0001".as_ref()), ("b", "step0001".as_ref(), "step0002".as_ref())];
        assert_eq!(names, expected);
        assert!(matches!(pairs_in(&folder.path().join("none")), Err(RealDataError::Read { .. })));
    }

    #[test]
    fn a_manifest_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "0".repeat(64);
        let good = format!(
            "{COLUMNS}\nq/b.gguf,main,quantised,f/a.pt;q/a.gguf,Q8_0+F32,5,7,{hash}\nc,main,x,,F32,1,2,{hash}\n"
        );
        let manifest = folder.path().join("manifest.csv");
        fs::write(&manifest, &good).unwrap();
        let files = recorded_in(folder.path()).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].parents, ["f/a.pt", "q/a.gguf"]);
        assert_eq!((files[0].parameters, files[0].bytes, files[1].parents.len()), (5, 7, 0));
        assert_eq!(files[1].path, folder.path().join("c"));
        for (bad, at) in
            [(good.replace(",2,", ",two,"), 3), (good.replace("path,", ""), 1), (good[..good.len() - 2].to_owned(), 3)]
        {
            fs::write(&manifest, bad).unwrap();
            assert!(matches!(recorded_in(folder.path()), Err(RealDataError::Manifest { line, .. }) if line == at));
        }
    }

    #[test]
    fn the_variable_decides() {
        // What the process was started with is not changed here; either answer has to be right.
        match (std::env::var_os(VARIABLE), shard_data()) {
            (Some(value), Ok(path)) => assert_eq!(path.as_os_str(), value),
            (_, Err(error)) => assert!(error.to_string().contains(VARIABLE)),
            (None, Ok(path)) => panic!("{} from nothing", path.display()),
        }
    }

    #[test]
    #[ignore = "needs SHARD_DATA; run by `cargo test --workspace --release --lib the_recorded_files -- --ignored`"]
    fn the_recorded_files_are_as_listed() {
        let files = recorded().unwrap();
        assert!(!files.is_empty());
        for file in &files {
            let bytes = fs::read(&file.path).unwrap();
            assert_eq!((bytes.len() as u64, shard_core::sha256(&bytes)), (file.bytes, file.sha256), "{}", file.name);
            for parent in &file.parents {
                assert!(files.iter().any(|other| other.name == *parent), "{} of {}", parent, file.name);
            }
        }
        let pairs = pairs().unwrap();
        assert!(!pairs.is_empty() && pairs.iter().all(|pair| pair.from.is_file() && pair.to.is_file()));
    }
}
