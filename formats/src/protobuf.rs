//! The wire format of Protocol Buffers: where the fields of a message lie.
//!
//! A message is a sequence of fields: a tag (a varint: the field's number shifted left by 3, and its wire type), then a value. A
//! varint has 7 bits a byte, lowest first; fixed values are little-endian. Nothing is decoded into messages: a [`Walker`] goes
//! over the fields in file order, steps over the values of those that it is not told to enter, and keeps no more than where the
//! open messages end. It does not recurse, and it enters no deeper than [`MAX_NESTING`] (CVE-2025-53605, CVE-2020-35858 were
//! parsers of this format that did).
//!
//! Specification: <https://protobuf.dev/programming-guides/encoding/>.

use shard_core::limits::{MAX_NAME, MAX_NESTING};

use crate::format::{FormatError, FormatErrorKind};
use crate::source::{Cursor, Source};

/// Wire type of a varint.
pub(crate) const VARINT: u64 = 0;

/// Wire type of what has a length: a string, bytes, a message, packed numbers.
pub(crate) const BYTES: u64 = 2;

/// Bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first byte's offset from the start of the source.
    pub(crate) start: u64,
    /// Their number.
    pub(crate) len: u64,
}

impl Span {
    /// The offset behind the last byte. Spans of a [`Walker`] lie in the source, so this never saturates.
    pub(crate) fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number.
    Varint(u64),
    /// A string, bytes, a message, or packed numbers.
    Bytes(Span),
    /// 4 bytes.
    Fixed32(Span),
    /// 8 bytes.
    Fixed64(Span),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A field of the innermost open message.
    Field(u64, Value),
    /// The innermost open message ends.
    End,
}

/// A walk over a message and those inside it.
pub(crate) struct Walker<'a> {
    cursor: Cursor<'a>,
    /// Where the open messages end, outermost first.
    ends: Vec<u64>,
    /// Fields that may still be read.
    fields: u64,
}

impl<'a> Walker<'a> {
    /// A walk over a source that is one message. More than `fields` fields are an error.
    pub(crate) fn new(source: &'a dyn Source, fields: u64) -> Self {
        Self { cursor: Cursor::new(source, 0), ends: vec![source.len()], fields }
    }

    /// Fields that may still be read.
    pub(crate) fn fields_left(&self) -> u64 {
        self.fields
    }

    /// The next field or end; `None` after the end of the outermost message.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, FormatError> {
        let Some(end) = self.ends.last().copied() else { return Ok(None) };
        if self.cursor.position() == end {
            self.ends.pop();
            return Ok(Some(Event::End));
        }
        self.fields = self
            .fields
            .checked_sub(1)
            .ok_or_else(|| FormatError::new(FormatErrorKind::Limit, "the file has more fields than shard follows"))?;
        let tag = varint(&mut self.cursor)?;
        let number = tag >> 3;
        if number == 0 || tag > u64::from(u32::MAX) {
            return Err(self.malformed("a tag that names no field"));
        }
        let value = match tag & 7 {
            VARINT => Value::Varint(varint(&mut self.cursor)?),
            1 => Value::Fixed64(self.span(8, end)?),
            BYTES => {
                let len = varint(&mut self.cursor)?;
                Value::Bytes(self.span(len, end)?)
            }
            5 => Value::Fixed32(self.span(4, end)?),
            // Groups, which have no length, went out of use before the formats that are read here came up.
            _ => return Err(self.malformed("a field of a wire type that is not in use")),
        };
        if self.cursor.position() > end {
            return Err(self.malformed("a number that is longer than its message"));
        }
        Ok(Some(Event::Field(number, value)))
    }

    /// Makes the fields of a message, the value that came last, come next.
    pub(crate) fn enter(&mut self, message: Span) -> Result<(), FormatError> {
        if self.ends.len() >= MAX_NESTING {
            return Err(FormatError::new(
                FormatErrorKind::Limit,
                format!("messages nested more than {MAX_NESTING} deep"),
            ));
        }
        self.cursor.seek(message.start);
        self.ends.push(message.end());
        Ok(())
    }

    /// A name or another short text.
    pub(crate) fn text(&mut self, span: Span) -> Result<String, FormatError> {
        if span.len > MAX_NAME as u64 {
            return Err(FormatError::new(FormatErrorKind::Limit, "a name is longer than shard follows"));
        }
        let back = self.cursor.position();
        self.cursor.seek(span.start);
        let bytes = self.cursor.take(span.len)?;
        self.cursor.seek(back);
        String::from_utf8(bytes).map_err(|_| self.malformed("a name that is not UTF-8"))
    }

    /// Packed varints, at most `most` of them: `None` where there are more.
    pub(crate) fn packed(&mut self, span: Span, most: usize) -> Result<Option<Vec<u64>>, FormatError> {
        let back = self.cursor.position();
        self.cursor.seek(span.start);
        let mut numbers = Vec::new();
        while self.cursor.position() < span.end() {
            if numbers.len() == most {
                self.cursor.seek(back);
                return Ok(None);
            }
            numbers.push(varint(&mut self.cursor)?);
        }
        if self.cursor.position() > span.end() {
            return Err(self.malformed("a number that is longer than its field"));
        }
        self.cursor.seek(back);
        Ok(Some(numbers))
    }

    /// The next `len` bytes, which are stepped over.
    fn span(&mut self, len: u64, end: u64) -> Result<Span, FormatError> {
        let start = self.cursor.position();
        match start.checked_add(len) {
            Some(after) if after <= end => {
                self.cursor.seek(after);
                Ok(Span { start, len })
            }
            _ if self.ends.len() == 1 => {
                let message = format!("the file ends too early: {len} bytes expected at {start}");
                Err(FormatError::new(FormatErrorKind::Truncated, message))
            }
            _ => Err(self.malformed("a value that is longer than its message")),
        }
    }

    fn malformed(&self, what: &str) -> FormatError {
        FormatError::malformed(format!("{what}, before byte {}", self.cursor.position()))
    }
}

