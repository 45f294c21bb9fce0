//! Reading a pickle opcode by opcode.

use super::MAX_TEXT;
use super::opcode::{Argument, Opcode};
use crate::format::{FormatError, FormatErrorKind};
use crate::source::Cursor;

/// What an opcode carries. Texts are left with the [`Instructions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Nothing,
    Int(i64),
    Bool(bool),
    /// Text: [`Instructions::text`].
    Text,
    /// A module and a name: [`Instructions::text`] and [`Instructions::name`].
    Names,
    /// A number that is not needed, bytes, or text longer than [`MAX_TEXT`].
    NotKept,
}

/// An opcode where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instruction {
    /// Offset of the opcode in the source, in bytes.
    pub(crate) at: u64,
    pub(crate) opcode: Opcode,
    pub(crate) operand: Operand,
}

/// The opcodes of a pickle, in a source.
pub(crate) struct Instructions<'a> {
    cursor: Cursor<'a>,
    text: Vec<u8>,
    name: Vec<u8>,
    searched: u64,
}

impl<'a> Instructions<'a> {
    /// Starts where the cursor stands.
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, text: Vec::new(), name: Vec::new(), searched: 0 }
    }

    /// Where the next opcode is read, in bytes from the start of the source.
    pub(crate) fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// What comes next, where that is no pickle.
    pub(crate) fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }

    /// Bytes that were searched for the end of a line that has none.
    pub(crate) fn searched(&self) -> u64 {
        self.searched
    }

    /// The text of the last instruction, or its module. It need not be UTF-8.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The name in a module that the last instruction has.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The next opcode with what follows it.
    ///
    /// # Errors
    /// [`FormatError`] for what is no opcode, or ends before it should.
    pub(crate) fn next(&mut self) -> Result<Instruction, FormatError> {
        let at = self.cursor.position();
        let byte = self.cursor.u8()?;
        let Some(opcode) = Opcode::from_byte(byte) else {
            return Err(FormatError::malformed(format!("no opcode of a pickle: {byte:#04x} at byte {at}")));
        };
        let operand = match opcode.argument() {
            Argument::Nothing => Operand::Nothing,
            Argument::Unsigned(width) => match i64::try_from(self.unsigned(width)?) {
                Ok(value) => Operand::Int(value),
                Err(_) => Operand::NotKept,
            },
            Argument::Signed => Operand::Int(i64::from(self.cursor.u32()?.cast_signed())),
            Argument::Double => {
                self.cursor.skip(8)?;
                Operand::NotKept
            }
            Argument::Text(width) => self.counted_text(width)?,
            Argument::Bytes(width) => {
                let len = self.unsigned(width)?;
                self.cursor.skip(len)?;
                Operand::NotKept
            }
            Argument::Long(width) => self.long(width)?,
            Argument::DecimalLine => self.decimal_line()?,
            Argument::AnyLine => {
                self.line()?;
                Operand::NotKept
            }
            Argument::PlainLine => kept(self.line()?),
            Argument::QuotedLine => {
                let whole = self.line()?;
                unquote(&mut self.text);
                kept(whole)
            }
            Argument::EscapedLine => {
                let whole = self.line()?;
                unescape_unicode(&mut self.text);
                kept(whole)
            }
            Argument::TwoLines => {
                let module = self.line()?;
                let text = std::mem::take(&mut self.text);
                let name = self.line();
                self.name = std::mem::replace(&mut self.text, text);
                let name = name?;
                if module && name { Operand::Names } else { Operand::NotKept }
            }
        };
        Ok(Instruction { at, opcode, operand })
    }

    fn unsigned(&mut self, width: u8) -> Result<u64, FormatError> {
        let mut bytes = [0; 8];
        self.cursor.fill(bytes.get_mut(..usize::from(width)).unwrap_or_default())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn counted_text(&mut self, width: u8) -> Result<Operand, FormatError> {
        let len = self.unsigned(width)?;
        match usize::try_from(len) {
            Ok(short) if short <= MAX_TEXT && len <= self.cursor.left() => {
                self.text.resize(short, 0);
                self.cursor.fill(&mut self.text)?;
                Ok(Operand::Text)
            }
            _ => {
                self.cursor.skip(len)?;
                Ok(Operand::NotKept)
            }
        }
    }

    /// A signed integer, two's complement, of a length that comes first.
    fn long(&mut self, width: u8) -> Result<Operand, FormatError> {
        let len = self.unsigned(width)?;
        match usize::try_from(len) {
            Ok(short @ 0..=8) => {
                let mut bytes = [0; 8];
                let taken = bytes.get_mut(..short).unwrap_or_default();
                self.cursor.fill(taken)?;
                let negative = taken.last().is_some_and(|last| last & 0x80 != 0);
                bytes.iter_mut().skip(short).for_each(|byte| *byte = if negative { 0xff } else { 0 });
                Ok(Operand::Int(i64::from_le_bytes(bytes)))
            }
            _ => {
                self.cursor.skip(len)?;
                Ok(Operand::NotKept)
            }
        }
    }

    fn line(&mut self) -> Result<bool, FormatError> {
        self.text.clear();
        let whole = self.cursor.line(MAX_TEXT, &mut self.text);
        if whole.is_err() {
            self.searched = self.searched.saturating_add(self.cursor.left());
        }
        whole
    }

    fn decimal_line(&mut self) -> Result<Operand, FormatError> {
        let whole = self.line()?;
        let line = self.text.trim_ascii();
        Ok(match line {
            b"00" => Operand::Bool(false),
            b"01" => Operand::Bool(true),
            _ => {
                let digits = line.strip_suffix(b"L").unwrap_or(line);
                let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                number.filter(|_| whole).map_or(Operand::NotKept, Operand::Int)
            }
        })
    }
}

