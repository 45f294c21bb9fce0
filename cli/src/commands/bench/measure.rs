//! The measurement: every codec on every block, in turn, round after round, with every result checked.
//!
//! A round is one encoding and one decoding by each codec, one after the other on the same block, and one hash: what else
//! the machine does hits all alike. A block's time is the median of the rounds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shard_codecs::Level;
use shard_core::{DType, Progress, sha256};

use super::codec::{Codec, Coders, Piece, Prepared};
use super::error::BenchError;
use super::explain::Explained;
use super::series::{Place, Series, Visit};
use super::tally::{CodecFigures, Figures, Row};

/// What is to be measured.
pub(super) struct Plan<'a> {
    pub(super) codecs: &'a [Codec],
    pub(super) rounds: usize,
    /// Whether choices are explained, and at which level.
    pub(super) explain: Option<Level>,
}

/// What was measured: a row for each tensor of each file.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    pub(super) explained: Vec<Explained>,
}

/// Measures the whole series, on the thread that calls.
pub(super) fn measure(series: &Series, plan: &Plan<'_>, progress: &dyn Progress) -> Result<Measured, BenchError> {
    let mut run = Run {
        series,
        plan,
        progress,
        coders: Coders::new()?,
        prepared: HashMap::new(),
        out: Vec::new(),
        measured: Measured::default(),
    };
    progress.begin("measuring", Some(series.size()));
    series.walk(&mut run)?;
    progress.finish();
    Ok(run.measured)
}

struct Run<'a> {
    series: &'a Series,
    plan: &'a Plan<'a>,
    progress: &'a dyn Progress,
    coders: Coders,
    /// The codecs, ready for each type.
    prepared: HashMap<Option<DType>, Vec<Prepared>>,
    out: Vec<u8>,
    measured: Measured,
}

impl Visit for Run<'_> {
    fn block(&mut self, place: Place<'_>, piece: &Piece<'_>) -> Result<(), BenchError> {
        let codecs = self.plan.codecs;
        let prepare = || codecs.iter().map(|codec| Prepared::new(codec, piece.dtype)).collect();
        let prepared = self.prepared.entry(piece.dtype).or_insert_with(prepare);
        let named = |codec: usize| codecs.get(codec).map(Codec::name).unwrap_or_default();
        let place_name = || place_name(self.series, place, piece.data.len());
        let mut times: Vec<Times> = prepared.iter().map(|_| Times::default()).collect();
        let mut hashing = Vec::with_capacity(self.plan.rounds);
        for _ in 0..self.plan.rounds {
            for (index, (codec, times)) in prepared.iter().zip(&mut times).enumerate() {
                // What one round did not take no other will.
                if matches!(codec, Prepared::Unfit) || times.is_refused {
                    continue;
                }
                round(&mut self.coders, codec, piece, &mut self.out, times).map_err(|error| match error {
                    Fault::Codec(source) => {
                        BenchError::Block { codec: named(index), place: place_name(), source: Box::new(source) }
                    }
                    Fault::WrongBytes => BenchError::WrongBytes { codec: named(index), place: place_name() },
                })?;
            }
            let start = Instant::now();
            let digest = sha256(piece.data);
            hashing.push(start.elapsed());
            std::hint::black_box(digest);
        }
        let raw = piece.data.len() as u64;
        let figures = Figures {
            raw,
            free: 0,
            hashing: median(&mut hashing),
            codecs: times.into_iter().map(|times| times.figures(raw)).collect(),
        };
        self.row(place).figures.add(&figures);
        if let Some(level) = self.plan.explain {
            let explanation = self.coders.explain(level, piece).map_err(|source| BenchError::Block {
                codec: Codec::Shard(level).name(),
                place: place_name(),
                source: Box::new(source),
            })?;
            self.explained(place).add(raw, explanation);
        }
        Ok(())
    }

    fn repeated(&mut self, place: Place<'_>, len: u64) {
        let codecs = vec![CodecFigures::default(); self.plan.codecs.len()];
        self.row(place).figures.add(&Figures { raw: len, free: len, hashing: Duration::ZERO, codecs });
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.advance(bytes);
    }
}

impl Run<'_> {
    /// The row of a block's tensor: blocks come in file order, so it is the last one or a new one.
    fn row(&mut self, place: Place<'_>) -> &mut Row {
        let rows = &mut self.measured.rows;
        let is_last = |row: &Row| row.is_of(place) && place.offset > 0;
        if !rows.last().is_some_and(is_last) {
            rows.push(Row::new(place));
        }
        let last = rows.len() - 1;
        &mut rows[last]
    }

    fn explained(&mut self, place: Place<'_>) -> &mut Explained {
        let explained = &mut self.measured.explained;
        if !explained.last().is_some_and(|last| last.row.is_of(place)) {
            explained.push(Explained::new(place));
        }
        let last = explained.len() - 1;
        &mut explained[last]
    }
}

/// What one codec took for one block.
#[derive(Default)]
struct Times {
    encode: Vec<Duration>,
    decode: Vec<Duration>,
    stored: u64,
    is_refused: bool,
}

