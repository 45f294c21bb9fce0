//! `shard man`: manual pages, from the definitions of the commands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::text::visible;
use crate::{Cli, Context};

/// Print the manual page of shard or of a command, for `man -l -`; or write all pages into a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command; without one, shard itself
    #[arg(value_name = "COMMAND", conflicts_with = "all")]
    page: Option<String>,
    /// Write the pages of shard and of every command, replacing those that are there
    #[arg(long, requires = "output")]
    all: bool,
    /// Folder for the pages, such as ~/.local/share/man/man1; made where it is not there
    #[arg(short, long, value_name = "DIR", requires = "all")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let shard = definitions();
    if let Some(folder) = &args.output {
        return write_all(&shard, folder, context);
    }
    if context.ui.json {
        let next = "run the command without --json; with --all it is fine";
        return Err(Failure::new(code::USAGE, "a manual page is not JSON").next(next));
    }
    let command = match &args.page {
        None => &shard,
        Some(name) => shard.find_subcommand(name).ok_or_else(|| unknown(name, &shard))?,
    };
    context.ui.print(&page(command).map_err(Failure::stdout)?)?;
    Ok(code::DONE)
}

fn unknown(name: &str, shard: &Command) -> Failure {
    let names: Vec<&str> = shard.get_subcommands().map(Command::get_name).collect();
    Failure::new(code::USAGE, format!("{name}: no such command")).next(format!("the commands are {}", names.join(", ")))
}

fn write_all(shard: &Command, folder: &Path, context: &Context) -> Result<u8, Failure> {
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::new(code::USAGE, format!("{}: is no folder", folder.display()))
            .next("give another folder with -o: it is made where it is not there"));
    }
    fs::create_dir_all(folder).map_err(|error| Failure::io(folder, "cannot make the folder", &error))?;
    let mut written = Vec::new();
    for command in std::iter::once(shard).chain(shard.get_subcommands()) {
        let path = folder.join(Man::new(command.clone()).get_filename());
        let failed = |error: io::Error| Failure::io(&path, "cannot write", &error);
        fs::write(&path, page(command).map_err(failed)?).map_err(failed)?;
        written.push(path.display().to_string());
    }
    if context.ui.json {
        context.ui.print_json(&json!({"output": folder.display().to_string(), "written": written}))?;
    } else {
        let place = folder.display().to_string();
        context.ui.inform(&format!("Wrote {} to {}\n", count(written.len() as u64, "page"), visible(&place)))?;
    }
    Ok(code::DONE)
}

/// The commands, as the pages tell of them.
fn definitions() -> Command {
    let values_in_words = |arg: Arg| {
        let values = arg.get_possible_values();
        let names: Vec<&str> =
            values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
        match arg.get_help() {
            // As a list, each would take two lines.
            Some(help) if !names.is_empty() && arg.get_action().takes_values() => {
                let help = format!("{help} [possible values: {}]", names.join(", "));
                arg.help(help).hide_possible_values(true)
            }
            _ => arg,
        }
    };
    // `shard help COMMAND` says what the page of the command says.
    let mut shard = Cli::command()
        .disable_help_subcommand(true)
        .mut_args(values_in_words)
        .mut_subcommands(|command| command.mut_args(values_in_words));
    shard.build();
    shard
}

/// The page of a command, as roff.
fn page(command: &Command) -> io::Result<String> {
    let mut command = command.clone();
    let is_shard = command.get_name() == "shard";
    let steps: Vec<(String, String)> = command.get_subcommands().filter(|_| !is_shard).map(step).collect();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let command = command.override_usage(usage).after_help(None).version(None).subcommand_help_heading("COMMANDS");
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    // The date is an argument that is empty: one of today would make each build another page.
    let man = Man::new(command).title(name).date("\"\"").source(format!("shard {version}")).manual("shard manual");
    let mut text = Vec::new();
    let mut end = Roff::default();
    if steps.is_empty() {
        man.render(&mut text)?;
    } else {
        // Steps of a command have no pages of their own.
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        end.control("SH", ["STEPS"]);
        for (usage, about) in steps {
            end.control("TP", []);
            end.text([bold(usage)]);
            end.text([roman(about)]);
        }
    }
    add_notes(&mut end, &notes);
    if !is_shard {
        end.control("SH", ["SEE ALSO"]);
        end.text([bold("shard"), roman("(1), for exit codes and how revisions are named")]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned() + &end.to_roff())
}

/// A command below a command: how it is used, and what it does.
fn step(command: &Command) -> (String, String) {
    let usage = command.clone().render_usage().to_string();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    (usage.trim_start_matches("Usage: ").to_owned(), about)
}

/// What the help says in the end: paragraphs that begin with a heading and a colon, whose lines may begin with a number.
fn add_notes(roff: &mut Roff, notes: &str) {
    for note in notes.split("\n\n").filter(|note| !note.is_empty()) {
        let (heading, body) = note.split_once(':').unwrap_or(("Notes", note));
        roff.control("SH", [heading.to_uppercase().as_str()]);
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once("  ") {
                Some((number, meaning)) => {
                    roff.control("TP", []);
                    roff.text([bold(number)]);
                    roff.text([roman(meaning)]);
                }
                None => {
                    roff.text([roman(line)]);
                }
            }
        }
    }
}