fn kept(whole: bool) -> Operand {
    if whole { Operand::Text } else { Operand::NotKept }
}

/// An instruction that cannot be followed.
pub(crate) fn unsound(instruction: &Instruction, what: &str) -> FormatError {
    let message = format!("the pickle's {} at byte {} {what}", instruction.opcode.name(), instruction.at);
    FormatError::new(FormatErrorKind::Malformed, message)
}

/// Takes the quotes off and undoes the escapes of a string of Python 2. Without quotes it stays as it is.
fn unquote(text: &mut Vec<u8>) {
    let trimmed = text.trim_ascii();
    let (Some(first), Some(last)) = (trimmed.first(), trimmed.last()) else { return };
    if trimmed.len() < 2 || first != last || !matches!(first, b'\'' | b'"') {
        return;
    }
    let inner = trimmed.get(1..trimmed.len() - 1).unwrap_or_default();
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let Some((escape, after)) = rest.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = after;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(*escape),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'x' => match rest.get(..2).and_then(|digits| number(digits, 16)) {
                Some(value) => {
                    out.push(value as u8);
                    rest = rest.get(2..).unwrap_or_default();
                }
                None => out.extend_from_slice(b"\\x"),
            },
            b'0'..=b'7' => {
                let more = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let tail = rest.get(..more).unwrap_or_default();
                let value =
                    tail.iter().fold(u32::from(escape - b'0'), |value, digit| value * 8 + u32::from(digit - b'0'));
                out.push(value as u8);
                rest = rest.get(more..).unwrap_or_default();
            }
            other => out.extend_from_slice(&[b'\\', *other]),
        }
    }
    *text = out;
}

