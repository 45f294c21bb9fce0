//! Joining contexts that behave alike: the fewer tables, the less they cost.

use crate::Level;
use crate::entropy::{Counts, entropy_of};
use crate::kernel::buckets::MAX_BUCKETS;

/// Contexts that share a bucket.
pub(super) struct Group {
    /// Indices of the contexts.
    pub(super) members: Vec<u16>,
    counts: Box<Counts>,
    pub(super) total: u32,
    /// The largest token.
    most: u8,
    cost: u64,
}

/// Contexts of fewer words are not weighed on their own.
const FEW: u32 = 32;
/// Buckets of a block. The time to decode grows with them.
const MOST_BUCKETS: usize = 8;
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

/// A context that the sample has words of.
pub(super) struct Member {
    pub(super) context: u16,
    /// What its mean token is believed to be, in units of 2^-16.
    pub(super) key: u64,
    pub(super) total: u32,
}

/// Puts contexts in groups, those of few words with their neighbours in the order of mean tokens. Tokens are yet to be counted.
pub(super) fn gather(mut members: Vec<Member>, level: Level) -> Vec<Group> {
    members.sort_by_key(|member| member.key);
    let all: u32 = members.iter().map(|member| member.total).sum();
    let least = all / if level == Level::Max { MOST_WEIGHED_MAX } else { MOST_WEIGHED };
    let mut groups: Vec<Group> = Vec::with_capacity(members.len());
    for member in members {
        match groups.last_mut() {
            Some(last) if last.total < least || (member.total < least && member.total < FEW) => {
                last.members.push(member.context);
                last.total += member.total;
            }
            _ => groups.push(Group {
                members: vec![member.context],
                counts: Box::new([0; 256]),
                total: member.total,
                most: 0,
                cost: 0,
            }),
        }
    }
    groups
}

impl Group {
    /// Takes note of the tokens of its contexts.
    pub(super) fn count(&mut self, counts: &Counts) {
        *self.counts = *counts;
        self.most = counts.iter().rposition(|count| *count > 0).unwrap_or(0) as u8;
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
    let (mut bits, values) = entropy_of(total, counts);
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
pub(super) fn cluster(mut groups: Vec<Group>, scale: Scale, level: Level) -> (Vec<Group>, u64) {
    let most = if level == Level::Max { MAX_BUCKETS } else { MOST_BUCKETS };
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
