//! The stack machine of pickle: what each opcode does with the objects that were made before it.

use super::instruction::{Instruction, Instructions, Operand, unsound};
use super::memo::Memo;
use super::opcode::Opcode;
use super::tree::{Node, NodeId, Tree, too_much};
use super::{MAX_INSTRUCTIONS, MAX_STACK};
use crate::format::{FormatError, FormatErrorKind};

/// The newest protocol.
const NEWEST: i64 = 5;

/// Most names and values of the named arguments of a call.
const MAX_NAMED: usize = 1 << 16;

/// Whether a pickle goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Next,
    /// It ended, and this is what it made.
    Stop(NodeId),
}

/// The state of reading a pickle.
pub(crate) struct Machine {
    tree: Tree,
    stack: Vec<NodeId>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: Memo,
}

impl Machine {
    /// One that shares the memory of a pickle with others, which take `others` bytes.
    pub(crate) fn beside(others: usize) -> Self {
        Self { tree: Tree::beside(others), stack: Vec::new(), marks: Vec::new(), memo: Memo::default() }
    }

    /// Frees what only reading takes.
    pub(crate) fn let_go(&mut self) {
        let memory = self.tree.memory();
        memory.free(&mut self.stack);
        memory.free(&mut self.marks);
        memory.free(&mut self.memo.dense);
    }

