//! Files that are odd or malformed in the ways that parsers of models were broken by. Every one has to be kept, and given
//! back byte for byte: a store that refuses a file loses it.

use std::fmt::Write as _;

/// A safetensors file from its parts: the header's length as eight bytes, the header, the data.
#[must_use]
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A sound safetensors file of one tensor.
#[must_use]
pub fn one_tensor(name: &str, dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{}]}}}}"#, data.len());
    safetensors(&header, data)
}

/// `count` tensors of four bytes each.
#[must_use]
pub fn many_tensors(count: usize) -> Vec<u8> {
    let mut header = String::from("{");
    for i in 0..count {
        let comma = if i > 0 { "," } else { "" };
        write!(
            header,
            r#"{comma}"layer.{i}.w":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#,
            4 * i,
            4 * i + 4
        )
        .expect("a text takes what is written to it");
    }
    header.push('}');
    let data: Vec<u8> = (0..count as u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    safetensors(&header, &data)
}

/// One odd file: its name, its bytes, and whether its tensors are to be found.
#[derive(Debug, Clone)]
pub struct OddFile {
    /// What is odd about it, as a file name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is taken for safetensors all the same: it is sound, or bytes outside of its tensors are all that is odd.
    pub is_sound: bool,
}

/// All of them but the largest ([`many_tensors`]).
#[must_use]
pub fn all() -> Vec<OddFile> {
    let data: Vec<u8> = (0..4096u32).map(|i| (i * 31 % 251) as u8).collect();
    let tensor =
        |shape: &str, offsets: &str| format!(r#""w":{{"dtype":"I8","shape":{shape},"data_offsets":{offsets}}}"#);
    let with_header = |header: String| safetensors(&header, &data);
    let sound = with_header(format!("{{{}}}", tensor("[4096]", "[0,4096]")));
    let lying_length = |len: u64| {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        bytes
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
    let odd = |name, bytes| OddFile { name, bytes, is_sound: false };
    let fine = |name, bytes| OddFile { name, bytes, is_sound: true };
    vec![
        odd("empty", Vec::new()),
        odd("one-byte", vec![0x42]),
        odd("seven-bytes", vec![0; 7]),
        odd("eight-zeros", vec![0; 8]),
        odd("header-cut", sound[..40].to_vec()),
        odd("data-cut", sound[..sound.len() - 1].to_vec()),
        odd("data-gone", sound[..sound.len() - data.len()].to_vec()),
        fine("trailing-byte", [&sound[..], b"x"].concat()),
        odd("header-length-maximal", lying_length(u64::MAX)),
        odd("header-length-2-63", lying_length(1 << 63)),
        odd("header-length-200-mb", lying_length(200_000_000)),
        odd("header-length-short", lying_length(20)),
        odd("not-json", with_header("not json at all, only a header's length".to_owned())),
        odd("json-array", with_header("[1,2,3]".to_owned())),
        odd("deep-nesting", with_header(deep)),
        odd("not-utf-8", [&8u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}"].concat()),
        odd(
            "overlap",
            with_header(format!(
                r#"{{{},"v":{{"dtype":"I8","shape":[4000],"data_offsets":[96,4096]}}}}"#,
                tensor("[4096]", "[0,4096]")
            )),
        ),
        fine("hole", with_header(format!(r#"{{{}}}"#, tensor("[4000]", "[96,4096]")))),
        odd("backwards", with_header(format!("{{{}}}", tensor("[4096]", "[4096,0]")))),
        odd("offsets-overflow", with_header(format!("{{{}}}", tensor("[1]", "[18446744073709551615,0]")))),
        odd("offsets-huge", with_header(format!("{{{}}}", tensor("[1]", "[0,18446744073709551616]")))),
        odd("offsets-negative", with_header(format!("{{{}}}", tensor("[1]", "[-1,0]")))),
        odd("shape-wraps-1", with_header(format!("{{{}}}", tensor("[4194305,4194305,211106198978564]", "[0,4096]")))),
        odd("shape-wraps-0", with_header(format!("{{{}}}", tensor("[4294967296,4294967296]", "[0,0]")))),
        odd("shape-wrong", with_header(format!("{{{}}}", tensor("[4095]", "[0,4096]")))),
        odd(
            "duplicate-keys",
            with_header(format!("{{{},{}}}", tensor("[2048]", "[0,2048]"), tensor("[2048]", "[2048,4096]"))),
        ),
        fine("unknown-dtype", with_header(r#"{"w":{"dtype":"Q9","shape":[4096],"data_offsets":[0,4096]}}"#.to_owned())),
        fine("no-tensors", safetensors("{}", b"")),
        fine("metadata-only", safetensors(r#"{"__metadata__":{"format":"pt"}}"#, b"")),
        fine("odd-offsets", {
            let header = r#"{"a":{"dtype":"U8","shape":[7],"data_offsets":[0,7]},"b":{"dtype":"F64","shape":[3],"data_offsets":[7,31]}}"#;
            safetensors(header, &data[..31])
        }),
        fine("scalar-and-empty", {
            let header = r#"{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"BF16","shape":[3,0,5],"data_offsets":[4,4]}}"#;
            safetensors(header, &data[..4])
        }),
        fine("padded-header", with_header(format!("{{{}}}{}", tensor("[4096]", "[0,4096]"), " ".repeat(77)))),
        fine("hostile-names", {
            let header = r#"{"../../etc/passwd":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"\u0000\r\n\u001b[31m":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#;
            safetensors(header, &data[..4])
        }),
    ]
}
