//! shard's engine: repositories, archives and comparisons, made of formats, codecs, store, manifests and history.
#![forbid(unsafe_code)]

mod approx;
mod archive;
mod base_chain;
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
mod tensor_keys;
mod topic;
mod verify;
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
pub use topic::{LoggedCommit, Topic};
pub use verify::{AffectedPath, RepairReport, VerifyOptions, VerifyReport};
pub use worktree::REPOSITORY_DIR;