/// A number of up to 64 bits.
pub(crate) fn varint(cursor: &mut Cursor<'_>) -> Result<u64, FormatError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(FormatError::malformed(format!("a number of more than 64 bits, before byte {}", cursor.position())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes; `bytes` are fewer than 128.
    fn bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn all(source: &[u8], enter: &[u64]) -> Result<Vec<Event>, FormatErrorKind> {
        let mut walker = Walker::new(&source, 1000);
        let mut events = Vec::new();
        while let Some(event) = walker.next().map_err(|error| error.kind())? {
            events.push(event);
            if let Event::Field(number, Value::Bytes(span)) = event
                && enter.contains(&number)
            {
                walker.enter(span).map_err(|error| error.kind())?;
            }
        }
        Ok(events)
    }

    #[test]
    fn fields_come_in_file_order() {
        let inner = [&[0x08, 0x96, 0x01][..], &[0x15, 1, 2, 3, 4], &[0x19, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let message = [bytes(1, &inner), bytes(3, b"xyz")].concat();
        let expected = [
            Event::Field(1, Value::Bytes(Span { start: 2, len: 17 })),
            Event::Field(1, Value::Varint(150)),
            Event::Field(2, Value::Fixed32(Span { start: 6, len: 4 })),
            Event::Field(3, Value::Fixed64(Span { start: 11, len: 8 })),
            Event::End,
            Event::Field(3, Value::Bytes(Span { start: 21, len: 3 })),
            Event::End,
        ];
        assert_eq!(all(&message, &[1]).unwrap(), expected);
        assert_eq!(all(&message, &[]).unwrap(), [expected[0], expected[5], Event::End]);
        let mut walker = Walker::new(&message, 9);
        assert_eq!(walker.text(Span { start: 21, len: 3 }).unwrap(), "xyz");
        assert_eq!(walker.packed(Span { start: 3, len: 2 }, 1).unwrap(), Some(vec![150]));
        assert_eq!(walker.packed(Span { start: 6, len: 4 }, 3).unwrap(), None);
        assert_eq!(walker.next().unwrap(), Some(expected[0]), "looking aside moves nothing");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        use FormatErrorKind::{Malformed, Truncated};
        let longest = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(all(&longest, &[]).unwrap()[0], Event::Field(1, Value::Varint(u64::MAX)));
        for (message, kind) in [
            (vec![0x00, 0x00], Malformed),
            (vec![0x0b, 0x0c], Malformed),
            (vec![0x0e], Malformed),
            (vec![0x0f], Malformed),
            ([&[0x08][..], &[0xff; 9], &[0x02]].concat(), Malformed),
            ([&[0x08][..], &[0x80; 10], &[0x00]].concat(), Malformed),
            (vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00], Malformed),
            (vec![0x08], Truncated),
            (vec![0x08, 0x80], Truncated),
            (vec![0x15, 1, 2, 3], Truncated),
            (vec![0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0], Truncated),
            (bytes(1, &[0x12, 0x05, 0x00]), Malformed),
            ([bytes(1, &[0x08, 0x80]), vec![0x01]].concat(), Malformed),
        ] {
            assert_eq!(all(&message, &[1]).unwrap_err(), kind, "{message:x?}");
        }
    }

    #[test]
    fn fault_36_nesting_and_the_number_of_fields_are_bounded() {
        let mut message = Vec::new();
        for _ in 0..63 {
            message = bytes(1, &message);
        }
        assert_eq!(all(&message, &[1]).unwrap().len(), 63 + 64);
        assert_eq!(all(&bytes(1, &message), &[1]), Err(FormatErrorKind::Limit));
        assert_eq!(all(&[0x08, 0x00].repeat(1000), &[]).unwrap().len(), 1001);
        assert_eq!(all(&[0x08, 0x00].repeat(1001), &[]), Err(FormatErrorKind::Limit));
        // Nested groups, which recursive readers follow as unknown fields.
        assert_eq!(all(&vec![0x0b; 1_000_000], &[1]), Err(FormatErrorKind::Malformed));
    }
}
