//! `shard completions`: scripts that teach a shell the commands and options, from their own definitions.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::error::{Failure, code};
use crate::{Cli, Context};

/// Print the script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    if context.ui.json {
        return Err(Failure::new(code::USAGE, "a script is not JSON").next("run the command without --json"));
    }
    // It is written whole into memory first: a reader who has seen enough is then an error like any other.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "shard", &mut script);
    context.ui.print(&String::from_utf8_lossy(&script))?;
    Ok(code::DONE)
}
