//! Asking about tensors of commits: by their manifests, and, where values count, by the blocks of just these tensors.

use std::collections::{BTreeMap, HashMap};

use shard_core::{Digest, TensorView};
use shard_history::bisect::{Measure, Predicate};
use shard_history::glob::Glob;
use shard_manifest::ContentManifest;

use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::numeric::{Summary, Summing};
use crate::objects::Objects;
use crate::repository::Repository;
use crate::tensor_keys::{TensorKeys, tensor_key};

/// A question about the tensors of a commit.
#[derive(Debug, Clone)]
pub struct TensorQuestion {
    /// Which tensors.
    pub tensors: Glob,
    /// What is asked of each: the answer is yes where it is for any of them.
    pub predicate: Predicate,
    /// Only those in this file, or below this folder; all where it is empty.
    pub path: String,
}

/// A tensor of a commit: two files may each have one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorAt {
    /// The path of its file.
    pub path: String,
    /// Its name there.
    pub name: String,
}

/// A commit that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestedCommit {
    /// The commit.
    pub id: Digest,
    /// Whether it is so; `None` where that is not known of any tensor.
    pub answer: Option<bool>,
    /// The tensors of which it is.
    pub tensors: Vec<TensorAt>,
}

/// What a search by a question about tensors came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorBisect {
    /// The first commit of which it is so; several, newest first, where it is not known of those between.
    pub found: Vec<Digest>,
    /// Commits in the order in which they were asked about.
    pub tested: Vec<TestedCommit>,
}

/// What a commit answers.
pub(super) struct Answer {
    pub(super) holds: Option<bool>,
    pub(super) tensors: Vec<TensorAt>,
    /// Whether any tensor was asked about at all.
    pub(super) has_any: bool,
}

/// Asks commits. A tensor is read once, however many commits have it.
pub(super) struct Asking<'a> {
    question: &'a TensorQuestion,
    objects: Objects<'a>,
    reader: BlockReader<'a>,
    keys: TensorKeys,
    /// The keys of the tensors of the revision that others are compared with.
    since: Option<BTreeMap<TensorAt, Digest>>,
    /// Answers by content.
    answers: HashMap<Digest, Option<bool>>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(repository: &'a Repository, question: &'a TensorQuestion) -> Result<Self> {
        let mut asking = Self {
            question,
            objects: repository.objects(),
            reader: BlockReader::new(&repository.store),
            keys: TensorKeys::default(),
            since: None,
            answers: HashMap::new(),
        };
        if let Some(revision) = question.predicate.changed_since() {
            asking.since = Some(asking.named(repository.resolve(revision)?)?);
        }
        Ok(asking)
    }

    /// The files that are asked about, by their paths, and their manifests.
    fn manifests(&mut self, commit: Digest) -> Result<Vec<(String, Digest)>> {
        let path = &self.question.path;
        let tree = self.objects.commit(commit)?.tree;
        let tree = self.objects.file_tree(tree)?;
        let at = tree.get(path).map(|entry| (path.clone(), entry.manifest)).into_iter();
        Ok(at.chain(tree.below(path).map(|(path, entry)| (path.clone(), entry.manifest))).collect())
    }

    /// The keys of the tensors that are asked about.
    fn named(&mut self, commit: Digest) -> Result<BTreeMap<TensorAt, Digest>> {
        let mut named = BTreeMap::new();
        for (path, manifest) in self.manifests(commit)? {
            let keyed = self.keys.of(manifest, &mut self.objects)?;
            let wanted = keyed.tensors.iter().filter(|tensor| self.question.tensors.matches(&tensor.name));
            named.extend(wanted.map(|tensor| (TensorAt { path: path.clone(), name: tensor.name.clone() }, tensor.key)));
        }
        Ok(named)
    }

    pub(super) fn ask(&mut self, commit: Digest) -> Result<Answer> {
        let mut answers: BTreeMap<TensorAt, Option<bool>> = BTreeMap::new();
        let predicate = &self.question.predicate;
        if let Some(since) = self.since.take() {
            let now = self.named(commit)?;
            // What came or went changed, too.
            for tensor in now.keys().chain(since.keys()) {
                let answer = predicate.holds(|_| None, Some(now.get(tensor) != since.get(tensor)));
                answers.insert(tensor.clone(), answer);
            }
            self.since = Some(since);
        } else {
            for (path, id) in self.manifests(commit)? {
                let manifest = self.objects.manifest_once(id)?;
                let wanted = manifest.tensors.iter().filter(|view| self.question.tensors.matches(&view.name));
                for view in wanted {
                    let answer = self.of_tensor(&manifest, view)?;
                    answers.insert(TensorAt { path: path.clone(), name: view.name.clone() }, answer);
                }
            }
        }
        let tensors: Vec<TensorAt> =
            answers.iter().filter(|(_, answer)| **answer == Some(true)).map(|(tensor, _)| tensor.clone()).collect();
        let is_unknown = !answers.is_empty() && answers.values().all(Option::is_none);
        let holds = if is_unknown { None } else { Some(!tensors.is_empty()) };
        Ok(Answer { holds, tensors, has_any: !answers.is_empty() })
    }

    fn of_tensor(&mut self, manifest: &ContentManifest, view: &TensorView) -> Result<Option<bool>> {
        let key = tensor_key(manifest, view);
        if let Some(answer) = self.answers.get(&key) {
            return Ok(*answer);
        }
        let summary = summarise(&mut self.reader, manifest, view)?;
        let answer = self.question.predicate.holds(|measure| value(summary.as_ref()?, measure), None);
        self.answers.insert(key, answer);
        Ok(answer)
    }
}

/// What the values of one stored tensor are like, by its blocks alone; `None` for types whose values shard does not know.
fn summarise(reader: &mut BlockReader<'_>, manifest: &ContentManifest, view: &TensorView) -> Result<Option<Summary>> {
    let (Some(elements), Some(len)) = (view.elements(), view.byte_len()) else { return Ok(None) };
    let Some(mut summing) = Summing::new(view.dtype, elements) else { return Ok(None) };
    let (blocks, start) = manifest.tensor_blocks(view);
    let (mut at, end) = (start, view.offset.saturating_add(len));
    let mut bytes = Vec::new();
    for span in blocks {
        reader.read(&block_key(span.id), &mut bytes)?;
        let from = view.offset.saturating_sub(at).min(bytes.len() as u64);
        let to = end.saturating_sub(at).min(bytes.len() as u64);
        let wanted = bytes.get(from as usize..to as usize).ok_or(RepoError::BadBase { block: span.id })?;
        summing.update(wanted);
        at += u64::from(span.len);
    }
    Ok(Some(summing.finish()))
}

fn value(summary: &Summary, measure: Measure) -> Option<f64> {
    match measure {
        Measure::Nan => Some(summary.nan as f64),
        Measure::Inf => Some(summary.infinite as f64),
        Measure::Min => summary.min,
        Measure::Max => summary.max,
        Measure::AbsMax => Some(summary.min?.abs().max(summary.max?.abs())),
        Measure::Mean => summary.mean,
        Measure::Std => summary.std,
        Measure::Zeros => (summary.values > 0).then(|| summary.sparsity()),
    }
}
