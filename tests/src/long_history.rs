//! Repositories with long histories, made through the engine: as the binary makes them, without starting it thousands of
//! times.

use std::fs;
use std::path::Path;

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::cases::Versions;
use shard_repo::{CommitOptions, Repository, Settings};

use crate::tree::write;

/// The path of the model in these repositories.
pub const MODEL: &str = "model.safetensors";

/// Makes a repository in `folder` with `commits` commits on one branch, each with a new version of a small bf16 model
/// (two matrices of `rows` by 64, one word in a hundred changed) and every tenth one with another small text file beside
/// it. The commits are a minute apart from each other. The work tree is that of the last commit.
pub fn build(folder: &Path, commits: usize, rows: usize) -> Repository {
    let repository = Repository::init(folder, "main", Cut::V1, Settings::default()).unwrap();
    let mut versions = Versions::new(1, 2, rows, 64, 0.01);
    for number in 0..commits {
        let bytes = versions.next().expect("there is always another version").unwrap();
        fs::write(folder.join(MODEL), bytes).unwrap();
        let mut paths = vec![folder.join(MODEL)];
        if number % 10 == 0 {
            let note = folder.join(format!("notes/{:03}.txt", number / 10));
            write(&note, format!("after commit {number}\n").as_bytes());
            paths.push(note);
        }
        repository.add(&paths, &NoProgress).unwrap();
        repository
            .commit(&CommitOptions {
                message: format!("Version {number}"),
                author: Some("Tester".to_owned()),
                created_at: Some(minute(number)),
                ..CommitOptions::default()
            })
            .unwrap();
    }
    repository
}

/// The time of a commit of [`build`], RFC 3339.
#[must_use]
pub fn minute(number: usize) -> String {
    let (day, hour, minute) = (1 + number / 1440, number / 60 % 24, number % 60);
    format!("2026-01-{day:02}T{hour:02}:{minute:02}:00Z")
}
