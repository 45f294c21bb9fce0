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
    /// Whether a path is meant.
    #[must_use]
    pub fn admits(&self, path: &str) -> bool {
        let is_allowed = self.allow.as_ref().is_none_or(|patterns| matches_any(patterns, path));
        is_allowed && !matches_any(&self.ignore, path)
    }

    /// Whether every path is meant.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.ignore.is_empty()
    }
}

/// Whether a path matches one of several patterns.
pub(crate) fn matches_any(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|pattern| {
        let folder = pattern.ends_with('/').then(|| format!("{pattern}*"));
        Glob::fnmatch(folder.as_ref().unwrap_or(pattern)).matches(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let filter =
            PathFilter { allow: Some(vec!["*.bin".to_owned(), "sub/".to_owned()]), ignore: vec!["*/x*".to_owned()] };
        assert!(filter.admits("a.bin") && filter.admits("sub/deep/y") && !filter.admits("other"));
        assert!(!filter.admits("sub/x.bin") && !filter.admits("sub"));
        assert!(PathFilter::default().is_open() && PathFilter::default().admits("anything"));
        let none = PathFilter { allow: Some(Vec::new()), ..PathFilter::default() };
        assert!(!none.is_open() && !none.admits("anything"));
    }
}