impl Times {
    fn figures(mut self, raw: u64) -> CodecFigures {
        if self.encode.is_empty() {
            return CodecFigures::default();
        }
        let (encode, decode) = (median(&mut self.encode), median(&mut self.decode));
        CodecFigures { taken: raw, stored: self.stored, encode, decode }
    }
}

enum Fault {
    Codec(BenchError),
    WrongBytes,
}

/// One encoding, one decoding, one comparison; only the first two are timed.
fn round(
    coders: &mut Coders,
    codec: &Prepared,
    piece: &Piece<'_>,
    out: &mut Vec<u8>,
    times: &mut Times,
) -> Result<(), Fault> {
    let start = Instant::now();
    let stored = coders.encode(codec, piece).map_err(Fault::Codec)?;
    let encoded = start.elapsed();
    let Some(stored) = stored else {
        times.is_refused = true;
        return Ok(());
    };
    // What the codec before left here would pass for this one's work.
    out.clear();
    out.resize(piece.data.len(), !piece.data.first().copied().unwrap_or_default());
    let start = Instant::now();
    coders.decode(codec, piece, out).map_err(Fault::Codec)?;
    times.decode.push(start.elapsed());
    times.encode.push(encoded);
    times.stored = stored;
    if out == piece.data { Ok(()) } else { Err(Fault::WrongBytes) }
}

/// The middle of times, or of the middle two the mean; zero where there are none.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let middle = times.len() / 2;
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    if times.len().is_multiple_of(2) { (at(middle.saturating_sub(1)) + at(middle)) / 2 } else { at(middle) }
}

fn place_name(series: &Series, place: Place<'_>, len: usize) -> String {
    let file = series.members.get(place.file).map(|member| member.path.display().to_string()).unwrap_or_default();
    let tensor = place.tensor.map(|name| format!("tensor {name}, ")).unwrap_or_default();
    format!("{file}: {tensor}bytes {} to {}", place.offset, place.offset + len as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shard_core::NoProgress;
    use shard_datasets::cases::every_change;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn medians() {
        let of = |millis: &[u64]| {
            let mut times: Vec<Duration> = millis.iter().map(|millis| Duration::from_millis(*millis)).collect();
            median(&mut times)
        };
        assert_eq!(of(&[]), Duration::ZERO);
        assert_eq!(of(&[3]), Duration::from_millis(3));
        assert_eq!(of(&[9, 1, 2]), Duration::from_millis(2));
        assert_eq!(of(&[9, 1, 2, 4]), Duration::from_millis(3));
    }

    #[test]
    fn a_codec_that_does_nothing_is_found_out() {
        let mut coders = Coders::new().unwrap();
        let mut out = Vec::new();
        let data = vec![5; 100];
        let piece = Piece { data: &data, dtype: None, rows: None, base: None };
        let mut run = |codec| round(&mut coders, &codec, &piece, &mut out, &mut Times::default());
        assert!(run(Prepared::Zstd).is_ok());
        // The bytes that zstd left in the buffer do not pass for its own.
        assert!(matches!(run(Prepared::Idle), Err(Fault::WrongBytes)));
        assert!(run(Prepared::Unfit).is_ok());
    }

    #[test]
    fn every_tensor_is_a_row_of_all_codecs() {
        let folder = TempDir::new().unwrap();
        let (first, second) = every_change(1).unwrap();
        let paths = [("a", first), ("b", second)].map(|(name, bytes)| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        });
        let series = Series::open(&paths, false).unwrap();
        let codecs = [
            Codec::Shard(Level::Default),
            Codec::Zstd,
            Codec::BitX,
            Codec::Chain("parent+ulp+planes".to_owned(), Level::Default),
        ];
        let plan = Plan { codecs: &codecs, rounds: 2, explain: Some(Level::Default) };
        let measured = measure(&series, &plan, &NoProgress).unwrap();
        assert_eq!(measured.rows.len(), 6);
        let row = |name: &str| measured.rows.iter().find(|row| row.tensor.as_deref() == Some(name)).unwrap();
        let noisy = &row("noisy.weight").figures;
        assert_eq!((noisy.free, noisy.codecs.len()), (0, 4));
        for codec in &noisy.codecs {
            assert_eq!(codec.taken, noisy.raw);
            assert!(codec.stored > 0 && codec.encode > Duration::ZERO && codec.decode > Duration::ZERO);
        }
        let [shard, zstd, bitx, _] = &noisy.codecs[..] else { panic!("four codecs") };
        assert!(shard.stored < bitx.stored && bitx.stored < zstd.stored);
        let equal = &row("equal.f32").figures;
        assert_eq!((equal.free, equal.codecs[0].stored), (equal.raw, 0));
        assert_eq!(row("added.weight").figures.codecs[3].taken, 0, "without a base that chain has nothing to do");
        assert_eq!(measured.explained.len(), 3, "what is equal needs no explanation");
    }
}
