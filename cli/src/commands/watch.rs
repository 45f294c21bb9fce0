//! `shard watch`

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use shard_core::{Digest, NoProgress};
use shard_repo::{Applied, FetchOptions, InPlace, Peer, RepoError, Repository, SyncProblem, SyncReport};
use shard_store::StoreError;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};

/// Longest time between two looks where the other repository cannot be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follow a branch of another repository: fetch what is new as deltas, and apply it in place to the files of a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The remote
    #[arg(value_name = "REMOTE")]
    remote: String,
    /// The branch of it
    #[arg(value_name = "BRANCH")]
    branch: String,
    /// The folder whose files become those of the newest version: an empty one at first, and of nobody else. `.shard-version` in it says
    /// which version it has, and whether that is whole
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Only these files or folders
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// How long to wait between two looks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// End after this many versions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// At every Nth version prove all bytes of the folder, and not only those that are written
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    anchor: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let (name, url) = repository.remote(Some(&args.remote))?;
    let name = name.ok_or_else(|| {
        Failure::from(RepoError::from(SyncProblem::UnknownRemote(url.clone())))
            .next("only remotes are followed: `shard remote add NAME URL` makes one")
    })?;
    let there = shard_remote::other(&repository, &url)?;
    let mut folder = InPlace::open(&repository, &args.output, &args.paths)?;
    let mut branch = Followed { repository: &repository, remote: name, there: there.as_ref(), args };
    // Who has a version waits for the next one, also after it was started again. Who has none is told what is wrong at once.
    let mut is_patient = folder.version().is_some();
    let interval = Duration::from_millis(args.interval);
    let (mut versions, mut wait) = (0, interval);
    loop {
        let start = Instant::now();
        match branch.look(&mut folder) {
            Ok(Some((fetched, version))) => {
                tell(context, &fetched, &version, start.elapsed())?;
                versions += u64::from(version.from != Some(version.commit));
                (is_patient, wait) = (true, interval);
                if args.count.is_some_and(|count| versions >= count) {
                    return Ok(code::DONE);
                }
            }
            Ok(None) => {
                wait = interval;
                thread::sleep(wait);
            }
            Err(error) if is_patient && may_pass(&error) => {
                context.ui.note(&[format!("{error}: trying again in {} ms", wait.as_millis())]);
                thread::sleep(wait);
                wait = (2 * wait).min(PATIENCE.max(interval));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an error may be gone by itself a little later.
fn may_pass(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::Sync(SyncProblem::Unreachable { .. } | SyncProblem::NotThere { .. })
            | RepoError::Raced(_)
            | RepoError::Store(StoreError::Elsewhere { .. })
    )
}

/// A branch of another repository.
struct Followed<'a> {
    repository: &'a Repository,
    remote: String,
    there: &'a dyn Peer,
    args: &'a Args,
}

impl Followed<'_> {
    /// Applies the newest version; `None` where the folder has it.
    fn look(&mut self, folder: &mut InPlace) -> Result<Option<(SyncReport, Applied)>, RepoError> {
        let Args { branch, anchor, .. } = self.args;
        // One question: a fetch takes three, and a lease.
        let there = self.there.welcome()?.branch(branch).map(|found| found.commit);
        let missing = || SyncProblem::NotThere { url: self.there.url(), name: branch.clone() };
        let mut commit = there.ok_or_else(missing)?;
        if folder.is_at(commit) {
            return Ok(None);
        }
        let mut fetched = SyncReport::default();
        if self.here() != Some(commit) {
            let options = FetchOptions { branches: vec![branch.clone()], no_tags: true, ..FetchOptions::default() };
            fetched = self.repository.fetch(Some(&self.remote), self.there, &options, &NoProgress)?;
            // It may have moved on meanwhile.
            commit = self.here().unwrap_or(commit);
        }
        let before = folder.version();
        let applied = folder.apply(self.repository, commit, *anchor)?;
        Ok((applied.files > 0 || before != Some(commit)).then_some((fetched, applied)))
    }

    /// Where the branch was when it was fetched last.
    fn here(&self) -> Option<Digest> {
        self.repository.resolve(&format!("refs/remotes/{}/{}", self.remote, self.args.branch)).ok()
    }
}

fn tell(context: &Context, fetched: &SyncReport, version: &Applied, took: Duration) -> Result<(), Failure> {
    let Applied { commit, from, is_anchor, files, mended, blocks, bytes } = version;
    if context.ui.json {
        // One document a line, since they never end.
        let line = json!({
            "commit": commit.to_hex(),
            "from": from.map(|from| from.to_hex()),
            "anchor": is_anchor,
            "commits": fetched.commits,
            "received": fetched.bytes,
            "files": files,
            "mended": mended,
            "blocks": blocks,
            "written": bytes,
            "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        return context.ui.print(&format!("{line}\n"));
    }
    let mut text = format!("{}  received {}, ", commit.short(), human(fetched.bytes));
    text.push_str(&format!("wrote {} ({}) of {}", human(*bytes), count(*blocks, "block"), count(*files, "file")));
    if *mended > 0 {
        text.push_str(&format!(", mended {}", count(*mended, "file")));
    }
    if *is_anchor {
        text.push_str(", proved all bytes");
    }
    context.ui.print(&format!("{text}  {} ms\n", took.as_millis()))
}
