//! Three-way merge. A conflict is a value: what a thing was in the base, and what each side made of it.
//!
//! Everything is merged by one rule, that of [`Merge::changed`]: what only one side changed is taken from that side, what both
//! changed alike is taken once, and what they changed apart is a conflict. Files are merged first ([`files`]), then tensors
//! inside model files that both sides changed ([`tensors`]), where rules may decide instead ([`strategy`]).

pub mod files;
pub mod record;
pub mod relation;
pub mod strategy;
pub mod tensors;

/// One of the two sides of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The side that is merged into.
    Ours,
    /// The side that is merged.
    Theirs,
}

impl Side {
    /// Both, ours first.
    pub const ALL: [Self; 2] = [Self::Ours, Self::Theirs];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }

    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }
}

/// What a thing was in the common base, and what it is on each side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Merge<T> {
    /// What it was.
    pub base: T,
    /// What it is on the side that is merged into.
    pub ours: T,
    /// What it is on the side that is merged.
    pub theirs: T,
}

/// Which side changed a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// Neither: both sides are as the base.
    Neither,
    /// Only ours.
    Ours,
    /// Only theirs.
    Theirs,
    /// Both, to the same.
    Alike,
    /// Both, to different things: a conflict.
    Apart,
}

impl Changed {
    /// The side whose value is the result, ours where both have it; `None` for a conflict.
    #[must_use]
    pub const fn side(self) -> Option<Side> {
        match self {
            Self::Neither | Self::Ours | Self::Alike => Some(Side::Ours),
            Self::Theirs => Some(Side::Theirs),
            Self::Apart => None,
        }
    }
}

impl<T> Merge<T> {
    /// The value of a side.
    #[must_use]
    pub const fn side(&self, side: Side) -> &T {
        match side {
            Side::Ours => &self.ours,
            Side::Theirs => &self.theirs,
        }
    }

    /// The same seen from the other side.
    #[must_use]
    pub fn swap(self) -> Self {
        Self { base: self.base, ours: self.theirs, theirs: self.ours }
    }

    /// The same with something made of each value.
    #[must_use]
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Merge<U> {
        Merge { base: f(self.base), ours: f(self.ours), theirs: f(self.theirs) }
    }

    /// The same with references.
    #[must_use]
    pub const fn as_ref(&self) -> Merge<&T> {
        Merge { base: &self.base, ours: &self.ours, theirs: &self.theirs }
    }
}

impl<T: PartialEq> Merge<T> {
    /// Which side changed it.
    #[must_use]
    pub fn changed(&self) -> Changed {
        match (self.ours == self.base, self.theirs == self.base) {
            (true, true) => Changed::Neither,
            (false, true) => Changed::Ours,
            (true, false) => Changed::Theirs,
            (false, false) if self.ours == self.theirs => Changed::Alike,
            (false, false) => Changed::Apart,
        }
    }

    /// The result, where no decision is needed.
    ///
    /// # Errors
    /// The merge itself where it is a conflict.
    pub fn resolve(self) -> Result<T, Self> {
        match self.changed().side() {
            Some(Side::Ours) => Ok(self.ours),
            Some(Side::Theirs) => Ok(self.theirs),
            None => Err(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merge(base: u8, ours: u8, theirs: u8) -> Merge<u8> {
        Merge { base, ours, theirs }
    }

    #[test]
    fn every_case() {
        let cases = [(1, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (1, 2, 3)].map(|(b, o, t)| merge(b, o, t));
        let changed = [Changed::Neither, Changed::Ours, Changed::Theirs, Changed::Alike, Changed::Apart];
        assert_eq!(cases.map(|case| case.changed()), changed);
        assert_eq!(cases.map(Merge::resolve), [Ok(1), Ok(2), Ok(2), Ok(2), Err(merge(1, 2, 3))]);
        assert_eq!(Side::ALL.map(|side| (side.as_str(), *cases[4].side(side))), [("ours", 2), ("theirs", 3)]);
    }

    proptest! {
        #[test]
        fn a_merge_is_symmetric_and_idempotent(base in 0u8..4, ours in 0u8..4, theirs in 0u8..4) {
            let all = merge(base, ours, theirs);
            prop_assert_eq!(all.swap().swap(), all);
            prop_assert_eq!(all.swap().resolve(), all.resolve().map_err(Merge::swap));
            // The side that changed wins, whichever it is.
            prop_assert_eq!(merge(base, ours, base).resolve(), Ok(ours));
            prop_assert_eq!(merge(base, base, theirs).resolve(), Ok(theirs));
            prop_assert_eq!(merge(base, ours, ours).resolve(), Ok(ours));
            if let Ok(result) = all.resolve() {
                // Merged again with either side nothing changes: that side has become the base.
                prop_assert_eq!(merge(theirs, result, theirs).resolve(), Ok(result));
                prop_assert_eq!(merge(ours, result, ours).resolve(), Ok(result));
                prop_assert!(result == ours || result == theirs);
            } else {
                prop_assert!(ours != theirs && ours != base && theirs != base);
            }
            prop_assert_eq!(all.map(|value| vec![value]).changed(), all.as_ref().changed());
        }
    }
}
