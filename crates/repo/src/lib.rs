//! shard's engine: repositories, archives and comparisons, made of formats, codecs, store, manifests and history.
//!
//! [`Repository`] is where to begin. Everything that writes is one transaction, durable when it returns, and moves refs by
//! compare-and-swap; everything that takes long tells a [`shard_core::Progress`] how far it is.
//!
//! | what | where |
//! |---|---|
//! | make and open | [`Repository::init`], [`Repository::init_bare`], [`Repository::discover`]; in a bucket [`Repository::init_away`], [`Repository::open_away`] |
//! | keep files of the work tree | [`Repository::add`], [`Repository::commit`], [`Repository::status`] |
//! | restore | [`Repository::checkout`], [`Repository::checkout_paths`], [`Repository::checkout_tensors`], [`Repository::export`] |
//! | history | [`Repository::log_of`], [`Repository::blame`], [`Repository::operations`], [`Repository::plan_undo`] |
//! | branches, tags, what is checked out | [`Repository::create_branch`], [`Repository::create_tag`], [`Repository::reset`], [`Repository::reflog`] |
//! | merge, file by file and tensor by tensor | [`Repository::merge`], [`Repository::continue_merge`], [`Repository::abort_merge`] |
//! | compare | [`compare_sides`], [`look_inside`] |
//! | care | [`Repository::verify_with`], [`Repository::gc`], [`Repository::optimize`], [`Repository::plan_squash`], [`Repository::plan_forget`], [`Repository::storage_overview`] |
//! | exchange commits with other repositories | [`Repository::clone_from`], [`Repository::fetch`], [`Repository::pull`], [`Repository::push`], [`Repository::add_remote`], [`Peer`] |
//! | share work among machines | [`Repository::plan_to_pack`], [`Repository::do_task`], [`Repository::do_task_of`], [`Repository::finish_plan`] |
//! | follow another repository, version by version | [`InPlace`] |
//! | where models come from | [`Repository::lineage_of_file`], [`Finder`] |
//! | beside Git | [`Repository::track`], [`Repository::write_pointers`], [`Repository::checkout_pointers`] |
//! | one portable file, without a repository | [`pack`], [`Archive`] |
//!
//! # As a hub of files
//!
//! Commits, downloads and listings by the names of branches and paths, without a work tree: the operations of the Hugging Face
//! hub's Python client, on a local repository. They work on bare repositories and on those with a work tree alike, and never look
//! at the work tree.
//!
//! | there | here |
//! |---|---|
//! | `create_repo` | [`Repository::create_repo`] |
//! | `repo_info`, `list_repo_refs` | [`Repository::repo_info`], [`Repository::named_refs`], [`Repository::branches`], [`Repository::tags`] |
//! | `create_commit`, `CommitOperationAdd` … | [`Repository::create_commit`], [`CommitOperation`] |
//! | `upload_file`, `upload_folder`, `upload_large_folder` | [`Repository::upload_file`], [`Repository::upload_folder`], [`Repository::upload_large_folder`] |
//! | `delete_file`, `delete_folder` | [`Repository::delete_file`], [`Repository::delete_folder`] |
//! | `get_paths_info`, `list_repo_tree`, `list_repo_files`, `list_repo_commits` | the same |
//! | `create_branch`, `delete_branch`, `create_tag`, `delete_tag`, `list_repo_reflog` | [`Repository::create_branch`] …, [`Repository::reflog`] |
//! | `open_file`, `read_bytes`, `read_range` | the same |
//! | `hf_hub_download`, `snapshot_download` | the same |
//! | `reset_ref` | the same |
//!
//! A revision is what it is elsewhere in shard: a branch, a tag, a commit or the beginning of its id, with `~N` and `^N` after it;
//! also the 40 digits of a commit's Git twin. `None` means the default branch. Only a branch can be committed to.
//!
//! Promises: a commit is one transaction, durable when it returns. Concurrent commits to a branch follow one another, unless
//! [`CommitRequest::parent_commit`] says that nothing may come between. Paths that some system could not have are refused:
//! `..`, drives, devices, reserved characters, `.git`, names that differ only in case or in how accents are composed, files where
//! folders are.
//!
//! ```
//! use shard_core::{NoProgress, limits::Cut};
//! use shard_repo::{CommitOperation, CommitRequest, NewRepo, Repository, Settings};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let hub = Repository::create_repo(&folder.join("models"), &NewRepo::default(), Settings::default())?;
//! let operations = vec![
//!     CommitOperation::add("config.json", b"{}".to_vec()),
//!     CommitOperation::add("weights/readme.txt", b"how they were made".to_vec()),
//! ];
//! let first = hub.create_commit(operations, &CommitRequest::new("First files"), &NoProgress)?;
//! assert_eq!(hub.list_repo_files(None)?, ["config.json", "weights/readme.txt"]);
//!
//! let operations = vec![CommitOperation::delete("weights/"), CommitOperation::copy("config.json", "old/config.json")];
//! hub.create_commit(operations, &CommitRequest::new("Tidy up"), &NoProgress)?;
//! assert_eq!(hub.list_repo_files(None)?, ["config.json", "old/config.json"]);
//! assert_eq!(hub.read_range("weights/readme.txt", 4, 4, Some(&first.id.to_hex()))?, b"they");
//!
//! let place = hub.hf_hub_download("old/config.json", None, None)?;
//! assert_eq!(std::fs::read(place)?, b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod approx;
mod archive;
mod away;
mod base_chain;
mod begun;
mod beneath;
mod beside_git;
mod bisect;
mod blame;
mod blocks;
mod checkout;
mod checkout_tensors;
mod collect;
mod commit;
mod compare;
#[cfg(test)]
mod counted;
mod derivations;
mod derive;
mod error;
mod hub;
mod in_place;
mod inspect;
mod keep;
mod lineage;
mod log;
mod lossy;
mod merge;
mod numeric;
mod object_cache;
mod objects;
mod operations;
mod optimize;
mod pack_plan;
mod parent;
mod pattern;
mod refs;
mod relatives;
mod repository;
mod restore;
mod rewrite;
mod snapshot;
mod stage;
mod status;
mod sync;
mod tensor_keys;
mod topic;
mod verify;
mod work_plan;
mod worktree;

