//! The command line as a user meets it: what each command prints, as text and as JSON, its exit codes, and its errors.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/beside_git.rs"]
mod beside_git;
#[path = "cli/bisect.rs"]
mod bisect;
#[path = "cli/blame.rs"]
mod blame;
#[path = "cli/care.rs"]
mod care;
#[path = "cli/collecting.rs"]
mod collecting;
#[path = "cli/diffing.rs"]
mod diffing;
#[path = "cli/exchange.rs"]
mod exchange;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/lineage.rs"]
mod lineage;
#[path = "cli/looking.rs"]
mod looking;
#[path = "cli/lossy.rs"]
mod lossy;
#[path = "cli/lost_refs.rs"]
mod lost_refs;
#[path = "cli/manners.rs"]
mod manners;
#[path = "cli/merges_that_wait.rs"]
mod merges_that_wait;
#[path = "cli/merging.rs"]
mod merging;
#[path = "cli/partial.rs"]
mod partial;
#[path = "cli/place.rs"]
mod place;
#[path = "cli/planning.rs"]
mod planning;
#[path = "cli/recording.rs"]
mod recording;
#[path = "cli/refs.rs"]
mod refs;
#[path = "cli/repairing.rs"]
mod repairing;
#[path = "cli/restoring.rs"]
mod restoring;
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/shells.rs"]
mod shells;
#[path = "cli/undo.rs"]
mod undo;
#[path = "cli/watching.rs"]
mod watching;
