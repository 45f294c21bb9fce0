//! Joining contexts that behave alike: the fewer tables, the less they cost.

use crate::Level;
use crate::entropy::{Counts, log2};
use crate::kernel::buckets::MAX_BUCKETS;

/// Contexts that share a bucket.
pub(super) struct Group {
    /// Indices of the contexts.
    pub(super) members: Vec<u16>,
    counts: Box<Counts>,
    total: u32,
    /// The mean token, in units of 2^-16: what groups are put in order by.
    key: u64,
    /// The largest token.
    most: u8,
    cost: u64,
}

/// So many tokens tell their mean.
const ENOUGH: u32 = 16;
/// Buckets of a block. The time to decode grows with them.
const MOST_BUCKETS: usize = 12;
/// More groups than this are thinned out before pairs are weighed.
const MOST_WEIGHED: u32 = 64;
/// The same at [`Level::Max`].
const MOST_WEIGHED_MAX: u32 = 512;

/// How many words a sampled one stands for, as a fraction.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) words: u64,
    pub(super) sampled: u64,
}

impl Group {
    /// A group of one context, of which `key` (in units of 2^-16) is expected to be the mean token where there are too few to
    /// tell.
    pub(super) fn new(member: u16, counts: &Counts, key: u64) -> Self {
        let total = counts.iter().sum();
        let most = counts.iter().rposition(|count| *count > 0).unwrap_or(0) as u8;
        let mut group = Self { members: vec![member], counts: Box::new(*counts), total, key, most, cost: 0 };
        if group.total >= ENOUGH {
            group.key = group.mean();
        }
        group
    }

    /// The mean token, in units of 2^-16.
    pub(super) fn mean(&self) -> u64 {
        let sum: u64 = self.used().iter().enumerate().map(|(token, count)| u64::from(*count) * token as u64).sum();
        (sum << 16) / u64::from(self.total.max(1))
    }

    fn used(&self) -> &[u32] {
        &self.counts[..=usize::from(self.most)]
    }

    fn join(&mut self, other: &Self) {
        self.members.extend_from_slice(&other.members);
        for (count, added) in self.counts.iter_mut().zip(other.used()) {
            *count += added;
        }
        self.total += other.total;
        self.most = self.most.max(other.most);
    }
}

/// What tokens with these counts take with a table of their own, in units of 2^-16 bit.
fn cost(scale: Scale, total: u32, counts: impl Iterator<Item = u32>) -> u64 {
    let whole = log2(total);
    let (mut bits, mut values) = (0, 0u64);
    for count in counts.filter(|count| *count > 0) {
        bits += u64::from(count) * whole.saturating_sub(log2(count));
        values += 1;
    }
    // A sample looks more orderly than what it is of, by half a nat a value (Miller).
    bits += values.saturating_sub(1) * 47_274;
    bits / scale.sampled.max(1) * scale.words + (if values > 1 { 12 + 5 * values } else { 16 } << 16)
}

fn joint_cost(scale: Scale, a: &Group, b: &Group) -> u64 {
    let most = usize::from(a.most.max(b.most)) + 1;
    cost(scale, a.total + b.total, a.counts.iter().zip(b.counts.iter()).take(most).map(|(a, b)| a + b))
}

/// Joins groups until each further one would cost, and there are few enough. Returns them in the order of their mean
/// tokens, and what they cost together.
pub(super) fn cluster(groups: Vec<Group>, scale: Scale, level: Level) -> (Vec<Group>, u64) {
    let mut single = groups;
    single.sort_by_key(|group| group.key);
    let all: u32 = single.iter().map(|group| group.total).sum();
    let (most, most_weighed) = match level {
        Level::Max => (MAX_BUCKETS, MOST_WEIGHED_MAX),
        _ => (MOST_BUCKETS, MOST_WEIGHED),
    };
    let least = all / most_weighed;
    let mut groups: Vec<Group> = Vec::with_capacity(single.len());
    for group in single {
        match groups.last_mut() {
            // Neighbours in this order that have few words are joined unseen.
            Some(last) if last.total < least || (group.total < least && group.total < 32) => last.join(&group),
            _ => groups.push(group),
        }
    }
    for group in &mut groups {
        group.cost = cost(scale, group.total, group.used().iter().copied());
    }
    let mut joint: Vec<u64> = groups.windows(2).map(|pair| joint_cost(scale, &pair[0], &pair[1])).collect();
    loop {
        let gain = |index: usize| joint[index] as i64 - (groups[index].cost + groups[index + 1].cost) as i64;
        let Some(best) = (0..joint.len()).min_by_key(|index| gain(*index)) else { break };
        if gain(best) >= 0 && groups.len() <= most {
            break;
        }
        let right = groups.remove(best + 1);
        let cost = joint.remove(best);
        groups[best].join(&right);
        groups[best].cost = cost;
        if best > 0 {
            joint[best - 1] = joint_cost(scale, &groups[best - 1], &groups[best]);
        }
        if best < joint.len() {
            joint[best] = joint_cost(scale, &groups[best], &groups[best + 1]);
        }
    }
    let total = groups.iter().map(|group| group.cost).sum();
    (groups, total)
}