    /// What was made so far.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Follows one instruction, the last that was read.
    ///
    /// # Errors
    /// [`FormatError`] for one that a pickle cannot have there, or more than shard follows.
    pub(crate) fn step(&mut self, instruction: &Instruction, texts: &Instructions<'_>) -> Result<Step, FormatError> {
        let Instruction { at, opcode, operand } = *instruction;
        let number = match operand {
            Operand::Int(value) => Some(value),
            Operand::Bool(value) => Some(i64::from(value)),
            _ => None,
        };
        match opcode {
            Opcode::Proto if number.is_none_or(|version| version > NEWEST) => {
                return Err(unsound(instruction, "has a version that does not exist"));
            }
            Opcode::Proto | Opcode::Frame => {}
            Opcode::Stop => return Ok(Step::Stop(self.pop(instruction)?)),
            Opcode::Mark => {
                if self.marks.len() >= MAX_STACK {
                    return Err(deep());
                }
                self.tree.memory().push(&mut self.marks, self.stack.len())?;
            }
            Opcode::Pop => {
                // On a mark it takes the mark.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop(instruction)?;
                }
            }
            Opcode::PopMark => {
                let mark = self.pop_mark(instruction)?;
                self.stack.truncate(mark);
            }
            Opcode::Dup => {
                let top = self.top(instruction)?;
                self.push(top)?;
            }
            Opcode::Int
            | Opcode::Long
            | Opcode::BinInt
            | Opcode::BinInt1
            | Opcode::BinInt2
            | Opcode::Long1
            | Opcode::Long4 => {
                let id = match operand {
                    Operand::Int(value) => self.tree.add_int(value)?,
                    Operand::Bool(true) => Tree::TRUE,
                    Operand::Bool(false) => Tree::FALSE,
                    _ => Tree::OPAQUE,
                };
                self.push(id)?;
            }
            Opcode::Float
            | Opcode::BinFloat
            | Opcode::BinBytes
            | Opcode::ShortBinBytes
            | Opcode::BinBytes8
            | Opcode::ByteArray8
            | Opcode::NextBuffer => self.push(Tree::OPAQUE)?,
            Opcode::None => self.push(Tree::NONE)?,
            Opcode::NewTrue => self.push(Tree::TRUE)?,
            Opcode::NewFalse => self.push(Tree::FALSE)?,
            Opcode::ReadonlyBuffer => {
                self.top(instruction)?;
            }
            Opcode::String
            | Opcode::BinString
            | Opcode::ShortBinString
            | Opcode::Unicode
            | Opcode::BinUnicode
            | Opcode::ShortBinUnicode
            | Opcode::BinUnicode8 => {
                let id = self.text(operand, texts)?;
                self.push(id)?;
            }
            Opcode::PersId => {
                let id = self.text(operand, texts)?;
                let object = self.tree.add_persistent(id)?;
                self.push(object)?;
            }
            Opcode::BinPersId => {
                let id = self.pop(instruction)?;
                let object = self.tree.add_persistent(id)?;
                self.push(object)?;
            }
            Opcode::EmptyTuple => self.push(Tree::EMPTY_TUPLE)?,
            Opcode::Tuple1 => self.tuple(instruction, 1)?,
            Opcode::Tuple2 => self.tuple(instruction, 2)?,
            Opcode::Tuple3 => self.tuple(instruction, 3)?,
            Opcode::Tuple | Opcode::FrozenSet => {
                let mark = self.pop_mark(instruction)?;
                let id = self.tree.add_tuple(self.stack.get(mark..).unwrap_or_default())?;
                self.replace(mark, id)?;
            }
            Opcode::EmptyList | Opcode::EmptySet => {
                let id = self.tree.add_list()?;
                self.push(id)?;
            }
            Opcode::EmptyDict => {
                let id = self.tree.add_dict()?;
                self.push(id)?;
            }
            Opcode::List => {
                let mark = self.pop_mark(instruction)?;
                let id = self.tree.add_list()?;
                self.tree.append(id, self.stack.get(mark..).unwrap_or_default())?;
                self.replace(mark, id)?;
            }
            Opcode::Dict => {
                let mark = self.pop_mark(instruction)?;
                let id = self.tree.add_dict()?;
                self.pairs(instruction, id, mark)?;
                self.replace(mark, id)?;
            }
            Opcode::Append => {
                let member = self.pop(instruction)?;
                let list = self.top(instruction)?;
                self.tree.append(list, &[member])?;
            }
            Opcode::Appends | Opcode::AddItems => {
                let mark = self.pop_mark(instruction)?;
                let list = self.below(instruction, mark)?;
                self.tree.append(list, self.stack.get(mark..).unwrap_or_default())?;
                self.stack.truncate(mark);
            }
            Opcode::SetItem => {
                let value = self.pop(instruction)?;
                let key = self.pop(instruction)?;
                let dict = self.top(instruction)?;
                self.tree.set_items(dict, &[key, value])?;
            }
            Opcode::SetItems => {
                let mark = self.pop_mark(instruction)?;
                let dict = self.below(instruction, mark)?;
                self.pairs(instruction, dict, mark)?;
                self.stack.truncate(mark);
            }
            Opcode::Get | Opcode::BinGet | Opcode::LongBinGet => {
                let object = number.and_then(|index| self.memo.get(index));
                let object = object.ok_or_else(|| unsound(instruction, "asks for what was never remembered"))?;
                self.push(object)?;
            }
            Opcode::Put | Opcode::BinPut | Opcode::LongBinPut => {
                let top = self.top(instruction)?;
                let index = number.filter(|index| *index >= 0);
                let index = index.ok_or_else(|| unsound(instruction, "has no number to remember by"))?;
                self.memo.put(index, top, self.tree.memory())?;
            }
            Opcode::Memoize => {
                let top = self.top(instruction)?;
                self.memo.put(self.memo.len as i64, top, self.tree.memory())?;
            }
            Opcode::Global => {
                let id = self.global(instruction, texts)?;
                self.push(id)?;
            }
            Opcode::StackGlobal => {
                let name = self.pop(instruction)?;
                let module = self.pop(instruction)?;
                let id = self.tree.add_global_of(at, opcode, module, name)?;
                self.push(id)?;
            }
            Opcode::Ext1 | Opcode::Ext2 | Opcode::Ext4 => {
                // Which class a code stands for is up to the program that reads it.
                let code = number.unwrap_or_default().to_string();
                let id = self.tree.add_global(at, opcode, Some((b"extension", code.as_bytes())))?;
                self.push(id)?;
            }
            Opcode::Reduce | Opcode::NewObj => {
                let arguments = self.pop(instruction)?;
                let callable = self.pop(instruction)?;
                self.call(callable, arguments)?;
            }
            Opcode::NewObjEx => {
                let named = self.pop(instruction)?;
                let arguments = self.pop(instruction)?;
                let callable = self.pop(instruction)?;
                // Named arguments are taken for entries.
                let object = self.call(callable, arguments)?;
                if let Node::Dict(chain) = self.tree.node(named) {
                    let pairs: Vec<NodeId> = self.tree.items(chain).take(MAX_NAMED + 1).collect();
                    if pairs.len() > MAX_NAMED {
                        return Err(too_much("arguments of one call"));
                    }
                    self.tree.set_items(object, &pairs)?;
                }
            }
            Opcode::Inst => {
                let mark = self.pop_mark(instruction)?;
                let arguments = self.tree.add_tuple(self.stack.get(mark..).unwrap_or_default())?;
                let callable = self.global(instruction, texts)?;
                self.stack.truncate(mark);
                self.call(callable, arguments)?;
            }
            Opcode::Obj => {
                let mark = self.pop_mark(instruction)?;
                let (callable, rest) = match self.stack.get(mark..).and_then(<[NodeId]>::split_first) {
                    Some((callable, rest)) => (*callable, self.tree.add_tuple(rest)?),
                    None => return Err(unsound(instruction, "has no class")),
                };
                self.stack.truncate(mark);
                self.call(callable, rest)?;
            }
            Opcode::Build => {
                let state = self.pop(instruction)?;
                let object = self.top(instruction)?;
                self.tree.set_state(object, state)?;
            }
        }
        Ok(Step::Next)
    }

    fn call(&mut self, callable: NodeId, arguments: NodeId) -> Result<NodeId, FormatError> {
        self.note_call(callable);
        let id = self.tree.add_call(callable, arguments)?;
        self.push(id)?;
        Ok(id)
    }

    /// A class of PyTorch's old files comes as the persistent id `("module", class, source file, source)`.
    fn note_call(&mut self, callable: NodeId) {
        let within = match self.tree.node(callable) {
            Node::Persistent(id) => self.tree.tuple(id).and_then(|id| id.get(1).copied()),
            _ => None,
        };
        if let Some(site) = self.tree.site_mut(within.unwrap_or(callable)) {
            site.calls = site.calls.saturating_add(1);
        }
    }

    fn global(&mut self, instruction: &Instruction, texts: &Instructions<'_>) -> Result<NodeId, FormatError> {
        let names = (instruction.operand == Operand::Names).then(|| (texts.text(), texts.name()));
        self.tree.add_global(instruction.at, instruction.opcode, names)
    }

    fn text(&mut self, operand: Operand, texts: &Instructions<'_>) -> Result<NodeId, FormatError> {
        match operand {
            Operand::Text => self.tree.add_text(texts.text()),
            _ => Ok(Tree::OPAQUE),
        }
    }

    fn pairs(&mut self, instruction: &Instruction, dict: NodeId, mark: usize) -> Result<(), FormatError> {
        let pairs = self.stack.get(mark..).unwrap_or_default();
        if !pairs.len().is_multiple_of(2) {
            return Err(unsound(instruction, "has a key without a value"));
        }
        self.tree.set_items(dict, pairs)
    }

    fn tuple(&mut self, instruction: &Instruction, count: usize) -> Result<(), FormatError> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        let start = start.ok_or_else(|| unsound(instruction, "finds too few objects"))?;
        let id = self.tree.add_tuple(self.stack.get(start..).unwrap_or_default())?;
        self.replace(start, id)
    }

    /// Puts one object in the place of those from `start` on.
    fn replace(&mut self, start: usize, id: NodeId) -> Result<(), FormatError> {
        self.stack.truncate(start);
        self.push(id)
    }

    fn push(&mut self, id: NodeId) -> Result<(), FormatError> {
        if self.stack.len() >= MAX_STACK {
            return Err(deep());
        }
        self.tree.memory().push(&mut self.stack, id)
    }

    /// The height below which the last mark keeps objects from being taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self, instruction: &Instruction) -> Result<NodeId, FormatError> {
        let top = self.top(instruction)?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self, instruction: &Instruction) -> Result<NodeId, FormatError> {
        let top = self.stack.last().copied().filter(|_| self.stack.len() > self.floor());
        top.ok_or_else(|| unsound(instruction, "finds no object"))
    }

    /// The object below a mark that was just taken.
    fn below(&self, instruction: &Instruction, mark: usize) -> Result<NodeId, FormatError> {
        let below = mark.checked_sub(1).filter(|index| *index >= self.floor());
        let below = below.and_then(|index| self.stack.get(index).copied());
        below.ok_or_else(|| unsound(instruction, "finds no object below the mark"))
    }

    fn pop_mark(&mut self, instruction: &Instruction) -> Result<usize, FormatError> {
        self.marks.pop().ok_or_else(|| unsound(instruction, "finds no mark"))
    }
}

