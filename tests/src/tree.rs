//! Folders as what they hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The SHA-256 of bytes, by a route of its own: not by shard's code.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below a folder but those in `.shard`: path with `/`, and SHA-256. Links count as files that hold their target.
#[must_use]
pub fn digests(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut |path, place| {
        let bytes = if place.is_symlink() {
            fs::read_link(place).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(place).unwrap()
        };
        found.insert(path, sha256_hex(&bytes));
    });
    found
}

/// Every file below a folder, its repository included where it is one itself: path and size.
#[must_use]
pub fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut |path, place| {
        found.insert(path, fs::symlink_metadata(place).unwrap().len());
    });
    found
}

fn walk(root: &Path, folder: &Path, visit: &mut dyn FnMut(String, &Path)) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let place = entry.unwrap().path();
        if place.is_dir() && !place.is_symlink() {
            if place.file_name().is_some_and(|name| name != ".shard") {
                walk(root, &place, visit);
            }
        } else {
            let path = place.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            visit(path, &place);
        }
    }
}

/// Copies a folder with all that is in it, times included, so that a copy of a repository is one whose files look unchanged.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let place = entry.unwrap().path();
        let target = to.join(place.file_name().unwrap());
        let metadata = fs::symlink_metadata(&place).unwrap();
        if metadata.is_dir() {
            copy(&place, &target);
        } else if metadata.is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(fs::read_link(&place).unwrap(), &target).unwrap();
        } else {
            fs::copy(&place, &target).unwrap();
            if let Ok(file) = fs::OpenOptions::new().write(true).open(&target) {
                file.set_modified(metadata.modified().unwrap()).unwrap();
            }
        }
    }
}

/// The files below a folder whose names end so, in the order of their paths.
#[must_use]
pub fn files_ending(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if folder.is_dir() {
        walk(folder, folder, &mut |path, place| {
            if path.ends_with(ending) {
                found.push(place.to_owned());
            }
        });
    }
    found.sort();
    found
}

/// Writes a file, its folders too.
pub fn write(place: &Path, bytes: &[u8]) {
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, bytes).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}
