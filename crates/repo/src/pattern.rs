//! Patterns of file names, as shells and Python's `fnmatch` have them, over whole paths.

use shard_history::glob::Glob;

/// Which paths are meant: those that match one of `allow`, where it is given, and none of `ignore`. A pattern that ends in a
/// slash means everything below that folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathFilter {
    /// Only paths that match one of these; all without any.
    pub allow: Option<Vec<String>>,
    /// No paths that match one of these.
    pub ignore: Vec<String>,
}

impl PathFilter {
    /// What tells whether a path is meant.
    pub fn admits(&self) -> impl Fn(&str) -> bool + use<> {
        let (allow, ignore) = (self.allow.as_deref().map(Patterns::new), Patterns::new(&self.ignore));
        move |path| allow.as_ref().is_none_or(|allow| allow.match_any(path)) && !ignore.match_any(path)
    }

    /// Whether every path is meant.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.ignore.is_empty()
    }
}

/// Several patterns, read once for many paths.
pub(crate) struct Patterns(Vec<Glob>);

impl Patterns {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let glob = |pattern: &String| {
            let folder = pattern.ends_with('/').then(|| format!("{pattern}*"));
            Glob::fnmatch(folder.as_ref().unwrap_or(pattern))
        };
        Self(patterns.iter().map(glob).collect())
    }

    /// Whether a path matches one of them.
    pub(crate) fn match_any(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let filter =
            PathFilter { allow: Some(vec!["*.bin".to_owned(), "sub/".to_owned()]), ignore: vec!["*/x*".to_owned()] };
        let admits = filter.admits();
        assert!(admits("a.bin") && admits("sub/deep/y") && !admits("other"));
        assert!(!admits("sub/x.bin") && !admits("sub"));
        assert!(PathFilter::default().is_open() && PathFilter::default().admits()("anything"));
        let none = PathFilter { allow: Some(Vec::new()), ..PathFilter::default() };
        assert!(!none.is_open() && !none.admits()("anything"));
    }
}
