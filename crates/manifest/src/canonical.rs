//! Canonical JSON: the JSON Canonicalization Scheme of RFC 8785, and a reader that takes nothing else.
//!
//! Equal values have equal bytes: members are sorted by the UTF-16 code units of their names, numbers are written as
//! ECMAScript writes doubles, strings have the fewest escapes, and there is no white space. Every number is an IEEE 754
//! double, so integers beyond ±(2^53 - 1) and non-finite values would be lost; [`integer`], [`float`] and [`portable`] make
//! strings of them.

use serde_json::{Map, Number, Value};
use shard_core::limits::{MAX_METADATA, MAX_NESTING};
use thiserror::Error;

/// The largest integer that every JSON reader keeps exactly: 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Most values (objects, arrays, members and scalars) in one document. A parsed value takes far more memory than the two
/// bytes it may have in JSON; this bounds it.
pub const MAX_VALUES: usize = 4 << 20;

/// Bytes that are not canonical JSON, or a value that has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CanonicalError {
    /// More than [`MAX_METADATA`] bytes.
    #[error("a document of {0} bytes is over the limit of {MAX_METADATA}")]
    TooLarge(usize),
    /// More than [`MAX_VALUES`] values.
    #[error("a document of more than {MAX_VALUES} values")]
    TooManyValues,
    /// Arrays and objects nested deeper than [`MAX_NESTING`].
    #[error("values are nested deeper than {MAX_NESTING}")]
    Nesting,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Text that is not JSON.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON that is spelled in another way than RFC 8785 has it (order, white space, numbers, escapes, duplicate names).
    #[error("not canonical JSON")]
    NotCanonical,
    /// An integer that a double does not hold.
    #[error("the integer {0} is beyond 2^53 - 1 and must be a string")]
    Integer(String),
}

/// Writes a value canonically.
///
/// # Errors
/// [`CanonicalError::Integer`] for an integer number beyond ±(2^53 - 1) ([`portable`] makes it a string), and the errors for
/// what [`parse_canonical`] would not take back: too deep, too many values, too large.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut writer = Writer { sink: Vec::new(), values: 0 };
    writer.value(value, 0)?;
    if writer.sink.len() > MAX_METADATA {
        return Err(CanonicalError::TooLarge(writer.sink.len()));
    }
    Ok(writer.sink)
}

/// Reads canonical JSON and refuses everything else: other spellings of the same value, duplicate names, invalid UTF-8, and
/// documents over the limits ([`MAX_METADATA`], [`MAX_NESTING`], [`MAX_VALUES`]).
///
/// Numbers are doubles: an integer beyond ±(2^53 - 1) comes back as a floating-point number.
///
/// # Errors
/// The first [`CanonicalError`] found.
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, CanonicalError> {
    if bytes.len() > MAX_METADATA {
        return Err(CanonicalError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| CanonicalError::Utf8(error.valid_up_to()))?;
    survey(bytes)?;
    let mut value: Value = serde_json::from_str(text).map_err(|error| CanonicalError::Syntax(error.to_string()))?;
    numbers_to_doubles(&mut value);
    // Writing what was read and comparing finds every other spelling, and a duplicate name, since only one of them is left.
    let mut writer = Writer { sink: Comparison { rest: bytes, same: true }, values: 0 };
    writer.value(&value, 0)?;
    if writer.sink.same && writer.sink.rest.is_empty() { Ok(value) } else { Err(CanonicalError::NotCanonical) }
}

/// The value for an unsigned integer: a number up to 2^53 - 1, a decimal string above.
#[must_use]
pub fn integer(value: u64) -> Value {
    if value <= MAX_SAFE_INTEGER { Value::from(value) } else { Value::from(value.to_string()) }
}

/// Reads what [`integer`] writes, and only that: each integer has one spelling.
#[must_use]
pub fn as_integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().filter(|value| *value <= MAX_SAFE_INTEGER),
        Value::String(text) => {
            let value: u64 = text.parse().ok()?;
            (value > MAX_SAFE_INTEGER && value.to_string() == *text).then_some(value)
        }
        _ => None,
    }
}

/// The value for a double: a number where it is finite, otherwise the string `NaN`, `Infinity` or `-Infinity`.
#[must_use]
pub fn float(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::from("NaN"),
        None if value > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

/// Reads what [`float`] writes.
#[must_use]
pub fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// The same value with every integer beyond ±(2^53 - 1) as a decimal string, so that it has a canonical form. For JSON that
/// comes from a user; what [`parse_canonical`] returned is left as it is.
#[must_use]
pub fn portable(value: &Value) -> Value {
    let mut value = value.clone();
    visit_numbers(&mut value, &mut |number| (!is_safe(number)).then(|| Value::from(number.to_string())));
    value
}

/// Whether a number is a double, or an integer that a double holds.
fn is_safe(number: &Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (Some(value), _) => value <= MAX_SAFE_INTEGER,
        (None, Some(value)) => value.unsigned_abs() <= MAX_SAFE_INTEGER,
        (None, None) => true,
    }
}