/// Makes UTF-8 of Latin-1 in which characters may be `\uXXXX` or `\UXXXXXXXX`.
fn unescape_unicode(text: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii() && *byte != b'\\';
    if text.iter().all(plain) {
        return;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, rest.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let escaped = rest.get(1..=digits).filter(|_| digits > 0).and_then(|digits| number(digits, 16));
        match escaped {
            Some(value) => {
                out.push(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = rest.get(1 + digits..).unwrap_or_default();
            }
            None => out.push(char::from(*byte)),
        }
    }
    *text = out.into_bytes();
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digit = |value: u32, byte: &u8| value.checked_mul(radix)?.checked_add(char::from(*byte).to_digit(radix)?);
    digits.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<(Opcode, Operand, String)>, FormatError) {
        let bytes = bytes.to_vec();
        let mut instructions = Instructions::new(Cursor::new(&bytes, 0));
        let mut found = Vec::new();
        loop {
            match instructions.next() {
                Ok(instruction) => {
                    let text = match instruction.operand {
                        Operand::Text => String::from_utf8_lossy(instructions.text()).into_owned(),
                        Operand::Names => {
                            let part = String::from_utf8_lossy;
                            format!("{}:{}", part(instructions.text()), part(instructions.name()))
                        }
                        _ => String::new(),
                    };
                    found.push((instruction.opcode, instruction.operand, text));
                }
                Err(error) => return (found, error),
            }
        }
    }

    fn one(bytes: &[u8]) -> (Operand, String) {
        let (found, error) = read(bytes);
        assert_eq!((found.len(), error.kind()), (1, FormatErrorKind::Truncated), "{bytes:?}");
        (found[0].1, found[0].2.clone())
    }

    #[test]
    fn numbers() {
        for (bytes, value) in [
            (&b"J\xff\xff\xff\xff"[..], -1),
            (b"K\xff", 255),
            (b"M\x00\x01", 256),
            (b"I-12\n", -12),
            (b"L123L\n", 123),
            (b"\x8a\x00", 0),
            (b"\x8a\x01\x80", -128),
            (b"\x8a\x02\x80\x00", 128),
            (b"\x8b\x05\0\0\0\0\0\0\0\x01", 1 << 32),
            (b"\x8a\x08\0\0\0\0\0\0\0\x80", i64::MIN),
            (b"g7\n", 7),
            (b"j\x01\0\0\x80", (1 << 31) + 1),
        ] {
            assert_eq!(one(bytes).0, Operand::Int(value), "{bytes:?}");
        }
        assert_eq!(one(b"I01\n").0, Operand::Bool(true));
        assert_eq!(one(b"I00\n").0, Operand::Bool(false));
        for bytes in [&b"\x8a\x09\0\0\0\0\0\0\0\0\x01"[..], b"F1.5\n", b"G\0\0\0\0\0\0\0\0", b"Ix\n", b"C\x01a"] {
            assert_eq!(one(bytes).0, Operand::NotKept, "{bytes:?}");
        }
    }

    #[test]
    fn texts() {
        for (bytes, text) in [
            (&b"U\x02ab"[..], "ab"),
            (b"X\x02\0\0\0\xc3\xa9", "é"),
            (b"\x8c\x00", ""),
            (b"\x8d\x01\0\0\0\0\0\0\0x", "x"),
            (b"S'a\\'\\x62\\n\\101'\n", "a'b\nA"),
            (b"S\"it's\"\n", "it's"),
            (b"Sx\n", "x"),
            (b"V\\u00e9\\U0001F600 \xe9\\\n", "é😀 é\\"),
            (b"Pid 7\n", "id 7"),
        ] {
            assert_eq!(one(bytes), (Operand::Text, text.to_owned()), "{bytes:?}");
        }
        assert_eq!(one(b"cos\nsystem\n"), (Operand::Names, "os:system".to_owned()));
        let long = [b"X\xff\xff\0\0".to_vec(), vec![b'a'; 65535]].concat();
        assert_eq!(one(&long).0, Operand::NotKept);
        let line = [&b"S'"[..], &[b'a'; 200_000], b"'\n"].concat();
        assert_eq!(one(&line).0, Operand::NotKept);
    }

    #[test]
    fn what_is_no_instruction() {
        for (bytes, kind) in [
            (&b"\0"[..], FormatErrorKind::Malformed),
            (b"", FormatErrorKind::Truncated),
            (b"X\xff\xff\xff\xff", FormatErrorKind::Truncated),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", FormatErrorKind::Truncated),
            (b"\x8b\xff\xff\xff\x7f", FormatErrorKind::Truncated),
            (b"B\0\0\0\x80", FormatErrorKind::Truncated),
            (b"cos\nsystem", FormatErrorKind::Truncated),
            (b"J\0", FormatErrorKind::Truncated),
        ] {
            let (found, error) = read(bytes);
            assert_eq!((found.len(), error.kind()), (0, kind), "{bytes:?}");
        }
    }
}