pub use approx::{APPROX_MARK, ApproxFile, ApproxReport, ApproxTensor};
pub use archive::{Archive, PackOptions, PackReport, Packed, pack};
pub use beside_git::{GitProblem, PointerCheckout, PointerReport, PointerState};
pub use bisect::{
    BisectProblem, BisectReport, BisectStatus, Mark, TensorAt, TensorBisect, TensorQuestion, TestedCommit,
};
pub use blame::BlameLine;
pub use checkout::{CheckoutOptions, CheckoutReport};
pub use checkout_tensors::TensorCheckout;
pub use collect::{
    GcOptions, GcPack, GcPlan, GcReport, Holding, KindUsage, LeaseInfo, Reclaim, RefUsage, StorageOverview,
    StorageSection,
};
pub use commit::{CommitOptions, CommitReport};
pub use compare::{
    CompareOptions, Comparison, Finding, Histogram, Inside, Kind, Patch, Side, Spectrum, TensorDiff, Verdict,
    compare_sides, look_inside,
};
pub use derivations::{DerivationFigures, measure_derivations};
pub use error::{RepoError, Result};
pub use hub::{
    CommitInfo, CommitOperation, CommitRequest, CommitSummary, Content, FileReader, FolderUpload, LastCommit, LfsInfo,
    ListOptions, NewRepo, RepoEntry, RepoFile, RepoFolder, RepoInfo,
};
pub use in_place::{Applied, InPlace, VERSION_FILE};
pub use inspect::{ChunkLine, ChunkReport, Description, chunk, describe, read_manifest};
pub use lineage::{KnownModel, Lineage, LineageOptions, Relation};
pub use log::{LogEntry, model_name};
pub use lossy::LossyBound;
pub use merge::{
    ContinueOptions, FastForward, MergeConflict, MergeOptions, MergeProblem, MergeReport, MergeState, MergedModel,
    SideChange, TensorConflict, TensorsMerged,
};
pub use numeric::{ChangeStats, Summary};
pub use operations::{Operation, Operations, RefMove, UndoOptions, UndoPlan, UndoProblem, UndoReport};
pub use optimize::{OptimizeOptions, OptimizePlan, OptimizeReport};
pub use pack_plan::{PackPlan, PlannedChains, PlannedFile, plan_pack};
pub use pattern::PathFilter;
pub use refs::{
    Branch, Protection, RefProblem, Reflog, ReflogEntry, ResetMode, ResetOptions, ResetReport, TagOptions, TagReport,
    TaggedCommit,
};
pub use relatives::{Finder, Found, Relative, sketch_of};
pub use repository::{DEFAULT_BRANCH, Head, NamedRef, Repository, Settings};
pub use rewrite::{
    BlockingRef, ForgetOptions, ForgetPlan, ForgetReport, PlannedCommit, SquashOptions, SquashPlan, SquashReport,
};
pub use snapshot::SnapshotCost;
pub use stage::{AddReport, Added, AddedState};
pub use status::{Status, WorkState};
pub use sync::{
    Brought, CloneOptions, Connect, DEFAULT_REMOTE, Deposit, FetchOptions, MovedRef, Peer, Place, Pulled, PushOptions,
    RefChange, SyncProblem, SyncReport, peer,
};
pub use topic::{LoggedCommit, Topic};
pub use verify::{AffectedPath, RepairReport, VerifyOptions, VerifyReport};
pub use work_plan::{
    CheckedFile, FilesToPack, PlanOutcome, PlanProblem, PlanState, PlannedWork, TaskFile, TaskReport, WorkPlan,
};
pub use worktree::REPOSITORY_DIR;
