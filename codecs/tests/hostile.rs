//! Stored blocks as an attacker, or a disk, would have them: cut short, bits flipped, with the wrong base or data type, with
//! counts that make no sense. Each is an error or some value; none is a panic, or takes memory that its lengths do not call for.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CodecError, Coding, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::limits::{MAX_BLOCK, MAX_METADATA};
use shard_core::wire::put_varint;
use shard_core::{BaseRef, DType, sha256};

/// Words of every size, floats of every kind and none.
const DTYPES: [Option<DType>; 11] = [
    None,
    Some(DType::I8),
    Some(DType::F8E4M3),
    Some(DType::F8E8M0),
    Some(DType::F6E2M3),
    Some(DType::I16),
    Some(DType::F16),
    Some(DType::BF16),
    Some(DType::F32),
    Some(DType::U64),
    Some(DType::F64),
];

/// A decoder for each instruction set, used again for every block: whatever one leaves behind must not matter to the next.
struct Decoders(Vec<Decoder>);

impl Decoders {
    fn new() -> Self {
        Self(Isa::available().map(Decoder::with_isa).collect())
    }

    /// Decodes with every instruction set; all agree. `base` is repeated or cut to what the header calls for.
    fn decode(&mut self, stored: &[u8], base: &[u8]) -> Result<Vec<u8>, CodecError> {
        let (header, header_len) = BlockHeader::read(stored)?;
        let len = header.raw_len as usize;
        assert!(
            len <= if header.dtype.is_some() { MAX_BLOCK } else { MAX_METADATA },
            "expected a length within limits"
        );
        if header.body_len() != stored.len() - header_len {
            // As the decoder says, but without room for what would be decoded.
            return Err(CodecError::Body("the body has another length"));
        }
        let base: Vec<u8> = base.iter().copied().cycle().take(len * header.chain.predictor().bases()).collect();
        let fresh = Decoder::with_isa(Isa::SCALAR);
        let mut first: Option<Result<Vec<u8>, CodecError>> = None;
        for decoder in self.0.iter_mut().chain([&mut { fresh }]) {
            let mut out = vec![0xee; len];
            let result = decoder.decode(&header, &stored[header_len..], Some(&base), &mut out).map(|()| out);
            match &first {
                None => first = Some(result),
                Some(first) => assert_eq!(result.as_ref().ok(), first.as_ref().ok(), "{}", header.chain),
            }
        }
        first.unwrap()
    }
}

/// Words near their base's, nearer in some rows than in others, with a jump here and there.
fn content(word: Word, len: usize, rows: Rows) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut base) = (Vec::new(), Vec::new());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut index = 0;
    while data.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let row = (index + rows.phase as usize) / rows.len as usize;
        let before = state & 0x3fff_3fff_3fff_3f3f;
        let far = if state >> 50 & 63 == 0 { 0x155 } else { 0 };
        let now = before.wrapping_add((state >> 20) % (1 << (2 * (row % 3)))).wrapping_sub(far);
        data.extend_from_slice(&now.to_le_bytes()[..word.bytes]);
        base.extend_from_slice(&before.to_le_bytes()[..word.bytes]);
        index += 1;
    }
    data.truncate(len);
    base.truncate(len);
    (data, base)
}

/// A stored block, and what it is of.
struct Stored {
    name: String,
    shape: Shape,
    data: Vec<u8>,
    base: Vec<u8>,
    bytes: Vec<u8>,
    header_len: usize,
}

