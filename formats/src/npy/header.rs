//! The header of a `.npy` file: a literal of a dictionary, as Python writes it, with the keys `descr`, `fortran_order` and
//! `shape` in any order. Only what such headers are made of is read: strings without escapes, the two booleans, tuples of
//! decimal integers (with the suffix `L` of Python 2), and lists, which are the types of records and not looked into.

use std::fmt;

use crate::assemble::MAX_RANK;
use crate::format::{FormatError, FormatErrorKind};

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) description: Description,
    pub(super) fortran_order: bool,
    /// Elements.
    pub(super) shape: Vec<u64>,
}

/// The type of the elements.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Description {
    /// The name of a type.
    Type(String),
    /// Something else: records.
    Structured,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "{name:?}"),
            Self::Structured => f.write_str("records"),
        }
    }
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`FormatError`] for one that is not as NumPy writes it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let mut parser = Parser { rest: text };
        let (mut description, mut fortran_order, mut shape) = (None, None, None);
        parser.expect(b'{')?;
        while !parser.take(b'}') {
            let key = parser.string()?;
            parser.expect(b':')?;
            let repeated = match key {
                b"descr" => description.replace(parser.description()?).is_some(),
                b"fortran_order" => fortran_order.replace(parser.boolean()?).is_some(),
                b"shape" => shape.replace(parser.tuple()?).is_some(),
                _ => return Err(FormatError::malformed("the header has a key that is not known")),
            };
            if repeated {
                return Err(FormatError::new(FormatErrorKind::Duplicate, "the header has a key twice"));
            }
            if !parser.take(b',') {
                parser.expect(b'}')?;
                break;
            }
        }
        if parser.peek().is_some() {
            return Err(FormatError::malformed("something follows the header's dictionary"));
        }
        match (description, fortran_order, shape) {
            (Some(description), Some(fortran_order), Some(shape)) => Ok(Self { description, fortran_order, shape }),
            _ => Err(FormatError::malformed("the header lacks a key")),
        }
    }
}

