//! Small text files (`format`, refs, leases, epochs): a first line with kind and version, a line a field, and a last line
//! with the SHA-256 of everything before it. Every line ends in one line feed, and no other control character occurs. The
//! bytes are canonical: a record has exactly one form.

use shard_core::sha256;
use thiserror::Error;

/// Largest record, in bytes.
pub(crate) const MAX_RECORD: u64 = 64 << 20;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The checksum line is missing or does not match: the file is torn or damaged.
    #[error("the checksum does not match: the file is torn or damaged")]
    Checksum,
    /// It is whole, but something else.
    #[error("not a shard {0} file")]
    Kind(&'static str),
    /// It was written by a later version of shard.
    #[error("version {found} of the {kind} file is not supported")]
    Version {
        /// The kind of file.
        kind: &'static str,
        /// Its version.
        found: String,
    },
    /// A field is missing, unknown or has a value that is not allowed.
    #[error("invalid field {0:?}")]
    Field(&'static str),
}

/// Writes a record.
pub(crate) struct RecordWriter(String);

impl RecordWriter {
    pub(crate) fn new(kind: &'static str, version: u32) -> Self {
        Self(format!("shard-{kind} {version}\n"))
    }

    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.0.push_str(name);
        self.0.push(' ');
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                c if c.is_control() => self.0.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
                c => self.0.push(c),
            }
        }
        self.0.push('\n');
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = sha256(self.0.as_bytes());
        self.0.push_str(&format!("checksum {checksum}\n"));
        self.0.into_bytes()
    }
}

/// Reads the fields of a record in order.
pub(crate) struct RecordReader<'a> {
    /// The lines that were not read yet, each with its line feed.
    rest: &'a str,
}

impl<'a> RecordReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], kind: &'static str, version: u32) -> Result<Self, RecordError> {
        const TAIL: usize = "checksum ".len() + 64 + 1;
        let split = bytes.len().checked_sub(TAIL).ok_or(RecordError::Checksum)?;
        let (body, tail) = bytes.split_at(split);
        if tail != format!("checksum {}\n", sha256(body)).as_bytes() {
            return Err(RecordError::Checksum);
        }
        let body = std::str::from_utf8(body).map_err(|_| RecordError::Kind(kind))?;
        // Not `str::lines`: it takes a carriage return for part of a line's end, and a last line without any end.
        let (first, rest) = body.split_once('\n').ok_or(RecordError::Kind(kind))?;
        let found = first.strip_prefix("shard-").and_then(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        let found = found.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        let found = found.ok_or(RecordError::Kind(kind))?;
        if found != version.to_string() {
            return Err(RecordError::Version { kind, found: found.chars().take(20).collect() });
        }
        Ok(Self { rest })
    }

    /// The value of the next field, which must have this name.
    pub(crate) fn field(&mut self, name: &'static str) -> Result<String, RecordError> {
        self.optional(name)?.ok_or(RecordError::Field(name))
    }

    /// The value of the next field if it has this name.
    pub(crate) fn optional(&mut self, name: &'static str) -> Result<Option<String>, RecordError> {
        let Some((line, rest)) = self.rest.split_once('\n') else { return Ok(None) };
        let value = line.strip_prefix(name).and_then(|line| line.strip_prefix(' '));
        let Some(value) = value else { return Ok(None) };
        let value = unescape(value).ok_or(RecordError::Field(name))?;
        self.rest = rest;
        Ok(Some(value))
    }

    /// The next field as a whole number.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<u64, RecordError> {
        let text = self.field(name)?;
        let number = text.parse::<u64>().map_err(|_| RecordError::Field(name))?;
        // One form only: no sign, no leading zeros.
        if number.to_string() == text { Ok(number) } else { Err(RecordError::Field(name)) }
    }

    /// The next field as a nonce.
    pub(crate) fn nonce(&mut self, name: &'static str) -> Result<crate::Nonce, RecordError> {
        crate::Nonce::from_hex(&self.field(name)?).ok_or(RecordError::Field(name))
    }

    /// Checks that no field is left.
    pub(crate) fn finish(self) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::Field("beyond the last")) }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character.is_control() {
            return None;
        }
        if character != '\\' {
            out.push(character);
            continue;
        }
        match rest.next()? {
            '\\' => out.push('\\'),
            'n' => out.push('\n'),
            'u' => {
                let digits = rest.as_str().strip_prefix('{')?.split_once('}')?.0;
                let value = char::from_u32(u32::from_str_radix(digits, 16).ok()?).filter(|c| c.is_control())?;
                if digits != format!("{:x}", u32::from(value)) || value == '\n' {
                    return None;
                }
                out.push(value);
                rest = rest.as_str().get(digits.len() + 2..)?.chars();
            }
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(text: &str) -> Vec<u8> {
        RecordWriter::new("test", 1).field("text", text).field("count", "7").finish()
    }

    fn read(bytes: &[u8]) -> Result<(String, u64), RecordError> {
        let mut reader = RecordReader::new(bytes, "test", 1)?;
        let fields = (reader.field("text")?, reader.number("count")?);
        reader.finish()?;
        Ok(fields)
    }

    /// A record of these lines, whatever they are, with a checksum that fits.
    fn sealed(lines: &[u8]) -> Vec<u8> {
        [lines, format!("checksum {}\n", sha256(lines)).as_bytes()].concat()
    }

    #[test]
    fn lines_end_in_one_line_feed() {
        assert_eq!(read(&sealed(b"shard-test 1\ntext a\ncount 7\n")), Ok(("a".to_owned(), 7)));
        for bad in [
            "shard-test 1\ntext a\ncount 7",
            "shard-test 1\ntext a\ncount 7\r\n",
            "shard-test 1\ntext a\r\ncount 7\n",
            "shard-test 1\r\ntext a\ncount 7\n",
            "shard-test 1\rtext a\ncount 7\n",
            "shard-test 1\n\ntext a\ncount 7\n",
            "shard-test 1\ntext a\ncount 7\n\n",
            "shard-test 1\ntext a\ncount 7\nx",
            "shard-test 1\ntext a\u{85}\ncount 7\n",
            "shard-test 1\ntext a\0\ncount 7\n",
            "\nshard-test 1\ntext a\ncount 7\n",
            "shard-test 1",
            "",
        ] {
            assert!(read(&sealed(bad.as_bytes())).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text: String) {
            prop_assert_eq!(read(&sample(&text)), Ok((text, 7)));
        }
    }

    #[test]
    fn fault_03_torn_and_flipped_records_are_noticed() {
        let bytes = sample("a \\ b \r\n\u{85} ü");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Err(RecordError::Checksum), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), Err(RecordError::Checksum), "bit {bit}");
        }
    }

    #[test]
    fn other_kinds_versions_and_fields_are_named() {
        let other = RecordWriter::new("other", 1).finish();
        assert_eq!(read(&other), Err(RecordError::Kind("test")));
        let later = RecordWriter::new("test", 2).finish();
        assert_eq!(read(&later), Err(RecordError::Version { kind: "test", found: "2".to_owned() }));
        for odd in ["", " 1", "1\r", "x", "+1"] {
            let text = format!("shard-test {odd}\n");
            assert_eq!(read(&sealed(text.as_bytes())), Err(RecordError::Kind("test")), "{odd:?}");
        }
        let sign = RecordWriter::new("test", 1).field("text", "").field("count", "+7").finish();
        assert_eq!(read(&sign), Err(RecordError::Field("count")));
        let more = RecordWriter::new("test", 1).field("text", "").field("count", "7").field("more", "").finish();
        assert!(matches!(read(&more), Err(RecordError::Field(_))));
    }
}
