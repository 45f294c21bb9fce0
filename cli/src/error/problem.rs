//! What people can do about what the engine refuses: the exit code, and the next step.

use shard_repo::{BisectProblem, GitProblem, MergeProblem, PlanProblem, RefProblem, SyncProblem, UndoProblem};

use super::code;

/// The exit code and what to do about a branch or tag that cannot be had as asked.
pub(super) fn from_ref(problem: &RefProblem) -> (u8, String) {
    match problem {
        RefProblem::Name { .. } => {
            (code::USAGE, "choose a name such as run-7 or release/v1, of what Git takes for a branch".to_owned())
        }
        RefProblem::Exists { kind: "tag", name } => {
            (code::REFUSED, format!("choose another name, or `shard tag -f {name} REV` to move it"))
        }
        RefProblem::Exists { .. } | RefProblem::CaseFold { .. } | RefProblem::Nested { .. } => {
            (code::REFUSED, "choose another name; `shard branch` and `shard tag` list those that are taken".to_owned())
        }
        RefProblem::Unknown { kind: "protection", .. } => {
            (code::NOT_FOUND, "`shard protect` lists what is protected".to_owned())
        }
        RefProblem::Unknown { kind, .. } => (code::NOT_FOUND, format!("`shard {kind}` lists those that there are")),
        RefProblem::Pattern { .. } => (code::USAGE, "a pattern is such as main, release/* or tags/v*".to_owned()),
        RefProblem::Protected { pattern, .. } => {
            (code::REFUSED, format!("nothing was changed; `shard protect --remove '{pattern}'` lifts the protection"))
        }
        RefProblem::CheckedOut(_) => (code::REFUSED, "`shard checkout` another one first".to_owned()),
        RefProblem::Default(name) => {
            (code::REFUSED, format!("it stays as long as the repository; `shard branch -m {name} NEW` renames it"))
        }
        RefProblem::OnlyHere { name, .. } => (
            code::REFUSED,
            format!(
                "tag it to keep it, or `shard branch -D {name}`: then only `shard reflog {name}` knows its commits"
            ),
        ),
    }
}

/// The exit code and what to do about a plan that cannot be made, done or finished.
pub(super) fn from_plan(problem: &PlanProblem) -> (u8, &'static str) {
    match problem {
        PlanProblem::Unknown(_) | PlanProblem::NoDefault(0) => {
            (code::NOT_FOUND, "`shard plan` lists those that there are; one that was finished is gone")
        }
        PlanProblem::NoDefault(_) => (code::USAGE, "name one; `shard plan` lists them"),
        PlanProblem::NoRoot(_) => {
            (code::USAGE, "say where its files are: `shard task --root DIR`; nothing outside of DIR is read")
        }
        PlanProblem::NoTask { .. } => (code::USAGE, "`shard plan` says which tasks are missing"),
        PlanProblem::Size { .. } => (
            code::REFUSED,
            "nothing was stored: put the file back, or give up the plan, `shard plan drop`, and make it anew",
        ),
        PlanProblem::Malformed { .. } => (
            code::DAMAGED,
            "use the version of shard that made it, or give it up, `shard plan drop`; branches called plan/… are for plans",
        ),
    }
}

