//! Pickles in a file, one after another.

use std::io;

use super::usual::is_usual;
use super::{GlobalUse, Scanner};
use crate::format::{FormatError, FormatErrorKind};
use crate::pickle::{Instructions, Machine, Node, NodeId, Opcode, Operand, Step};
use crate::pytorch::item_len;
use crate::source::{Cursor, Source};

/// Most opcodes that a scan follows.
const MAX_INSTRUCTIONS: u64 = 1 << 28;

/// Most pickles that follow one another.
const MAX_PICKLES: u64 = 1 << 20;

/// What the report of usual names takes, in bytes: so much less has the pickle.
const REPORT_LEN: usize = 64 << 20;

/// Opcodes after the first by which bytes that start as a pickle does are taken for one, although they break off.
const CONVINCING: u64 = 5;

/// What may stand between pickles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    Nothing,
    /// The storages of PyTorch's tar archives: after `(key, location, class)` the items.
    Storages,
    /// The tensors of such archives: after `(key, storage, class)` sizes and strides.
    Tensors,
}

/// A use of a class or function.
#[derive(Clone)]
struct Found {
    at: u64,
    opcode: Opcode,
    names: Option<(String, String)>,
    calls: u64,
    states: u64,
}

/// What became of reading a pickle.
struct Run {
    machine: Machine,
    /// What was seen after there was more than the machine follows.
    seen: Vec<Found>,
    /// How many times it says that it is a pickle of protocol 2 or later, which those do once, with their first opcode.
    headers: u32,
    /// The opcodes that were read.
    instructions: u64,
    /// What it makes, where that is a tuple with a class at its end: the length of the class's items.
    item: Option<u64>,
    /// Why it ended before its end.
    broken: Option<FormatError>,
    /// Whether more than the machine follows was in it.
    too_large: bool,
    end: u64,
}

impl Run {
    /// What it asks for. Only one at a time is in memory as text.
    fn found(&self) -> impl Iterator<Item = Found> {
        let tree = self.machine.tree();
        let followed = tree.sites().iter().map(|site| Found {
            at: site.at,
            opcode: site.opcode,
            names: tree.names(site).map(|(module, name)| (text(module), text(name))),
            calls: u64::from(site.calls),
            states: u64::from(site.builds),
        });
        followed.chain(self.seen.iter().cloned())
    }

    /// Whether this is a pickle. Any bytes may begin with some opcodes: a list of words with a `GLOBAL`, for one, and the numbers
    /// of a tensor with anything.
    fn is_pickle(&self) -> bool {
        let says_so = self.headers == 1;
        // A code of an extension is but two bytes.
        let asks = |found: Found| found.acts() || !matches!(found.opcode, Opcode::Ext1 | Opcode::Ext2 | Opcode::Ext4);
        if self.broken.is_none() {
            return says_so || self.found().any(asks);
        }
        if says_so && (self.instructions > CONVINCING || self.found().any(asks)) {
            return true;
        }
        self.found().any(|found| found.acts() && found.is_plausible())
    }
}

impl Found {
    /// Whether something is called.
    fn acts(&self) -> bool {
        self.calls + self.states > 0
    }

    /// Whether the names could be those of Python.
    fn is_plausible(&self) -> bool {
        let plausible =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
        self.names.as_ref().is_none_or(|(module, name)| plausible(module) && plausible(name))
    }
}

impl Scanner {
    /// The pickles from `start` on. Whatever no pickle begins with ends them without a word.
    pub(super) fn pickles(
        &mut self,
        source: &dyn Source,
        start: u64,
        member: &str,
        between: Between,
    ) -> io::Result<()> {
        let mut at = start;
        let mut instructions = Instructions::new(Cursor::new(source, start));
        for _ in 0..MAX_PICKLES {
            if at >= source.len() {
                return Ok(());
            }
            let run = self.run(&mut instructions)?;
            if run.is_pickle() {
                self.tell(&run, at, member);
            }
            if run.broken.is_some() || run.end <= at {
                return Ok(());
            }
            let left = source.len() - run.end;
            let skip = match (between, run.item) {
                (Between::Storages, Some(item)) => {
                    count(source, run.end)?.checked_mul(item).and_then(|len| len.checked_add(8))
                }
                (Between::Tensors, Some(_)) => Some((count(source, run.end)? & 0xffff_ffff) * 16 + 16),
                _ => Some(0),
            };
            at = run.end + skip.unwrap_or(left).min(left);
            instructions.cursor().seek(at);
        }
        self.note(member, format!("more than {MAX_PICKLES} pickles follow one another; the rest was not read"));
        Ok(())
    }

