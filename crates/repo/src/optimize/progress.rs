//! Which files an interrupted run has done: a file of the cache, which may be deleted at any time. What was done is in packs;
//! this only saves looking at it again. Lines: what it is, the level and the repository, the ids of manifests, a checksum.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use shard_codecs::Level;
use shard_core::{Digest, sha256};
use shard_store::Store;

use super::level_name;

/// Its place in the repository's directory.
const FILE: &str = "cache/optimized";

pub(super) struct Done {
    file: Option<PathBuf>,
    head: String,
    manifests: HashSet<Digest>,
}

impl Done {
    /// With `resume` what is noted at this level.
    pub(super) fn open(store: &Store, level: Level, resume: bool) -> Self {
        let file = store.root().map(|root| root.join(FILE));
        let head = format!("shard-optimized 1 {} {}\n", level_name(level), store.id());
        let text = file.as_ref().filter(|_| resume).and_then(|file| fs::read_to_string(file).ok());
        let manifests = text.and_then(|text| decode(&head, &text)).unwrap_or_default();
        Self { file, head, manifests }
    }

    pub(super) fn has(&self, manifest: &Digest) -> bool {
        self.manifests.contains(manifest)
    }

    pub(super) fn add(&mut self, manifest: Digest) {
        self.manifests.insert(manifest);
    }

    /// Writes down what was done, after it is durable. That this cannot be written costs time alone.
    pub(super) fn note(&self) {
        let Some(file) = &self.file else { return };
        let mut text = self.head.clone();
        self.manifests.iter().for_each(|id| text.push_str(&format!("{id}\n")));
        text.push_str(&format!("{}\n", sha256(text.as_bytes())));
        let unfinished = file.with_extension("tmp");
        let _ = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, file));
    }

    /// Everything was done.
    pub(super) fn close(&self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

fn decode(head: &str, text: &str) -> Option<HashSet<Digest>> {
    let (body, sum) = text.split_at_checked(text.len().checked_sub(2 * Digest::LEN + 1)?)?;
    if sum != format!("{}\n", sha256(body.as_bytes())) {
        return None;
    }
    body.strip_prefix(head)?.lines().map(|line| Digest::from_hex(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_09_a_note_is_whole_or_none() {
        let mut done = Done { file: None, head: "shard-optimized 1 max x\n".to_owned(), manifests: HashSet::new() };
        let folder = tempfile::tempdir().unwrap();
        done.file = Some(folder.path().join("optimized"));
        (0..3u8).for_each(|n| done.add(sha256(&[n])));
        done.note();
        let text = fs::read_to_string(folder.path().join("optimized")).unwrap();
        assert_eq!(decode(&done.head, &text), Some(done.manifests.clone()));
        assert_eq!(decode("shard-optimized 1 fast x\n", &text), None);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(decode(&done.head, &String::from_utf8(bytes).unwrap()), None, "{at}");
            assert_eq!(decode(&done.head, &text[..at]), None, "{at}");
        }
        done.close();
        assert!(!folder.path().join("optimized").exists());
    }
}
