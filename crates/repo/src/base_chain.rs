//! How long chains of bases get: which version a block leans on in the end.
//!
//! The base that is looked for first is the version just before: it predicts best. But whoever restores a block decodes all
//! that it leans on, so a chain has two limits: its depth, and the *work* of decoding it, by what each codec was measured to
//! take. Where a limit is reached, the block leans on a version further back in the same chain instead, or on none: on the one
//! that costs the fewest more bytes for each version until the limit is reached again (`docs/decisions/005`).

use shard_codecs::{Block, BlockHeader, CodecError, Encoder, Level, Word};
use shard_core::DType;
use shard_core::limits::MAX_DEPTH;

/// Work is counted in hundredths of what a keyframe's restore takes: decoding, one SHA-256 and one write. So that any version
/// restores in three times that, a chain may add twice as much.
const MOST_WORK: u32 = 200;

/// The work of a link whose like is not known yet.
const USUAL: u32 = 45;

/// How long a writer lets chains get. Readers follow any of up to [`MAX_DEPTH`] bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainLimits {
    depth: u32,
    work: u32,
    /// Whether bases may be computed.
    derived: bool,
}

/// What more work for a link does to its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    /// As many links can follow.
    Free,
    /// Fewer can.
    CostsLinks,
    /// The link does not fit any more.
    TooMuch,
}

/// What a block would lean on: how many bases there are down to the keyframe, and the work of decoding it from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Height {
    pub(crate) depth: u32,
    pub(crate) work: u32,
}

impl ChainLimits {
    /// The rule for who has no wish: any version restores in about three times a keyframe's time at most. At the highest level
    /// bytes are all that counts.
    pub(crate) fn of_level(level: Level) -> Self {
        if level == Level::Max {
            Self::of_depth(MAX_DEPTH)
        } else {
            Self { depth: MAX_DEPTH, work: MOST_WORK, derived: true }
        }
    }

    /// Chains of at most `depth` bases, whatever their work.
    pub(crate) fn of_depth(depth: u32) -> Self {
        Self { depth: depth.min(MAX_DEPTH), work: u32::MAX, derived: true }
    }

    /// The same where nothing is computed.
    pub(crate) fn without_derivations(self) -> Self {
        Self { derived: false, ..self }
    }

    /// Whether bases may be computed.
    pub(crate) fn derived(self) -> bool {
        self.derived
    }

    /// The most bases.
    pub(crate) fn depth(self) -> u32 {
        self.depth
    }

    /// Whether a link of so much work may be put on a base of that height.
    pub(crate) fn allow(self, base: Height, link: u32) -> bool {
        self.room(base, link) > 0
    }

    /// What it would do to a chain that such a link took `more` work than that.
    pub(crate) fn extra(self, base: Height, link: u32, more: u32) -> Extra {
        let room = self.room(base, link);
        match self.room(Height { work: base.work.saturating_add(more), ..base }, link) {
            0 => Extra::TooMuch,
            left if left < room => Extra::CostsLinks,
            _ => Extra::Free,
        }
    }

    /// How many links of so much work can follow one another on a base of that height.
    fn room(self, base: Height, link: u32) -> u32 {
        let by_work = self.work.saturating_sub(base.work) / link.max(1);
        // Whatever it takes, a delta on a keyframe is no chain.
        let by_work = if base.depth == 0 { by_work.max(1) } else { by_work };
        self.depth.saturating_sub(base.depth).min(by_work)
    }

    /// At a limit: which of `bases`, each with the bytes that the block is expected to take on it, is the best to go on from;
    /// `None` is none of them, but a new keyframe of `alone` bytes. `near` is what the block would take on the version just
    /// before, and `link` the work of that.
    pub(crate) fn choose(self, link: u32, near: u64, alone: u64, bases: &[(Height, u64)]) -> Option<usize> {
        let each = |bytes: u64, versions: u32| (bytes as f64 - near as f64) / f64::from(versions);
        // A new keyframe is one version more.
        let mut best = (each(alone, self.room(Height::default(), link) + 1), None);
        for (index, (height, bytes)) in bases.iter().enumerate() {
            let room = self.room(*height, link);
            if room > 0 && each(*bytes, room) < best.0 {
                best = (each(*bytes, room), Some(index));
            }
        }
        best.1
    }
}

/// What a second version adds to the work of a link, for words of one byte (`docs/decisions/012`).
const COMBINED: u32 = 36;

/// The work of decoding a block when its base is there: 0 for a keyframe. What a second version adds is not in it.
pub(crate) fn link_work(header: &BlockHeader) -> u32 {
    if header.chain.predictor().bases() == 0 {
        return 0;
    }
    let coded = work(header.chain.coding().name(), header.dtype, header.body_len() as u64, u64::from(header.raw_len));
    coded + header.derived.map_or(0, |_| inputs_work(header.base_len() as u64, header.raw_len))
}

/// What a derivation adds to the work of a link: its inputs are decoded, and computed with.
fn inputs_work(inputs: u64, raw_len: u32) -> u32 {
    const INPUT: u64 = 70;
    u32::try_from(inputs * INPUT / u64::from(raw_len.max(1))).unwrap_or(u32::MAX)
}