    /// Reads one pickle.
    fn run(&mut self, instructions: &mut Instructions<'_>) -> io::Result<Run> {
        let mut run = Run {
            machine: Machine::beside(REPORT_LEN),
            seen: Vec::new(),
            headers: 0,
            instructions: 0,
            item: None,
            broken: None,
            too_large: false,
            end: 0,
        };
        let searched = instructions.searched();
        loop {
            if self.instructions >= MAX_INSTRUCTIONS {
                run.broken =
                    Some(FormatError::new(FormatErrorKind::Limit, "a scan follows no more opcodes than it has"));
                break;
            }
            self.instructions += 1;
            let instruction = match instructions.next() {
                Ok(instruction) => instruction,
                Err(error) => {
                    run.broken = Some(error.into_read_error()?);
                    break;
                }
            };
            if instruction.opcode == Opcode::Proto {
                let comes_first = run.instructions == 0 && matches!(instruction.operand, Operand::Int(2..=5));
                run.headers = run.headers.saturating_add(if comes_first { 1 } else { 2 });
            }
            run.instructions += 1;
            if run.too_large {
                let names = match instruction.opcode {
                    Opcode::Stop => break,
                    Opcode::Global | Opcode::Inst if instruction.operand == Operand::Names => {
                        Some((text(instructions.text()), text(instructions.name())))
                    }
                    Opcode::Global
                    | Opcode::Inst
                    | Opcode::StackGlobal
                    | Opcode::Ext1
                    | Opcode::Ext2
                    | Opcode::Ext4 => None,
                    _ => continue,
                };
                let calls = u64::from(instruction.opcode == Opcode::Inst);
                run.seen.push(Found { at: instruction.at, opcode: instruction.opcode, names, calls, states: 0 });
                if run.seen.len() > super::MAX_GLOBALS {
                    run.broken = Some(FormatError::new(FormatErrorKind::Limit, super::TOO_MANY));
                    break;
                }
                continue;
            }
            match run.machine.step(&instruction, instructions) {
                Ok(Step::Next) => {}
                Ok(Step::Stop(root)) => {
                    run.item = item(&run.machine, root);
                    break;
                }
                Err(error) if error.kind() == FormatErrorKind::Limit => {
                    run.too_large = true;
                    run.machine.let_go();
                }
                Err(error) => {
                    run.broken = Some(error);
                    break;
                }
            }
        }
        run.end = instructions.position();
        // A line that has no end is sought in all that is left.
        self.instructions += (instructions.searched() - searched) / 16;
        Ok(run)
    }

    fn tell(&mut self, run: &Run, start: u64, member: &str) {
        self.report.pickles += 1;
        for Found { at, opcode, names, calls, states } in run.found() {
            let (module, name) = names.unwrap_or_default();
            self.global(GlobalUse {
                member: member.to_owned(),
                offset: at,
                opcode: opcode.name(),
                usual: is_usual(&module, &name),
                module,
                name,
                imports: 1,
                calls,
                states,
            });
        }
        if let Some(error) = &run.broken {
            self.note(member, format!("the pickle at byte {start} breaks off: {error}; what follows was not read"));
        } else if run.too_large {
            self.note(
                member,
                format!(
                    "the pickle at byte {start} is larger than shard follows: how it uses what it asks for is not known"
                ),
            );
        }
    }
}

/// The length of an item of the class that ends a tuple of three.
fn item(machine: &Machine, root: NodeId) -> Option<u64> {
    let tree = machine.tree();
    match (tree.node(root), tree.tuple(root)?) {
        (Node::Tuple(_), [_, _, class]) => item_len(tree.global(*class)?.1).or(Some(0)),
        _ => None,
    }
}

/// The number of 8 bytes at that place; 0 where the file ends before.
fn count(source: &dyn Source, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    if source.len().saturating_sub(at) >= 8 {
        source.read_at(at, &mut bytes)?;
    }
    Ok(u64::from_le_bytes(bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
