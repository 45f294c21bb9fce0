//! What the pickles of a file would have a reader import and call, told without doing any of it.
//!
//! [`scan`] looks at a file by its content, whatever it is called: a pickle of any protocol, pickles that follow one another, the
//! object arrays of NumPy, and every member of zip and tar archives, up to three archives deep. Checksums play no part, since not
//! every reader checks them. A pickle that breaks off counts up to the break: a reader has done all of that by then.
//!
//! A class or function is *usual* where it is on the list of those that rebuild tensors, arrays and containers, by its exact
//! module and name. What is not on that list need not do harm, and a list cannot say that a file does none.

mod archive;
mod stream;
mod usual;

use std::collections::HashMap;
use std::io;

use crate::source::Source;

/// Most different uses of classes and functions that a report has.
const MAX_GLOBALS: usize = 100_000;

/// Most bytes of text in the classes and functions of a report: the name of a member is told with each of them.
const MAX_GLOBALS_TEXT: usize = 64 << 20;

/// Most notes that a report has.
const MAX_NOTES: usize = 1000;

/// A class or function that a pickle asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalUse {
    /// The member of the archive that holds the pickle, as `outer.zip/inner.pkl` in an archive in another; empty for the file
    /// itself.
    pub member: String,
    /// Where it is first asked for: the offset of the opcode, in bytes from the start of the file or of the (expanded) member.
    pub offset: u64,
    /// The opcode that asks for it, by its name in Python's `pickletools`.
    pub opcode: &'static str,
    /// The module; empty where the pickle computes it.
    pub module: String,
    /// The name in the module, with dots where attributes are walked; empty where the pickle computes it.
    pub name: String,
    /// How many times it is asked for.
    pub imports: u64,
    /// How many times it is called, or makes an object.
    pub calls: u64,
    /// How many times it, or an object that it made, is given a state, which runs `__setstate__`.
    pub states: u64,
    /// Whether it is on the list of those that checkpoints usually ask for.
    pub usual: bool,
}

/// Something that a scan could not look at, or not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanNote {
    /// The member, as in [`GlobalUse::member`].
    pub member: String,
    /// What was not looked at, and why.
    pub message: String,
}

/// What a scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// How many pickles there are.
    pub pickles: u64,
    /// The classes and functions that they ask for, in the order of the file.
    pub globals: Vec<GlobalUse>,
    /// What was not looked at.
    pub notes: Vec<ScanNote>,
}

impl ScanReport {
    /// How many classes and functions are not usual.
    #[must_use]
    pub fn unusual(&self) -> usize {
        self.globals.iter().filter(|global| !global.usual).count()
    }
}

/// Tells what the pickles of a file would import and call.
///
/// # Errors
/// Only what reading the source says, never because of what the file contains.
pub fn scan(source: &dyn Source) -> io::Result<ScanReport> {
    let mut scanner = Scanner::default();
    scanner.file(source, "", 0)?;
    Ok(scanner.report)
}

/// A scan under way.
#[derive(Default)]
struct Scanner {
    report: ScanReport,
    /// Where a use stands in the report, by member, module, name and opcode.
    known: HashMap<(String, String, String, &'static str), usize>,
    /// Bytes of text that the uses have.
    text: usize,
    /// Bytes that were expanded so far.
    expanded: u64,
    /// Expanded bytes of the members that are open now.
    held: u64,
    /// Members that were looked at so far.
    members: usize,
    /// Opcodes that were followed so far.
    instructions: u64,
}

impl Scanner {
    fn note(&mut self, member: &str, message: impl Into<String>) {
        if self.report.notes.len() < MAX_NOTES {
            self.report.notes.push(ScanNote { member: member.to_owned(), message: message.into() });
        }
    }

    fn global(&mut self, found: GlobalUse) {
        let text = found.member.len() + found.module.len() + found.name.len();
        let key = (found.member.clone(), found.module.clone(), found.name.clone(), found.opcode);
        if let Some(known) = self.known.get(&key).and_then(|index| self.report.globals.get_mut(*index)) {
            known.imports += found.imports;
            known.calls += found.calls;
            known.states += found.states;
        } else if self.report.globals.len() < MAX_GLOBALS && text <= MAX_GLOBALS_TEXT - self.text {
            self.text += text;
            self.known.insert(key, self.report.globals.len());
            self.report.globals.push(found);
        } else if self.report.notes.last().is_none_or(|note| note.message != TOO_MANY) {
            self.note(&found.member, TOO_MANY);
        }
    }
}

const TOO_MANY: &str = "there are more classes and functions than a report has";