/// A block of every legal chain, and one with classes of rows where the context coder has a prediction.
fn blocks(dtypes: &[Option<DType>]) -> Vec<Stored> {
    let mut encoder = Encoder::new(Level::Default);
    let mut blocks = Vec::new();
    let rows = Rows { len: 64, phase: 20 };
    for dtype in dtypes {
        let word = Word::of(*dtype);
        for shape in Shape::legal(word) {
            let long = (!shape.coding.is_filter() && shape.predictor.bases() > 0).then_some(2100 * word.bytes + 1);
            for len in [Some(333), long].into_iter().flatten() {
                let (data, mut base) = content(word, len, rows);
                let mut reference = BaseRef::whole(sha256(b"base"), len as u32);
                if shape.predictor.bases() > 1 {
                    base.extend(data.iter().zip(base.clone()).map(|(now, before)| now ^ before & 3));
                    reference.ranges.push(reference.ranges[0]);
                }
                let base_of = Some(Base::new(&reference, &base));
                let block = Block { data: &data, dtype: *dtype, rows: Some(rows), base: base_of };
                let mut bytes = Vec::new();
                match encoder.encode_with(shape, &block, &mut bytes) {
                    Ok(encoded) => {
                        let name = format!("{dtype:?} {shape} {len}");
                        blocks.push(Stored { name, shape, data, base, bytes, header_len: encoded.header_len });
                    }
                    Err(CodecError::Chain(_)) => {}
                    Err(error) => panic!("{dtype:?} {shape} {len}: {error}"),
                }
            }
        }
    }
    assert!(blocks.iter().any(|block| block.shape.coding == Coding::Context));
    blocks
}

/// How much of a block is a header, parameters, maps and heads, more or less.
fn heads(block: &Stored) -> usize {
    let parameters = if block.shape.coding == Coding::Mixing { 24 } else { 300 };
    (block.header_len + parameters).min(block.bytes.len())
}

#[test]
fn what_is_cut_short_is_an_error() {
    let mut decoders = Decoders::new();
    for block in blocks(&DTYPES) {
        assert!(decoders.decode(&block.bytes, &block.base).unwrap() == block.data, "{}", block.name);
        for cut in (0..heads(&block)).chain((heads(&block)..block.bytes.len()).step_by(1 + block.bytes.len() / 40)) {
            assert!(decoders.decode(&block.bytes[..cut], &block.base).is_err(), "{} cut to {cut}", block.name);
            // And where the header says so, too: then it is the coder that misses something.
            if !block.shape.coding.is_filter() && cut > block.header_len {
                let shorter = with_body(&block, &block.bytes[block.header_len..cut]);
                assert!(decoders.decode(&shorter, &block.base).is_err(), "{} shortened to {cut}", block.name);
            }
        }
        if !block.shape.coding.is_filter() {
            let tail = block.data.len() % Word::of(BlockHeader::read(&block.bytes).unwrap().0.dtype).bytes;
            let (body, tail) = block.bytes[block.header_len..].split_at(block.bytes.len() - block.header_len - tail);
            let longer = with_body(&block, &[body, &[0], tail].concat());
            assert!(decoders.decode(&longer, &block.base).is_err(), "{} a byte longer", block.name);
        }
    }
}

