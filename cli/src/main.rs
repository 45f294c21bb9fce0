//! The `shard` command line.
#![forbid(unsafe_code)]

mod commands;
mod error;
mod report;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use shard_codecs::Level;
use shard_repo::{RepoError, Repository, Settings};
use shard_store::Store;

use error::{Failure, code};
use report::{ColorChoice, Ui};

const AFTER_HELP: &str = "\
Start:
  shard init && shard add model.safetensors && shard commit -m \"step 100\"

Revisions: HEAD, a branch, a tag, a commit id or its first digits; then ~N (N first parents back) or ^N (the N-th parent).
REF@{N} is what a ref was N moves ago: `shard reflog REF` lists them, also of a ref that was deleted.
REV:PATH is a file of a revision; a path that could be taken for a revision is written ./PATH.

Exit codes:
  0  done
  1  the answer is no, or there are differences (diff --exit-code, status --exit-code, verify with problems,
     scan with anything unusual, merge with conflicts)
  2  wrong usage
  3  not found: no repository, unknown revision, no such path
  4  refused: something would be lost, nothing to do, or another writer was first
  5  damaged data
  6  the system refused: I/O error, full disk, permission";

/// Keeps series of AI models as exact tensor deltas: git for checkpoints.
#[derive(Debug, Parser)]
#[command(name = "shard", version, after_help = AFTER_HELP, max_term_width = 120, disable_help_subcommand = false)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Run as if started in DIR, or on the repository at s3://BUCKET/PREFIX, gs:// or az://
    #[arg(short = 'C', value_name = "DIR", global = true)]
    working_folder: Option<PathBuf>,
    /// Worker threads; 0 is one a core, up to 10 (3 at `--level max`)
    #[arg(long, value_name = "N", global = true, default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(0..=256))]
    threads: u16,
    /// How hard to look for a smaller encoding: max is the smallest and slowest
    #[arg(long, global = true, value_enum, default_value_t)]
    level: LevelChoice,
    /// Store deltas in two layers, the first with BITS (1 to 8) of each word: enough for `checkout --approx`. Both together are exact
    #[arg(long, value_name = "BITS", global = true, value_parser = clap::value_parser!(u8).range(1..=8))]
    coarse: Option<u8>,
    /// No progress and no informational output; results are still printed
    #[arg(short, long, global = true)]
    quiet: bool,
    /// When to use colour; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t)]
    color: ColorChoice,
    /// Print exactly one JSON document on stdout, and errors as JSON on stderr
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum LevelChoice {
    Fast,
    #[default]
    Default,
    Max,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(commands::init::Args),
    Add(commands::add::Args),
    Commit(Box<commands::commit::Args>),
    Status(commands::status::Args),
    Log(commands::log::Args),
    Show(commands::show::Args),
    LsTree(commands::ls_tree::Args),
    Cat(commands::cat::Args),
    Download(commands::download::FileArgs),
    Snapshot(commands::download::SnapshotArgs),
    Checkout(commands::checkout::Args),
    Branch(commands::branch::Args),
    Tag(commands::tag::Args),
    Reset(commands::reset::Args),
    Reflog(commands::reflog::Args),
    Merge(Box<commands::merge::Args>),
    Clone(commands::clone::Args),
    Remote(commands::remote::Args),
    Connect(commands::remote::ConnectArgs),
    Fetch(commands::fetch::Args),
    Pull(commands::pull::Args),
    Push(commands::push::Args),
    Serve(commands::serve::Args),
    #[command(alias = "op")]
    Operations(commands::operations::Args),
    Undo(commands::undo::Args),
    Blame(commands::blame::Args),
    Bisect(commands::bisect::Args),
    Lineage(commands::lineage::Args),
    Track(commands::track::Args),
    Untrack(commands::untrack::Args),
    Diff(commands::diff::Args),
    Protect(commands::protect::Args),
    Squash(commands::squash::Args),
    Forget(commands::forget::Args),
    Optimize(commands::optimize::Args),
    Verify(commands::verify::Args),
    Watch(commands::watch::Args),
    Plan(commands::plan::Args),
    Task(commands::plan::TaskArgs),
    Gc(commands::gc::Args),
    Du(commands::du::Args),
    Leases(commands::leases::Args),
    Chunk(commands::chunk::Args),
    Scan(commands::scan::Args),
    Pack(commands::pack::Args),
    Unpack(commands::unpack::Args),
    Reindex(commands::reindex::Args),
    Bench(commands::bench::Args),
    #[cfg(feature = "demo")]
    Demo(commands::demo::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

impl Command {
    /// Whether the command works through files, so that it is worth starting threads.
    fn computes(&self) -> bool {
        !matches!(
            self,
            Self::Init(_)
                | Self::Status(_)
                | Self::Log(_)
                | Self::LsTree(_)
                | Self::Branch(_)
                | Self::Tag(_)
                | Self::Reflog(_)
                | Self::Leases(_)
                | Self::Remote(_)
                | Self::Connect(_)
                | Self::Operations(_)
                | Self::Blame(_)
                | Self::Track(_)
                | Self::Untrack(_)
                | Self::Protect(_)
                | Self::Squash(_)
                | Self::Forget(_)
                | Self::Reindex(_)
                | Self::Bench(_)
                | Self::Scan(_)
                | Self::Completions(_)
                | Self::Man(_)
        )
    }
}

/// What every command gets.
struct Context {
    ui: Ui,
    settings: Settings,
    /// The address of the repository, where it is in a bucket or behind a server and not in a folder.
    away: Option<String>,
    /// The store that was opened, for what it has to say in the end.
    store: RefCell<Option<Store>>,
}

impl Context {
    /// The repository of the current folder.
    fn repository(&self) -> Result<Repository, Failure> {
        let repository = match &self.away {
            Some(url) => shard_remote::open_away(url, self.settings)?,
            None => Repository::discover(Path::new("."), self.settings)?,
        };
        self.store.replace(Some(repository.store().clone()));
        Ok(repository)
    }

    /// The repository of the current folder, also if its refs were lost: for who looks at the damage, and mends it.
    fn damaged_repository(&self) -> Result<Repository, Failure> {
        let repository = match &self.away {
            Some(url) => shard_remote::open_damaged_away(url, self.settings)?,
            None => Repository::discover_damaged(Path::new("."), self.settings)?,
        };
        self.store.replace(Some(repository.store().clone()));
        Ok(repository)
    }

    /// The repository of the current folder, where there is one.
    fn repository_if_any(&self) -> Result<Option<Repository>, Failure> {
        if self.away.is_some() {
            return self.repository().map(Some);
        }
        match Repository::discover(Path::new("."), self.settings) {
            Ok(repository) => {
                self.store.replace(Some(repository.store().clone()));
                Ok(Some(repository))
            }
            Err(RepoError::NotARepository(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Says what was out of the ordinary, such as an index that had to be built anew.
    fn print_notes(&self) {
        let notes = self.store.borrow().as_ref().map(Store::take_notes).unwrap_or_default();
        if !self.ui.quiet && !self.ui.json {
            self.ui.note(&notes);
        }
    }
}

fn main() -> ExitCode {
    // A write beyond the limit on a file's size is then an error like any other, not the end of the process.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), std::sync::Arc::default());
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let Cli { global, command } = cli;
    let level = match global.level {
        LevelChoice::Fast => Level::Fast,
        LevelChoice::Default => Level::Default,
        LevelChoice::Max => Level::Max,
    };
    let folder = global.working_folder;
    let away = folder.as_deref().and_then(Path::to_str).filter(|url| shard_remote::is_away(url)).map(str::to_owned);
    let context = Context {
        ui: Ui::new(global.json, global.quiet, global.color),
        settings: Settings {
            threads: usize::from(global.threads),
            level,
            coarse: global.coarse,
            connect: Some(shard_remote::connect),
        },
        away,
        store: RefCell::default(),
    };
    let enter = |folder: PathBuf| {
        let problem = |error| Failure::io(&folder, "cannot enter the folder", &error);
        std::env::set_current_dir(&folder).map_err(problem)
    };
    let entered = folder.filter(|_| context.away.is_none()).map_or(Ok(()), enter);
    let outcome = entered.and_then(|()| run(&command, &context));
    context.print_notes();
    match outcome {
        Ok(code) => ExitCode::from(code),
        // The reader has seen enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::from(code::DONE),
        Err(mut failure) => {
            // Far away it is not opened once more for a suggestion.
            if context.away.is_none()
                && let Ok(Some(repository)) = context.repository_if_any()
            {
                failure.suggest(&repository);
            }
            let parsed = <Cli as clap::CommandFactory>::command().try_get_matches_from(&arguments);
            if let Some(command) = parsed.ok().as_ref().and_then(clap::ArgMatches::subcommand_name) {
                failure.in_command(command);
            }
            context.ui.report(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: &Command, context: &Context) -> Result<u8, Failure> {
    if command.computes() {
        limit_threads(context.settings.workers());
    }
    match command {
        Command::Init(args) => commands::init::run(args, context),
        Command::Add(args) => commands::add::run(args, context),
        Command::Commit(args) => commands::commit::run(args, context),
        Command::Status(args) => commands::status::run(args, context),
        Command::Log(args) => commands::log::run(args, context),
        Command::Show(args) => commands::show::run(args, context),
        Command::LsTree(args) => commands::ls_tree::run(args, context),
        Command::Cat(args) => commands::cat::run(args, context),
        Command::Download(args) => commands::download::file(args, context),
        Command::Snapshot(args) => commands::download::snapshot(args, context),
        Command::Checkout(args) => commands::checkout::run(args, context),
        Command::Branch(args) => commands::branch::run(args, context),
        Command::Tag(args) => commands::tag::run(args, context),
        Command::Reset(args) => commands::reset::run(args, context),
        Command::Reflog(args) => commands::reflog::run(args, context),
        Command::Merge(args) => commands::merge::run(args, context),
        Command::Clone(args) => commands::clone::run(args, context),
        Command::Remote(args) => commands::remote::run(args, context),
        Command::Connect(args) => commands::remote::connect(args, context),
        Command::Fetch(args) => commands::fetch::run(args, context),
        Command::Pull(args) => commands::pull::run(args, context),
        Command::Push(args) => commands::push::run(args, context),
        Command::Serve(args) => commands::serve::run(args, context),
        Command::Operations(args) => commands::operations::run(args, context),
        Command::Undo(args) => commands::undo::run(args, context),
        Command::Blame(args) => commands::blame::run(args, context),
        Command::Bisect(args) => commands::bisect::run(args, context),
        Command::Lineage(args) => commands::lineage::run(args, context),
        Command::Track(args) => commands::track::run(args, context),
        Command::Untrack(args) => commands::untrack::run(args, context),
        Command::Diff(args) => commands::diff::run(args, context),
        Command::Protect(args) => commands::protect::run(args, context),
        Command::Squash(args) => commands::squash::run(args, context),
        Command::Forget(args) => commands::forget::run(args, context),
        Command::Optimize(args) => commands::optimize::run(args, context),
        Command::Verify(args) => commands::verify::run(args, context),
        Command::Watch(args) => commands::watch::run(args, context),
        Command::Plan(args) => commands::plan::run(args, context),
        Command::Task(args) => commands::plan::task(args, context),
        Command::Gc(args) => commands::gc::run(args, context),
        Command::Du(args) => commands::du::run(args, context),
        Command::Leases(args) => commands::leases::run(args, context),
        Command::Chunk(args) => commands::chunk::run(args, context),
        Command::Scan(args) => commands::scan::run(args, context),
        Command::Pack(args) => commands::pack::run(args, context),
        Command::Unpack(args) => commands::unpack::run(args, context),
        Command::Reindex(args) => commands::reindex::run(args, context),
        Command::Bench(args) => commands::bench::run(args, context),
        #[cfg(feature = "demo")]
        Command::Demo(args) => commands::demo::run(args, context),
        Command::Completions(args) => commands::completions::run(args, context),
        Command::Man(args) => commands::man::run(args, context),
    }
}

/// Makes the pool of threads that comparisons use no larger than asked. Without a wish it is made when it is first needed.
fn limit_threads(threads: usize) {
    // It fails only where there is a pool already, and this is the first.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Says what is wrong with the command line, or prints the help that was asked for.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let is_error = error.use_stderr();
    let wants_json = arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|a| a == "--json");
    if is_error && wants_json {
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let failure = Failure::new(code::USAGE, what).next("`shard help COMMAND` shows how it is used");
        Ui::new(true, false, ColorChoice::Never).report(&failure);
    } else {
        // Where this cannot be written there is nobody to tell.
        let _ = error.print();
    }
    ExitCode::from(if is_error { code::USAGE } else { code::DONE })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_has_an_argument_of_a_global_s_name() {
        // clap would hand one the value of the other.
        let command = Cli::command();
        let globals: Vec<_> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
        assert_eq!(globals.len(), 7);
        for subcommand in command.get_subcommands() {
            for argument in subcommand.get_arguments() {
                let clashes = globals.iter().any(|global| global.get_id() == argument.get_id());
                assert!(!clashes, "{} of {}", argument.get_id(), subcommand.get_name());
            }
        }
    }

    #[test]
    fn global_options_stand_on_either_side() {
        let cli = Cli::try_parse_from(["shard", "-C", "x", "--threads", "2", "status", "--json", "-q"]).unwrap();
        assert_eq!(cli.global.working_folder.as_deref(), Some(Path::new("x")));
        assert!(cli.global.json && cli.global.quiet && cli.global.threads == 2);
        assert!(Cli::try_parse_from(["shard", "--threads", "x", "status"]).is_err());
    }
}
