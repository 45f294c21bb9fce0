//! What the user sees: text in tables, JSON, progress, colour.

pub(crate) mod changes;
pub(crate) mod exchange;
pub(crate) mod graph;
pub(crate) mod json;
pub(crate) mod lossy;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;

use std::cell::OnceCell;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;
use shard_core::{NoProgress, Progress};
use shard_heatmap::{Colors, TextOptions};

use crate::error::Failure;
use style::Style;
use table::Table;

/// When to use colour; `Auto` is on a terminal, unless NO_COLOR is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// How the user wants to be told things. Terminals are asked about only when something is printed.
#[derive(Debug, Default)]
pub(crate) struct Ui {
    /// One JSON document instead of text.
    pub(crate) json: bool,
    /// No progress and no informational text.
    pub(crate) quiet: bool,
    color: ColorChoice,
    stdout_is_terminal: OnceCell<bool>,
}

impl Ui {
    pub(crate) fn new(json: bool, quiet: bool, color: ColorChoice) -> Self {
        Self { json, quiet, color, stdout_is_terminal: OnceCell::new() }
    }

    /// Prints a result.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)
    }

    /// Prints what is good to know and not asked for: nothing with `--quiet`.
    pub(crate) fn inform(&self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.print(text) }
    }

    /// Prints what was done, or where it `is_dry` what would be, which was asked for.
    pub(crate) fn outcome(&self, json: &Value, text: &str, is_dry: bool) -> Result<(), Failure> {
        match (self.json, is_dry) {
            (true, _) => self.print_json(json),
            (false, true) => self.print(text),
            (false, false) => self.inform(text),
        }
    }

    /// Prints the command's one JSON document.
    pub(crate) fn print_json(&self, value: &Value) -> Result<(), Failure> {
        let mut text = format!("{value:#}");
        text.push('\n');
        self.print(&text)
    }

    /// A table as text for this terminal.
    pub(crate) fn table(&self, table: &Table) -> String {
        table.render(self.color(), self.width())
    }

    /// The same, without columns that there is no room for: `least` names them, the least needed first.
    pub(crate) fn table_by_importance(&self, table: &Table, least: &[&str]) -> String {
        table.without(least, self.width()).render(self.color(), self.width())
    }

    /// How pictures are shown on this terminal. What COLORTERM and TERM say of its colours is believed.
    pub(crate) fn picture_options(&self) -> TextOptions {
        let is_there = |name: &str, part: &str| std::env::var(name).is_ok_and(|value| value.contains(part));
        let colors = match self.color() {
            false => Colors::Plain,
            true if is_there("COLORTERM", "truecolor") || is_there("COLORTERM", "24bit") => Colors::True,
            true if is_there("TERM", "256color") => Colors::TwoFiftySix,
            true => Colors::Sixteen,
        };
        let lines = self.on_terminal().then(|| console::Term::stdout().size_checked()).flatten();
        // The title, heads and legend want room, too; a small window is no reason to hide everything.
        let height = lines.map(|(lines, _)| usize::from(lines).saturating_sub(12).max(24));
        TextOptions { width: self.width(), height, colors }
    }

    /// Text in a style.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        style.paint(&text::visible(text), self.color()).into_owned()
    }

    /// Whether stdout gets colour.
    fn color(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => self.on_terminal() && wants_color(),
        }
    }

    /// Columns of the terminal; `None` where stdout is none.
    fn width(&self) -> Option<usize> {
        self.on_terminal().then(|| console::Term::stdout().size_checked())?.map(|(_, columns)| usize::from(columns))
    }

    fn on_terminal(&self) -> bool {
        *self.stdout_is_terminal.get_or_init(|| io::stdout().is_terminal())
    }

    /// Whether progress is shown.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }

    /// A watcher for a long operation.
    pub(crate) fn progress(&self) -> Box<dyn Progress> {
        if self.shows_progress() { Box::new(progress::Bar::default()) } else { Box::new(NoProgress) }
    }

    /// Prints notes on stderr. Where that fails there is nobody to tell.
    pub(crate) fn note(&self, notes: &[String]) {
        for note in notes {
            let _ = writeln!(io::stderr().lock(), "note: {}", text::visible(note));
        }
    }

    /// Prints an error on stderr, as text or JSON. Where that fails there is nobody to tell.
    pub(crate) fn report(&self, failure: &Failure) {
        let text = if self.json {
            format!("{:#}\n", failure.to_json())
        } else {
            let color = match self.color {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => io::stderr().is_terminal() && wants_color(),
            };
            failure.to_text(color)
        };
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// <https://no-color.org>: set and not empty means no colour.
fn wants_color() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
