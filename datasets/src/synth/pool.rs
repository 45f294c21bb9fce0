//! Pairs of words that stand at the same place of two checkpoints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::SynthError;
use crate::rng::Rng;

/// Most pairs kept of a kind of tensor: 8 bytes each, so that a pool stays in a core's second-level cache.
const MOST: usize = 1 << 17;

/// Longest header that is believed, in bytes; safetensors' own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Words read at a time.
const READ: usize = 1 << 16;

/// What a tensor does in a transformer; values of one kind are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    AttentionIn,
    AttentionOut,
    MlpIn,
    MlpOut,
    Embedding,
    Norm,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::AttentionIn, Self::AttentionOut, Self::MlpIn, Self::MlpOut, Self::Embedding, Self::Norm];

    /// The kind of a tensor of GPT-2's, BERT's or Llama's naming; `None` for biases and what else is no weight of these.
    fn of(name: &str, rank: usize) -> Option<Self> {
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if !name.ends_with("weight") {
            None
        } else if rank == 1 {
            has(&["ln_", "norm", "Norm"]).then_some(Self::Norm)
        } else if rank != 2 {
            None
        } else if has(&["wte", "wpe", "embed"]) {
            Some(Self::Embedding)
        } else if has(&["c_attn", "q_proj", "k_proj", "v_proj", "query", "key", "value"]) {
            Some(Self::AttentionIn)
        } else if has(&["attn.c_proj", "o_proj", "attention.output"]) {
            Some(Self::AttentionOut)
        } else if has(&["c_fc", "up_proj", "gate_proj", "intermediate"]) {
            Some(Self::MlpIn)
        } else if has(&["mlp.c_proj", "down_proj", "output.dense"]) {
            Some(Self::MlpOut)
        } else {
            None
        }
    }
}

/// A checkpoint that is open for reading.
struct Checkpoint<'a> {
    path: &'a Path,
    file: File,
    /// Where the tensors' bytes start in the file.
    data: u64,
    metadata: Metadata,
}

impl<'a> Checkpoint<'a> {
    fn open(path: &'a Path) -> Result<Self, SynthError> {
        let read = |source| SynthError::Read { path: path.to_owned(), source };
        let header = || SynthError::Header { path: path.to_owned() };
        let mut file = File::open(path).map_err(read)?;
        let total = file.metadata().map_err(read)?.len();
        let mut len = [0; 8];
        file.read_exact(&mut len).map_err(|_| header())?;
        let len = u64::from_le_bytes(len);
        if len > MAX_HEADER || len > total {
            return Err(header());
        }
        let mut json = vec![0; len as usize];
        file.read_exact(&mut json).map_err(|_| header())?;
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|_| header())?;
        if Some(total) != (len + 8).checked_add(metadata.data_len() as u64) {
            return Err(header());
        }
        Ok(Self { path, file, data: len + 8, metadata })
    }

    fn read(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), SynthError> {
        self.file
            .seek(SeekFrom::Start(self.data + at as u64))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(|source| SynthError::Read { path: self.path.to_owned(), source })
    }
}

/// The pairs, by kind. A pair is the first checkpoint's word in the low half and the second's in the high half.
pub(super) struct Pools {
    dtype: Dtype,
    pools: BTreeMap<Kind, Vec<u64>>,
    /// The pairs for kinds that the checkpoints do not have; empty where they have all.
    rest: Vec<u64>,
}