/// The exit code and what to do about a merge that is not begun, continued or given up.
pub(super) fn from_merge(problem: &MergeProblem) -> (u8, &'static str) {
    match problem {
        MergeProblem::Unrelated { .. } => {
            (code::REFUSED, "--allow-unrelated merges them all the same, as if both had begun with nothing")
        }
        MergeProblem::NotFastForward { .. } => (code::REFUSED, "without --ff-only a merge makes a commit of both"),
        MergeProblem::UnderWay => {
            (code::REFUSED, "`shard merge --continue` commits it, `shard merge --abort` gives it up")
        }
        MergeProblem::NotUnderWay => (code::REFUSED, "`shard merge SOURCE` begins one"),
        MergeProblem::Elsewhere { .. } => {
            (code::REFUSED, "`shard checkout` what it began from, or `shard merge --abort` to forget it")
        }
        MergeProblem::NotInConflict(_) => (
            code::REFUSED,
            "nothing was changed: `shard status` lists what is to be decided, and what is decided is decided again by its own path; \
             `shard checkout REV PATH` takes a file of a revision",
        ),
        MergeProblem::StagedMeanwhile(_) => (
            code::REFUSED,
            "`shard checkout HEAD PATH` takes it back, or where HEAD has no such file, `shard add PATH` after the file is moved away; \
             `shard merge --abort` gives up",
        ),
        MergeProblem::NothingForRules => (
            code::REFUSED,
            "`shard merge --continue` without --strategy and --rule commits it, `shard merge --abort` gives it up",
        ),
        MergeProblem::State(_) => (code::DAMAGED, "`shard reset --hard` forgets it"),
    }
}

pub(super) fn from_git(problem: &GitProblem) -> (u8, &'static str) {
    match problem {
        GitProblem::NoGit => (code::NOT_FOUND, "`git init` makes one; without Git, files only have to be added"),
        GitProblem::Pattern { .. } => {
            (code::USAGE, "a pattern is one of gitignore, such as '*.safetensors' or models/")
        }
        GitProblem::NotTracked(_) => (code::NOT_FOUND, "`shard track` lists the patterns"),
        GitProblem::NothingTracked => (
            code::USAGE,
            "name a revision; beside Git, `shard track '*.safetensors'` lets pointers say which files belong here",
        ),
        GitProblem::Malformed { .. } => (
            code::DAMAGED,
            "`git checkout -- FILE` brings a pointer back as Git has it; `shard track --refresh` writes those of the last commit",
        ),
        GitProblem::NotStored(_) => (
            code::NOT_FOUND,
            "`shard checkout --from DIR` brings them from another repository; other pointers were not followed either",
        ),
    }
}

pub(super) fn from_bisect(problem: &BisectProblem) -> (u8, &'static str) {
    match problem {
        BisectProblem::NotStarted => (code::REFUSED, "`shard bisect start BAD GOOD…` starts one"),
        BisectProblem::Started => {
            (code::REFUSED, "`shard bisect reset` ends it, `shard bisect log` shows where it stands")
        }
        BisectProblem::Contradiction(_) => (
            code::REFUSED,
            "nothing was marked: `shard bisect log` shows what is, `shard undo` takes the last mark back",
        ),
        BisectProblem::Bare => (
            code::USAGE,
            "`shard bisect --tensor GLOB --where QUESTION` checks nothing out; `shard checkout REV -o DIR` writes a commit elsewhere",
        ),
        BisectProblem::NoTensors { .. } => (
            code::NOT_FOUND,
            "`shard show REV:PATH --tensors` lists the tensors of a file; in a pattern * is any text, ? a character",
        ),
        BisectProblem::NotBad { .. } | BisectProblem::NotGood { .. } => {
            (code::REFUSED, "the bad revision is named first, and those that are good after it")
        }
    }
}

pub(super) fn from_undo(problem: &UndoProblem) -> (u8, &'static str) {
    match problem {
        UndoProblem::Unknown(_) | UndoProblem::Ambiguous(_) => {
            (code::NOT_FOUND, "`shard operations` lists them; the first digits of an id are enough, four or more")
        }
        UndoProblem::MovedLater { .. } => {
            (code::REFUSED, "undo the later operation first: `shard operations` lists them")
        }
        UndoProblem::Nothing | UndoProblem::Forgotten(_) | UndoProblem::Init => {
            (code::REFUSED, "`shard operations` lists what was done, and `shard reflog REF` what a ref was")
        }
    }
}