/// What it adds to the work of a link that it leans on so many versions.
pub(crate) fn versions_work(versions: usize, dtype: Option<DType>) -> u32 {
    if versions > 1 { COMBINED / Word::of(dtype).bytes.max(1) as u32 } else { 0 }
}

/// The work of decoding a delta of `stored` bytes, of `raw`: by what `shard bench` measures on one core.
pub(crate) fn work(coding: &str, dtype: Option<DType>, stored: u64, raw: u64) -> u32 {
    let word = Word::of(dtype).bytes.max(1) as u32;
    let share = (stored * 100 / raw.max(1)).min(100) as u32;
    match coding {
        // A step for each word, and what there is to read. Layers take several times as long, but who asks for them asks for bytes to
        // fetch, and chains that are as long as without.
        "context" | "layers" | "units" | "grid" | "narrow" => (60 + share * 6 / 5) / word,
        "planes" => 120 / word,
        "escape" => 38,
        "sparse" => 50,
        "gaps" => 12,
        "mixing" => 3000,
        _ => 65,
    }
}

/// The work to expect of a link on a block whose own link is `before`; that of a keyframe is 0, and says nothing.
pub(crate) fn expected(before: u32) -> u32 {
    if before == 0 { USUAL } else { before }
}

/// What a block is expected to take alone, and with its base.
pub(crate) fn estimate(encoder: &mut Encoder, block: &Block<'_>) -> Result<(u64, u64), CodecError> {
    let ranking = encoder.explain(block)?;
    let raw = block.data.len() as u64;
    let least = |based: bool| {
        let those = ranking.iter().filter(|candidate| (candidate.shape.predictor.bases() > 0) == based);
        those.map(|candidate| candidate.estimated).min().unwrap_or(raw)
    };
    let alone = least(false).min(raw);
    Ok((alone, least(true).min(alone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(depth: u32, work: u32) -> Height {
        Height { depth, work }
    }

    #[test]
    fn limits_stop_chains() {
        let usual = ChainLimits::of_level(Level::Default);
        assert!(usual.allow(height(0, 0), 45) && usual.allow(height(3, 135), 45));
        assert!(!usual.allow(height(4, 180), 45), "no work is left");
        assert!(!usual.allow(height(MAX_DEPTH, 0), 1), "no depth is left");
        assert!(usual.allow(height(0, 0), 5000), "a slow delta may be put on a keyframe");
        assert!(!usual.allow(height(1, 5000), 5000), "and nothing on that");
        let deep = ChainLimits::of_depth(2);
        assert!(deep.allow(height(1, 5000), 5000), "who asks for a depth gets it");
        assert!(!deep.allow(height(2, 0), 1) && !ChainLimits::of_depth(0).allow(height(0, 0), 1));
        assert_eq!(ChainLimits::of_depth(99).depth(), MAX_DEPTH, "readers hold the bound of the format");
        assert_eq!(ChainLimits::of_level(Level::Max), ChainLimits::of_depth(MAX_DEPTH));
    }

    #[test]
    fn what_is_left_of_the_work_may_be_spent() {
        let usual = ChainLimits::of_level(Level::Default);
        // Four links of 45 leave 20.
        assert_eq!(usual.extra(height(1, 45), 45, 20), Extra::Free);
        assert_eq!(usual.extra(height(3, 135), 45, 20), Extra::Free);
        assert_eq!(usual.extra(height(1, 45), 45, 21), Extra::CostsLinks);
        assert_eq!(usual.extra(height(2, 103), 45, 13), Extra::CostsLinks, "most of it is spent");
        assert_eq!(usual.extra(height(3, 148), 45, 13), Extra::TooMuch);
        assert_eq!(usual.extra(height(MAX_DEPTH - 1, 0), 45, 155), Extra::Free, "the depth ends the chain first");
        assert_eq!(ChainLimits::of_depth(8).extra(height(2, 5000), 45, 100), Extra::Free);
    }

    #[test]
    fn the_best_base_costs_least_for_each_version_that_it_allows() {
        let usual = ChainLimits::of_level(Level::Default);
        // A step takes 100 bytes and 40 of work.
        let choose = |alone: u64, bases: &[(Height, u64)]| usual.choose(40, 100, alone, bases);
        let (keyframe, first, fourth) = ((height(0, 0), 260), (height(1, 40), 180), (height(4, 160), 115));
        assert_eq!(choose(1000, &[keyframe, first, fourth]), Some(2), "15 more for one version");
        assert_eq!(choose(1000, &[keyframe, first]), Some(1), "20 for each of four, against 32 for each of five");
        assert_eq!(choose(1000, &[keyframe, (height(1, 40), 300)]), Some(0));
        assert_eq!(choose(210, &[keyframe]), None, "a keyframe is smaller");
        assert_eq!(choose(290, &[keyframe]), None, "a little more bytes, but for one version more");
        assert_eq!(choose(1000, &[(height(5, 190), 110)]), None, "no room is left on it");
    }
}