/// Large integers in canonical JSON are doubles that ECMAScript writes without exponent; as doubles they are written back
/// the same way.
fn numbers_to_doubles(value: &mut Value) {
    visit_numbers(value, &mut |number| if is_safe(number) { None } else { number.as_f64().map(float) });
}

/// Replaces each number for which `replace` has something else. A list of values to visit, not recursion: the value may
/// come from anywhere.
fn visit_numbers(value: &mut Value, replace: &mut dyn FnMut(&Number) -> Option<Value>) {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Number(number) => {
                if let Some(other) = replace(number) {
                    *value = other;
                }
            }
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.values_mut()),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
}

/// Bounds depth and number of values before anything is allocated for them. What is not JSON may be miscounted; the parser
/// then refuses it.
fn survey(bytes: &[u8]) -> Result<(), CanonicalError> {
    let (mut depth, mut values) = (0usize, 1usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > MAX_NESTING {
                    return Err(CanonicalError::Nesting);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if values > MAX_VALUES {
            return Err(CanonicalError::TooManyValues);
        }
    }
    Ok(())
}

/// Where canonical text goes.
trait Sink {
    fn put(&mut self, text: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }
}

/// Text that is not kept but compared with what it should be.
struct Comparison<'a> {
    rest: &'a [u8],
    same: bool,
}

impl Sink for Comparison<'_> {
    fn put(&mut self, text: &[u8]) {
        match self.rest.strip_prefix(text) {
            Some(rest) => self.rest = rest,
            None => self.same = false,
        }
    }
}

struct Writer<S> {
    sink: S,
    /// Counted as [`survey`] counts, so that what is written is read back.
    values: usize,
}

