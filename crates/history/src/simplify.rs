//! The history of one thing: the commits that changed it, as Git's default simplification has it.
//!
//! A commit in which the thing is as in a parent says nothing of it, and only that parent is followed: one side of a merge that
//! brought nothing about is left out. All parents of other commits are followed.

/// What a commit is to the history of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simplified {
    /// Whether it changed the thing.
    pub is_shown: bool,
    /// The parents, by index, that are followed.
    pub follow: Vec<usize>,
}

/// What a commit is to the history of a thing, given what the thing is in it and in its parents; `None` where it is not there.
#[must_use]
pub fn simplify<K: PartialEq>(own: Option<&K>, parents: &[Option<K>]) -> Simplified {
    match parents.iter().position(|parent| parent.as_ref() == own) {
        Some(same) => Simplified { is_shown: false, follow: vec![same] },
        // A first commit has nothing to differ from but that there was nothing.
        None => Simplified { is_shown: !parents.is_empty() || own.is_some(), follow: (0..parents.len()).collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_and_followed() {
        let of = |own: Option<char>, parents: &[Option<char>]| {
            let Simplified { is_shown, follow } = simplify(own.as_ref(), parents);
            (is_shown, follow)
        };
        assert_eq!(of(Some('a'), &[]), (true, vec![]));
        assert_eq!(of(None, &[]), (false, vec![]));
        assert_eq!(of(Some('a'), &[Some('a')]), (false, vec![0]));
        assert_eq!(of(Some('b'), &[Some('a')]), (true, vec![0]));
        assert_eq!(of(None, &[Some('a')]), (true, vec![0]));
        // A merge that is one of its sides, and one that is neither.
        assert_eq!(of(Some('b'), &[Some('a'), Some('b')]), (false, vec![1]));
        assert_eq!(of(Some('c'), &[Some('a'), Some('b')]), (true, vec![0, 1]));
    }
}
