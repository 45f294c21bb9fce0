//! Random operations on a repository and on a simple model of one: they have to agree after every step.
//!
//! `SHARD_TEST_STEPS` says how many steps are made in all; 10,000 where it is not set.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "machine/content.rs"]
mod content;
#[path = "machine/model.rs"]
mod model;
#[path = "machine/run.rs"]
mod run;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use content::Content;
use run::{BRANCHES, Machine, Operation, PATHS, PLACES, TAGS};

/// Steps on one repository.
const LENGTH: usize = 250;

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => prop::array::uniform3(0..4u8).prop_map(Content::Model),
        1 => (0..4u8).prop_map(Content::Text),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let (path, name, tag) = (0..PATHS.len(), 0..BRANCHES.len(), 0..TAGS.len());
    let (commit, yes) = (0..20usize, any::<bool>());
    // A failure is made smaller with the first kinds in place of the later ones.
    prop_oneof![
        1 => Just(Operation::Reopen),
        12 => (path.clone(), content()).prop_map(|(path, content)| Operation::Write { path, content }),
        2 => path.clone().prop_map(|path| Operation::Remove { path }),
        4 => Just(Operation::Add { path: None }),
        4 => path.clone().prop_map(|path| Operation::Add { path: Some(path) }),
        10 => Just(Operation::Commit),
        3 => (name.clone(), commit.clone()).prop_map(|(name, commit)| Operation::Branch { name, commit }),
        2 => (name.clone(), yes).prop_map(|(name, force)| Operation::DeleteBranch { name, force }),
        1 => (name.clone(), name.clone()).prop_map(|(old, new)| Operation::RenameBranch { old, new }),
        4 => (name.clone(), yes).prop_map(|(name, force)| Operation::CheckoutBranch { name, force }),
        2 => (commit.clone(), yes).prop_map(|(commit, force)| Operation::CheckoutCommit { commit, force }),
        2 => (name, commit.clone()).prop_map(|(name, commit)| Operation::CheckoutNew { name, commit }),
        2 => (commit.clone(), path).prop_map(|(commit, path)| Operation::CheckoutPath { commit, path }),
        2 => (tag.clone(), commit.clone(), yes, yes)
            .prop_map(|(name, commit, annotated, force)| Operation::Tag { name, commit, annotated, force }),
        1 => tag.prop_map(|name| Operation::DeleteTag { name }),
        2 => (commit.clone(), yes).prop_map(|(commit, soft)| Operation::Reset { commit, soft }),
        2 => (commit.clone(), yes).prop_map(|(commit, force)| Operation::ResetHard { commit, force }),
        6 => (commit, prop::bool::weighted(0.7), prop::bool::weighted(0.3))
            .prop_map(|(commit, clean, no_commit)| Operation::Merge { commit, clean, no_commit }),
        6 => (0..PLACES.len(), yes).prop_map(|(place, theirs)| Operation::CheckoutSide { place, theirs }),
        4 => Just(Operation::Continue),
        2 => yes.prop_map(|force| Operation::Abort { force }),
        1 => Just(Operation::Squash),
        3 => Just(Operation::Undo),
        2 => yes.prop_map(|prune| Operation::Collect { prune }),
        1 => Just(Operation::Optimize),
        1 => Just(Operation::LoseCache),
    ]
}

#[test]
fn a_repository_is_what_its_model_says() {
    let steps: usize = std::env::var("SHARD_TEST_STEPS").map_or(10_000, |steps| steps.parse().unwrap());
    let config = Config {
        cases: steps.div_ceil(LENGTH) as u32,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let done = std::cell::Cell::new(0);
    let outcome = runner.run(&vec(operation(), LENGTH), |operations| {
        let mut machine = Machine::new();
        for operation in &operations {
            machine.step(operation);
            machine.check();
        }
        machine.check_all();
        done.set(done.get() + operations.len());
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(done.get() >= steps);
    println!("{} steps", done.get());
}