impl<S: Sink> Writer<S> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), CanonicalError> {
        self.values += 1;
        match value {
            Value::Null => self.sink.put(b"null"),
            Value::Bool(true) => self.sink.put(b"true"),
            Value::Bool(false) => self.sink.put(b"false"),
            Value::Number(number) => self.number(number)?,
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.open(b"[", depth)?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.sink.put(b",");
                    }
                    self.value(item, depth + 1)?;
                }
                self.sink.put(b"]");
            }
            Value::Object(members) => self.object(members, depth)?,
        }
        if self.values > MAX_VALUES { Err(CanonicalError::TooManyValues) } else { Ok(()) }
    }

    fn open(&mut self, bracket: &[u8], depth: usize) -> Result<(), CanonicalError> {
        if depth >= MAX_NESTING {
            return Err(CanonicalError::Nesting);
        }
        self.sink.put(bracket);
        Ok(())
    }

    fn object(&mut self, members: &Map<String, Value>, depth: usize) -> Result<(), CanonicalError> {
        self.open(b"{", depth)?;
        let mut members: Vec<(&String, &Value)> = members.iter().collect();
        members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        for (index, (name, value)) in members.into_iter().enumerate() {
            if index > 0 {
                self.sink.put(b",");
            }
            self.string(name);
            self.sink.put(b":");
            self.value(value, depth + 1)?;
        }
        self.sink.put(b"}");
        Ok(())
    }

    fn number(&mut self, number: &Number) -> Result<(), CanonicalError> {
        if !is_safe(number) {
            return Err(CanonicalError::Integer(number.to_string()));
        }
        if number.is_f64() {
            let value = number.as_f64().unwrap_or_default();
            self.sink.put(ryu_js::Buffer::new().format_finite(value).as_bytes());
        } else {
            self.sink.put(number.to_string().as_bytes());
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.sink.put(b"\"");
        let bytes = text.as_bytes();
        let mut plain = 0;
        for (index, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                0x08 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                0x0c => b"\\f",
                b'\r' => b"\\r",
                0..=0x1f => b"",
                _ => continue,
            };
            self.sink.put(&bytes[plain..index]);
            plain = index + 1;
            if escape.is_empty() {
                self.sink.put(format!("\\u{byte:04x}").as_bytes());
            } else {
                self.sink.put(escape);
            }
        }
        self.sink.put(&bytes[plain..]);
        self.sink.put(b"\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        String::from_utf8(to_bytes(value).unwrap()).unwrap()
    }

    /// RFC 8785, section 3.2.2 to 3.2.4.
    #[test]
    fn the_example_of_rfc_8785() {
        let input = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let value: Value = serde_json::from_str(input).unwrap();
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(text(&value), expected);
    }

    /// RFC 8785, section 3.2.3: sorting by UTF-16 code units, not by code points.
    #[test]
    fn names_are_sorted_by_utf16() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control",
            "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let text = text(&value);
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let places: Vec<usize> = order.iter().map(|word| text.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(parse_canonical(text.as_bytes()), Ok(value));
    }

    /// RFC 8785, appendix B: IEEE 754 bits and their text.
    #[test]
    fn the_numbers_of_rfc_8785() {
        let vectors: &[(u64, &str)] = &[
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ];
        for (bits, expected) in vectors {
            let value = f64::from_bits(*bits);
            assert_eq!(text(&float(value)), *expected);
            assert_eq!(parse_canonical(expected.as_bytes()).map(|read| as_float(&read)), Ok(Some(value)), "{expected}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        use CanonicalError::{Nesting, NotCanonical, Syntax, Utf8};
        for other in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a": 1}"#,
            " {}",
            "{}\n",
            "1.0",
            "1e2",
            "-0",
            "0.10",
            "1E30",
            "1e30",
            "9007199254740993",
            "18446744073709551615",
            "-9223372036854775808",
            r#""\u0041""#,
            r#""\/""#,
            r#""\u000a""#,
            r#""\u001F""#,
            r#""\u00e9""#,
            "\"\\u007f\"",
            "1e-400",
        ] {
            assert_eq!(parse_canonical(other.as_bytes()), Err(NotCanonical), "{other}");
        }
        for broken in
            ["", "{", "nul", "01", "+1", "NaN", "1e999", "\"\n\"", r#""\ud800""#, "{} {}", "[1,]", "\u{feff}{}"]
        {
            assert!(matches!(parse_canonical(broken.as_bytes()), Err(Syntax(_))), "{broken}");
        }
        assert_eq!(parse_canonical(b"\"a\xed\xa0\x80\""), Err(Utf8(2)));
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(parse_canonical(nested(MAX_NESTING).as_bytes()).is_ok());
        assert_eq!(parse_canonical(nested(MAX_NESTING + 1).as_bytes()), Err(Nesting));
        assert_eq!(parse_canonical("[".repeat(1 << 20).as_bytes()), Err(Nesting));
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let deep = (0..MAX_NESTING).fold(json!(1), |value, _| json!([value]));
        assert!(parse_canonical(&to_bytes(&deep).unwrap()).is_ok());
        assert_eq!(to_bytes(&json!([deep])), Err(CanonicalError::Nesting));
        let most = Value::Array(vec![Value::Null; MAX_VALUES - 1]);
        let bytes = to_bytes(&most).unwrap();
        assert!(parse_canonical(&bytes).is_ok());
        let many = Value::Array(vec![Value::Null; MAX_VALUES + 1]);
        assert_eq!(to_bytes(&many), Err(CanonicalError::TooManyValues));
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse_canonical(many.as_bytes()), Err(CanonicalError::TooManyValues));
        assert_eq!(to_bytes(&json!(u64::MAX)), Err(CanonicalError::Integer(u64::MAX.to_string())));
    }

    #[test]
    fn integers_and_floats_have_one_spelling() {
        for value in [0, 1, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER + 1, u64::MAX] {
            assert_eq!(as_integer(&integer(value)), Some(value));
            assert_eq!(integer(value).is_string(), value > MAX_SAFE_INTEGER);
        }
        for other in
            [json!("1"), json!("+9007199254740993"), json!("09007199254740993"), json!(1.5), json!(-1), json!("")]
        {
            assert_eq!(as_integer(&other), None, "{other}");
        }
        assert_eq!(float(f64::INFINITY), json!("Infinity"));
        assert_eq!(as_float(&float(f64::NEG_INFINITY)), Some(f64::NEG_INFINITY));
        assert!(as_float(&float(f64::NAN)).unwrap().is_nan());
        assert_eq!(as_float(&json!("nan")), None);
        let value = json!({"lr": 0.1, "seeds": [u64::MAX, i64::MIN, -5]});
        assert_eq!(text(&portable(&value)), r#"{"lr":0.1,"seeds":["18446744073709551615","-9223372036854775808",-5]}"#);
    }

    /// Any JSON, with numbers and strings of every kind.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<u64>().prop_map(|bits| float(f64::from_bits(bits))),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
            #[test]
            fn writing_and_reading_round_trips(value in any_json()) {
                let bytes = to_bytes(&portable(&value)).unwrap();
                let read = parse_canonical(&bytes).unwrap();
                prop_assert_eq!(to_bytes(&read).unwrap(), bytes);
                prop_assert_eq!(portable(&read), read);
            }

            #[test]
            fn whatever_is_read_is_written_back(text in any::<String>(), value in any_json(), at: prop::sample::Index, bit in 0..8u8) {
                let mut bytes = to_bytes(&portable(&value)).unwrap();
                let at = at.index(bytes.len());
    let truncated = bytes[..at].to_vec();
                bytes[at] ^= 1 << bit;
                for bytes in [bytes.as_slice(), text.as_bytes(), truncated.as_slice()] {
                    if let Ok(read) = parse_canonical(bytes) {
                        prop_assert_eq!(to_bytes(&read).unwrap(), bytes);
                    }
                }
            }
        }
}
