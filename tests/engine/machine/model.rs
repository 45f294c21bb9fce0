//! What a repository should be, in a few maps: no store, no hashes, no files.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::Digest;

use super::content::Content;

/// Paths and what is there.
pub(crate) type Tree = BTreeMap<&'static str, Content>;

/// A commit of the model.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Its id in the repository, which alone the model cannot know.
    pub(crate) id: Digest,
    /// The numbers of its parents.
    pub(crate) parents: Vec<usize>,
    /// Its files.
    pub(crate) tree: Tree,
    /// Whether a collection removed it.
    pub(crate) is_gone: bool,
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A branch, which may have no commits yet.
    Branch(String),
    /// The commit with this number.
    Commit(usize),
}

/// What an operation is expected to end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It does what it is for.
    Done,
    /// It has nothing to do.
    Nothing,
    /// Changes would be lost.
    Lost,
    /// The name is taken.
    Taken,
    /// A branch that may not be deleted: checked out, default, or the only one that leads to its commits.
    Needed,
    /// There is no such branch, tag or path.
    Unknown,
    /// Both sides changed the same.
    Conflict,
    /// Nothing is shared.
    Unrelated,
    /// A merge waits, or none does where one has to.
    Merging,
}

/// A repository.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// All commits ever made.
    pub(crate) commits: Vec<Commit>,
    pub(crate) branches: BTreeMap<String, usize>,
    pub(crate) tags: BTreeMap<String, usize>,
    pub(crate) head: Head,
    /// The default branch.
    pub(crate) default: String,
    /// What is staged; `None` before anything was.
    pub(crate) stage: Option<Tree>,
    /// The files of the work tree.
    pub(crate) work: Tree,
    /// The merge that waits.
    pub(crate) merge: Option<Waiting>,
}

/// A merge that waits for someone. It is never begun where there is a choice of bases.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) ours: usize,
    pub(crate) theirs: usize,
    /// What came out, without conflicts.
    tree: Tree,
    /// The paths that both sides changed and that were merged all the same.
    both: BTreeSet<&'static str>,
    pub(crate) conflicts: BTreeSet<&'static str>,
    pub(crate) resolved: BTreeSet<&'static str>,
    pub(crate) is_staged: bool,
}

impl Waiting {
    fn new(base: usize, ours: usize, theirs: usize, commits: &[Commit]) -> Self {
        let (mut tree, mut both, mut conflicts) = (Tree::new(), BTreeSet::new(), BTreeSet::new());
        let trees = [base, ours, theirs].map(|number| &commits[number].tree);
        for path in trees.iter().flat_map(|tree| tree.keys()).copied() {
            let [base, ours, theirs] = trees.map(|tree| tree.get(path).copied());
            match merge_content([base, ours, theirs]) {
                Some(content) => put(&mut tree, path, content.as_ref()),
                None => drop(conflicts.insert(path)),
            }
            if base != ours && base != theirs && ours != theirs && !conflicts.contains(path) {
                both.insert(path);
            }
        }
        Self { ours, theirs, tree, both, conflicts, resolved: BTreeSet::new(), is_staged: false }
    }

    fn commit(&self, tree: Tree) -> Commit {
        Commit { id: Digest([0; 32]), parents: vec![self.ours, self.theirs], tree, is_gone: false }
    }
}

/// Puts content at a path, or nothing.
fn put(tree: &mut Tree, path: &'static str, content: Option<&Content>) {
    match content {
        Some(content) => drop(tree.insert(path, *content)),
        None => drop(tree.remove(path)),
    }
}