/// The exit code and what to do about commits that are not exchanged.
pub(super) fn from_sync(problem: &SyncProblem) -> (u8, &'static str) {
    match problem {
        SyncProblem::UnknownRemote(_) => (
            code::NOT_FOUND,
            "`shard remote` lists them, `shard remote add NAME URL` makes one; a folder is written ./FOLDER",
        ),
        SyncProblem::NoDefault(0) => (
            code::NOT_FOUND,
            "`shard connect URL` makes a repository the remote origin, or give its address: a folder with a / in it",
        ),
        SyncProblem::NoDefault(_) => (code::USAGE, "name one of them: `shard remote` lists them"),
        SyncProblem::RemoteExists(_) => (code::REFUSED, "`shard remote set-url NAME URL` gives it another address"),
        SyncProblem::RemoteName { .. } => (code::USAGE, "choose a name such as origin or lab-2"),
        SyncProblem::Url { .. } => (
            code::USAGE,
            "give a folder, file:// and the whole path of one, the http:// or https:// address of a server, or s3://BUCKET/PREFIX",
        ),
        SyncProblem::Unreachable { .. } => (code::SYSTEM, "run the command again: what has arrived is not sent again"),
        SyncProblem::Unauthorized { .. } => (
            code::REFUSED,
            "nothing was moved: `shard remote login NAME` keeps a token for it, or give one as SHARD_TOKEN",
        ),
        SyncProblem::OverQuota { .. } => (code::SYSTEM, "`shard gc` over there gives back what nothing leads to"),
        SyncProblem::Bucket { .. } => (
            code::USAGE,
            "an address is s3://BUCKET/PREFIX, gs:// or az://; `shard help remote` lists where credentials are looked for",
        ),
        SyncProblem::ManyWriters { .. } => (
            code::REFUSED,
            "nothing was made: a store is needed that creates an object only if its name is free, however many try; `shard serve` keeps repositories in folders",
        ),
        SyncProblem::Refused { .. } => {
            (code::REFUSED, "nothing was moved: `shard remote` shows the address; who runs the server knows more")
        }
        SyncProblem::Lacking { .. } => {
            (code::DAMAGED, "no ref was moved: `shard verify --full` over there says whether it is damaged")
        }
        SyncProblem::Promises(_) => (code::REFUSED, "`shard remote set-url NAME URL` says where they are now"),
        SyncProblem::Raced => (code::REFUSED, "nothing was lost: run the command again"),
        SyncProblem::NotThere { .. } => (code::NOT_FOUND, "`shard fetch --dry-run` lists what there is to fetch"),
        SyncProblem::NothingToPush(_) => (
            code::NOT_FOUND,
            "`shard branch` and `shard tag` list what there is; HERE:THERE pushes it under another name",
        ),
        SyncProblem::Spec { .. } => {
            (code::USAGE, "name a branch or tag, HERE:THERE, or :THERE to delete it over there")
        }
        SyncProblem::NotFastForward { is_known: false, .. } => (
            code::REFUSED,
            "nothing was sent: `shard pull` brings its commits and merges them, then push again; --force loses them over there",
        ),
        SyncProblem::NotFastForward { is_known: true, .. } => (
            code::REFUSED,
            "nothing was moved: `shard merge` what the remote branch has, then push again; --force loses its commits over there",
        ),
        SyncProblem::TagThere(_) => (code::REFUSED, "choose another name; --force moves the tag over there"),
        SyncProblem::CheckedOutThere(_) => {
            (code::REFUSED, "push it under another name, `shard push REMOTE HERE:THERE`, or to a bare repository")
        }
        SyncProblem::WhichBranch => {
            (code::USAGE, "name one: `shard pull REMOTE BRANCH`, or `shard checkout` a branch first")
        }
        SyncProblem::Undecodable { .. } | SyncProblem::Malformed(_) => (
            code::DAMAGED,
            "nothing of it was kept: run the command again, and `shard verify --full` over there if it stays",
        ),
    }
}