fn deep() -> FormatError {
    FormatError::new(FormatErrorKind::Limit, "the pickle has more objects at hand than shard follows")
}

/// A pickle that was read to its end.
pub(crate) struct Pickle {
    pub(crate) tree: Tree,
    /// What it makes.
    pub(crate) root: NodeId,
}

/// Reads a pickle to its end, and no further, beside others of the file that take `others` bytes.
///
/// # Errors
/// [`FormatError`] for one that is not sound, or larger than shard follows.
pub(crate) fn read_pickle(instructions: &mut Instructions<'_>, others: usize) -> Result<Pickle, FormatError> {
    let mut machine = Machine::beside(others);
    for _ in 0..MAX_INSTRUCTIONS {
        let instruction = instructions.next()?;
        if let Step::Stop(root) = machine.step(&instruction, instructions)? {
            machine.let_go();
            return Ok(Pickle { tree: machine.tree, root });
        }
    }
    Err(FormatError::new(FormatErrorKind::Limit, "the pickle has more opcodes than shard follows"))
}

#[cfg(test)]
mod tests {
    use super::super::MAX_NODES;
    use super::*;
    use crate::source::Cursor;

    fn read(bytes: &[u8]) -> Result<Pickle, FormatError> {
        read_pickle(&mut Instructions::new(Cursor::new(&bytes, 0)), 0)
    }