/// What may be lost: as git's `checkout`, the same where the log of the stage has what is staged, `reset --hard`, and both with
/// `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Losses {
    Keep,
    KeepUnstaged,
    Refuse,
    Allow,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            commits: Vec::new(),
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            head: Head::Branch("main".to_owned()),
            default: "main".to_owned(),
            stage: None,
            work: Tree::new(),
            merge: None,
        }
    }

    /// The number of the commit that is checked out.
    pub(crate) fn head_commit(&self) -> Option<usize> {
        match &self.head {
            Head::Branch(name) => self.branches.get(name).copied(),
            Head::Commit(number) => Some(*number),
        }
    }

    /// The files of what is checked out.
    pub(crate) fn last(&self) -> Tree {
        self.head_commit().map(|number| self.commits[number].tree.clone()).unwrap_or_default()
    }

    /// What is staged.
    pub(crate) fn staged(&self) -> Tree {
        self.stage.clone().unwrap_or_else(|| self.last())
    }

    /// A commit and all before it.
    pub(crate) fn ancestors(&self, number: usize) -> BTreeSet<usize> {
        let (mut found, mut open) = (BTreeSet::new(), vec![number]);
        while let Some(number) = open.pop() {
            if found.insert(number) {
                open.extend(&self.commits[number].parents);
            }
        }
        found
    }

    /// Stages the path, or with `None` everything, as it is in the work tree.
    pub(crate) fn add(&mut self, path: Option<&'static str>) -> Outcome {
        let mut stage = self.staged();
        match path {
            Some(path) => match (self.work.get(path), stage.contains_key(path)) {
                (Some(content), _) => drop(stage.insert(path, *content)),
                (None, true) => drop(stage.remove(path)),
                (None, false) => return Outcome::Unknown,
            },
            None => stage = self.work.clone(),
        }
        // A path decides by its name, everything only about what it changed.
        let before = self.staged();
        self.decide(|other| path.map_or(before.get(other) != stage.get(other), |path| path == other));
        self.stage = Some(stage);
        Outcome::Done
    }

    /// What a commit of the stage would say.
    pub(crate) fn can_commit(&self) -> Outcome {
        if self.merge.is_some() {
            return Outcome::Merging;
        }
        let is_new = match (&self.stage, self.head_commit()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(stage), Some(parent)) => *stage != self.commits[parent].tree,
        };
        if is_new { Outcome::Done } else { Outcome::Nothing }
    }

    /// The stage became a commit.
    pub(crate) fn commit(&mut self, id: Digest) {
        let parents = self.head_commit().into_iter().collect();
        self.commits.push(Commit { id, parents, tree: self.staged(), is_gone: false });
        self.move_head(self.commits.len() - 1);
    }

    fn move_head(&mut self, to: usize) {
        match &mut self.head {
            Head::Branch(name) => drop(self.branches.insert(name.clone(), to)),
            Head::Commit(number) => *number = to,
        }
    }

    /// The work tree and the stage become those of a tree, unless something would be lost.
    pub(crate) fn replace(&mut self, target: &Tree, losses: Losses) -> Outcome {
        let (last, stage) = (self.last(), self.staged());
        let mut lost = false;
        for path in self.work.keys().chain(stage.keys()) {
            let (work, staged, wanted) = (self.work.get(path), stage.get(path), target.get(path));
            let is_staged_alone =
                losses != Losses::KeepUnstaged && staged.is_some() && last.get(path) != staged && wanted != staged;
            // What is the same in stage and target may differ in the work tree: it stays.
            let is_changed_alone = match (work, staged) {
                (None, _) => false,
                (Some(_), None) => wanted.is_some() && wanted != work,
                (Some(_), Some(_)) => {
                    work != staged && wanted != work && (losses == Losses::Refuse || staged != wanted)
                }
            };
            lost |= is_staged_alone || is_changed_alone;
        }
        if lost && losses != Losses::Allow {
            return Outcome::Lost;
        }
        for path in stage.keys().filter(|path| !target.contains_key(*path)) {
            self.work.remove(path);
        }
        for (path, content) in target {
            // Undoing leaves alone what the operation had nothing to do with, also where it is gone.
            let is_left = match losses {
                Losses::Keep => self.work.contains_key(path),
                Losses::KeepUnstaged => true,
                Losses::Refuse | Losses::Allow => false,
            };
            let stays = is_left && stage.get(path) == Some(content);
            if !stays {
                self.work.insert(path, *content);
            }
        }
        self.stage = Some(target.clone());
        Outcome::Done
    }

    /// Checks out a branch or a commit.
    pub(crate) fn checkout(&mut self, head: Head, number: usize, losses: Losses) -> Outcome {
        if self.merge.is_some() && losses != Losses::Allow {
            return Outcome::Merging;
        }
        let target = self.commits[number].tree.clone();
        let outcome = self.replace(&target, losses);
        if outcome == Outcome::Done {
            self.head = head;
            self.merge = None;
        }
        outcome
    }

    /// Takes one file of a commit.
    pub(crate) fn checkout_path(&mut self, number: usize, path: &'static str) -> Outcome {
        let Some(content) = self.commits[number].tree.get(path).copied() else { return Outcome::Unknown };
        let mut stage = self.staged();
        stage.insert(path, content);
        self.work.insert(path, content);
        self.stage = Some(stage);
        self.decide(|other| other == path);
        Outcome::Done
    }

    pub(crate) fn create_branch(&mut self, name: &str, number: usize) -> Outcome {
        if self.branches.contains_key(name) {
            return Outcome::Taken;
        }
        self.branches.insert(name.to_owned(), number);
        Outcome::Done
    }

    pub(crate) fn delete_branch(&mut self, name: &str, force: bool) -> Outcome {
        let Some(commit) = self.branches.get(name).copied() else { return Outcome::Unknown };
        if self.head == Head::Branch(name.to_owned()) || self.default == name {
            return Outcome::Needed;
        }
        let others = self.branches.iter().filter(|(other, _)| *other != name).map(|(_, number)| *number);
        let tips = others.chain(self.tags.values().copied()).chain(self.head_commit());
        if !force && !tips.into_iter().any(|tip| self.ancestors(tip).contains(&commit)) {
            return Outcome::Needed;
        }
        self.branches.remove(name);
        Outcome::Done
    }

    pub(crate) fn rename_branch(&mut self, old: &str, new: &str) -> Outcome {
        let is_current = self.head == Head::Branch(old.to_owned());
        if !self.branches.contains_key(old) && !is_current {
            return Outcome::Unknown;
        }
        if old != new && self.branches.contains_key(new) {
            return Outcome::Taken;
        }
        if is_current && old != new && self.merge.is_some() {
            return Outcome::Merging;
        }
        if let Some(number) = self.branches.remove(old) {
            self.branches.insert(new.to_owned(), number);
        }
        if is_current {
            self.head = Head::Branch(new.to_owned());
        }
        if self.default == old {
            self.default = new.to_owned();
        }
        Outcome::Done
    }

    pub(crate) fn create_tag(&mut self, name: &str, number: usize, force: bool) -> Outcome {
        if self.tags.contains_key(name) && !force {
            return Outcome::Taken;
        }
        self.tags.insert(name.to_owned(), number);
        Outcome::Done
    }

    pub(crate) fn delete_tag(&mut self, name: &str) -> Outcome {
        if self.tags.remove(name).is_some() { Outcome::Done } else { Outcome::Unknown }
    }

    /// `soft`: what is staged stays; `hard` says what may be lost of the work tree.
    pub(crate) fn reset(&mut self, number: usize, soft: bool, hard: Option<Losses>) -> Outcome {
        if hard.is_none() && self.merge.is_some() {
            return Outcome::Merging;
        }
        let target = self.commits[number].tree.clone();
        if let Some(losses) = hard {
            let outcome = self.replace(&target, losses);
            if outcome != Outcome::Done {
                return outcome;
            }
            self.merge = None;
        } else if soft {
            self.stage = Some(self.staged());
        } else {
            self.stage = Some(target);
        }
        self.move_head(number);
        Outcome::Done
    }

    /// The best common ancestors of two commits: those that no other one leads to.
    fn bases(&self, a: usize, b: usize) -> Vec<usize> {
        let (a, b) = (self.ancestors(a), self.ancestors(b));
        let common: Vec<usize> = a.intersection(&b).copied().collect();
        let is_best =
            |base: &&usize| !common.iter().any(|other| other != *base && self.ancestors(*other).contains(base));
        common.iter().filter(is_best).copied().collect()
    }

    /// Whether what a merge with a commit does is said by the model alone: there is no choice of bases.
    pub(crate) fn can_merge(&self, theirs: usize) -> bool {
        self.head_commit().is_some_and(|ours| self.bases(ours, theirs).len() <= 1)
    }

    /// Begins to merge a commit into what is checked out. What comes out as a new commit is given, for its id to be known.
    pub(crate) fn merge(&mut self, theirs: usize, no_commit: bool) -> (Outcome, Option<Commit>) {
        let Some(ours) = self.head_commit() else { return (Outcome::Unknown, None) };
        if self.merge.is_some() {
            return (Outcome::Merging, None);
        }
        if self.ancestors(ours).contains(&theirs) {
            return (Outcome::Done, None);
        }
        if self.ancestors(theirs).contains(&ours) {
            let outcome = self.replace(&self.commits[theirs].tree.clone(), Losses::Keep);
            if outcome == Outcome::Done {
                self.move_head(theirs);
            }
            return (outcome, None);
        }
        let Some(base) = self.bases(ours, theirs).first().copied() else { return (Outcome::Unrelated, None) };
        let waiting = Waiting::new(base, ours, theirs, &self.commits);
        if self.is_in_the_way(&waiting) {
            return (Outcome::Lost, None);
        }
        if !waiting.conflicts.is_empty() {
            self.merge = Some(waiting);
            return (Outcome::Conflict, None);
        }
        let outcome = self.replace(&waiting.tree, Losses::Keep);
        if outcome == Outcome::Done && no_commit {
            self.merge = Some(Waiting { is_staged: true, ..waiting });
            return (outcome, None);
        }
        (outcome, (outcome == Outcome::Done).then(|| waiting.commit(waiting.tree.clone())))
    }

    /// Whether something is staged, or changed where a merge, or who decides about its conflicts, would write. Where there are no
    /// conflicts, what is as the merge would have it is not in its way.
    fn is_in_the_way(&self, merge: &Waiting) -> bool {
        let (ours, theirs) = (&self.commits[merge.ours].tree, &self.commits[merge.theirs].tree);
        let staged = self.staged();
        if merge.conflicts.is_empty() {
            let is_lost = |path: &&'static str| {
                let (work, now, merged) = (self.work.get(path), staged.get(path), merge.tree.get(path));
                let is_written = now != merged && (merge.both.contains(path) || merged != ours.get(path));
                (now != ours.get(path) && now != merged)
                    || (is_written && work.is_some() && work != now && work != merged)
            };
            return ours.keys().chain(staged.keys()).chain(self.work.keys()).any(is_lost);
        }
        let is_in_the_way = |(path, work): (&&'static str, &Content)| {
            let merged = merge.tree.get(path);
            match (merge.conflicts.contains(path), merge.both.contains(path)) {
                (true, _) => ours.contains_key(path) || theirs.contains_key(path),
                (_, true) => true,
                _ => merged != ours.get(path) && merged != Some(work),
            }
        };
        staged != *ours || self.work.iter().any(|file| ours.get(file.0) != Some(file.1) && is_in_the_way(file))
    }

    /// Goes on with the merge that waits; as [`Self::merge`].
    pub(crate) fn go_on(&mut self) -> (Outcome, Option<Commit>) {
        let Some(waiting) = self.merge.clone() else { return (Outcome::Merging, None) };
        let stage = self.staged();
        let tree = if waiting.is_staged {
            stage
        } else {
            let ours = &self.commits[waiting.ours].tree;
            let mut tree = waiting.tree.clone();
            let paths: BTreeSet<&'static str> = ours.keys().chain(stage.keys()).copied().collect();
            let mut is_lost = false;
            for path in paths.iter().chain(&waiting.conflicts).copied() {
                let (before, now, merged) = (ours.get(path), stage.get(path), waiting.tree.get(path));
                if waiting.conflicts.contains(path) {
                    put(&mut tree, path, now);
                } else if before != now {
                    is_lost |= waiting.both.contains(path) || (merged != before && merged != now);
                    put(&mut tree, path, now);
                }
            }
            if is_lost {
                return (Outcome::Lost, None);
            }
            if waiting.conflicts != waiting.resolved {
                return (Outcome::Conflict, None);
            }
            tree
        };
        let outcome = self.replace(&tree, Losses::Keep);
        if outcome != Outcome::Done {
            return (outcome, None);
        }
        self.merge = None;
        (outcome, Some(waiting.commit(tree)))
    }

    /// Gives up the merge that waits: what was staged since is again as it was, and so are conflicts.
    pub(crate) fn abort(&mut self, force: bool) -> Outcome {
        let Some(waiting) = self.merge.clone() else { return Outcome::Merging };
        let (ours, theirs) = (self.commits[waiting.ours].tree.clone(), &self.commits[waiting.theirs].tree);
        let stage = self.staged();
        let mut work = self.work.clone();
        for path in ours.keys().chain(stage.keys()).copied() {
            let (before, now, file) = (ours.get(path), stage.get(path), self.work.get(path));
            let is_conflict = waiting.conflicts.contains(path);
            // What is staged and neither side has was there before.
            let is_new = before.is_none() && !theirs.contains_key(path);
            if is_new || (before == now && !(is_conflict && file != now)) {
                continue;
            }
            if file.is_some() && file != now && file != before && !is_conflict && !force {
                return Outcome::Lost;
            }
            put(&mut work, path, before);
        }
        self.work = work;
        self.stage = self.stage.is_some().then_some(ours);
        self.merge = None;
        Outcome::Done
    }

    /// Takes one side of the conflicts at a path or below it, which is empty for all.
    pub(crate) fn checkout_side(&mut self, place: &str, is_theirs: bool) -> Outcome {
        let Some(mut waiting) = self.merge.clone() else { return Outcome::Merging };
        let is_named = |path: &&&'static str| {
            let is_below = place.is_empty() || path.starts_with(&format!("{place}/"));
            **path == place || (is_below && !waiting.resolved.contains(*path))
        };
        let named: BTreeSet<&'static str> = waiting.conflicts.iter().filter(is_named).copied().collect();
        if named.is_empty() {
            return Outcome::Unknown;
        }
        let side = self.commits[if is_theirs { waiting.theirs } else { waiting.ours }].tree.clone();
        let mut stage = self.staged();
        for path in &named {
            // What was never staged is not the merge's to remove.
            if side.contains_key(path) || stage.contains_key(path) {
                put(&mut self.work, path, side.get(path));
            }
            put(&mut stage, path, side.get(path));
        }
        self.stage = Some(stage);
        waiting.resolved.extend(named);
        self.merge = Some(waiting);
        Outcome::Done
    }

    /// Notes that paths were decided about, where a merge waits.
    fn decide(&mut self, is_decided: impl Fn(&str) -> bool) {
        if let Some(waiting) = &mut self.merge {
            waiting.resolved.extend(waiting.conflicts.iter().filter(|path| is_decided(path)));
        }
    }

    /// A merge became a commit.
    pub(crate) fn merged(&mut self, commit: Commit) {
        self.commits.push(commit);
        self.move_head(self.commits.len() - 1);
    }

    /// What is checked out became a commit without parents.
    pub(crate) fn squashed(&mut self, id: Digest) {
        // The same history is squashed to the same commit.
        let number = self.commits.iter().position(|commit| commit.id == id).unwrap_or(self.commits.len());
        let squashed = Commit { id, parents: Vec::new(), tree: self.last(), is_gone: false };
        match self.commits.get_mut(number) {
            Some(commit) => *commit = squashed,
            None => self.commits.push(squashed),
        }
        self.move_head(number);
    }

    /// Commits that no ref leads to are gone.
    pub(crate) fn prune(&mut self) {
        let mut kept = BTreeSet::new();
        let merged = self.merge.iter().flat_map(|merge| [merge.ours, merge.theirs]);
        let named = self.branches.values().chain(self.tags.values()).copied();
        for number in named.chain(self.head_commit()).chain(merged) {
            kept.extend(self.ancestors(number));
        }
        for (number, commit) in self.commits.iter_mut().enumerate() {
            commit.is_gone |= !kept.contains(&number);
        }
    }
}

/// What becomes of a file: of base, ours and theirs. `None` is a conflict.
fn merge_content([base, ours, theirs]: [Option<Content>; 3]) -> Option<Option<Content>> {
    if ours == theirs || base == theirs {
        return Some(ours);
    }
    if base == ours {
        return Some(theirs);
    }
    let (Some(Content::Model(base)), Some(Content::Model(ours)), Some(Content::Model(theirs))) = (base, ours, theirs)
    else {
        return None;
    };
    let mut merged = ours;
    for index in 0..merged.len() {
        if ours[index] != theirs[index] {
            merged[index] = match base[index] {
                version if version == theirs[index] => ours[index],
                version if version == ours[index] => theirs[index],
                _ => return None,
            };
        }
    }
    Some(Some(Content::Model(merged)))
}
