//! The values of every tensor of a file, summed up while its bytes go by.

use std::collections::HashMap;

use shard_core::TensorView;

use super::summary::{Summary, Summing};

/// How often a byte is summed up at most, on average over the tensors' bytes, where many views share them.
const MOST_OFTEN: u64 = 8;

/// Views of the same bytes as the same type.
struct Range {
    segment: usize,
    /// In bytes of the segment.
    start: u64,
    end: u64,
    /// Indexes of the views.
    views: Vec<usize>,
    summing: Summing,
}

/// Sums up the tensors of a file from its blocks, which come in order.
pub(crate) struct TensorSums {
    /// Ordered by where they start.
    waiting: std::iter::Peekable<std::vec::IntoIter<Range>>,
    active: Vec<Range>,
    summaries: Vec<Option<Summary>>,
}

impl TensorSums {
    /// The tensors of a layout.
    pub(crate) fn new(tensors: &[TensorView]) -> Self {
        let mut ranges: Vec<Range> = Vec::new();
        let mut known: HashMap<(usize, u64, shard_core::DType, u64), usize> = HashMap::new();
        for (view, tensor) in tensors.iter().enumerate() {
            let (Some(elements), Some(len)) = (tensor.elements(), tensor.byte_len()) else { continue };
            match known.get(&(tensor.segment, tensor.offset, tensor.dtype, elements)) {
                Some(range) => ranges[*range].views.push(view),
                None => {
                    let Some(summing) = Summing::new(tensor.dtype, elements) else { continue };
                    known.insert((tensor.segment, tensor.offset, tensor.dtype, elements), ranges.len());
                    let (start, end) = (tensor.offset, tensor.offset.saturating_add(len));
                    ranges.push(Range { segment: tensor.segment, start, end, views: vec![view], summing });
                }
            }
        }
        // Views of parts of others could have every byte summed up as often as there are views. The longest come first.
        let covered: u64 = distinct_bytes(&mut ranges);
        let mut left = covered.saturating_mul(MOST_OFTEN);
        ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
        ranges.retain(|range| {
            let after = left.checked_sub(range.end - range.start);
            left = after.unwrap_or(left);
            after.is_some()
        });
        ranges.sort_by_key(|range| (range.segment, range.start));
        Self { waiting: ranges.into_iter().peekable(), active: Vec::new(), summaries: vec![None; tensors.len()] }
    }

    /// Takes in a block that starts `offset` bytes into a segment.
    pub(crate) fn update(&mut self, segment: usize, offset: u64, block: &[u8]) {
        let end = offset + block.len() as u64;
        self.close(segment, offset);
        while let Some(range) = self.waiting.next_if(|range| (range.segment, range.start) < (segment, end)) {
            self.active.push(range);
        }
        for range in self.active.iter_mut().filter(|range| range.segment == segment) {
            let (from, to) = (range.start.max(offset), range.end.min(end));
            if from < to {
                let part = block.get((from - offset) as usize..(to - offset) as usize);
                range.summing.update(part.unwrap_or_default());
            }
        }
    }

    /// What is known of each tensor, in the layout's order; `None` for quantised types whose values shard does not know, and for
    /// some views where very many share bytes.
    pub(crate) fn finish(mut self) -> Vec<Option<Summary>> {
        self.active.extend(self.waiting.by_ref());
        self.close(usize::MAX, 0);
        self.summaries
    }

    /// Finishes the ranges that end at or before a place.
    fn close(&mut self, segment: usize, offset: u64) {
        for range in self
            .active
            .extract_if(.., |range| (range.segment, range.end) <= (segment, offset) || range.segment < segment)
        {
            let summary = range.summing.finish();
            for view in range.views {
                if let Some(place) = self.summaries.get_mut(view) {
                    *place = Some(summary);
                }
            }
        }
    }
}

/// Bytes that some range covers.
fn distinct_bytes(ranges: &mut [Range]) -> u64 {
    ranges.sort_by_key(|range| (range.segment, range.start));
    let (mut total, mut last) = (0u64, (0usize, 0u64));
    for range in ranges.iter() {
        let from = if range.segment == last.0 { range.start.max(last.1) } else { range.start };
        total = total.saturating_add(range.end.saturating_sub(from));
        last = (range.segment, if range.segment == last.0 { range.end.max(last.1) } else { range.end });
    }
    total
}

#[cfg(test)]
mod tests {
    use shard_core::DType;

    use super::*;

    fn view(name: &str, dtype: DType, elements: u64, segment: usize, offset: u64) -> TensorView {
        TensorView { name: name.to_owned(), dtype, shape: vec![elements], segment, offset, strides: None }
    }

    #[test]
    fn tensors_and_views_are_summed_up_from_blocks() {
        let tensors = [
            view("part", DType::F32, 2, 1, 4),
            view("whole", DType::F32, 4, 1, 0),
            view("tied", DType::F32, 4, 1, 0),
            view("bytes", DType::U8, 16, 1, 0),
            view("quantised", DType::IQ1_S, 256, 2, 0),
            view("empty", DType::F32, 0, 3, 0),
            view("last", DType::I8, 3, 4, 0),
        ];
        let mut sums = TensorSums::new(&tensors);
        let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        sums.update(0, 0, &[1, 2, 3]);
        sums.update(1, 0, &bytes[..7]);
        sums.update(1, 7, &bytes[7..]);
        sums.update(2, 0, &[0; 50]);
        sums.update(4, 0, &[1, 2, 255]);
        let found = sums.finish();
        let means: Vec<_> = found.iter().map(|summary| summary.and_then(|summary| summary.mean)).collect();
        assert_eq!(means[..3], [Some(2.5), Some(2.5), Some(2.5)]);
        assert_eq!(found[3].unwrap().values, 16);
        assert_eq!((found[4], found[5]), (None, Some(Summary::default())));
        assert_eq!(found[6].unwrap().min, Some(-1.0));
    }

    #[test]
    fn very_many_views_of_the_same_bytes_are_not_all_summed_up() {
        let tensors: Vec<TensorView> =
            (0..1000).map(|at| view(&at.to_string(), DType::U8, 10_000 - at, 0, at)).collect();
        let mut sums = TensorSums::new(&tensors);
        sums.update(0, 0, &[7; 10_000]);
        let found = sums.finish();
        assert!(found[0].is_some());
        assert!((7..=9).contains(&found.iter().flatten().count()));
    }
}