/// What is left of the text.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    /// The next byte that is no space, without going on.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    /// Whether that byte comes next; goes on behind it if so.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), FormatError> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> FormatError {
        let start: Vec<u8> = self.rest.iter().copied().take(40).collect();
        FormatError::malformed(format!("the header is not as NumPy writes it: {:?}", String::from_utf8_lossy(&start)))
    }

    /// What comes before the first byte that `end` holds for; goes on to that byte.
    fn until(&mut self, end: impl Fn(&u8) -> bool) -> &'a [u8] {
        let (found, rest) = self.rest.split_at(self.rest.iter().position(end).unwrap_or(self.rest.len()));
        self.rest = rest;
        found
    }

    /// A string in quotes of either kind.
    fn string(&mut self) -> Result<&'a [u8], FormatError> {
        let Some(quote @ (b'\'' | b'"')) = self.peek() else { return Err(self.unexpected()) };
        self.rest = self.rest.get(1..).unwrap_or_default();
        let text = self.until(|byte| *byte == quote || *byte == b'\\' || *byte == b'\n');
        self.expect(quote)?;
        Ok(text)
    }

    fn description(&mut self) -> Result<Description, FormatError> {
        match self.peek() {
            Some(b'[' | b'(') => self.brackets().map(|()| Description::Structured),
            _ => Ok(Description::Type(String::from_utf8_lossy(self.string()?).into_owned())),
        }
    }

    /// Passes over a list or tuple and all that is in it.
    fn brackets(&mut self) -> Result<(), FormatError> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'[' | b'(') => depth += 1,
                Some(b']' | b')') => depth -= 1,
                Some(b'\'' | b'"') => {
                    self.string()?;
                    continue;
                }
                Some(_) => {}
                None => return Err(self.unexpected()),
            }
            self.rest = self.rest.get(1..).unwrap_or_default();
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn boolean(&mut self) -> Result<bool, FormatError> {
        self.peek();
        match self.until(|byte| !byte.is_ascii_alphanumeric()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => Err(FormatError::malformed("whether the array is in Fortran's order is neither True nor False")),
        }
    }

    fn tuple(&mut self) -> Result<Vec<u64>, FormatError> {
        let mut dims = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            if dims.len() == MAX_RANK {
                return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_RANK} dimensions")));
            }
            dims.push(self.integer()?);
            if !self.take(b',') {
                // `(3)` is not a tuple.
                if dims.len() == 1 {
                    return Err(self.unexpected());
                }
                self.expect(b')')?;
                break;
            }
        }
        Ok(dims)
    }

    fn integer(&mut self) -> Result<u64, FormatError> {
        self.peek();
        let word = self.until(|byte| !byte.is_ascii_alphanumeric());
        let digits = word.strip_suffix(b"L").unwrap_or(word);
        // Python takes zeros in front of zero only.
        let zeros = digits.starts_with(b"0") && digits.iter().any(|digit| *digit != b'0');
        let number = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+') && !zeros);
        number.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.unexpected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header, FormatErrorKind> {
        Header::parse(text.as_bytes()).map_err(|error| error.kind())
    }

    fn header(descr: &str, fortran_order: bool, shape: &[u64]) -> Header {
        Header { description: Description::Type(descr.to_owned()), fortran_order, shape: shape.to_vec() }
    }

    #[test]
    fn headers_of_numpy_are_read() {
        let of = |shape| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}          \n");
        assert_eq!(parse(&of("(3, 4)")), Ok(header("<f4", false, &[3, 4])));
        assert_eq!(parse(&of("(3,)")), Ok(header("<f4", false, &[3])));
        assert_eq!(parse(&of("()")), Ok(header("<f4", false, &[])));
        assert_eq!(parse(&of("(3L, 40L)")), Ok(header("<f4", false, &[3, 40])));
        assert_eq!(parse(&of("(0, 18446744073709551615,)")), Ok(header("<f4", false, &[0, u64::MAX])));
        let text = "{\"shape\":(1 ,\n2) ,'fortran_order':True,\t'descr':\"|b1\"}";
        assert_eq!(parse(text), Ok(header("|b1", true, &[1, 2])));
        let text = "{'descr': [('a]', '<f4'), ('b', '<i4', (2, 3)), (\"c'\", [('d', '|S3')])], 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(parse(text).map(|header| header.description), Ok(Description::Structured));
        let text = "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': ()}";
        assert_eq!(parse(text).map(|header| header.description), Ok(Description::Structured));
    }

    #[test]
    fn other_headers_are_refused() {
        use FormatErrorKind::{Duplicate, Limit, Malformed};
        let sound = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
        let cases = [
            ("(3, 4)", "(3)", Malformed),
            ("(3, 4)", "[3, 4]", Malformed),
            ("(3, 4)", "3", Malformed),
            ("(3, 4)", "(3, -4)", Malformed),
            ("(3, 4)", "(3, +4)", Malformed),
            ("(3, 4)", "(3, 4.0)", Malformed),
            ("(3, 4)", "(3, 04)", Malformed),
            ("(3, 4)", "(3, 0x4)", Malformed),
            ("(3, 4)", "(3, 4LL)", Malformed),
            ("(3, 4)", "(3, L)", Malformed),
            ("(3, 4)", "(3,, 4)", Malformed),
            ("(3, 4)", "(,)", Malformed),
            ("(3, 4)", "(3, 18446744073709551616)", Malformed),
            ("(3, 4)", "(3, 4", Malformed),
            ("False", "None", Malformed),
            ("False", "0", Malformed),
            ("False", "False or True", Malformed),
            ("'<f4'", "<f4", Malformed),
            ("'<f4'", "'<f4", Malformed),
            ("'<f4'", "'<f4\"", Malformed),
            ("'<f4'", "'<f\\x34'", Malformed),
            ("'<f4'", "[(", Malformed),
            ("'<f4'", "__import__('os').system('true')", Malformed),
            ("'descr'", "b'descr'", Malformed),
            ("'descr'", "'other'", Malformed),
            ("'shape': (3, 4), ", "", Malformed),
            (", }", ",, }", Malformed),
            (", }", ", } x", Malformed),
            (", }", "", Malformed),
            ("{", "{{", Malformed),
            ("'shape'", "'descr': '<f4', 'shape'", Duplicate),
        ];
        for (from, to, kind) in cases {
            assert_eq!(parse(&sound.replacen(from, to, 1)), Err(kind), "{to}");
        }
        assert_eq!(parse(&sound.replace("(3, 4)", &format!("({})", "1,".repeat(65)))), Err(Limit));
        assert_eq!(parse(""), Err(Malformed));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{'descr': {}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(parse(&deep), Err(FormatErrorKind::Malformed));
    }
}