/// A block of the context coder with another body, tail included, of which the header says the length.
fn with_body(block: &Stored, body: &[u8]) -> Vec<u8> {
    let (header, _) = BlockHeader::read(&block.bytes).unwrap();
    let mut length = Vec::new();
    put_varint(&mut length, (header.body_len() - header.raw_len as usize % Word::of(header.dtype).bytes) as u64);
    let mut bytes = block.bytes[..block.header_len - length.len()].to_vec();
    let tail = header.raw_len as usize % Word::of(header.dtype).bytes;
    put_varint(&mut bytes, body.len().saturating_sub(tail) as u64);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn every_flipped_bit_is_an_error_or_a_value() {
    let mut decoders = Decoders::new();
    for mut block in blocks(&DTYPES) {
        let (mut refused, mut decoded) = (0, 0);
        for at in 0..heads(&block) {
            // Context mixing takes time; a bit of each byte must do.
            let step = if block.shape.coding == Coding::Mixing { 8 } else { 1 };
            for bit in (at % step..8).step_by(step) {
                block.bytes[at] ^= 1 << bit;
                match decoders.decode(&block.bytes, &block.base) {
                    Ok(_) => decoded += 1,
                    Err(_) => refused += 1,
                }
                block.bytes[at] ^= 1 << bit;
            }
        }
        // A flipped bit of the base's name is another base; of the version, an error.
        assert!(refused > 0 && decoded > 0, "{}: {refused} refused, {decoded} decoded", block.name);
    }
}

#[test]
fn a_wrong_base_is_an_error_or_a_value() {
    let mut decoders = Decoders::new();
    for block in blocks(&DTYPES).iter().filter(|block| block.shape.predictor.bases() > 0) {
        let inverted: Vec<u8> = block.base.iter().map(|byte| !byte).collect();
        let (header, header_len) = BlockHeader::read(&block.bytes).unwrap();
        for wrong in [&[0][..], &[0xff], &[0x7f, 0x80, 0xff, 0x7f], &block.data, &inverted] {
            let result = decoders.decode(&block.bytes, wrong);
            assert!(result.is_ok() || !block.shape.coding.is_filter(), "{}", block.name);
        }
        for len in [0, 1, block.base.len() - 1] {
            let mut out = vec![0; block.data.len()];
            let result = Decoder::new().decode(&header, &block.bytes[header_len..], Some(&block.base[..len]), &mut out);
            assert!(matches!(result, Err(CodecError::Length { what: "the base", .. })), "{}", block.name);
        }
    }
}

#[test]
fn a_wrong_data_type_is_an_error_or_a_value() {
    let mut decoders = Decoders::new();
    for mut block in blocks(&DTYPES) {
        // After the version and the length.
        let mut length = Vec::new();
        put_varint(&mut length, block.data.len() as u64);
        for id in 0..=255 {
            block.bytes[1 + length.len()] = id;
            let result = decoders.decode(&block.bytes, &block.base);
            let known = id == 0 || DType::from_wire_id(id).is_some();
            assert!(known || matches!(result, Err(CodecError::Unsupported { stage: "data type", .. })), "{id}");
        }
    }
}

/// A block of the context coder put together by hand: whatever is asked for, sensible or not.
#[derive(Clone)]
struct Forged {
    dtype: u8,
    raw_len: usize,
    predicted: bool,
    /// What the header says of the body, where that is not its length.
    stored_len: Option<u64>,
    flags: u8,
    first_key: u64,
    bins: u8,
    origin: usize,
    runs: Option<(u8, u64, u64)>,
    mantissa: Option<u8>,
    buckets: u8,
    /// The map of contexts as it is stored.
    map: Vec<u8>,
    heads: Vec<u8>,
    states: Vec<u32>,
    rest: Vec<u8>,
}

/// A constant segment: tokens of a symbol (as in its head), the symbol.
const fn constant(packing: u8, symbol: u8) -> [u8; 2] {
    [1 << 7 | packing << 5, symbol]
}

/// The map of so many contexts that have no low bits and the first bucket.
fn map_of_nothing(contexts: u32) -> Vec<u8> {
    let bits = (2 * contexts) as usize;
    let mut map = vec![0xff; bits / 8];
    map.extend((!bits.is_multiple_of(8)).then_some((1 << (bits % 8)) - 1));
    map
}

impl Forged {
    /// A block that decodes: every word is its prediction.
    fn new() -> Self {
        Self {
            dtype: DType::BF16.wire_id(),
            raw_len: 3000,
            predicted: true,
            stored_len: None,
            flags: 0,
            first_key: 100,
            bins: 0,
            origin: 2,
            runs: None,
            mantissa: None,
            buckets: 0,
            // No low bits, the bucket before.
            map: vec![3],
            heads: [&constant(0, 0)[..], &constant(0, 0), &[0]].concat(),
            states: vec![1 << 16],
            rest: Vec::new(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![self.flags];
        if self.predicted {
            put_varint(&mut body, self.first_key);
            body.push(self.bins);
        } else {
            body.resize(1 + self.origin, 0x55);
        }
        if let Some((classes, run, phase)) = self.runs {
            body.push(classes);
            put_varint(&mut body, run);
            put_varint(&mut body, phase);
        }
        body.extend(self.mantissa);
        body.push(self.buckets);
        body.extend_from_slice(&self.map);
        body.extend_from_slice(&self.heads);
        self.states.iter().for_each(|state| body.extend_from_slice(&state.to_le_bytes()));
        body.extend_from_slice(&self.rest);
        let mut bytes = vec![1 | u8::from(self.predicted) << 4];
        put_varint(&mut bytes, self.raw_len as u64);
        bytes.push(self.dtype);
        bytes.extend(if self.predicted { [1, 3, 5] } else { [0, 0, 5] });
        if self.predicted {
            bytes.extend_from_slice(&sha256(b"base").0);
        }
        put_varint(&mut bytes, self.stored_len.unwrap_or(body.len() as u64));
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// Blocks that are wrong in one place, and what is.
fn absurd() -> Vec<(&'static str, Forged)> {
    let good = Forged::new();
    let runs = |classes, run, phase| Forged {
        flags: 4,
        runs: Some((classes, run, phase)),
        map: map_of_nothing(u32::from(classes) + 2),
        heads: [&constant(0, 0)[..], &good.heads].concat(),
        ..good.clone()
    };
    let mantissas = |flags, mantissa| Forged { flags, mantissa: Some(mantissa), ..good.clone() };
    let heads = |heads: &[&[u8]]| Forged { heads: heads.concat(), ..good.clone() };
    let zero = constant(0, 0);
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    // The good ones, to be sure that nothing else is wrong with the others: see the test.
    let mut all = vec![
        ("good", good.clone()),
        ("good with runs", runs(0, 64, 63)),
        ("good with the longest runs", runs(6, u64::from(u32::MAX), u64::from(u32::MAX) - 1)),
        ("good with mantissas", mantissas(8, 1)),
        ("good with the highest key", Forged { first_key: 255, ..good.clone() }),
        ("good without prediction", Forged { predicted: false, ..good.clone() }),
        ("good with packed escapes", heads(&[&constant(3, 0), &constant(3, 0), &[0]])),
    ];
    all.extend([
        ("unknown flags", Forged { flags: 16, ..good.clone() }),
        ("a key beyond all", Forged { first_key: 256, ..good.clone() }),
        ("an endless key", Forged { first_key: u64::MAX, ..good.clone() }),
        ("a key of integers", Forged { dtype: DType::I16.wire_id(), first_key: 1, ..good.clone() }),
        ("too many bins", Forged { bins: 64, map: vec![0xff; 32], ..good.clone() }),
        ("far too many bins", Forged { bins: 255, map: vec![0xff; 64], ..good.clone() }),
        ("too many buckets", Forged { buckets: 32, ..good.clone() }),
        ("far too many buckets", Forged { buckets: 255, ..good.clone() }),
        ("too many classes", runs(7, 64, 0)),
        ("far too many classes", runs(255, 64, 0)),
        ("no runs", runs(0, 0, 0)),
        ("short runs", runs(0, 15, 0)),
        ("endless runs", runs(0, u64::from(u32::MAX) + 1, 0)),
        ("a phase of a whole run", runs(0, 64, 64)),
        ("an endless phase", runs(0, 64, u64::MAX)),
        ("a class that there is not", Forged { heads: [&constant(0, 2)[..], &good.heads].concat(), ..runs(0, 64, 0) }),
        (
            "a class that does not fit",
            Forged { heads: [&constant(3, 255)[..], &good.heads].concat(), ..runs(0, 64, 0) },
        ),
        ("mantissas of no class", mantissas(8, 0)),
        ("mantissas of a class that there is not", mantissas(8, 2)),
        ("mantissas of integers", Forged { dtype: DType::I16.wire_id(), first_key: 0, ..mantissas(8, 1) }),
        ("mantissas of nothing", Forged { predicted: false, ..mantissas(8, 1) }),
        ("no map", Forged { map: Vec::new(), heads: Vec::new(), states: Vec::new(), ..good.clone() }),
        // Eight zeros before a one; 2, which is one less than none; 33, which is 16 more; bucket 3 of three; a third bit.
        ("an endless number of low bits", Forged { map: vec![0, 1, 0, 0], ..good.clone() }),
        ("fewer low bits than none", Forged { map: vec![0b1010], ..good.clone() }),
        ("more low bits than a word has", Forged { map: vec![0b0110_0000, 0b1000], ..good.clone() }),
        ("a bucket that there is not", Forged { buckets: 2, map: vec![0b1101], ..good.clone() }),
        ("a map that goes on", Forged { map: vec![7], ..good.clone() }),
        ("a table that is too precise", heads(&[&[12, 0], &zero, &[0]])),
        ("a constant with a precision", heads(&[&[0x81, 0], &zero, &[0]])),
        ("a constant with fine probabilities", heads(&[&[0x90, 0], &zero, &[0]])),
        ("a table of nothing", heads(&[&[0, 0, 0, 0, 0, 0, 0, 0], &zero, &[0]])),
        ("more tokens than words", Forged { buckets: 1, ..heads(&[&zero, &[0xdd, 0x0b], &zero, &zero, &[0]]) }),
        ("endless tokens", Forged { buckets: 1, ..heads(&[&zero, &many, &zero, &zero, &[0]]) }),
        (
            "tokens in a bucket that nothing asks for",
            Forged { buckets: 1, ..heads(&[&zero, &[0], &zero, &zero, &[0]]) },
        ),
        ("more escapes than words", heads(&[&zero, &zero, &[0xdd, 0x0b]])),
        ("endless escapes", heads(&[&zero, &zero, &many])),
        ("escapes that nothing asks for", heads(&[&zero, &zero, &[1]])),
        ("too few escapes", heads(&[&constant(0, 255), &zero, &[1]])),
        ("far values that are not there", heads(&[&constant(0, 255), &constant(0, 255), &[0xdc, 0x0b]])),
        ("far values that nothing asks for", Forged { rest: vec![0; 2], ..good.clone() }),
        ("too few states", Forged { flags: 3, ..good.clone() }),
        ("too many states", Forged { states: vec![1 << 16; 2], ..good.clone() }),
        ("states that are no start", Forged { states: vec![0], ..good.clone() }),
        ("states that do not return", Forged { states: vec![(1 << 16) + 1], ..good.clone() }),
        ("low bits that are not there", Forged { map: vec![0b1110], ..good.clone() }),
        ("more stored than there is", Forged { stored_len: Some(2000), ..good.clone() }),
        ("more stored than decoded", Forged { stored_len: Some(3001), ..good.clone() }),
        ("endless storage", Forged { stored_len: Some(u64::MAX), ..good.clone() }),
        ("a block beyond the coder's limit", Forged { dtype: 0, first_key: 0, raw_len: MAX_BLOCK + 1, ..good.clone() }),
    ]);
    all
}

#[test]
fn absurd_counts_are_errors() {
    let mut decoders = Decoders::new();
    for bytes in absurd_mixing() {
        assert!(decoders.decode(&bytes, &[0x11]).is_err());
    }
    for (name, forged) in absurd() {
        let base: Vec<u8> = (0..=254).collect();
        let result = decoders.decode(&forged.bytes(), &base);
        if !name.starts_with("good") {
            assert!(result.is_err(), "{name} is accepted");
            continue;
        }
        let out = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected: Vec<u8> = if forged.predicted {
            base.iter().copied().cycle().take(forged.raw_len).collect()
        } else {
            // Rotated right by one bit.
            0x5555u16.rotate_right(1).to_le_bytes().into_iter().cycle().take(forged.raw_len).collect()
        };
        assert_eq!(out, expected, "{name}");
    }
}

/// The start of a block of context mixing, of which nothing more needs to be right.
fn mixing(raw_len: usize, row: u64, phase: u64, first_key: u64, code: u64) -> Vec<u8> {
    let mut body = Vec::new();
    [row, phase, first_key, code].into_iter().for_each(|number| put_varint(&mut body, number));
    body.extend_from_slice(&[0; 40]);
    let mut bytes = vec![0x11];
    put_varint(&mut bytes, raw_len as u64);
    bytes.extend([DType::BF16.wire_id(), 1, 3, 6]);
    bytes.extend_from_slice(&sha256(b"base").0);
    put_varint(&mut bytes, body.len() as u64);
    bytes.extend_from_slice(&body);
    bytes
}

/// Such blocks with numbers that make no sense.
fn absurd_mixing() -> Vec<Vec<u8>> {
    let longest = u64::from(u32::MAX);
    vec![
        mixing(3000, 0, 1, 0, 40),
        mixing(3000, 64, 64, 0, 40),
        mixing(3000, longest + 1, 0, 0, 40),
        mixing(3000, longest, longest - 1, 0, 40),
        mixing(3000, 1 << 20, (1 << 20) - 1, 0, 40),
        mixing(3000, 64, 0, 256, 40),
        mixing(3000, 64, 0, u64::MAX, 40),
        mixing(3000, 64, 0, 0, 41),
        mixing(3000, 64, 0, 0, u64::MAX),
        mixing(3000, 64, 0, 0, 0),
    ]
}

/// Blocks of full length in a few bytes, which ask for as much memory and work as the format lets them.
fn greedy() -> Vec<Forged> {
    let zero = constant(0, 0);
    let mut all = Vec::new();
    for (dtype, word) in [(0, 1), (DType::BF16.wire_id(), 2), (DType::F64.wire_id(), 8)] {
        let words = MAX_BLOCK / word;
        let good = Forged { dtype, first_key: 0, raw_len: MAX_BLOCK, ..Forged::new() };
        let mut count = Vec::new();
        put_varint(&mut count, words as u64);
        // The shortest runs, several tokens in a symbol, each an escape.
        all.push(Forged {
            flags: 4 | 3,
            runs: Some((6, 16, 15)),
            map: map_of_nothing(8),
            heads: [&zero[..], &constant(3, 255), &constant(0, 7), &count].concat(),
            states: vec![1 << 16; 64],
            ..good.clone()
        });
        // As many buckets as there may be, of which one has everything.
        let others = [zero[0], zero[1], 0].repeat(30);
        all.push(Forged {
            flags: 2,
            buckets: 31,
            heads: [&zero[..], &count, &others, &zero, &zero, &[0]].concat(),
            states: vec![1 << 16; 32],
            ..good.clone()
        });
    }
    all
}

/// The most memory that this process has used, in KiB, since it was last asked to forget.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_what_lengths_call_for() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "a_measured_process"])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "the process that the test above starts: cargo test --release -p shard-codecs --test hostile"]
fn a_measured_process() {
    let mut decoder = Decoder::new();
    let mut out = vec![0xee; MAX_BLOCK];
    let base = vec![0x11; MAX_BLOCK];
    let mut run = |bytes: &[u8]| -> Result<(), CodecError> {
        let (header, len) = BlockHeader::read(bytes)?;
        let raw_len = header.raw_len as usize;
        let base = &base[..raw_len * header.chain.predictor().bases()];
        decoder.decode(&header, &bytes[len..], Some(base), &mut out[..raw_len])
    };
    run(&Forged::new().bytes()).unwrap();
    let start = peak();
    for (_, forged) in absurd() {
        let _ = run(&forged.bytes());
    }
    let used = peak() - start;
    assert!(used < 1 << 10, "expected that blocks of 3,000 bytes take little, found {used} KiB");
    for bytes in absurd_mixing() {
        let _ = run(&bytes);
    }
    let used = peak() - start;
    // The tables of its models are of one size for all blocks.
    assert!(used < 4 << 10, "expected that mixing takes its tables and little more, found {used} KiB");
    for forged in greedy() {
        run(&forged.bytes()).unwrap();
    }
    let used = peak() - start;
    // Classes, tokens, symbols and escapes: a byte a word each at most.
    assert!(used < 4 * MAX_BLOCK / 1024 + (1 << 10), "expected four buffers of a block at most, found {used} KiB");
}
