//! The history of a repository: trees of files, commits and tags as canonical JSON, walks of the commit graph, revision
//! texts, what changed between two trees or two sets of tensors, and what merging them comes to. Nothing here does I/O: what is
//! needed is fetched by the caller's closures.
#![forbid(unsafe_code)]

pub mod bisect;
pub mod blame;
pub mod chains;
pub mod commit;
pub mod dag;
#[cfg(test)]
mod damage;
pub mod diff;
pub mod error;
pub mod file_tree;
pub mod git;
pub mod glob;
pub mod layers;
pub mod merge;
pub mod path;
pub mod retention;
pub mod revision;
pub mod rewrite;
pub mod roles;
pub mod similarity;
pub mod simplify;
pub mod tag;
pub mod tensor_diff;
pub mod timestamp;
pub mod tree;
pub mod tree_edit;

pub use commit::Commit;
pub use dag::{DagError, Node, Order, Walk};
pub use diff::{FileChange, diff_files};
pub use error::{FetchError, HistoryError};
pub use file_tree::FileTree;
pub use git::GitId;
pub use layers::{Layer, layer_of, natural_cmp, roll_up};
pub use merge::files::{ConflictKind, FileConflict, FileMerge, merge_files};
pub use merge::record::MergeRecord;
pub use merge::relation::{MergeStatus, Relation, relate};
pub use merge::strategy::{RuleError, Rules, Scope};
pub use merge::tensors::{TensorPlan, plan_tensors};
pub use merge::{Changed, Merge, Side};
pub use path::{PathError, case_fold_clash, validate_name, validate_path};
pub use revision::{Revision, RevisionError, RevisionSpec, validate_ref_name};
pub use roles::{Column, Part, Role, in_model_order, role_of};
pub use tag::Tag;
pub use tensor_diff::{TensorChange, TensorCounts, TensorInfo, TensorPair, diff_tensors};
pub use timestamp::Timestamp;
pub use tree::{FileEntry, FileMode, Tree, TreeNode};
pub use tree_edit::{EditError, TreeEdit, changed_files};