    /// What a pickle makes, as text; containers inside of themselves are not followed.
    fn show(tree: &Tree, id: NodeId, depth: usize) -> String {
        let list = |ids: &mut dyn Iterator<Item = NodeId>| {
            ids.map(|id| show(tree, id, depth + 1)).collect::<Vec<_>>().join(",")
        };
        if depth > 5 {
            return "…".to_owned();
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match tree.node(id) {
            Node::Opaque => "?".to_owned(),
            Node::None => "None".to_owned(),
            Node::Bool(value) => value.to_string(),
            Node::Int(value) => value.to_string(),
            Node::Text(_) => format!("'{}'", text(tree.text(id).unwrap())),
            Node::Tuple(_) => format!("({})", list(&mut tree.tuple(id).unwrap().iter().copied())),
            Node::List(chain) => format!("[{}]", list(&mut tree.items(chain))),
            Node::Dict(chain) => format!("{{{}}}", list(&mut tree.items(chain))),
            Node::Global(_) => {
                let (module, name) = tree.global(id).unwrap_or((b"?", b"?"));
                format!("{}.{}", text(module), text(name))
            }
            Node::Call(call) => {
                let callable = show(tree, call.callable, depth + 1);
                let arguments = show(tree, call.arguments, depth + 1);
                let appended = list(&mut tree.items(tree.appended(call)));
                let entries = list(&mut tree.items(tree.entries(call)));
                let state = tree.state(call).map_or(String::new(), |state| show(tree, state, depth + 1));
                format!("{callable}{arguments}[{appended}]{{{entries}}}<{state}>")
            }
            Node::Persistent(id) => format!("@{}", show(tree, id, depth + 1)),
        }
    }

    fn shown(bytes: &[u8]) -> String {
        let mut instructions = Instructions::new(Cursor::new(&bytes, 0));
        let pickle = read_pickle(&mut instructions, 0).unwrap();
        assert_eq!(instructions.position(), bytes.len() as u64);
        show(&pickle.tree, pickle.root, 0)
    }

    #[test]
    fn every_kind_of_object() {
        for (bytes, object) in [
            (
                &b"\x80\x02}q\0(X\x01\0\0\0aq\x01K\x01X\x01\0\0\0b]q\x02(NI01\nI00\n\x88\x89eu."[..],
                "{'a',1,'b',[None,true,false,true,false]}",
            ),
            (b"(lp0\nI1\naI2\na.", "[1,2]"),
            (b"(dp0\nS'a'\nL5L\ns.", "{'a',5}"),
            (b"(I1\nI2\nd.", "{1,2}"),
            (b"(I1\nI2\nl.", "[1,2]"),
            (b"(I1\n(I2\nI3\ntt.", "(1,(2,3))"),
            (b"K\x01K\x02\x86K\x01\x85K\x03\x87.", "((1,2),(1),3)"),
            (
                b"\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x01x\x85R.",
                "os.system('x')[]{}<>",
            ),
            (b"cos\nsystem\n(S'x'\ntR.", "os.system('x')[]{}<>"),
            (b"(S'x'\nios\nsystem\n.", "os.system('x')[]{}<>"),
            (b"(cos\nsystem\nS'x'\no.", "os.system('x')[]{}<>"),
            (b"cA\nB\n)\x81}K\x01K\x02sb.", "A.B()[]{}<{1,2}>"),
            (b"cA\nB\n)}K\x01K\x02s\x92.", "A.B()[]{1,2}<>"),
            (b"cA\nB\n)R(K\x01K\x02u(K\x03e.", "A.B()[3]{1,2}<>"),
            (b"\x8f(K\x01K\x02\x90.", "[1,2]"),
            (b"(K\x01K\x02\x91.", "(1,2)"),
            (b"Pid\n.", "@'id'"),
            (b"K\x07\x85Q.", "@(7)"),
            (b"\x82\x07)R.", "extension.7()[]{}<>"),
            (b"\x83\x07\x01.", "extension.263"),
            (b"\x84\x07\x01\0\0.", "extension.263"),
            (b"C\x01aB\x01\0\0\0a\x8e\x01\0\0\0\0\0\0\0a\x87.", "(?,?,?)"),
            (b"\x96\x01\0\0\0\0\0\0\0a\x97\x98F1.5\n\x87.", "(?,?,?)"),
            (b"K\x012\x86.", "(1,1)"),
            (b"K\x01K\x020.", "1"),
            (b"K\x01(0.", "1"),
            (b"K\x01(K\x02K\x031.", "1"),
            (b"]\x94h\0a.", "[[[[[[…]]]]]]"),
            (b"G\0\0\0\0\0\0\0\0r\0\0\0\x800K\x02p5\n0j\0\0\0\x80g5\n\x86.", "(?,2)"),
        ] {
            assert_eq!(shown(bytes), object, "{bytes:?}");
        }
    }

    #[test]
    fn what_a_pickle_asks_for_is_counted() {
        let pickle = read(b"cA\nB\nq\0)Rh\0)\x81}b]cC\nD\na\x87.").unwrap();
        let sites = pickle.tree.sites();
        let uses: Vec<_> = sites.iter().map(|site| (site.at, site.opcode.name(), site.calls, site.builds)).collect();
        assert_eq!(uses, [(0, "GLOBAL", 2, 1), (16, "GLOBAL", 0, 0)]);
    }

    #[test]
    fn unsound_pickles() {
        use FormatErrorKind::{Malformed, Truncated};
        for (bytes, kind) in [
            (&b"."[..], Malformed),
            (b"N", Truncated),
            (b"\x80\x06N.", Malformed),
            (b"h\0.", Malformed),
            (b"g-1\n.", Malformed),
            (b"gx\n.", Malformed),
            (b"Np-1\n.", Malformed),
            (b"t.", Malformed),
            (b"N(0\x85(\x85.", Malformed),
            (b"N(R.", Malformed),
            (b"(e.", Malformed),
            (b"N(K\x01(0e((e.", Malformed),
            (b"}(Nu.", Malformed),
            (b"(Nd.", Malformed),
            (b"(o.", Malformed),
            (b"Nb.", Malformed),
        ] {
            assert_eq!(read(bytes).err().map(|error| error.kind()), Some(kind), "{bytes:?}");
        }
    }

    #[test]
    fn fault_33_a_number_that_is_remembered_again_counts_once() {
        // 100 is far off at first and near later. MEMOIZE counts on from there, and a reader would take `os` where it is miscounted.
        let mut pickle = b"\x80\x04Nq\x64".to_vec();
        (0..100).for_each(|index| pickle.extend([b'q', index]));
        pickle.extend(b"q\x64\x8c\x02os\x94\x8c\x0bcollections\x94h\x65h\x66\x86.");
        assert_eq!(shown(&pickle), "('os','collections')");
    }

    #[test]
    fn fault_33_bombs_are_bounded() {
        let mut deep = vec![b']'; 1_000_000];
        deep.extend(vec![b'a'; 999_999]);
        deep.push(b'.');
        assert!(read(&deep).is_ok(), "a million lists in one another, dropped without recursion");
        let marks = vec![b'('; MAX_STACK + 10];
        assert_eq!(read(&marks).err().unwrap().kind(), FormatErrorKind::Limit);
        let mut copies = vec![b'N'];
        copies.extend(vec![b'2'; MAX_STACK + 10]);
        assert_eq!(read(&copies).err().unwrap().kind(), FormatErrorKind::Limit);
        let objects = [b']', b'0'].repeat(MAX_NODES + 10);
        assert_eq!(read(&objects).err().unwrap().kind(), FormatErrorKind::Limit);
        // Each number that is remembered is far from the one before it.
        let mut memo = vec![b'N'];
        for index in 1..100_000u32 {
            memo.push(b'r');
            memo.extend((index * 40_000).to_le_bytes());
        }
        memo.push(b'.');
        assert!(read(&memo).is_ok());
        // Every tuple has the one before it twice: 2^100 members, 100 nodes.
        let mut doubled = b"N".to_vec();
        doubled.extend(b"2\x86".repeat(100));
        doubled.push(b'.');
        assert!(read(&doubled).unwrap().tree.size() < 600);
    }
}