impl Pools {
    /// Reads a sample of the pairs of both checkpoints' common tensors; of each kind, the share `moved` differs.
    pub(super) fn read(a: &Path, b: &Path, moved: Option<f64>, seed: u64) -> Result<Self, SynthError> {
        let (mut a, mut b) = (Checkpoint::open(a)?, Checkpoint::open(b)?);
        let common = common_tensors(&a.metadata, &b.metadata);
        let dtype = [Dtype::BF16, Dtype::F16, Dtype::F32]
            .into_iter()
            .map(|dtype| (common.iter().filter(|t| t.dtype == dtype).map(Common::words).sum::<usize>(), dtype))
            .max_by_key(|(words, _)| *words)
            .filter(|(words, _)| *words > 0)
            .map(|(_, dtype)| dtype)
            .ok_or(SynthError::NothingInCommon)?;

        let mut rng = Rng::stream(seed, 0);
        let mut pool = |kind: Option<Kind>| -> Result<Vec<u64>, SynthError> {
            let chosen = || common.iter().filter(|t| t.dtype == dtype && (kind.is_none() || t.kind == kind));
            let total: usize = chosen().map(Common::words).sum();
            let mut pairs = Vec::with_capacity(total.min(MOST + MOST / 8));
            for tensor in chosen() {
                sample(&mut a, &mut b, tensor, MOST as f64 / total as f64, &mut rng, &mut pairs)?;
            }
            if let Some(share) = moved {
                set_share(&mut pairs, share, &mut rng);
            }
            Ok(pairs)
        };
        let mut pools = BTreeMap::new();
        for kind in Kind::ALL {
            let pairs = pool(Some(kind))?;
            if !pairs.is_empty() {
                pools.insert(kind, pairs);
            }
        }
        let rest = if pools.len() < Kind::ALL.len() { pool(None)? } else { Vec::new() };
        if rest.is_empty() && pools.len() < Kind::ALL.len() {
            return Err(SynthError::NothingInCommon);
        }
        Ok(Self { dtype, pools, rest })
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(super) fn word_bytes(&self) -> usize {
        if self.dtype == Dtype::F32 { 4 } else { 2 }
    }

    /// Fills both buffers, of the same length, with words of pairs drawn at random; gives the number of words that differ.
    pub(super) fn draw(&self, kind: Kind, rng: &mut Rng, a: &mut [u8], b: &mut [u8]) -> u64 {
        let pool = self.pools.get(&kind).unwrap_or(&self.rest);
        let pick = |random: u32| pool[((u64::from(random) * pool.len() as u64) >> 32) as usize];
        let mut moved = 0;
        if self.dtype == Dtype::F32 {
            for (a, b) in a.chunks_exact_mut(4).zip(b.chunks_exact_mut(4)) {
                let bits = rng.bits();
                let pair = pick(bits as u32);
                // The pool has far fewer words than the values of an f32, and repeats of whole words would give a match
                // finder what real weights do not: both words are raised by the same few units in the last place.
                let jitter = if pair as u32 & 0x7fff_ffff == 0 { 0 } else { (bits >> 52) as u32 };
                let (word_a, word_b) = ((pair as u32).wrapping_add(jitter), ((pair >> 32) as u32).wrapping_add(jitter));
                moved += u64::from(word_a != word_b);
                a.copy_from_slice(&word_a.to_le_bytes());
                b.copy_from_slice(&word_b.to_le_bytes());
            }
        } else {
            for (a, b) in a.chunks_mut(4).zip(b.chunks_mut(4)) {
                let bits = rng.bits();
                let (low, high) = (pick(bits as u32), pick((bits >> 32) as u32));
                let words_a = (low as u32 & 0xffff) | (high as u32) << 16;
                let words_b = ((low >> 32) as u32 & 0xffff) | ((high >> 32) as u32) << 16;
                let differ = words_a ^ words_b;
                moved += u64::from(differ & 0xffff != 0);
                // The last word of an odd number stands alone.
                moved += u64::from(differ >> 16 != 0 && a.len() == 4);
                let len = a.len();
                a.copy_from_slice(&words_a.to_le_bytes()[..len]);
                b.copy_from_slice(&words_b.to_le_bytes()[..len]);
            }
        }
        moved
    }
}

/// A tensor that both checkpoints have.
struct Common {
    kind: Option<Kind>,
    dtype: Dtype,
    /// Where its bytes start in each checkpoint's data.
    starts: [usize; 2],
    /// Its length in bytes.
    len: usize,
}

impl Common {
    fn words(&self) -> usize {
        self.len * 8 / self.dtype.bitsize().max(1)
    }
}

fn common_tensors(a: &Metadata, b: &Metadata) -> Vec<Common> {
    let same = |a: &TensorInfo, b: &TensorInfo| a.dtype == b.dtype && a.shape == b.shape;
    let tensors = a.offset_keys().into_iter().filter_map(|name| {
        let (info, other) = (a.info(&name)?, b.info(&name)?);
        same(info, other).then(|| Common {
            kind: Kind::of(&name, info.shape.len()),
            dtype: info.dtype,
            starts: [info.data_offsets.0, other.data_offsets.0],
            len: info.data_offsets.1 - info.data_offsets.0,
        })
    });
    tensors.collect()
}

/// Appends each pair of a tensor's words with the probability `share`.
fn sample(
    a: &mut Checkpoint<'_>,
    b: &mut Checkpoint<'_>,
    tensor: &Common,
    share: f64,
    rng: &mut Rng,
    pairs: &mut Vec<u64>,
) -> Result<(), SynthError> {
    let word = tensor.dtype.bitsize() / 8;
    let (mut bytes_a, mut bytes_b) = (vec![0; READ * word], vec![0; READ * word]);
    for at in (0..tensor.len).step_by(READ * word) {
        let len = (tensor.len - at).min(READ * word);
        let (bytes_a, bytes_b) = (&mut bytes_a[..len], &mut bytes_b[..len]);
        a.read(tensor.starts[0] + at, bytes_a)?;
        b.read(tensor.starts[1] + at, bytes_b)?;
        for (a, b) in bytes_a.chunks_exact(word).zip(bytes_b.chunks_exact(word)) {
            if share >= 1.0 || rng.unit() < share {
                pairs.push(little_endian(a) | little_endian(b) << 32);
            }
        }
    }
    Ok(())
}

fn little_endian(word: &[u8]) -> u64 {
    word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Makes the share of pairs that differ as close to `share` as whole pairs allow: by undoing the change of randomly chosen
/// pairs, or by putting pairs that differ in the place of randomly chosen ones that do not. Pairs of which none differs
/// stay as they are.
fn set_share(pairs: &mut [u64], share: f64, rng: &mut Rng) {
    let differs = |pair: u64| pair >> 32 != pair & 0xffff_ffff;
    let (moved, still): (Vec<usize>, Vec<usize>) = (0..pairs.len()).partition(|index| differs(pairs[*index]));
    let wanted = (share * pairs.len() as f64).round() as usize;
    if wanted <= moved.len() {
        let undone = moved.len() - wanted;
        for index in choose(moved, undone, rng) {
            pairs[index] = (pairs[index] & 0xffff_ffff) * 0x1_0000_0001;
        }
    } else if !moved.is_empty() {
        for index in choose(still, wanted - moved.len(), rng) {
            pairs[index] = pairs[moved[rng.below(moved.len() as u64) as usize]];
        }
    }
}

/// A random choice of some of the items: the first of a shuffle (Fisher and Yates).
fn choose(mut items: Vec<usize>, count: usize, rng: &mut Rng) -> Vec<usize> {
    for at in 0..count.min(items.len()) {
        let other = at + rng.below((items.len() - at) as u64) as usize;
        items.swap(at, other);
    }
    items.truncate(count);
    items
}
